"""Predictions that a language model wrote: labels, some of which may be none, or answers of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.charts import Chart
from opinionlm.evaluation.class_predictions import class_charts, f1_intervals, label_scores
from opinionlm.evaluation.generation import answer_confusion
from opinionlm.evaluation.metrics import bootstrap_intervals
from opinionlm.evaluation.multi_label import MAIN_SCORES, multi_label_intervals, written_list_scores
from opinionlm.evaluation.multi_label_predictions import label_lists, set_charts
from opinionlm.evaluation.predictions import Predictions


@dataclass(frozen=True)
class WrittenLabels(Predictions):
    """Gold labels and those that were read in the answers.

    Attributes:
        labels: leaf names in the order of the ids.
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``; `opinionlm.evaluation.generation.INVALID` where an answer is no label.
        answers: as they were written.
        parents: names above each label in its tree, from the top; empty for a flat label set.
    """

    labels: Sequence[str]
    gold: np.ndarray
    predicted: np.ndarray
    answers: Sequence[str]
    parents: Sequence[Sequence[str]] = ()

    of_texts: ClassVar[bool] = True

    @property
    def confusion(self) -> np.ndarray:
        """Counts ``(classes, classes + 1)``, what is no label in the last column."""
        return answer_confusion(self.gold, self.predicted, len(self.labels))

    def intervals(self) -> dict[str, Any]:
        """See `Predictions.intervals`."""
        overall = bootstrap_intervals(self.gold, self.predicted, len(self.labels))
        return overall | f1_intervals(self.confusion, self.labels)

    def scores_of(self, rows: np.ndarray) -> dict[str, Any]:
        """See `label_scores`."""
        return label_scores(self.gold[rows], self.predicted[rows], len(self.labels))

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        return class_charts(self.confusion, self.labels, self.parents)


@dataclass(frozen=True)
class WrittenLists(Predictions):
    """Gold labels, and the lists of labels that were read in the answers.

    Attributes:
        labels: leaf names in the order of the ids.
        gold: zeros and ones ``(rows, leaves)``.
        predicted: bool ``(rows, leaves)``, nothing where an answer is no list.
        is_list: which answers are lists, bool ``(rows,)``.
        answers: as they were written.
    """

    labels: Sequence[str]
    gold: np.ndarray
    predicted: np.ndarray
    is_list: np.ndarray
    answers: Sequence[str]

    of_texts: ClassVar[bool] = True

    def intervals(self) -> dict[str, Any]:
        """See `Predictions.intervals`."""
        right = (self.gold.astype(bool) == self.predicted).all(axis=1) & self.is_list
        subsets = bootstrap_intervals(np.ones(len(right), dtype=int), right.astype(int), 2)["accuracy_ci95"]
        return multi_label_intervals(self.gold, self.predicted) | {"subset_accuracy_ci95": subsets}

    def scores_of(self, rows: np.ndarray) -> dict[str, Any]:
        """``macro_f1`` (over all labels), ``micro_f1`` and ``subset_accuracy``; see `Predictions.scores_of`."""
        own = replace(self, gold=self.gold[rows], predicted=self.predicted[rows], is_list=self.is_list[rows])
        found = written_list_scores(own.gold, own.predicted, own.is_list, Taxonomy.from_tree(list(self.labels)))
        return {name: found[name] for name in MAIN_SCORES} | own.intervals()

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        return set_charts(self.gold.astype(int), self.predicted, self.labels)


def list_cells(
    predicted: np.ndarray, is_list: np.ndarray, answers: Sequence[str], taxonomy: Taxonomy
) -> Iterator[list[str]]:
    """Labels and levels of every answer, as `label_lists` writes them, and the answer; blank where it is no list.

    Args:
        predicted: bool ``(rows, leaves)``.
        is_list: bool ``(rows,)``.
        answers: as they were written.
        taxonomy: the label tree.
    """
    for own, readable, answer in zip(predicted, is_list, answers, strict=True):
        lists = label_lists(np.flatnonzero(own).tolist(), taxonomy)
        yield [*(lists if readable else [""] * len(lists)), answer]


@dataclass(frozen=True)
class FreeAnswers(Predictions):
    """Answers of any kind, which no chart can show; intervals of their scores come with these, means over texts.

    Attributes:
        answers: as they were written.
    """

    answers: Sequence[str]
