"""Pooling of hidden states and the classification head on top of it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Pooling = Literal["auto", "first", "last", "mean", "pooler"]


def pool(hidden_states: torch.Tensor, attention_mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per text, read from the attention mask and so independent of padding side and amount.

    Args:
        hidden_states: ``(batch, length, hidden)``.
        attention_mask: ``(batch, length)``, 1 at tokens and 0 at padding.
        pooling: ``first`` or ``last`` token, or the ``mean`` (summed in float32) or the largest values (``max``, of
            the chunks of a text) over the tokens.

    Returns:
        ``(batch, hidden)`` in the data type of ``hidden_states``.
    """
    rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
    match pooling:
        case "first":
            return hidden_states[rows, attention_mask.to(torch.int8).argmax(dim=1)]
        case "last":
            length = attention_mask.shape[1]
            from_the_right = attention_mask.flip(1).to(torch.int8).argmax(dim=1)
            return hidden_states[rows, length - 1 - from_the_right]
        case "mean":
            mask = attention_mask.unsqueeze(-1).to(torch.float32)
            # where(), not a product: a padding position may hold inf or nan, and 0 * nan is nan.
            kept = torch.where(mask.bool(), hidden_states.to(torch.float32), 0.0)
            mean = kept.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
            return mean.to(hidden_states.dtype)
        case "max":
            least = torch.finfo(hidden_states.dtype).min
            return hidden_states.masked_fill(~attention_mask.bool().unsqueeze(-1), least).amax(dim=1)
        case _:
            raise ValueError(f"pooling must be first, last or mean, not {pooling!r}")


class ClassificationHead(nn.Module):
    """LayerNorm → (Linear → GELU)* → Linear, the head of the opinion paper (section 11).

    With hidden size 1152 and ``hidden_sizes`` [1024, 512] it has 1,711,880 parameters for eight classes. Without
    hidden layers it is a plain linear layer, as the other papers use.

    Args:
        input_size: width of the pooled vector.
        hidden_sizes: widths of the hidden layers; empty for a linear head.
        num_labels: number of classes.
        dropout: applied to the input of every linear layer.
        bias: of the last linear layer; the decoders' own classification heads have none.
    """

    def __init__(
        self, input_size: int, hidden_sizes: list[int], num_labels: int, dropout: float, bias: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LayerNorm(input_size)] if hidden_sizes else []
        width = input_size
        for size in hidden_sizes:
            layers += [nn.Dropout(dropout), nn.Linear(width, size), nn.GELU()]
            width = size
        layers += [nn.Dropout(dropout), nn.Linear(width, num_labels, bias=bias)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map ``(..., input_size)`` to logits ``(..., num_labels)``, one pooled vector or token state each."""
        return self.layers(pooled)
