"""Long texts in overlapping chunks: what is cut where, and how chunks lie in rows and in batches.

A row holds the token ids of its chunks one after another and ``chunks``, their lengths, so that whatever counts tokens
(token budgets, costs, the frozen-prefix cache) counts those of all chunks. A batch has one row per text, too:
``(batch, chunks, length)``. What the model makes of it stands in `opinionlm.models.chunks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from opinionlm.data.encoding.special_tokens import surrounding_ids
from opinionlm.errors import UserError

# Columns with one entry per token, beside states that are not pooled.
TOKEN_COLUMNS = ("input_ids", "token_type_ids")


def chunked_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int, overlap: int
) -> list[list[list[int]]]:
    """The chunks of every text: token ids, each chunk between the special tokens that surround a whole text.

    Neighbouring chunks share ``overlap`` tokens. The last chunk ends with the text and is as long as the others, so it
    shares more. A text of at most ``max_length`` tokens is one chunk, the same ids as without chunks.

    Args:
        texts: single texts.
        tokenizer: a fast tokenizer.
        max_length: of a chunk, special tokens included.
        overlap: in tokens.

    Raises:
        UserError: special tokens and overlap leave nothing of a chunk.
    """
    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    before, after = surrounding_ids(tokenizer)
    size = max_length - len(before) - len(after)
    if size <= overlap:
        raise UserError(
            f"chunk_overlap: {overlap} leaves no new token in chunks of max_length: {max_length}, "
            f"{len(before) + len(after)} of which are special tokens; lower it, or raise max_length"
        )
    found = []
    for ids in rows:
        if len(ids) <= max_length:
            found.append([ids])
            continue
        inner = ids[len(before) : len(ids) - len(after)]
        last = len(inner) - size
        starts = [*range(0, last, size - overlap), last]
        found.append([[*before, *inner[start : start + size], *after] for start in starts])
    return found


def chunk_rows(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The chunks of encoded rows, each a row without label; pooled states belong to texts and are left out."""
    longest = max(rows, key=lambda row: len(row["chunks"]))
    names = [name for name in TOKEN_COLUMNS if name in longest]
    if has_token_states(longest):
        names.append("prefix_states")
    for row in rows:
        start = 0
        for length in row["chunks"]:
            yield {name: row[name][start : start + length] for name in names}
            start += length


def has_token_states(row: dict[str, Any]) -> bool:
    """Whether a row has stored states ``(tokens, hidden)``, and not one pooled state ``(hidden,)`` or none."""
    return "prefix_states" in row and row["prefix_states"].dim() == 2


def by_text(chunks: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Rows of chunks ``(all chunks, …)`` as ``(texts, chunks, …)``, zeros where a text has fewer than others."""
    numbers = torch.from_numpy(np.asarray(counts))
    grouped = chunks.new_zeros(len(counts), max(counts), *chunks.shape[1:])
    grouped[torch.arange(max(counts)) < numbers[:, None]] = chunks
    return grouped
