"""Scores of answers with any number of labels, from matrices of zeros and ones over the leaves of a label tree.

A leaf stands for its ancestors, so that sets of leaves are consistent with the tree by construction: at every level
and in the hierarchical scores a text has the labels of its leaves and of all nodes above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.hierarchical import ancestor_matrix
from opinionlm.evaluation.metrics import CALIBRATION_BINS, confidence_bin, corrected_interval, corrected_intervals

# What is told of some rows of a split.
MAIN_SCORES = ("macro_f1", "micro_f1", "subset_accuracy")
# Rows of replicates that are drawn at once: 100 MB with 50,000 texts.
DRAWN = 250


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))


def f1_of_counts(right: np.ndarray, predicted: np.ndarray, gold: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """F1 from counts of right, predicted and gold labels, all of one shape; ``empty`` where there is neither."""
    total = (predicted + gold).astype(np.float64)
    return np.divide(2.0 * right, total, out=np.full(total.shape, empty), where=total > 0)


def f1_per_label(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 of every column ``(labels,)`` of two matrices ``(rows, labels)``; 0 for a label that neither has."""
    gold, predicted = gold.astype(bool), predicted.astype(bool)
    return f1_of_counts((gold & predicted).sum(axis=0), predicted.sum(axis=0), gold.sum(axis=0))


