"""Texts that are read in chunks: a model reads each chunk as it reads a short text, and joins what it read by text."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Tokens, padding included, that are read at once without gradients: what a text takes does not grow with its length.
TOKENS_AT_ONCE = 32_768


def over_chunks(
    read: Callable[..., torch.Tensor],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *others: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read every chunk of a batch of texts as a row of its own.

    Args:
        read: gives one row for every row of ids, mask and others ``(rows, length, …)``.
        input_ids: ``(batch, chunks, length)``, as `opinionlm.data.encoding.collators.PadCollator` makes it.
        attention_mask: ``(batch, chunks, length)``, zero throughout where a text has no such chunk.
        others: further arguments of ``read`` ``(batch, chunks, length, …)``, or None.

    Returns:
        What was read ``(batch, chunks, …)``, zeros where there is no chunk; and where there is, ``(batch, chunks)``.
    """
    is_chunk = attention_mask.bool().any(dim=2)
    # A text without any token is still one text.
    is_chunk[:, 0] = True
    rows = [None if tensor is None else tensor[is_chunk] for tensor in (input_ids, attention_mask, *others)]
    count, length = int(is_chunk.sum()), input_ids.shape[2]
    size = count if torch.is_grad_enabled() else max(1, TOKENS_AT_ONCE // length)
    found = torch.cat(
        [
            read(*(None if tensor is None else tensor[start : start + size] for tensor in rows))
            for start in range(0, count, size)
        ]
    )
    grouped = found.new_zeros(*is_chunk.shape, *found.shape[1:])
    grouped[is_chunk] = found
    return grouped, is_chunk
