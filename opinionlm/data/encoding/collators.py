"""Collators: from encoded rows to padded batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.chunks import by_text, chunk_rows, has_token_states
from opinionlm.data.encoding.columns import IGNORED


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
        """Batch of ``input_ids`` and ``attention_mask`` ``(batch, length)``, int64, and ``labels``.

        Where one of the texts has several chunks they are ``(batch, chunks, length)``, see
        `opinionlm.data.encoding.chunks`, as are ``token_type_ids`` and states that are not pooled.

        Labels are int64 ``(batch,)`` for ids, float32 ``(batch,)`` for scores, float32 ``(batch, classes)`` for
        targets, and int64 ``(batch, length)``, -100 at the padding, for one label per token. ``token_type_ids`` and
        ``prefix_states`` go along where rows have them, padded with zeros; pooled ones are ``(batch, 1, hidden)``.
        """
        counts = [len(row["chunks"]) if "chunks" in row else 1 for row in rows]
        if max(counts) == 1:
            batch = self.tokens(rows)
        else:
            chunks = self.tokens(list(chunk_rows(rows)))
            batch = {name: by_text(tensor, counts) for name, tensor in chunks.items()}
        if "prefix_states" in rows[0] and "prefix_states" not in batch:
            batch["prefix_states"] = torch.stack([row["prefix_states"] for row in rows]).unsqueeze(1)
        if "labels" in rows[0]:
            labels = [row["labels"] for row in rows]
            match labels[0]:
                case np.ndarray() if labels[0].dtype.kind == "f":
                    batch["labels"] = torch.from_numpy(np.stack(labels))
                case np.ndarray() | list():
                    batch["labels"] = pad_numbers(labels, batch["input_ids"].shape[1], IGNORED)
                case _:
                    batch["labels"] = torch.tensor(labels)
        return batch

    def tokens(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """What there is of every token, ``(rows, length, …)``."""
        length = self.fixed_length or max(len(row["input_ids"]) for row in rows)
        # Filled by numpy, as in `pad_numbers`: assigning a slice costs a tenth of what it costs in torch.
        input_ids = np.full((len(rows), length), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            input_ids[index, :size] = row["input_ids"]
            attention_mask[index, :size] = 1
        batch = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
        if has_token_states(rows[0]):
            batch["prefix_states"] = pad_states([row["prefix_states"] for row in rows], length)
        if "token_type_ids" in rows[0]:
            batch["token_type_ids"] = pad_numbers([row["token_type_ids"] for row in rows], length, 0)
        return batch


def pad_numbers(rows: Sequence[Sequence[int] | np.ndarray], length: int, padding: int) -> torch.Tensor:
    """Ragged rows of whole numbers as int64 ``(batch, length)``, padded on the right."""
    padded = np.full((len(rows), length), padding, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)


def pad_states(states: list[torch.Tensor], length: int) -> torch.Tensor:
    """Stack ragged states ``(tokens, hidden)`` to ``(batch, length, hidden)``, zeros at the padding."""
    padded = states[0].new_empty((len(states), length, states[0].shape[1]))
    for index, rows in enumerate(states):
        padded[index, : len(rows)] = rows
        padded[index, len(rows) :] = 0
    return padded


def collator_for(data: DataConfig, tokenizer: PreTrainedTokenizerBase) -> PadCollator:
    """The collator that a config asks for."""
    return PadCollator(tokenizer.pad_token_id, fixed_length(data))


def fixed_length(data: DataConfig) -> int | None:
    """The length that every batch is padded to; None for that of its longest text, as with a token budget."""
    return data.max_length if data.pad_to_max and data.max_tokens_per_batch is None else None


@dataclass(frozen=True)
class InstructCollator:
    """Batches of prompts and answers, padded on the right.

    Args:
        pad_token_id: id to pad with.
        encoder_decoder: the prompt is the input and the answer the labels; else both are the input, one after the
            other, and the labels are -100 on the prompt.
        fixed_length: pad the input to this length (the opinion paper's way); None pads to the longest of the batch.
    """

    pad_token_id: int
    encoder_decoder: bool
    fixed_length: int | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask``, ``labels`` ``(batch, length)``, and ``weights`` ``(batch,)`` in float32.

        Args:
            rows: ``prompt_ids``, ``answer_ids`` (empty: nothing is learned), ``weight``, and ``given``: how many of
                the answer's first tokens are not learned, none by default. ``prefix_states`` ``(tokens, hidden)``
                go along, as ``(batch, length, hidden)``, where rows have them.
        """
        inputs, labels = [row["prompt_ids"] for row in rows], []
        for row in rows:
            learned = row["answer_ids"][row.get("given", 0) :]
            unread = len(row["answer_ids"]) - len(learned) + (0 if self.encoder_decoder else len(row["prompt_ids"]))
            labels.append(np.concatenate([np.full(unread, IGNORED), learned]))
        if not self.encoder_decoder:
            inputs = [np.concatenate([row["prompt_ids"], row["answer_ids"]]) for row in rows]
        length = self.fixed_length or max(map(len, inputs))
        # The decoder needs a step to run even where a process has a filler only.
        label_length = max(1, *map(len, labels)) if self.encoder_decoder else length
        batch = {
            "input_ids": pad_numbers(inputs, length, self.pad_token_id),
            "attention_mask": pad_numbers([np.ones(len(row)) for row in inputs], length, 0),
            "labels": pad_numbers(labels, label_length, IGNORED),
            "weights": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
        }
        if "prefix_states" in rows[0]:
            batch["prefix_states"] = pad_states([row["prefix_states"] for row in rows], length)
        return batch
