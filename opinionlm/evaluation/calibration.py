"""Probabilities that can be believed: one temperature, fitted on validation."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar

from opinionlm.evaluation.metrics import softmax

# Of a split that is all right or all wrong the likelihood has no optimum inside; these are where the search ends.
COLDEST, HOTTEST = 0.05, 20.0


def negative_log_likelihood(gold: np.ndarray, logits: np.ndarray) -> float:
    """Mean over the rows (nats), every row counting the same.

    Args:
        gold: leaf ids ``(rows,)``.
        logits: ``(rows, classes)``.
    """
    largest = logits.max(axis=1)
    normaliser = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return float((normaliser - logits[np.arange(len(gold)), gold]).mean())


def fit_temperature(gold: np.ndarray, logits: np.ndarray) -> float:
    """The temperature that makes a split likeliest (Guo et al. 2017, section 4.2); no answer changes by it.

    The likelihood has a single maximum, so the result does not depend on where the search starts.

    Args:
        gold: leaf ids ``(rows,)`` of validation.
        logits: the model's, ``(rows, classes)``.
    """
    logits = logits.astype(np.float64)
    found = minimize_scalar(
        lambda log: negative_log_likelihood(gold, logits / math.exp(log)),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return math.exp(float(found.x))


def calibrated(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``(rows, classes)`` in float64 from a model's raw logits."""
    return softmax(logits.astype(np.float64) / temperature)
