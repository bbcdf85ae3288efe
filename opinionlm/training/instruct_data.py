"""The three splits of a generative run: prompts, answers, what cannot be learned from, and the training batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset

from opinionlm.config.method_options import ClassWeightsConfig
from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.columns import flat_lists, numbers_of
from opinionlm.data.encoding.examples import encode_examples
from opinionlm.data.encoding.fingerprints import tokenizer_digest
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError
from opinionlm.training.instruct_trainer import InstructTexts
from opinionlm.training.losses.imbalance import class_weights_of
from opinionlm.training.splits import split_texts
from opinionlm.utils.files import write_csv


@dataclass(frozen=True)
class AnswerSplit:
    """One split, as texts and as token ids, rows in the order of the prepared data set.

    Attributes:
        texts: the prepared rows.
        encoded: as `opinionlm.data.encoding.examples.encode_examples` returns it.
    """

    texts: Dataset
    encoded: Dataset

    def learned(self, class_weights: torch.Tensor) -> InstructTexts:
        """The rows that a loss can be counted on."""
        return InstructTexts(self.encoded, class_weights, self.texts["id"])


def encode_answer_splits(
    prepared: PreparedDataset, encoder: PromptEncoder, data: DataConfig, seed: int
) -> dict[str, AnswerSplit]:
    """Cut the splits to the sizes asked for and write prompts and answers.

    Raises:
        UserError: an answer longer than ``max_length``, or a split without a single usable answer.
    """
    identity, splits = tokenizer_digest(encoder.tokenizer), {}
    for name in SPLITS:
        texts = split_texts(prepared, name, data, seed)
        splits[name] = AnswerSplit(texts, encode_examples(texts, encoder, identity))
        reasons = Counter(splits[name].encoded["reason"])
        if not reasons[""]:
            reason = next(iter(reasons), "it is empty")
            raise UserError(f"{data.dataset}: no answer of the {name} split can be learned ({reason})")
    return splits


def write_rejects(path: Path, splits: dict[str, AnswerSplit]) -> None:
    """Write split, id and reason of every row that no loss is counted on."""
    rows = (
        (name, identity, reason)
        for name, split in splits.items()
        for identity, reason in zip(split.texts["id"], split.encoded["reason"], strict=True)
        if reason
    )
    write_csv(path, ("split", "id", "reason"), rows)


def answer_weights(
    prepared: PreparedDataset, train: AnswerSplit, method: ClassWeightsConfig, source: str
) -> torch.Tensor:
    """Weights of the examples by label, ``(classes,)``; answers other than one label are of one class with weight one.

    Raises:
        UserError: ``class_counts`` does not name every leaf.
    """
    size = 1 if prepared.taxonomy is None or prepared.task != "sequence" else len(prepared.taxonomy.leaves)
    counts = method.class_counts
    if counts is not None and len(counts) != size:
        raise UserError(
            f"{source}: class_counts: {len(counts)} numbers for {size} labels; give one per label, or leave it out"
        )
    kind = "inverse_frequency" if method.class_weights == "auto" else method.class_weights
    if size == 1 or kind == "none":
        return torch.ones(size)
    found = Counter(numbers_of(train.encoded, "label").tolist())
    return class_weights_of(kind, counts or [found[label] for label in range(size)], method)


def shortened_texts(splits: Mapping[str, AnswerSplit]) -> dict[str, int]:
    """Rows whose text or context had to be cut for their prompt to fit, by split."""
    return {name: sum(split.encoded["shortened"]) for name, split in splits.items()}


def shortened_note(splits: Mapping[str, AnswerSplit], max_length: int) -> str:
    """The same in a line for the terminal."""
    counts = shortened_texts(splits)
    if not any(counts.values()):
        return f"length  no prompt is longer than max_length: {max_length} allows"
    shown = ", ".join(f"{name} {counts[name]:,} of {len(split.texts):,}" for name, split in splits.items())
    return f"length  shortened to fit max_length: {max_length}: {shown} prompts, contexts first, at their ends"


def supervised_tokens(splits: Mapping[str, AnswerSplit]) -> dict[str, int]:
    """Tokens that a loss is counted on, by split."""
    counts = {}
    for name, split in splits.items():
        questions = flat_lists(split.encoded, "given")[0].sum() if "given" in split.encoded.column_names else 0
        counts[name] = len(flat_lists(split.encoded, "answer_ids")[0]) - int(questions)
    return counts
