"""Ways of training as they are compared: the answers of their runs to the same rows, and the score of these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from opinionlm.evaluation.significance import macro_f1_of

# What the scores of `Way`s are called among the metrics of a run.
CLAIMED = ("macro_f1", "entity_f1", "pearson")


# Compared by identity: arrays have no truth value.
@dataclass(frozen=True, eq=False)
class Way(ABC):
    """One way of training, with what its runs answered.

    Attributes:
        name: to read.
        metric: what its score is called.
    """

    name: str
    metric: ClassVar[str]

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many texts, sentences or pairs were answered."""

    @abstractmethod
    def scored(self, counts: np.ndarray) -> np.ndarray:
        """Scores ``(seeds, samples)`` of samples that hold every row so many times ``(samples, rows)``."""

    @cached_property
    def scores(self) -> np.ndarray:
        """The score of every seed ``(seeds,)``."""
        return self.scored(np.ones((1, self.rows)))[:, 0]


@dataclass(frozen=True, eq=False)
class LabelWay(Way):
    """Answers that are labels of texts.

    Attributes:
        gold: leaf ids ``(rows,)``; where texts have any number of labels, zeros and ones ``(rows, leaves)``.
        runs: predictions ``(seeds, …)``, shaped as gold; the id ``classes`` stands for an answer that is no label.
        classes: number of leaves.
    """

    metric = "macro-F1"
    gold: np.ndarray
    runs: np.ndarray
    classes: int

    @property
    def rows(self) -> int:
        """See `Way.rows`."""
        return len(self.gold)

    def scored(self, counts: np.ndarray) -> np.ndarray:
        """Macro-F1; see `Way.scored`."""
        return macro_f1_of(counts, self.gold, self.runs, self.classes)


@dataclass(frozen=True, eq=False)
class TagWay(Way):
    """Answers that are tags of words.

    Attributes:
        entities: per run and sentence the right ones, those predicted and those of gold ``(seeds, rows, 3)``.
    """

    metric = "entity F1"
    entities: np.ndarray

    @property
    def rows(self) -> int:
        """See `Way.rows`."""
        return self.entities.shape[1]

    def scored(self, counts: np.ndarray) -> np.ndarray:
        """F1 over all entities; see `Way.scored`."""
        # Loaded late: it imports seqeval, and with it scikit-learn.
        from opinionlm.evaluation.tagging import precision_recall_f1

        return precision_recall_f1(counts @ self.entities.astype(np.float64))[2]


@dataclass(frozen=True, eq=False)
class ScoreWay(Way):
    """Answers that are scores of pairs.

    Attributes:
        gold: scores ``(rows,)``.
        runs: predicted scores ``(seeds, rows)``.
    """

    metric = "Pearson's r"
    gold: np.ndarray
    runs: np.ndarray

    @property
    def rows(self) -> int:
        """See `Way.rows`."""
        return len(self.gold)

    def scored(self, counts: np.ndarray) -> np.ndarray:
        """Pearson's correlation; see `Way.scored`."""
        from opinionlm.evaluation.similarity import pearson_of

        return pearson_of(counts, self.gold, self.runs)