def with_ancestors(members: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """The nodes of the tree that rows have: bool ``(rows, nodes)`` from leaves ``(rows, leaves)``."""
    return members.astype(np.float32) @ ancestor_matrix(taxonomy).astype(np.float32) > 0


def at_level(members: np.ndarray, taxonomy: Taxonomy, level: int) -> np.ndarray:
    """Which labels of a level rows have: bool ``(rows, level labels)`` from leaves ``(rows, leaves)``."""
    place = np.array(taxonomy.leaf_to_level(level))
    return np.stack(
        [members[:, place == label].astype(bool).any(axis=1) for label in range(len(taxonomy.level_labels(level)))],
        axis=1,
    )


def multi_label_scores(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """All scores that need decisions only; scikit-learn's by the same names where it has them.

    Args:
        gold: zeros and ones ``(rows, leaves)``.
        predicted: the same.
        taxonomy: the label tree.

    Returns:
        ``micro_f1``, ``macro_f1`` (over all labels, 0 for one that is neither gold nor predicted), ``weighted_f1``,
        ``samples_f1`` (mean over texts; 1 where a text has no label and gets none), ``subset_accuracy``,
        ``hamming_loss``, ``level<i>_macro_f1``, ``hierarchical_precision/recall/f1`` (Kiritchenko et al. 2006) over
        all nodes, ``f1_<label>``.
    """
    gold, predicted = gold.astype(bool), predicted.astype(bool)
    f1, support = f1_per_label(gold, predicted), gold.sum(axis=0)
    per_row = f1_of_counts((gold & predicted).sum(axis=1), predicted.sum(axis=1), gold.sum(axis=1), empty=1.0)
    scores = {
        "micro_f1": micro_f1(gold, predicted),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float((f1 * support).sum() / max(support.sum(), 1)),
        "samples_f1": float(per_row.mean()),
        "subset_accuracy": float((gold == predicted).all(axis=1).mean()),
        "hamming_loss": float((gold != predicted).mean()),
    }
    for level in range(1, taxonomy.depth + 1):
        level_f1 = f1_per_label(at_level(gold, taxonomy, level), at_level(predicted, taxonomy, level))
        scores[f"level{level}_macro_f1"] = float(level_f1.mean())
    gold_nodes, predicted_nodes = with_ancestors(gold, taxonomy), with_ancestors(predicted, taxonomy)
    common = float((gold_nodes & predicted_nodes).sum())
    scores |= {
        "hierarchical_precision": common / max(float(predicted_nodes.sum()), 1.0),
        "hierarchical_recall": common / max(float(gold_nodes.sum()), 1.0),
        "hierarchical_f1": micro_f1(gold_nodes, predicted_nodes),
    }
    return scores | {f"f1_{label}": float(value) for label, value in zip(taxonomy.leaves, f1, strict=True)}


def written_list_scores(
    gold: np.ndarray, predicted: np.ndarray, is_list: np.ndarray, taxonomy: Taxonomy
) -> dict[str, float]:
    """`multi_label_scores` of lists that a model wrote, and ``invalid_rate``.

    An answer that is no list gives no label; where a text has none either, that does not make it right.

    Args:
        gold: zeros and ones ``(rows, leaves)``.
        predicted: the same, zeros for answers that are no list.
        is_list: bool ``(rows,)``.
        taxonomy: the label tree.
    """
    scores = multi_label_scores(gold, predicted, taxonomy)
    undeserved = float((~is_list & ~gold.astype(bool).any(axis=1)).mean())
    scores |= {name: scores[name] - undeserved for name in ("samples_f1", "subset_accuracy")}
    return scores | {"invalid_rate": float((~is_list).mean())}


def micro_f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    """F1 over all cells of two bool matrices of one shape."""
    return float(f1_of_counts((gold & predicted).sum(), predicted.sum(), gold.sum()))


def ranking_precision(gold: np.ndarray, scores: np.ndarray) -> float:
    """Label ranking average precision, as scikit-learn computes it (Tsoumakas et al. 2010).

    For every gold label the share of gold labels among those ranked as high or higher, averaged over the gold labels
    of a text and then over texts; 1 for a text with no label or with all of them.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        scores: what labels are ranked by, ``(rows, labels)``.
    """
    gold = gold.astype(bool)
    precision = np.zeros(len(gold))
    for label in range(gold.shape[1]):
        above = scores >= scores[:, [label]]
        precision += gold[:, label] * (above & gold).sum(axis=1) / above.sum(axis=1)
    number = gold.sum(axis=1)
    return float(np.where(number > 0, precision / np.maximum(number, 1), 1.0).mean())


def probability_scores(gold: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Scores of the probabilities themselves.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        probabilities: ``(rows, labels)``.

    Returns:
        ``ece``: the mean over labels of the calibration error of "has the label" (Guo et al. 2017, for two classes by
        the probability of one), ``brier``: the mean squared error over all texts and labels,
        ``label_ranking_average_precision``.
    """
    errors = [label_calibration_error(*column) for column in zip(gold.T, probabilities.T, strict=True)]
    return {
        "ece": float(np.mean(errors)),
        "brier": float(((probabilities - gold) ** 2).mean()),
        "label_ranking_average_precision": ranking_precision(gold, probabilities),
    }


def label_calibration_error(gold: np.ndarray, probability: np.ndarray) -> float:
    """Mean gap between the probability of a label and how often it is right, over equal bins weighted by size.

    Args:
        gold: zeros and ones ``(rows,)``.
        probability: of the label ``(rows,)``.
    """
    index = confidence_bin(probability, CALIBRATION_BINS)
    gap = np.bincount(index, weights=probability - gold, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(gold))


def row_counts(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Right, predicted and gold labels of every row, float32 ``(rows, 3, labels)``: sums over rows give every F1."""
    gold, predicted = gold.astype(bool), predicted.astype(bool)
    return np.stack([gold & predicted, predicted, gold], axis=1).astype(np.float32)


def resampled_sums(counted: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Sums over resampled rows ``(replicates, …)`` of what is counted of every row ``(rows, …)``, float32."""
    rows, random = len(counted), np.random.default_rng(seed)
    sizes = [min(DRAWN, replicates - start) for start in range(0, replicates, DRAWN)]
    shares = np.full(rows, 1 / rows)
    return np.concatenate([random.multinomial(rows, shares, size=size).astype(np.float32) @ counted for size in sizes])


def resampled_scores(
    gold: np.ndarray, answers: Sequence[np.ndarray], replicates: int, seed: int
) -> dict[str, np.ndarray]:
    """Scores of several answers to the same texts under resampling of these, the same texts for all each time.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        answers: of each model, zeros and ones ``(rows, labels)``.
        replicates: bootstrap samples.
        seed: of the drawing.

    Returns:
        ``macro_f1``, ``micro_f1`` and ``subset_accuracy``, each ``(answers, replicates)``.
    """
    rows, labels = gold.shape
    parts = []
    for predicted in answers:
        right = (gold.astype(bool) == predicted.astype(bool)).all(axis=1, keepdims=True).astype(np.float32)
        parts.append(np.concatenate([row_counts(gold, predicted).reshape(rows, 3 * labels), right], axis=1))
    sums = resampled_sums(np.concatenate(parts, axis=1), replicates, seed)
    by_answer = np.moveaxis(sums.reshape(replicates, len(answers), 3 * labels + 1), 1, 0)
    counts = by_answer[..., :-1].reshape(len(answers), replicates, 3, labels).astype(np.float64)
    totals = counts.sum(axis=-1)
    return {
        "macro_f1": f1_of_counts(counts[:, :, 0], counts[:, :, 1], counts[:, :, 2]).mean(axis=-1),
        "micro_f1": f1_of_counts(totals[:, :, 0], totals[:, :, 1], totals[:, :, 2]),
        "subset_accuracy": by_answer[..., -1].astype(np.float64) / rows,
    }


def multi_label_intervals(
    gold: np.ndarray, predicted: np.ndarray, replicates: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """95 % bootstrap intervals of macro-F1, micro-F1 and subset accuracy, as ``<name>_ci95``.

    Corrected for bias, as those of `opinionlm.evaluation.metrics.bootstrap_intervals` are, with ``ci95_rows`` and
    ``ci95_rarest_class`` as there.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        predicted: the same.
        replicates: bootstrap samples.
        seed: of the drawing.
    """
    found = resampled_scores(gold, [predicted], replicates, seed)
    gold, predicted = gold.astype(bool), predicted.astype(bool)
    observed = {
        "macro_f1": float(f1_per_label(gold, predicted).mean()),
        "micro_f1": micro_f1(gold, predicted),
        "subset_accuracy": float((gold == predicted).all(axis=1).mean()),
    }
    support = gold.sum(axis=0)
    return {
        **{f"{name}_ci95": corrected_interval(values[0], observed[name]) for name, values in found.items()},
        "ci95_rows": len(gold),
        "ci95_rarest_class": int(support[support > 0].min(initial=len(gold))),
    }


def f1_bounds(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """95 % bootstrap intervals of every label's F1 ``(labels, 2)``, corrected as those above; arguments as there."""
    rows, labels = gold.shape
    counted = row_counts(gold, predicted).reshape(rows, 3 * labels)
    counts = resampled_sums(counted, replicates=1000, seed=0).reshape(-1, 3, labels)
    f1 = f1_of_counts(counts[:, 0], counts[:, 1], counts[:, 2])
    return corrected_intervals(f1, f1_per_label(gold, predicted))
