"""Prompt and answer of every example as token ids, with the answer alone to be learned.

The opinion paper, section 9.4: the loss counts the answer's tokens only, and an example is used only when the
answer's tokens are found where they belong, behind the prompt's. Examples that fail are reported, never repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from opinionlm.data.fingerprints import result_name, tokenizer_digest
from opinionlm.data.prompts import PromptEncoder
from opinionlm.errors import UserError

# No loss is counted where a label has this value.
IGNORED = -100


def encode_examples(examples: Dataset, encoder: PromptEncoder, identity: str | None = None) -> Dataset:
    """Tokenise the examples of a split.

    Args:
        examples: prepared rows of a task with text answers (``text``, ``context``, ``answers``; the first answer is
            learned), or with a closed label set (``text``, perhaps ``text_pair``, ``label``).
        encoder: writes prompts and answers; it has ``words`` when the label set is closed.
        identity: `tokenizer_digest` of the encoder's tokenizer, where it was computed before.

    Returns:
        Rows in the given order with ``prompt_ids``, ``answer_ids`` (end token included), ``length`` (tokens of both),
        ``label`` (leaf id, 0 with free answers) and ``reason``: why the row must not be learned from, else blank.

    Raises:
        UserError: an answer longer than ``max_length``.
    """
    pairs = "text_pair" if "text_pair" in examples.column_names else None
    contexts = pairs if encoder.words else "context"

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = len(batch["text"])
        labels = batch["label"] if encoder.words else [0] * rows
        encoded: dict[str, list[Any]] = {name: [] for name in ("prompt_ids", "answer_ids", "length", "reason")}
        for row in range(rows):
            context = "" if contexts is None else batch[contexts][row] or ""
            prompt = encoder.written_prompt(batch["text"][row], context)
            answer = encoder.words[labels[row]] if encoder.words else batch["answers"][row][0]
            reason, answer_ids = supervision(encoder, prompt, answer)
            prompt_ids = encoder.text_ids(prompt)
            encoded["prompt_ids"].append(prompt_ids)
            encoded["answer_ids"].append(answer_ids)
            encoded["length"].append(len(prompt_ids) + len(answer_ids))
            encoded["reason"].append(reason)
        return encoded | {"label": labels}

    facts = {
        "tokenizer": identity or tokenizer_digest(encoder.tokenizer),
        "template": encoder.template.to_dict(),
        "max_length": encoder.max_length,
        "words": list(encoder.words),
        "answer_room": encoder.answer_room,
        "encoder_decoder": encoder.encoder_decoder,
    }
    return examples.map(
        encode,
        batched=True,
        remove_columns=examples.column_names,
        new_fingerprint=result_name("prompts", examples, facts),
        desc="Writing prompts",
    )


def supervision(encoder: PromptEncoder, prompt: str, answer: str) -> tuple[str, list[int]]:
    """Why an answer cannot be learned behind a prompt (blank when it can), and its token ids.

    Raises:
        UserError: the answer is longer than ``max_length``.
    """
    try:
        ids = encoder.answer_ids(answer)
        aligned = encoder.is_aligned(prompt, answer)
    except UserError:
        return "prompt and answer share a token", []
    if len(ids) > encoder.max_length:
        raise UserError(
            f"max_length: {encoder.max_length} tokens are fewer than the answer {answer[:60]!r} has ({len(ids)}); "
            "answers are never cut, so raise it"
        )
    if len(ids) == len(encoder.end_ids):
        return "the answer is empty", []
    if not encoder.words and len(ids) > encoder.answer_room:
        return f"an answer of {len(ids)} tokens, where max_answer_length is {encoder.answer_room}", []
    if not aligned:
        return "the answer's tokens are others behind this prompt", []
    return "", ids


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
            rows: ``prompt_ids``, ``answer_ids`` (empty: nothing is learned) and ``weight``.
        """
        if self.encoder_decoder:
            inputs = [row["prompt_ids"] for row in rows]
            labels = [row["answer_ids"] for row in rows]
        else:
            inputs = [np.concatenate([row["prompt_ids"], row["answer_ids"]]) for row in rows]
            labels = [np.concatenate([np.full(len(row["prompt_ids"]), IGNORED), row["answer_ids"]]) for row in rows]
        length = self.fixed_length or max(map(len, inputs))
        # The decoder needs a step to run even where a process has a filler only.
        label_length = max(1, *map(len, labels)) if self.encoder_decoder else length
        return {
            "input_ids": padded(inputs, length, self.pad_token_id),
            "attention_mask": padded([np.ones(len(row)) for row in inputs], length, 0),
            "labels": padded(labels, label_length, IGNORED),
            "weights": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
        }


def padded(rows: list[np.ndarray], length: int, value: int) -> torch.Tensor:
    """Rows of ids as one int64 tensor ``(rows, length)``, filled up on the right."""
    filled = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return torch.from_numpy(filled)
