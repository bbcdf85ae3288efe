"""A module that stands in for a frozen block of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from opinionlm.models.family import Family


class StandIn(nn.Module):
    """Stands in for a frozen block: passes its input through; the lowest hands out states computed before."""

    def __init__(self, family: Family, block: nn.Module) -> None:
        super().__init__()
        self.states: torch.Tensor | None = None
        self.block_output = family.block_output
        # In a tuple, so that the block's parameters do not become this module's.
        self.block = (block,)
        for name in family.block_attributes:
            setattr(self, name, getattr(block, name))

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        *arguments: Any,
        **named: Any,
    ) -> torch.Tensor | tuple[torch.Tensor | None, ...]:
        """Stored states ``(batch, length, hidden)`` or the input, as the block itself would return them."""
        states = hidden_states if self.states is None else self.states
        match self.block_output:
            case "states":
                return states
            case "pair":
                return states, None
            case "position_bias":
                if position_bias is None:
                    # The lowest block makes the bias of all.
                    attention, length = self.block[0].layer[0].SelfAttention, hidden_states.shape[1]
                    position_bias = attention.compute_bias(length, length, device=hidden_states.device)
                return states, position_bias, None
