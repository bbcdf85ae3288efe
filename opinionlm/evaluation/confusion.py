"""Who is taken for whom, counted."""

from __future__ import annotations

import numpy as np


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
