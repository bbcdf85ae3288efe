"""Modules that stand in for the frozen blocks of a model, one kind per calling convention of the families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from opinionlm.models.families import Family


class StoredStates(nn.Module):
    """Stands in for the lowest block: hands out the states set before, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.states: torch.Tensor | None = None

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        """Stored states ``(batch, length, hidden)`` in place of computed ones."""
        return self.states


class StoredStatesT5(StoredStates):
    """T5's lowest block also hands on the position bias that it alone has a table for."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that the table does not become a parameter of this module.
        self.attention = (block.layer[0].SelfAttention,)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *arguments: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Stored states, the position bias as the block itself makes it, no cross attention."""
        length = hidden_states.shape[1]
        bias = self.attention[0].compute_bias(length, length, device=hidden_states.device)
        return self.states, bias, None


class StoredStatesInPair(StoredStates):
    """Blocks of MPNet and DeBERTa give their attention weights too, or None in their place."""

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> tuple[torch.Tensor, None]:
        """Stored states and no attention weights."""
        return self.states, None


class PassThrough(nn.Module):
    """Stands in for the other blocks of the prefix."""

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        """The input, unchanged."""
        return hidden_states


class PassThroughT5(nn.Module):
    """The same with T5's signature."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        *arguments: Any,
        **named: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """The input and its position bias, unchanged."""
        return hidden_states, position_bias, None


class PassThroughInPair(nn.Module):
    """The same for MPNet and DeBERTa."""

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **named: Any) -> tuple[torch.Tensor, None]:
        """The input, unchanged, and no attention weights."""
        return hidden_states, None


def stand_ins(family: Family, frozen: Sequence[nn.Module]) -> tuple[StoredStates, list[nn.Module]]:
    """What takes the place of the frozen blocks: one that hands out states, and one per other block.

    Args:
        family: of the backbone.
        frozen: its frozen blocks, lowest first.
    """
    others: list[nn.Module]
    match family.block_output:
        case "states":
            lowest, others = StoredStates(), [PassThrough() for _ in frozen[1:]]
        case "pair":
            lowest, others = StoredStatesInPair(), [PassThroughInPair() for _ in frozen[1:]]
        case "position_bias":
            lowest, others = StoredStatesT5(frozen[0]), [PassThroughT5() for _ in frozen[1:]]
    for block, stand_in in zip(frozen, (lowest, *others), strict=True):
        for name in family.block_attributes:
            setattr(stand_in, name, getattr(block, name))
    return lowest, others
