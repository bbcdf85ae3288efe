"""What a person reads after the scores: the confusion matrix, the score of every class, the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from opinionlm.evaluation.charts import Chart, ConfusionChart, F1Chart, ReliabilityChart
from opinionlm.evaluation.metrics import (
    bootstrap_intervals,
    class_f1_intervals,
    confusion_matrix,
    f1_from_confusion,
    gold_classes,
    squared,
)
from opinionlm.evaluation.predictions import Predictions
from opinionlm.utils.markdown import Table

# Longer texts are cut in tables that are there to be looked at.
SHOWN_CHARACTERS = 1_000
# The share of texts with one answer that is worth a remark.
NEARLY_ALL = 0.95


@dataclass(frozen=True)
class SplitPredictions(Predictions):
    """Gold labels and predictions of one split.

    Attributes:
        labels: leaf names in the order of the ids.
        texts: the texts, one per row.
        gold: leaf ids ``(rows,)``.
        probabilities: ``(rows, leaves)``.
        text_pairs: the second texts, where the task is about pairs.
        decided: leaf ids ``(rows,)``, where something else than the likeliest leaf was decided for.
        parents: names above each label in its tree, from the top; empty for a flat label set.
    """

    labels: Sequence[str]
    texts: Sequence[str]
    gold: np.ndarray
    probabilities: np.ndarray
    text_pairs: Sequence[str] | None = None
    decided: np.ndarray | None = None
    parents: Sequence[Sequence[str]] = ()

    of_texts: ClassVar[bool] = True

    @property
    def predicted(self) -> np.ndarray:
        """The answer for every row ``(rows,)``: what was decided, else the likeliest leaf."""
        return self.probabilities.argmax(axis=1) if self.decided is None else self.decided

    @property
    def confidence(self) -> np.ndarray:
        """Probability of every row's answer ``(rows,)``."""
        return self.probabilities[np.arange(len(self.gold)), self.predicted]

    @property
    def confusion(self) -> np.ndarray:
        """Counts ``(gold, predicted)``."""
        return confusion_matrix(self.gold, self.predicted, len(self.labels))

    def intervals(self) -> dict[str, Any]:
        """See `Predictions.intervals`."""
        overall = bootstrap_intervals(self.gold, self.predicted, len(self.labels))
        return overall | f1_intervals(self.confusion, self.labels)

    def scores_of(self, rows: np.ndarray) -> dict[str, Any]:
        """See `label_scores`."""
        return label_scores(self.gold[rows], self.predicted[rows], len(self.labels))

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        charts = class_charts(self.confusion, self.labels, self.parents)
        return charts | {"reliability": ReliabilityChart(self.gold, self.probabilities)}

    def tables(self) -> dict[str, Table]:
        """See `Predictions.tables`."""
        return {"per_class": per_class_table(self), "confident_mistakes": confident_mistakes(self)}

    def remarks(self) -> list[str]:
        """Says where one label is the answer to nearly every text, and is that of far fewer; see `Predictions`."""
        answers, gold = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        most, texts = int(answers.argmax()), len(self.gold)
        if answers[most] < NEARLY_ALL * texts or gold[most] >= (NEARLY_ALL - 0.1) * texts:
            return []
        return [
            f"{self.labels[most]!r} is the answer to {answers[most]:,} of {texts:,} texts, but the label of "
            f"{gold[most]:,}: hardly any other is ever given"
        ]


def label_scores(gold: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Any]:
    """``macro_f1`` over the gold classes and ``accuracy``, with intervals.

    Args:
        gold: label ids ``(rows,)``.
        predicted: the same; one below 0 is no label.
        classes: number of labels.
    """
    from opinionlm.evaluation.generation import macro_f1_and_accuracy  # loads torch

    macro, accuracy = macro_f1_and_accuracy(gold, predicted, classes)
    return {"macro_f1": macro, "accuracy": accuracy} | bootstrap_intervals(gold, predicted, classes)


def f1_intervals(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, list[float]]:
    """``f1_<label>_ci95`` of every label, from its confusion counts; see `class_f1_intervals`."""
    return {
        f"f1_{label}_ci95": [float(low), float(high)]
        for label, (low, high) in zip(labels, class_f1_intervals(confusion), strict=True)
    }


def class_charts(confusion: np.ndarray, labels: Sequence[str], parents: Sequence[Sequence[str]]) -> dict[str, Chart]:
    """Confusions, and F1 per class with its 95 % interval; attributes as of `ConfusionChart`."""
    square, support = squared(confusion), confusion.sum(axis=1)
    f1, present = f1_from_confusion(square)[: len(labels)], gold_classes(square)[: len(labels)]
    macro = float(f1[present].mean()) if present.any() else 0.0
    bounds = class_f1_intervals(confusion)
    return {
        "confusion": ConfusionChart(confusion, labels, parents=parents),
        "per_class": F1Chart(f1, bounds, support, labels, macro, f"macro-F1 {macro:.3f}", "texts"),
    }


def per_class_table(split: SplitPredictions) -> Table:
    """Precision, recall, F1 and support of every class; a score without any row to judge by is 0."""
    confusion = split.confusion
    hits, predicted, support = np.diagonal(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision = np.divide(hits, predicted, out=np.zeros(len(hits)), where=predicted > 0)
    recall = np.divide(hits, support, out=np.zeros(len(hits)), where=support > 0)
    f1 = f1_from_confusion(confusion)
    rows: list[list[str | int | float]] = [
        [label, float(precision[index]), float(recall[index]), float(f1[index]), int(support[index])]
        for index, label in enumerate(split.labels)
    ]
    return Table(["label", "precision", "recall", "f1", "support"], rows)


def confident_mistakes(split: SplitPredictions, limit: int = 50) -> Table:
    """The wrong predictions that the model was surest of, surest first: bugs, wrong labels or hard cases."""
    predicted, confidence = split.predicted, split.confidence
    wrong = np.flatnonzero(predicted != split.gold)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]
    columns = ["text", "gold", "predicted", "confidence"]
    rows: list[list[str | int | float]] = [
        [
            split.texts[index][:SHOWN_CHARACTERS],
            split.labels[split.gold[index]],
            split.labels[predicted[index]],
            float(confidence[index]),
        ]
        for index in worst
    ]
    if split.text_pairs is not None:
        columns.insert(1, "text_pair")
        for row, index in zip(rows, worst, strict=True):
            row.insert(1, split.text_pairs[index][:SHOWN_CHARACTERS])
    return Table(columns, rows)
