"""Predictions that a language model wrote: labels, some of which may be none, or answers of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opinionlm.evaluation.charts import Chart, ClassF1Chart, ConfusionChart
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
    """

    labels: Sequence[str]
    gold: np.ndarray
    predicted: np.ndarray
    answers: Sequence[str]

    def intervals(self) -> dict[str, list[float]]:
        """See `Predictions.intervals`."""
        return bootstrap_intervals(self.gold, self.predicted, len(self.labels))

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        confusion = answer_confusion(self.gold, self.predicted, len(self.labels))
        return {
            "confusion": ConfusionChart(confusion, self.labels),
            "per_class": ClassF1Chart(confusion, self.labels),
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

    def intervals(self) -> dict[str, list[float]]:
        """None; scores of free answers are means over texts."""
        return {}

    def charts(self) -> dict[str, Chart]:
        """None."""
        return {}

    def tables(self) -> dict[str, Table]:
        """None."""
        return {}
