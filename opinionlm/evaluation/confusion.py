"""Who is taken for whom, counted."""

from __future__ import annotations

import numpy as np


def confusion_matrix(gold: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """scikit-learn's confusion matrix ``(labels, labels)``, gold by row.

    scikit-learn takes seconds to import, which a command that only prints its help, or a run that has not yet
    predicted anything, does not have to wait for.

    Args:
        gold: labels ``(rows,)``.
        predicted: labels ``(rows,)``.
        labels: of the rows and columns; what is none of them is not counted.
    """
    from sklearn.metrics import confusion_matrix as count

    return count(gold, predicted, labels=labels)
