"""Scores of a model that gives pairs of texts a number: correlations and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opinionlm.evaluation.charts import Chart, ScoreChart
from opinionlm.evaluation.class_predictions import SHOWN_CHARACTERS
from opinionlm.evaluation.metrics import interval
from opinionlm.evaluation.predictions import Predictions
from opinionlm.utils.markdown import Table


@dataclass(frozen=True)
class ScorePredictions(Predictions):
    """Gold and predicted scores of one split.

    Attributes:
        texts: the first texts.
        text_pairs: the second texts.
        gold: scores ``(rows,)``.
        predicted: scores ``(rows,)``, not confined to the range of the gold ones.
    """

    texts: Sequence[str]
    text_pairs: Sequence[str]
    gold: np.ndarray
    predicted: np.ndarray

    def intervals(self) -> dict[str, list[float]]:
        """See `Predictions.intervals`."""
        return similarity_intervals(self.gold, self.predicted)

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        return {"scores": ScoreChart(self.gold, self.predicted)}

    def tables(self) -> dict[str, Table]:
        """See `Predictions.tables`."""
        return {"largest_errors": largest_errors(self)}


# Models put out float32: scores that differ by a few of its steps are one score and its rounding.
MODEL_STEPS = 8 * float(np.finfo(np.float32).eps)
# Below this share of their size, differences of float64 numbers are what subtracting their mean leaves of rounding.
ROUNDING = 1e-13


def varies(values: np.ndarray, resolution: float = ROUNDING) -> bool:
    """Whether numbers differ by more than rounding; otherwise no correlation with them is defined.

    Args:
        values: ``(rows,)``.
        resolution: smallest difference that counts, as a share of the largest number.
    """
    return len(values) > 1 and float(np.ptp(values)) > resolution * float(np.abs(values).max())


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two ``(rows,)``; 0 where one of them does not vary, so that none is defined."""
    if not (varies(first) and varies(second)):
        return 0.0
    # Scaled first: the squares of very large or very small numbers leave the range of float64.
    one, other = (values / np.abs(values).max() for values in (first - first.mean(), second - second.mean()))
    value = float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
    return min(1.0, max(-1.0, value))


def similarity_scores(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """``pearson``, ``spearman`` (Pearson's correlation of the ranks, ties sharing theirs), ``mse`` and ``mae``.

    Both correlations are 0 where they are not defined: the gold scores are all the same, or the model gives every pair
    the same score but for the rounding of float32.

    Args:
        gold: ``(rows,)``.
        predicted: ``(rows,)``.
    """
    from scipy.stats import rankdata  # most of a second to import, for one score

    gold, predicted = gold.astype(np.float64), predicted.astype(np.float64)
    # Ranks would take rounding for an order.
    defined = varies(gold) and varies(predicted, MODEL_STEPS)
    return {
        "pearson": pearson(gold, predicted) if defined else 0.0,
        "spearman": pearson(rankdata(gold), rankdata(predicted)) if defined else 0.0,
        "mse": float(np.mean((gold - predicted) ** 2)),
        "mae": float(np.mean(np.abs(gold - predicted))),
    }


def similarity_intervals(
    gold: np.ndarray, predicted: np.ndarray, replicates: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals of `similarity_scores`, drawing rows with replacement.

    Args:
        gold: ``(rows,)``.
        predicted: ``(rows,)``.
        replicates: bootstrap samples; the ranks are taken anew in each.
        seed: of the drawing.
    """
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(replicates):
        rows = generator.integers(len(gold), size=len(gold))
        draws.append(similarity_scores(gold[rows], predicted[rows]))
    return {f"{name}_ci95": interval([draw[name] for draw in draws]) for name in draws[0]}


def largest_errors(predictions: ScorePredictions, limit: int = 50) -> Table:
    """The pairs whose scores are furthest off, furthest first."""
    errors = predictions.predicted - predictions.gold
    rows = [
        [
            predictions.texts[index][:SHOWN_CHARACTERS],
            predictions.text_pairs[index][:SHOWN_CHARACTERS],
            float(predictions.gold[index]),
            float(predictions.predicted[index]),
            float(errors[index]),
        ]
        for index in np.argsort(-np.abs(errors), kind="stable")[:limit].tolist()
    ]
    return Table(["text", "text_pair", "gold", "predicted", "error"], rows)
