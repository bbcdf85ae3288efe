"""Scores of a classifier over a label tree, from gold leaf ids and logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.hierarchical import hierarchical_scores, mistake_severity

# Of every calibration error, in scores and figures alike (Guo et al. 2017).
CALIBRATION_BINS = 15
# From so many rows on, and so many of every class, intervals of macro-F1 hold what they promise.
COVERED_ROWS, COVERED_CLASS = 200, 5


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``(rows, classes)`` in float64 from logits of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def weighted_log_loss(gold: np.ndarray, logits: np.ndarray, class_weights: np.ndarray) -> float:
    """Exact weighted mean cross entropy over a whole split (nats), the quantity that training minimises.

    Args:
        gold: leaf ids ``(rows,)``.
        logits: ``(rows, classes)``.
        class_weights: ``(classes,)``.
    """
    logits = logits.astype(np.float64)
    largest = logits.max(axis=1)
    log_normaliser = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    losses = log_normaliser - logits[np.arange(len(gold)), gold]
    weights = class_weights[gold]
    return float((weights * losses).sum() / weights.sum())


def confusion_matrix(gold: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``(classes, classes)``, gold by row.

    Every evaluation counts a dozen of these, most of them small: scikit-learn's checks would take longer than all
    the counting.

    Args:
        gold: ids ``(rows,)``.
        predicted: ids ``(rows,)``.
        classes: number of ids; a row of another one is not counted.
    """
    known = (gold >= 0) & (gold < classes) & (predicted >= 0) & (predicted < classes)
    cells = np.bincount(gold[known] * classes + predicted[known], minlength=classes * classes)
    return cells.reshape(classes, classes)


def squared(confusion: np.ndarray) -> np.ndarray:
    """Counts ``(gold, predicted)`` with an empty row for every column behind those of the gold labels."""
    square = np.zeros((confusion.shape[1],) * 2, dtype=int)
    square[: len(confusion)] = confusion
    return square


def f1_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """F1 per class ``(..., classes)`` from confusion counts ``(..., gold, predicted)``.

    A class with neither gold nor predicted rows has F1 0, as in scikit-learn with ``zero_division=0``.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    total = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.divide(2.0 * hits, total, out=np.zeros(hits.shape), where=total > 0)


def gold_classes(confusion: np.ndarray) -> np.ndarray:
    """Which classes occur among the gold rows ``(classes,)``: macro averages run over these.

    They are the same for every model on the same rows. scikit-learn averages over the predicted classes too, so that
    one wrong answer of a class that no row has takes as much as a whole class can give; that number is
    ``macro_f1_sklearn``.
    """
    return confusion.sum(axis=-1) > 0


def macro_precision_recall(confusion: np.ndarray) -> dict[str, float]:
    """``macro_precision`` and ``macro_recall``: means over the gold classes, 0 for one that is never predicted.

    Args:
        confusion: counts ``(classes, classes)``, gold classes down; a further column for answers that are no class.
    """
    hits, gold, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)[: len(confusion)]
    present = gold_classes(confusion)
    return {
        "macro_precision": float((hits / np.maximum(predicted, 1))[present].mean()),
        "macro_recall": float((hits / np.maximum(gold, 1))[present].mean()),
    }


def classification_scores(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """All scores that need decisions only.

    Args:
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``; the number of leaves stands for an answer that is no label: a miss of the gold
            label at every level and a false positive of none.
        taxonomy: the label tree.

    Returns:
        ``accuracy``, ``macro_f1``, ``macro_precision`` and ``macro_recall`` (over the gold classes),
        ``macro_f1_sklearn``, ``weighted_f1``, ``f1_<label>`` per leaf, ``level<i>_macro_f1`` and ``level<i>_accuracy``
        per level, ``hierarchical_precision/recall/f1`` (Kiritchenko et al. 2006), ``mistake_severity`` (mean height of
        the lowest common ancestor over mistakes, Bertinetto et al. 2020).
    """
    leaves = len(taxonomy.leaves)
    confusion = confusion_matrix(gold, predicted, leaves + 1)[:leaves]
    f1, support = f1_from_confusion(squared(confusion))[:leaves], confusion.sum(axis=1)
    scores = {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": float(f1[support > 0].mean()),
        "macro_f1_sklearn": float(f1[support + confusion.sum(axis=0)[:leaves] > 0].mean()),
        "weighted_f1": float((f1 * support).sum() / support.sum()),
        **macro_precision_recall(confusion),
    }
    for level in range(1, taxonomy.depth + 1):
        scores |= level_scores(gold, predicted, taxonomy, level)
    scores |= hierarchical_scores(gold, predicted, taxonomy)
    scores["mistake_severity"] = mistake_severity(gold, predicted, taxonomy)
    scores |= {f"f1_{label}": float(value) for label, value in zip(taxonomy.leaves, f1, strict=True)}
    return scores


def level_scores(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy, level: int) -> dict[str, float]:
    """Macro-F1 and accuracy at one level, end to end: over all rows, the errors of the levels above included.

    A row whose gold leaf lies above the level has no label there; predicting one for it counts as a false positive
    of that label, and missing one as a false negative. Accuracy counts "no label" as one more class.
    """
    classes = len(taxonomy.level_labels(level))
    confusion = level_confusion(gold, predicted, taxonomy, level)
    f1 = f1_from_confusion(confusion)[:classes]
    present = gold_classes(confusion)[:classes]
    return {
        f"level{level}_macro_f1": float(f1[present].mean()) if present.any() else 0.0,
        f"level{level}_accuracy": float(np.trace(confusion) / confusion.sum()),
    }


def level_confusion(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy, level: int) -> np.ndarray:
    """Counts ``(gold, predicted)`` over the labels of one level and, behind them, two more columns and rows.

    The first of the two is "no label at this level", for leaves that lie above it; the second is "no valid answer",
    for predictions that name no leaf (the number of leaves stands for those).

    Args:
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``.
        taxonomy: the label tree.
        level: from 1.
    """
    classes = len(taxonomy.level_labels(level))
    of_leaf = np.array(taxonomy.leaf_to_level(level))
    to_level = np.append(np.where(of_leaf < 0, classes, of_leaf), classes + 1)
    return confusion_matrix(to_level[gold], to_level[predicted], classes + 2)


def expected_calibration_error(gold: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """ECE (Guo et al. 2017): mean gap between confidence and accuracy over equal-width bins, weighted by size.

    Args:
        gold: leaf ids ``(rows,)``.
        probabilities: ``(rows, classes)``.
        bins: number of bins of (0, 1].
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    index = confidence_bin(confidence, bins)
    size = np.bincount(index, minlength=bins)
    gap = np.abs(
        np.bincount(index, weights=confidence, minlength=bins) - np.bincount(index, weights=correct, minlength=bins)
    )
    return float(gap[size > 0].sum() / len(gold))


