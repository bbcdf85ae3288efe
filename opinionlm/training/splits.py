"""A split, encoded, with the order in which it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.columns import subset
from opinionlm.data.encoding.texts import evaluation_texts
from opinionlm.data.prepared import PreparedDataset
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.prefix_cache import PrefixStates


@dataclass(frozen=True)
class Split:
    """One split, as texts and as token ids, rows in the order of the prepared data set.

    Attributes:
        texts: the prepared columns of the task, see `PreparedDataset`.
        encoded: ``input_ids``, ``labels`` and ``length``; see `encode_texts` and `encode_words`.
        order: reading order: the trainer's row ``i`` is row ``order[i]`` here.
        targets: what training is to say of each text, ``(rows, classes)``, where that is not its label alone.
    """

    texts: Dataset
    encoded: Dataset
    order: np.ndarray
    targets: np.ndarray | None = None

    def reader(self, states: PrefixStates | None) -> EncodedTexts:
        """The split as the trainer reads it, with the stored states of the frozen prefix where there are some."""
        return EncodedTexts(self.encoded, self.order, states, self.texts["id"], self.targets)

    def in_text_order(self, rows: np.ndarray) -> np.ndarray:
        """Bring rows that follow the reading order back to the order of the texts."""
        restored = np.empty_like(rows)
        restored[self.order] = rows
        return restored


def split_texts(prepared: PreparedDataset, name: str, data: DataConfig, seed: int) -> Dataset:
    """The rows of a split that a run reads.

    ``max_train_samples`` draws with the run's seed: which texts there are few of is part of what seeds vary.
    ``max_eval_samples`` draws the same rows for every seed, so that scores of seeds and methods are paired.
    """
    if name == "train":
        return subset(prepared.dataset[name], data.max_train_samples, seed)
    return evaluation_texts(prepared.dataset[name], data.max_eval_samples)
