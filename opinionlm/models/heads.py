"""Pooling of hidden states and the classification head on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers.activations import ACT2FN

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
            return hidden_states[rows, last_token(attention_mask)]
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


def last_token(attention_mask: torch.Tensor) -> torch.Tensor:
    """Place ``(batch,)`` of the last token of each text; of one without tokens, that of its last padding."""
    return attention_mask.shape[1] - 1 - attention_mask.flip(1).to(torch.int8).argmax(dim=1)


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

    @property
    def output(self) -> nn.Linear:
        """The last linear layer."""
        return self.layers[-1]

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map ``(..., input_size)`` to logits ``(..., num_labels)``, one pooled vector or token state each."""
        return self.layers(pooled)


@dataclass(frozen=True)
class NativeForm:
    """What a family's own class puts on its backbone; names are those of its modules.

    Attributes:
        pooling: what the head reads of a text; ``auto`` for a tagger, which reads every token.
        output: the last linear layer.
        bias: whether that has a bias.
        dense: a layer as wide as the backbone in front of it; None without one, and then the next five say nothing.
        dense_bias: whether that has a bias.
        activation: behind the dense layer, as transformers names it.
        dropout_before: whether dropout stands before the dense layer too.
        norm: normalisation behind the activation; None without one.
        norm_eps, norm_bias: of the normalisation.
    """

    pooling: Pooling
    output: str
    bias: bool = True
    dense: str | None = None
    dense_bias: bool = True
    activation: str = "tanh"
    dropout_before: bool = False
    norm: str | None = None
    norm_eps: float = 1e-5
    norm_bias: bool = True


class NativeHead(nn.Module):
    """The head of a family's own class: Linear, or Linear → activation → LayerNorm → Linear, dropout in between.

    Args:
        form: of the family, from `opinionlm.models.native_heads`.
        input_size: width of the pooled vector, and of the dense layer.
        num_labels: number of classes.
        dropout: before the last linear layer, and before the dense one where the family has it there.
    """

    def __init__(self, form: NativeForm, input_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.Dropout(dropout if form.dropout_before else 0.0)
        self.dense: nn.Module = nn.Identity()
        self.activation: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        if form.dense is not None:
            self.dense = nn.Linear(input_size, input_size, bias=form.dense_bias)
            self.activation = ACT2FN[form.activation]
        if form.norm is not None:
            self.norm = nn.LayerNorm(input_size, eps=form.norm_eps, bias=form.norm_bias)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(input_size, num_labels, bias=form.bias)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map ``(..., input_size)`` to logits ``(..., num_labels)``, one pooled vector or token state each."""
        return self.output(self.dropout(self.norm(self.activation(self.dense(self.before(pooled))))))
