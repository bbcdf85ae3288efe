"""A task: what its answers are compared by, shown as and described with, whoever gives them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from datasets import Dataset

from opinionlm.config.chosen_metric import SCORES, ChosenMetric, chosen_metric
from opinionlm.config.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.multi_label_rules import Rule
from opinionlm.evaluation.predictions import Predictions
from opinionlm.models.linear.interpolation import TfidfInterpolation

# The predictions of a task.
P = TypeVar("P", bound=Predictions)


@dataclass(frozen=True)
class Decision:
    """What is fitted on validation once a model is trained.

    Attributes:
        rule: how labels follow from logits.
        interpolation: of the model with TF-IDF; None where it stands alone.
        label_prior: what ``calibration: batch`` takes out of label scores, see `calibrated`; empty for all else.
    """

    rule: Rule = AnswerRule()
    interpolation: TfidfInterpolation | None = None
    label_prior: tuple[float, ...] = ()


@dataclass(frozen=True)
class SplitResult(Generic[P]):
    """Predictions of one split, rows in the order of its texts, and their scores.

    Attributes:
        predictions: gold and predicted.
        scores: plain floats, intervals as ``[low, high]``, ``platforms``: the scores of every platform, and, where the
            data say when texts were written, ``periods``: the scores over time.
    """

    predictions: P
    scores: dict[str, Any]


# Of validation and test.
Results = dict[str, SplitResult[Any]]


class Task(ABC, Generic[P]):
    """One task over one prepared data set.

    Args:
        prepared: the data set.
        config: of the run.
    """

    # What a model gives, as the name of the file that predict.py writes.
    answers: ClassVar[str] = "labels"

    def __init__(self, prepared: PreparedDataset, config: Config) -> None:
        self.prepared = prepared
        self.config = config

    @property
    @abstractmethod
    def primary_metric(self) -> str:
        """The validation score that picks the checkpoint by default."""

    @property
    @abstractmethod
    def shown_metrics(self) -> tuple[str, ...]:
        """The scores of summaries and cards, ``primary_metric`` first."""

    def metric_names(self) -> tuple[str, ...]:
        """Every score of a validation split while a model trains."""
        return SCORES[self.prepared.task]

    def chosen_metric(self) -> ChosenMetric:
        """The score that chooses the checkpoint of the run.

        Raises:
            UserError: ``metric_for_best_model`` is no score of these data.
        """
        return chosen_metric(self.config.training, self.primary_metric, self.metric_names(), self.config.source)

    def decision_facts(self, decision: Decision) -> dict[str, Any]:
        """What was fitted, for ``metrics.json``; empty where nothing was."""
        return {}

    @abstractmethod
    def describe(self, splits: Mapping[str, Any]) -> str:
        """What is predicted, in a few words for the terminal; of splits that the task encoded."""

    def notes(self, splits: Mapping[str, Any]) -> list[str]:
        """Further lines about the splits, for the terminal."""
        return []

    @abstractmethod
    def prediction_table(self, texts: Dataset, predictions: P) -> tuple[list[str], Iterator[list[str]]]:
        """Header and rows of ``predictions/<split>.csv``."""
