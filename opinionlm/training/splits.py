"""A split, encoded, with the order in which it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.columns import subset
from opinionlm.data.encoding.texts import evaluation_texts
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.prefix_cache import PrefixStates

# Labels that a line names; of more their number is told.
NAMED = 8


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


def untrained_note(labels: Sequence[str], counts: np.ndarray) -> list[str]:
    """A warning about labels that no training text has; nothing where there are none.

    Args:
        labels: names.
        counts: training examples of each.
    """
    missing = [label for label, count in zip(labels, counts, strict=True) if count == 0]
    if not missing:
        return []
    more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
    return [f"warning: no training text has the label {', '.join(missing[:NAMED])}{more}; it is not learned"]


def refuse_weightless(weights: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse splits whose loss would be the mean of nothing: what no training text has, class weights do not count.

    Args:
        weights: of the items in the loss, by split.
        source: of the options, for the message.

    Raises:
        UserError: all weights of a split are zero.
    """
    for name, found in weights.items():
        if not (found > 0).any():
            raise UserError(
                f"{source}: class_weights: no training text has a label of the {name} texts, which therefore weigh "
                "nothing in the loss; raise max_train_samples or max_eval_samples, or set class_weights: none"
            )
