"""Predictions that a language model wrote: labels, some of which may be none, or answers of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opinionlm.evaluation.charts import Chart, ClassF1Chart, ConfusionChart
from opinionlm.evaluation.class_predictions import f1_intervals
from opinionlm.evaluation.generation import answer_confusion
from opinionlm.evaluation.metrics import bootstrap_intervals
from opinionlm.evaluation.predictions import Predictions
from opinionlm.utils.markdown import Table


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

    @property
    def confusion(self) -> np.ndarray:
        """Counts ``(classes, classes + 1)``, what is no label in the last column."""
        return answer_confusion(self.gold, self.predicted, len(self.labels))

    def intervals(self) -> dict[str, Any]:
        """See `Predictions.intervals`."""
        overall = bootstrap_intervals(self.gold, self.predicted, len(self.labels))
        return overall | f1_intervals(self.confusion, self.labels)

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        return {
            "confusion": ConfusionChart(self.confusion, self.labels, parents=self.parents),
            "per_class": ClassF1Chart(self.confusion, self.labels),
        }

    def tables(self) -> dict[str, Table]:
        """None: what a trained label is likely to be confused with is in the charts."""
        return {}


@dataclass(frozen=True)
class FreeAnswers(Predictions):
    """Answers of any kind, which no chart can show.

    Attributes:
        answers: as they were written.
    """

    answers: Sequence[str]

    def intervals(self) -> dict[str, Any]:
        """None; scores of free answers are means over texts."""
        return {}

    def charts(self) -> dict[str, Chart]:
        """None."""
        return {}

    def tables(self) -> dict[str, Table]:
        """None."""
        return {}
