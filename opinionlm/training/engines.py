"""The ways of fitting a model that the IMDB report compares: Trainer, a loop of our own, logistic regression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from transformers.trainer_utils import TrainOutput

from opinionlm.errors import UserError
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.linear.logistic_regression import LogisticFit, fit_logistic
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.cost import reset_peak_memory
from opinionlm.training.loop import TrainingLoop
from opinionlm.training.trainer import OpinionTrainer

Engine = OpinionTrainer | TrainingLoop


def fit(
    engine: Engine,
    kind: str,
    balanced: bool,
    readers: dict[str, EncodedTexts],
    checkpoint: str | None,
    score: Callable[[np.ndarray, np.ndarray], float],
) -> TrainOutput:
    """Fit the engine's model; afterwards it is the best one by validation.

    Args:
        engine: from `opinionlm.tasks.engines.build_engine`.
        kind: the option ``engine``.
        balanced: whether logistic regression weighs classes by inverse frequency.
        readers: the splits, with the pooled states of the frozen backbone under ``engine: sklearn``.
        checkpoint: where an interrupted run continues.
        score: of gold ids and logits; what logistic regression chooses C by, on validation.
    """
    reset_peak_memory()
    if kind != "sklearn":
        return engine.train(resume_from_checkpoint=checkpoint)
    chosen = fit_head(engine.model, readers, balanced, score)
    print(f"logistic regression: C {chosen.c:g}, chosen on validation among {len(chosen.scores)}")
    engine.state.log_history += [{"C": c, "score": value} for c, value in chosen.scores.items()]
    engine.state.epoch, engine.state.best_global_step = 1.0, 0
    return TrainOutput(0, 0.0, {"C": chosen.c})


# Below this share of a feature's size a spread is what subtracting the mean leaves of float64's rounding.
ROUNDING = 1e-13
# Below this share of the widest feature's spread a feature is dead (MiniLM has one of 1e-32, a denormal): scaled up
# it would get weights that float16 and 8-bit exports cannot hold.
DEAD = 1e-6


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
    # A feature that does not change carries nothing: any scale will do but its own.
    varies = scale > np.maximum(ROUNDING * np.abs(features["train"]).max(axis=0), DEAD * scale.max())
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
    assert reader.states is not None
    rows = [reader.states[number].to(torch.float64) for number in range(len(reader.labels))]
    return torch.stack(rows).numpy()