def ece_if_calibrated(probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """The ECE that chance alone gives perfectly calibrated probabilities on so few rows: a baseline to read an ECE by.

    Where a text's answer is right with the probability that it is given, a bin's number of right answers has the
    variance sum of p (1 - p); its mean distance from what was expected is taken from the normal distribution of that
    variance. The same floor by simulation is the consistency resampling of Bröcker and Smith (2007).

    Args:
        probabilities: ``(rows, classes)``.
        bins: as those of `expected_calibration_error`.
    """
    confidence = probabilities.max(axis=1)
    variance = np.bincount(confidence_bin(confidence, bins), weights=confidence * (1 - confidence), minlength=bins)
    return float(np.sqrt(2 / np.pi * variance.clip(min=0)).sum() / len(probabilities))


def confidence_bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Which of the equal bins of (0, 1] a confidence lies in, from 0."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def brier_score(gold: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared distance between the probabilities and the truth (Brier 1950), between 0 and 2.

    Args:
        gold: leaf ids ``(rows,)``.
        probabilities: ``(rows, classes)``.
    """
    truth = np.zeros(probabilities.shape)
    truth[np.arange(len(gold)), gold] = 1.0
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def calibration_scores(gold: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Scores of the probabilities themselves: ``ece`` and ``brier``."""
    return {"ece": expected_calibration_error(gold, probabilities), "brier": brier_score(gold, probabilities)}


def platform_scores(
    gold: np.ndarray,
    predicted: np.ndarray,
    platforms: Sequence[str],
    taxonomy: Taxonomy,
    scores_of: Callable[[np.ndarray, np.ndarray, Taxonomy], dict[str, float]] = classification_scores,
) -> dict[str, dict[str, float]]:
    """The main scores of every platform's rows by themselves, with the numbers of its ``rows`` and gold ``classes``.

    Rows without a platform are left out.

    Args:
        gold: leaf ids ``(rows,)``, or what ``scores_of`` takes.
        predicted: the same.
        platforms: one name per row.
        taxonomy: the label tree.
        scores_of: (gold, predicted, taxonomy) → scores.
    """
    of_row = np.asarray(platforms)
    scores = {}
    for platform in sorted(set(of_row.tolist()) - {""}):
        own = of_row == platform
        found = scores_of(gold[own], predicted[own], taxonomy)
        main = {name: value for name, value in found.items() if not name.startswith("f1_")}
        # Where a row has one label, each platform averages over the classes that it has.
        classes = len(np.unique(gold[own])) if gold.ndim == 1 else gold[own].any(axis=0).sum()
        scores[platform] = {"rows": float(own.sum()), "classes": float(classes)} | main
    return scores


def bootstrap_intervals(
    gold: np.ndarray, predicted: np.ndarray, classes: int, replicates: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """95 % bootstrap intervals of accuracy and macro-F1, corrected for bias, and what tells whether they cover.

    Resamples lose rows of rare classes, so their macro-F1 lies below the sample's; the bias-corrected percentile
    interval (Efron and Tibshirani 1993, section 14.3, with a = 0) takes that back. Drawing rows with replacement draws
    the cells of the confusion matrix from a multinomial, so all replicates are computed at once.

    Args:
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``; below 0 for an answer that is no label, which is a miss of its gold label.
        classes: number of leaves.
        replicates: bootstrap samples.
        seed: of the drawing.

    Returns:
        ``accuracy_ci95``, ``macro_f1_ci95``, and what `under_covers` asks for: ``ci95_rows`` and
        ``ci95_rarest_class``, the rows of all and of the rarest gold class.
    """
    # The last row is empty, the last column holds what is no label.
    confusion = confusion_matrix(gold, np.where(predicted < 0, classes, predicted), classes + 1)
    rows = int(confusion.sum())
    draws = _bootstrapped(confusion, replicates, seed)
    own = np.flatnonzero(gold_classes(confusion)[:classes])
    macro = f1_from_confusion(draws)[:, own].mean(axis=1)
    accuracy = np.trace(draws, axis1=1, axis2=2) / rows
    return {
        "accuracy_ci95": corrected_interval(accuracy, np.trace(confusion) / rows),
        "macro_f1_ci95": corrected_interval(macro, f1_from_confusion(confusion)[own].mean()),
        "ci95_rows": rows,
        "ci95_rarest_class": int(confusion.sum(axis=1)[own].min()),
    }


def corrected_interval(draws: np.ndarray, observed: float) -> list[float]:
    """The bias-corrected percentile interval (95 %) of a score.

    Args:
        draws: the score of every resample ``(replicates,)``.
        observed: the score itself.
    """
    return [float(value) for value in corrected_intervals(draws[:, None], np.array([observed]))[0]]


def corrected_intervals(draws: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The same of several scores ``(scores, 2)``, from ``(replicates, scores)`` and ``(scores,)``."""
    from scipy.special import ndtr, ndtri

    below = ((draws < observed).mean(axis=0) + (draws <= observed).mean(axis=0)) / 2
    bias = ndtri(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
    ends = ndtr(2 * bias[:, None] + ndtri([0.025, 0.975]))
    return np.stack([np.quantile(values, own) for values, own in zip(draws.T, ends, strict=True)])


def under_covers(scores: Mapping[str, Any]) -> str:
    """Why the interval of a macro-F1 holds the truth less often than it says; empty where it does not.

    By simulation (`tests/evaluation/test_intervals.py`) it covers from 200 rows on, of which every class has five.

    Args:
        scores: of a split; those of before 2026-11-29 do not tell.
    """
    rows, rarest = scores.get("ci95_rows", COVERED_ROWS), scores.get("ci95_rarest_class", COVERED_CLASS)
    reasons = [f"only {rows} rows"] if rows < COVERED_ROWS else []
    reasons += [f"only {rarest} of the rarest label"] if rarest < COVERED_CLASS else []
    return f"too narrow: {' and '.join(reasons)}" if reasons else ""


def class_f1_intervals(confusion: np.ndarray) -> np.ndarray:
    """95 % bootstrap intervals of the F1 of every class, drawn and corrected as those of `bootstrap_intervals`.

    Args:
        confusion: counts ``(classes, ...)``, gold by row; columns behind the classes hold answers that are none.

    Returns:
        Low and high ends ``(classes, 2)``.
    """
    f1 = f1_from_confusion(_bootstrapped(squared(confusion), replicates=2000, seed=0))
    return corrected_intervals(f1, f1_from_confusion(squared(confusion)))[: len(confusion)]


def _bootstrapped(confusion: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Confusion counts ``(replicates, classes, classes)`` of rows drawn with replacement."""
    rows = int(confusion.sum())
    draws = np.random.default_rng(seed).multinomial(rows, confusion.ravel() / rows, size=replicates)
    return draws.reshape(replicates, *confusion.shape)


def wilson_interval(hits: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a binomial share (Wilson 1927), which holds for few trials too.

    Args:
        hits: ``(...)``.
        size: trials ``(...)``, at least one each.

    Returns:
        Low and high ends, each ``(...)``.
    """
    z = 1.959963984540054
    share = hits / size
    middle = share + z * z / (2 * size)
    half = z * np.sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    return (middle - half) / (1 + z * z / size), (middle + half) / (1 + z * z / size)


def interval(draws: np.ndarray | Sequence[float]) -> list[float]:
    """The middle 95 % of bootstrap values."""
    return [float(value) for value in np.percentile(draws, [2.5, 97.5])]


def all_scores(
    gold: np.ndarray, logits: np.ndarray, taxonomy: Taxonomy, class_weights: np.ndarray
) -> dict[str, float]:
    """Every score of one split as plain floats: loss, decisions, calibration."""
    probabilities = softmax(logits)
    scores = {"loss": weighted_log_loss(gold, logits, class_weights)}
    scores |= classification_scores(gold, probabilities.argmax(axis=1), taxonomy)
    return scores | calibration_scores(gold, probabilities)
