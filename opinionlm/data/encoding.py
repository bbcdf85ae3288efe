"""Token ids from texts, and batches from token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from opinionlm.config import DataConfig, ModelConfig
from opinionlm.errors import UserError


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, padding on the right, with a padding token.

    Classification pads on the right: GPT-2's absolute positions differ otherwise. A tokenizer without a padding
    token (GPT-2, Llama, Mistral) pads with its end token; pooling reads the attention mask, never the token.

    Raises:
        UserError: no tokenizer found, or neither a padding nor an end token.
    """
    name = model.tokenizer_name_or_path or model.model_name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=model.model_revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer_name_or_path: no tokenizer in '{name}' ({reason}); give the name of the model the tokenizer "
            "belongs to"
        ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"tokenizer_name_or_path: '{name}' has neither a padding nor an end token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    tokenizer.truncation_side = "right"
    return tokenizer


def encode_texts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Tokenise the texts of a split.

    Args:
        dataset: with columns ``text`` and ``label``.
        tokenizer: a fast tokenizer.
        max_length: texts are truncated to this many tokens, special tokens included.

    Returns:
        Columns ``input_ids``, ``labels`` and ``length`` (tokens), rows in the given order.
    """

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        ids = tokenizer(batch["text"], truncation=True, max_length=max_length, verbose=False)["input_ids"]
        return {"input_ids": ids, "labels": batch["label"], "length": [len(row) for row in ids]}

    return dataset.map(encode, batched=True, remove_columns=dataset.column_names, desc="Tokenising")


def subset(dataset: Dataset, size: int | None, seed: int) -> Dataset:
    """A random part of a split in its original order; the whole split when ``size`` is None or larger than it."""
    if size is None or size >= len(dataset):
        return dataset
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:size]
    return dataset.select(sorted(chosen.tolist()))


def longest_first(encoded: Dataset) -> np.ndarray:
    """Row numbers by falling length: little padding within batches, and too little memory shows at once."""
    return np.argsort(-numbers_of(encoded, "length"), kind="stable")


def numbers_of(encoded: Dataset, column: str) -> np.ndarray:
    """A column of numbers; asked for as a plain list it would be read row by row."""
    return encoded.with_format("arrow", columns=[column])[:][column].to_numpy()


def flat_ids(encoded: Dataset, name: str = "input_ids") -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all rows one after another, and where each row begins; the last offset is their number.

    Reading rows out of these is some twenty times faster than asking the data set for them, and takes no memory
    where the ids lie in one piece on disk: they stay mapped.

    Args:
        encoded: with a column of lists of ids.
        name: of the column.
    """
    column = encoded.with_format("arrow", columns=[name])[:][name].combine_chunks()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True)
class PadCollator:
    """Pad a batch of encoded texts on the right.

    Args:
        pad_token_id: id to pad with.
        fixed_length: pad to this length (the opinion paper's way); None pads to the longest text of the batch.
    """

    pad_token_id: int
    fixed_length: int | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Batch of ``input_ids`` and ``attention_mask`` ``(batch, length)`` and ``labels`` ``(batch,)``, all int64."""
        length = self.fixed_length or max(len(row["input_ids"]) for row in rows)
        # Filled by numpy: assigning a slice costs a tenth of what it costs in torch.
        input_ids = np.full((len(rows), length), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            input_ids[index, :size] = row["input_ids"]
            attention_mask[index, :size] = 1
        batch = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
        if "prefix_states" in rows[0]:
            batch["prefix_states"] = pad_states([row["prefix_states"] for row in rows], length)
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch


def pad_states(states: list[torch.Tensor], length: int) -> torch.Tensor:
    """Stack ragged states ``(tokens, hidden)`` to ``(batch, length, hidden)``, zeros at the padding.

    Pooled states (one row per text, whatever its length) stay ``(batch, 1, hidden)``.
    """
    if all(len(rows) == 1 for rows in states):
        return torch.stack(states)
    padded = states[0].new_empty((len(states), length, states[0].shape[1]))
    for index, rows in enumerate(states):
        padded[index, : len(rows)] = rows
        padded[index, len(rows) :] = 0
    return padded


def collator_for(data: DataConfig, tokenizer: PreTrainedTokenizerBase) -> PadCollator:
    """The collator that a config asks for."""
    return PadCollator(tokenizer.pad_token_id, data.max_length if data.pad_to_max else None)
