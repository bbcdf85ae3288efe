"""The three splits, encoded, with the order in which each is read."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainingArguments

from opinionlm.config import Config
from opinionlm.data.encoding import encode_texts, longest_first, numbers_of, subset
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.training.batching import BatchPlan, EncodedTexts
from opinionlm.training.frozen_cache import PrefixStates
from opinionlm.training.losses import inverse_frequency_weights


@dataclass(frozen=True)
class Split:
    """One split, as texts and as token ids, rows in the order of the prepared data set.

    Attributes:
        texts: ``id``, ``text``, ``platform``, ``label`` and the levels.
        encoded: ``input_ids``, ``labels`` and ``length``.
        order: reading order: the trainer's row ``i`` is row ``order[i]`` here.
    """

    texts: Dataset
    encoded: Dataset
    order: np.ndarray

    def reader(self, states: PrefixStates | None) -> EncodedTexts:
        """The split as the trainer reads it, with the stored states of the frozen prefix where there are some."""
        return EncodedTexts(self.encoded, self.order, states)

    def in_text_order(self, rows: np.ndarray) -> np.ndarray:
        """Bring rows that follow the reading order back to the order of the texts."""
        restored = np.empty_like(rows)
        restored[self.order] = rows
        return restored


def encode_splits(prepared: PreparedDataset, tokenizer: PreTrainedTokenizerBase, config: Config) -> dict[str, Split]:
    """Cut the splits to the sizes asked for and tokenise them.

    Training texts are read in an order of their `BatchPlan`; validation and test longest first.

    Raises:
        UserError: fewer than two classes among the training texts.
    """
    data, seed = config.data, config.training.seed
    splits = {}
    for name, limit in (
        ("train", data.max_train_samples),
        ("validation", data.max_eval_samples),
        ("test", data.max_eval_samples),
    ):
        texts = subset(prepared.dataset[name], limit, seed)
        encoded = encode_texts(texts, tokenizer, data.max_length)
        order = np.arange(len(encoded)) if name == "train" else longest_first(encoded)
        splits[name] = Split(texts, encoded, order)
    if len(np.unique(numbers_of(splits["train"].encoded, "labels"))) < 2:
        raise UserError(
            f"{config.data.dataset}: the training split holds a single class; a classifier needs at least two "
            "(check the label columns, or raise max_train_samples)"
        )
    return splits


def class_weights_for(train: Split, taxonomy: Taxonomy, config: Config) -> torch.Tensor:
    """Class weights ``(leaves,)`` as the config asks for them.

    Raises:
        UserError: ``class_counts`` does not name every leaf.
    """
    size = len(taxonomy.leaves)
    counts = config.method.class_counts
    if counts is not None and len(counts) != size:
        raise UserError(
            f"{config.source}: class_counts: {len(counts)} numbers for {size} labels; give one per label in the order "
            f"{', '.join(taxonomy.leaves)}"
        )
    match config.method.class_weights:
        case "none":
            return torch.ones(size)
        case "inverse_frequency":
            found = Counter(numbers_of(train.encoded, "labels").tolist())
            return inverse_frequency_weights(counts or [found[label] for label in range(size)])


def batch_plan(texts: EncodedTexts, config: Config, arguments: TrainingArguments) -> BatchPlan:
    """The training batches of every epoch that the config asks for, for this process."""
    data, training = config.data, config.training

    def plan(epochs: int) -> BatchPlan:
        return BatchPlan(
            lengths=texts.lengths,
            batch_size=training.per_device_train_batch_size,
            max_tokens=data.max_tokens_per_batch,
            by_length=data.group_by_length,
            shuffle=data.shuffle,
            seed=training.seed,
            epochs=epochs,
            rank=arguments.process_index,
            processes=arguments.world_size,
        )

    if training.max_steps <= 0:
        return plan(max(1, math.ceil(training.num_train_epochs)))
    # With a token budget the number of batches varies a little by epoch; the first tells how many epochs there are.
    batches = training.max_steps * training.gradient_accumulation_steps
    return plan(math.ceil(batches / len(plan(1))) + 1)
