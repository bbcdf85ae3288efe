"""Scores that know the label tree."""

from __future__ import annotations

import numpy as np

from opinionlm.data.taxonomy import Taxonomy


def ancestor_matrix(taxonomy: Taxonomy) -> np.ndarray:
    """Which nodes lie on each leaf's path: bool ``(leaves, nodes)``, the leaf itself included, the root not."""
    nodes = {path[: depth + 1]: None for path in taxonomy.paths for depth in range(len(path))}
    index = {node: position for position, node in enumerate(nodes)}
    matrix = np.zeros((len(taxonomy.leaves), len(index)), dtype=bool)
    for leaf, path in enumerate(taxonomy.paths):
        for depth in range(len(path)):
            matrix[leaf, index[path[: depth + 1]]] = True
    return matrix


def lca_heights(taxonomy: Taxonomy) -> np.ndarray:
    """Height of the lowest common ancestor of every pair of leaves: int ``(leaves, leaves)``, zero on the diagonal.

    The height of a node is the length of the longest path from it down to a leaf (Bertinetto et al. 2020).
    """
    heights: dict[tuple[str, ...], int] = {}
    for path in taxonomy.paths:
        for depth in range(len(path) + 1):
            heights[path[:depth]] = max(heights.get(path[:depth], 0), len(path) - depth)
    size = len(taxonomy.leaves)
    result = np.zeros((size, size), dtype=int)
    for first, one in enumerate(taxonomy.paths):
        for second, other in enumerate(taxonomy.paths):
            shared = 0
            while shared < min(len(one), len(other)) and one[shared] == other[shared]:
                shared += 1
            result[first, second] = 0 if first == second else heights[one[:shared]]
    return result


def hierarchical_scores(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """Hierarchical precision, recall and F1 (Kiritchenko et al. 2006), micro-averaged over the rows.

    Each leaf stands for the set of itself and its ancestors below the root; a prediction earns the share of that set
    that it gets right. An answer that is no label names no node.

    Args:
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``; the number of leaves stands for an answer that is no label.
        taxonomy: the label tree.
    """
    ancestors = np.pad(ancestor_matrix(taxonomy), ((0, 1), (0, 0)))
    gold_set, predicted_set = ancestors[gold], ancestors[predicted]
    common = float((gold_set & predicted_set).sum())
    precision, recall = common / max(predicted_set.sum(), 1), common / gold_set.sum()
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return {
        "hierarchical_precision": float(precision),
        "hierarchical_recall": float(recall),
        "hierarchical_f1": float(f1),
    }


def mistake_severity(gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> float:
    """Mean height of the lowest common ancestor over the mistakes (Bertinetto et al. 2020); 0 without mistakes.

    An answer that is no label (the number of leaves) is the worst there is: the height of the root.
    """
    heights = np.pad(lca_heights(taxonomy), ((0, 0), (0, 1)), constant_values=taxonomy.depth)[gold, predicted]
    mistakes = gold != predicted
    return float(heights[mistakes].mean()) if mistakes.any() else 0.0
