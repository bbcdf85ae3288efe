"""Logistic regression on what a frozen backbone computes, put back into the classifier's own linear head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from opinionlm.errors import UserError
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.linear.logistic_regression import LogisticFit, fit_logistic
from opinionlm.training.batching import EncodedTexts

# Below this share of a feature's size a spread is what subtracting the mean leaves of float64's rounding.
ROUNDING = 1e-13


def fit_head(
    model: OpinionClassifier,
    readers: dict[str, EncodedTexts],
    balanced: bool,
    score: Callable[[np.ndarray, np.ndarray], float],
) -> LogisticFit:
    """Fit the head of a classifier whose backbone is frozen whole; afterwards it predicts like the regression.

    Features are standardised for the fit, so that one C suits all of them; the scaling is folded into the weights.

    Args:
        model: with a linear head and ``adaptation: head_only``; its head is overwritten.
        readers: splits that carry the pooled states of the frozen backbone.
        balanced: weight every class by its inverse frequency.
        score: (gold ids, logits) → what C is chosen by, on validation.

    Raises:
        UserError: the head has hidden layers, which logistic regression has not; or there is no cache of features.
    """
    linear = model.head.layers[-1]
    if len(model.head.layers) != 2 or not isinstance(linear, nn.Linear):
        raise UserError("engine: sklearn fits a linear head; leave out head_hidden_sizes, or use engine: trainer")
    if readers["train"].states is None:
        raise UserError("engine: sklearn reads features from the cache, and that is off; see the line about it above")
    features = {name: pooled_features(reader) for name, reader in readers.items() if name != "test"}
    mean, scale = features["train"].mean(axis=0), features["train"].std(axis=0)
    # A feature that never changes carries nothing: any scale will do but the rounding that its mean leaves.
    varies = scale > ROUNDING * np.abs(features["train"]).max(axis=0)
    scale = np.where(varies, scale, 1.0)
    scaled = {name: ((rows - mean) / scale, readers[name].labels) for name, rows in features.items()}
    fit = fit_logistic(scaled["train"], scaled["validation"], model.config.num_labels, balanced, score)
    weight = fit.weight / scale
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(fit.bias - weight @ mean))
    return fit


def pooled_features(reader: EncodedTexts) -> np.ndarray:
    """Pooled vectors ``(rows, hidden)`` in float64, rows as the texts."""
    rows = [reader.states[number].squeeze(0).to(torch.float64) for number in range(len(reader.labels))]
    return torch.stack(rows).numpy()
