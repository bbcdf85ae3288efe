"""Logistic regression with its regularisation chosen on validation: the first route of the IMDB report.

On features of a frozen backbone it is the cheapest way to use a language model, on TF-IDF the baseline that a language
model has to beat. It is scikit-learn's; what is ours is the choice of C and the way back into a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from opinionlm.errors import UserError
from opinionlm.utils.progress import progress_bar

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# Inverse strength of the L2 penalty: half-decades around scikit-learn's default of 1.
GRID = tuple(float(c) for c in 10.0 ** np.arange(-3, 3.5, 0.5))
# Logit of a class that no training text has: never the answer, and finite in bfloat16.
ABSENT = -1e4

Features: TypeAlias = np.ndarray | csr_matrix


@dataclass(frozen=True)
class LogisticFit:
    """A fitted linear classifier.

    Attributes:
        weight: ``(classes, features)`` float64.
        bias: ``(classes,)`` float64.
        c: the chosen inverse strength of regularisation.
        scores: validation score of every C tried.
    """

    weight: np.ndarray
    bias: np.ndarray
    c: float
    scores: dict[float, float]

    def logits(self, features: Features) -> np.ndarray:
        """Logits ``(rows, classes)``."""
        return np.asarray(features @ self.weight.T) + self.bias


def fit_logistic(
    train: tuple[Features, np.ndarray],
    validation: tuple[Features, np.ndarray],
    classes: int,
    balanced: bool,
    score: Callable[[np.ndarray, np.ndarray], float],
    grid: tuple[float, ...] = GRID,
) -> LogisticFit:
    """Fit one regression per C and keep the one with the best validation score.

    A score of answers does not see how sure they are. Of fits with the same score the one with the lowest log loss on
    validation is kept: under the strongest regularisation all texts have nearly the same probabilities.

    Args:
        train: features ``(rows, features)`` and label ids ``(rows,)``, or zeros and ones ``(rows, classes)``, where
            every class is decided by itself.
        validation: the same for choosing C.
        classes: number of labels, those without training rows included.
        balanced: weight every class by its inverse frequency.
        score: (gold ids, logits) → the score to maximise.
        grid: values of C.

    Raises:
        UserError: if there are fewer than two classes among the training rows.
    """
    # Loaded by those who fit one: most of a second, which every run would wait for.
    from sklearn.linear_model import LogisticRegression

    several = train[1].ndim == 2
    if len(np.unique(train[1])) < 2:
        raise UserError("engine: logistic regression needs at least two classes among the training texts")
    fits: dict[float, LogisticFit] = {}
    scores: dict[float, float] = {}
    losses: dict[float, float] = {}
    for c in progress_bar(grid, desc="logistic regression", unit="values of C"):
        model = LogisticRegression(C=c, class_weight="balanced" if balanced else None, max_iter=5000)
        fits[c] = one_by_one(model, train, c, scores) if several else expand(model.fit(*train), classes, c, scores)
        logits = fits[c].logits(validation[0])
        scores[c], losses[c] = score(validation[1], logits), log_loss(validation[1], logits)
    return fits[max(grid, key=lambda c: (scores[c], -losses[c]))]


def log_loss(gold: np.ndarray, logits: np.ndarray) -> float:
    """Mean negative log likelihood (nats) of label ids ``(rows,)``, or of zeros and ones ``(rows, classes)``.

    Labels that no training text had, of which no fit knows anything, are left out; other log losses of the project,
    which lie in rooms above this one, count them.
    """
    if gold.ndim == 2:
        known = np.abs(logits) < -ABSENT / 2
        losses = (np.logaddexp(0.0, logits) - gold * logits)[known]
    else:
        own = logits[np.arange(len(gold)), gold]
        losses = (logsumexp(logits, axis=1) - own)[own > ABSENT / 2]
    return float(losses.mean()) if len(losses) else 0.0


def one_by_one(
    model: LogisticRegression, train: tuple[Features, np.ndarray], c: float, scores: dict[float, float]
) -> LogisticFit:
    """A regression for every label; a label that no text has, or every text, gets a constant logit."""
    features, labels = train
    weight, bias = np.zeros((labels.shape[1], features.shape[1])), np.full(labels.shape[1], ABSENT)
    for label, own in enumerate(labels.T.astype(bool)):
        if own.all():
            bias[label] = -ABSENT
        elif own.any():
            model.fit(features, own)
            weight[label], bias[label] = model.coef_[0], model.intercept_[0]
    return LogisticFit(weight, bias, c, scores)


def expand(model: LogisticRegression, classes: int, c: float, scores: dict[float, float]) -> LogisticFit:
    """One row of weights per label: scikit-learn leaves out absent classes, and one of two."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    weight, bias = np.zeros((classes, coefficients.shape[1])), np.full(classes, ABSENT)
    weight[model.classes_], bias[model.classes_] = coefficients, intercepts
    return LogisticFit(weight, bias, c, scores)
