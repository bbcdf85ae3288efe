"""What figures show, as names and arrays; `opinionlm.reporting.charts` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ConfusionChart:
    """A confusion matrix; where texts have several labels, which of them those get that have a gold label.

    Attributes:
        counts: ``(gold, predicted)``; a column behind those of the labels holds answers that are no label.
        labels: names in the order of the ids.
        unit: what is counted.
        parents: names above each label in its tree, from the top; empty for a flat label set.
        support: texts per gold label ``(labels,)``, where these may get several labels; else the rows' sums.
    """

    counts: np.ndarray
    labels: Sequence[str]
    unit: str = "texts"
    parents: Sequence[Sequence[str]] = ()
    support: np.ndarray | None = None


@dataclass(frozen=True)
class F1Chart:
    """F1 per label as bars, and a line for the score of all of them.

    Attributes:
        f1: ``(labels,)``.
        bounds: 95 % intervals ``(labels, 2)``.
        support: gold items per label ``(labels,)``.
        labels: names.
        overall: where the line stands.
        title: names the line.
        unit: what ``support`` counts.
    """

    f1: np.ndarray
    bounds: np.ndarray
    support: np.ndarray
    labels: Sequence[str]
    overall: float
    title: str
    unit: str


@dataclass(frozen=True)
class PrecisionRecallChart:
    """Precision against recall of every label, and where its threshold lies.

    Attributes:
        gold: zeros and ones ``(rows, labels)``.
        probabilities: ``(rows, labels)``.
        predicted: zeros and ones ``(rows, labels)``.
        labels: names.
    """

    gold: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    labels: Sequence[str]


@dataclass(frozen=True)
class ReliabilityChart:
    """Accuracy against confidence (Guo et al. 2017).

    Attributes:
        gold: leaf ids ``(rows,)``.
        probabilities: ``(rows, classes)``.
        per_label: a row is one text and one label, which it has or has not; else a text.
    """

    gold: np.ndarray
    probabilities: np.ndarray
    per_label: bool = False


@dataclass(frozen=True)
class ScoreChart:
    """Predicted scores against gold ones.

    Attributes:
        gold: ``(rows,)``.
        predicted: ``(rows,)``.
    """

    gold: np.ndarray
    predicted: np.ndarray


Chart = ConfusionChart | F1Chart | PrecisionRecallChart | ReliabilityChart | ScoreChart
