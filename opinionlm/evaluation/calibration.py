"""Probabilities that can be believed: one temperature and a bias per class, fitted on validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from opinionlm.evaluation.metrics import softmax

# Of a split that is all wrong the likelihood has no optimum inside; these are where the search ends.
# A loss that multiplies logits by 30 (`ldam_scale`) trains them for a temperature of 1/30; the logits of
# a strongly regularised regression differ by a few hundredths.
COLDEST, HOTTEST = 0.001, 20.0
# Nats that a logit may lie below another: what is further below has no probability in float64. It is a class that no
# training text had (`opinionlm.models.linear.logistic_regression.ABSENT`), of which no temperature makes an answer.
POSSIBLE = 700.0


def fit_calibration(gold: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature and class biases that make a split likeliest: softmax(logits / temperature + biases).

    Bias-corrected temperature scaling (Alexandari et al. 2020). A temperature alone (Guo et al. 2017)
    makes confidences larger or smaller together; the biases take back what class weights or an adjusted loss moved
    from frequent classes to rare ones. They have a normal prior with a standard deviation of one nat, so that few
    rows, or a class that has none, move them little. One more row counts as wrong, the mean of all rows with the
    likeliest other label in the place of the gold one: the rule of succession, for which Platt (1999, section 2.2)
    smooths his targets. Without it a split that is all right would make every answer certain. The penalised
    likelihood is concave in the inverse temperature and the biases, so the result does not depend on where the search
    starts.

    Args:
        gold: leaf ids ``(rows,)`` of validation.
        logits: the model's, ``(rows, classes)``.

    Returns:
        The temperature and the biases ``(classes,)`` in nats, float64; their mean is zero.
    """
    logits = logits.astype(np.float64)
    # A single row whose gold label is impossible would make all others as unsure as they can be.
    possible = logits.max(axis=1) - logits[np.arange(len(gold)), gold] < POSSIBLE
    if possible.any():
        gold, logits = gold[possible], logits[possible]
    # The likelihood does not know a constant per row, and the search is better conditioned without it.
    logits -= logits.mean(axis=1, keepdims=True)
    rows, classes = logits.shape
    right = np.eye(classes, dtype=bool)[gold]
    others = np.where(right, -np.inf, logits)
    next_best = others.max(axis=1, keepdims=True)
    wrong = (others == next_best) & (next_best > logits.max(axis=1, keepdims=True) - POSSIBLE)
    # All rows together have the weight of one more.
    targets = right + wrong / np.maximum(wrong.sum(axis=1, keepdims=True), 1) / rows

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        inverse, biases = parameters[0], parameters[1:]
        likelihoods = log_softmax(logits * inverse + biases, axis=1)
        value = -(targets * likelihoods).sum() + (biases**2).sum() / 2
        residual = np.exp(likelihoods) * targets.sum(axis=1, keepdims=True) - targets
        slopes = np.append((residual * logits).sum(), residual.sum(axis=0) + biases)
        return value / rows, slopes / rows

    found = minimize(
        loss,
        np.append(1.0, np.zeros(classes)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1 / HOTTEST, 1 / COLDEST)] + [(None, None)] * classes,
        options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9},
    )
    # The prior makes the mean zero at the optimum; here to the last bit, whatever the tolerance.
    return 1 / float(found.x[0]), found.x[1:] - found.x[1:].mean()


def calibrated(logits: np.ndarray, temperature: float, biases: Sequence[float] | np.ndarray = ()) -> np.ndarray:
    """Probabilities ``(rows, classes)`` in float64 from a model's raw logits.

    Args:
        logits: ``(rows, classes)``.
        temperature: divides them.
        biases: added afterwards, one per class; empty for none.
    """
    scores = logits.astype(np.float64) / temperature
    return softmax(scores + np.asarray(biases) if len(biases) else scores)
