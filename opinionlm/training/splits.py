"""The three splits, encoded, with the order in which each is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from opinionlm.config.config import Config
from opinionlm.data.encoding.augmentation import with_copies
from opinionlm.data.encoding.columns import IGNORED, flat_lists, longest_first, numbers_of, subset
from opinionlm.data.encoding.fingerprints import tokenizer_digest
from opinionlm.data.encoding.platform_prefix import with_platforms
from opinionlm.data.encoding.soft_labels import mixed_targets, read_soft_labels
from opinionlm.data.encoding.texts import encode_texts, evaluation_texts
from opinionlm.data.encoding.word_alignment import encode_words
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError
from opinionlm.models.linear.interpolation import check_words
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


def encode_splits(prepared: PreparedDataset, tokenizer: PreTrainedTokenizerBase, config: Config) -> dict[str, Split]:
    """Cut the splits to the sizes asked for and tokenise them as their task needs it.

    Training texts are read in an order of their `BatchPlan`; validation and test longest first.

    Raises:
        UserError: a task that is not trained here; or nothing to tell apart among the training texts: a single class,
            tag or score.
    """
    check_words(prepared, config)
    seed = config.training.seed
    identity = tokenizer_digest(tokenizer)
    splits = {}
    for name in SPLITS:
        texts = split_texts(prepared, name, config)
        if name == "train" and config.robust.augment_rare > 0:
            texts = with_copies(texts, config.robust.augment_rare, seed)
        encoded = encode_split(texts, prepared, tokenizer, identity, config)
        order = np.arange(len(encoded)) if name == "train" else longest_first(encoded)
        targets = soft_targets(texts, prepared, config) if name == "train" else None
        splits[name] = Split(texts, encoded, order, targets)
    kinds = {"sequence": "class", "token": "tag", "similarity": "score"}
    if len(label_counts(splits["train"], prepared)) < 2:
        raise UserError(
            f"{config.data.dataset}: the training split holds a single {kinds[prepared.task]}; a model needs at least "
            "two to tell apart (check the columns of the dataset YAML, or raise max_train_samples)"
        )
    return splits


def split_texts(prepared: PreparedDataset, name: str, config: Config) -> Dataset:
    """The rows of a split that a run reads.

    ``max_train_samples`` draws with the run's seed: which texts there are few of is part of what seeds vary.
    ``max_eval_samples`` draws the same rows for every seed, so that scores of seeds and methods are paired.

    Args:
        prepared: the data set.
        name: of the split.
        config: the run's options.
    """
    data = config.data
    if name == "train":
        return subset(prepared.dataset[name], data.max_train_samples, config.training.seed)
    return evaluation_texts(prepared.dataset[name], data.max_eval_samples)


def encode_split(
    texts: Dataset, prepared: PreparedDataset, tokenizer: PreTrainedTokenizerBase, identity: str, config: Config
) -> Dataset:
    """Tokenise one split with a tokenizer of the given `tokenizer_digest`; see `encode_splits`."""
    max_length = config.data.max_length
    match prepared.task:
        case "sequence":
            read = with_platforms(texts) if config.data.platform_prefix else texts
            return encode_texts(read, tokenizer, max_length, identity=identity)
        case "similarity":
            return encode_texts(texts, tokenizer, max_length, target="score", identity=identity)
        case "token":
            subwords = config.data.label_all_subwords
            return encode_words(texts, tokenizer, max_length, prepared.tags, subwords, identity)
        case task:
            raise ValueError(f"no classifier reads task {task!r}")


def soft_targets(texts: Dataset, prepared: PreparedDataset, config: Config) -> np.ndarray | None:
    """Targets of training texts from their labels and ``soft_labels``, ``(rows, leaves)``; None without those.

    Raises:
        UserError: see `read_soft_labels`.
    """
    robust = config.robust
    if robust.soft_labels is None:
        return None
    soft = read_soft_labels(Path(robust.soft_labels), list(texts["id"]), prepared.taxonomy)
    return mixed_targets(np.asarray(texts["label"]), soft, robust.soft_label_share)


def label_counts(split: Split, prepared: PreparedDataset) -> Counter[int | float]:
    """How often each label occurs in a split: classes and scores per text, tags per labelled token."""
    if prepared.task == "token":
        labels = flat_lists(split.encoded, "labels")[0]
        return Counter(labels[labels != IGNORED].tolist())
    return Counter(numbers_of(split.encoded, "labels").tolist())
