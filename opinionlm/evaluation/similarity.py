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
# Rows of bootstrap samples that are in memory together, some 100 MB with what is computed of them.
DRAWN_AT_ONCE = 1_000_000


def varies(values: np.ndarray, resolution: float = ROUNDING) -> np.ndarray:
    """Whether numbers differ by more than rounding ``(...)``; otherwise no correlation with them is defined.

    Args:
        values: ``(..., rows)``.
        resolution: smallest difference that counts, as a share of the largest number.
    """
    return np.ptp(values, axis=-1) > resolution * np.abs(values).max(axis=-1)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation ``(...)`` of two ``(..., rows)``; 0 where one does not vary, so that none is defined."""
    defined = varies(first) & varies(second)
    one, other = (values - values.mean(axis=-1, keepdims=True) for values in (first, second))
    # Scaled first: the squares of very large or very small numbers leave the range of float64.
    for values in (one, other):
        values /= np.where(defined, np.abs(values).max(axis=-1), 1.0)[..., None]
    size = np.where(defined, np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1)), 1.0)
    return np.where(defined, np.clip((one * other).sum(axis=-1) / size, -1.0, 1.0), 0.0)


def pearson_of(counts: np.ndarray, gold: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Pearson's correlation ``(runs, samples)`` of samples that hold every row so many times; 0 where none is defined.

    Args:
        counts: ``(samples, rows)``.
        gold: ``(rows,)``.
        runs: predicted scores ``(runs, rows)``.
    """
    sizes = counts.sum(axis=1)

    def centred(values: np.ndarray) -> np.ndarray:
        """Less their mean in each sample ``(samples, rows)``, in units of the largest of all."""
        values = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
        return values - (counts @ values / sizes)[:, None]

    one, found = centred(gold.astype(np.float64)), []
    one_size = (counts * one**2).sum(axis=1)
    for run in runs:
        other = centred(run.astype(np.float64))
        other_size = (counts * other**2).sum(axis=1)
        defined = (one_size > ROUNDING**2 * sizes) & (other_size > MODEL_STEPS**2 * sizes)
        product, size = (counts * one * other).sum(axis=1), np.sqrt(one_size * other_size)
        found.append(np.divide(product, size, out=np.zeros(size.shape), where=defined).clip(-1.0, 1.0))
    return np.stack(found)


def similarity_scores(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """``pearson``, ``spearman`` (Pearson's correlation of the ranks, ties sharing theirs), ``mse`` and ``mae``.

    Both correlations are 0 where they are not defined: the gold scores are all the same, or the model gives every pair
    the same score but for the rounding of float32.

    Args:
        gold: ``(rows,)``.
        predicted: ``(rows,)``.
    """
    return {name: float(value) for name, value in scores_of_draws(gold, predicted).items()}


def scores_of_draws(gold: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """As `similarity_scores`, of many samples at once: each ``(...)`` from two ``(..., rows)``."""
    from scipy.stats import rankdata  # most of a second to import, for one score

    gold, predicted = gold.astype(np.float64), predicted.astype(np.float64)
    # Ranks would take rounding for an order.
    defined = varies(gold) & varies(predicted, MODEL_STEPS)
    return {
        "pearson": np.where(defined, pearson(gold, predicted), 0.0),
        "spearman": np.where(defined, pearson(rankdata(gold, axis=-1), rankdata(predicted, axis=-1)), 0.0),
        "mse": np.mean((gold - predicted) ** 2, axis=-1),
        "mae": np.mean(np.abs(gold - predicted), axis=-1),
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
    draws: dict[str, list[float]] = {}
    at_once = max(1, DRAWN_AT_ONCE // len(gold))
    for start in range(0, replicates, at_once):
        rows = generator.integers(len(gold), size=(min(at_once, replicates - start), len(gold)))
        for name, values in scores_of_draws(gold[rows], predicted[rows]).items():
            draws.setdefault(name, []).extend(values.tolist())
    return {f"{name}_ci95": interval(values) for name, values in draws.items()}


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
