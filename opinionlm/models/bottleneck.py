"""Bottleneck adapters: small residual networks inside frozen blocks.

Written here because the package that has them (`adapters`) pins another version of transformers.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from opinionlm.models.sublayers import sublayers_of

Placement = Literal["houlsby", "pfeiffer"]


class Bottleneck(nn.Module):
    """``x + up(activation(down(x)))``, close to the identity at the start.

    Args:
        width: of the hidden states.
        size: of the bottleneck.
        activation: between the two projections.
    """

    def __init__(self, width: int, size: int, activation: nn.Module) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.activation = activation
        self.up = nn.Linear(size, width)
        for layer in (self.down, self.up):
            # Houlsby et al. 2019, section 3.6: performance falls when the start is far from the identity.
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Adapted states in the shape and data type of ``states``, ``(batch, length, width)``."""
        return states + self.up(self.activation(self.down(states.to(self.down.weight.dtype)))).to(states.dtype)


def insert_bottlenecks(model: PreTrainedModel, placement: Placement, size: int) -> list[Bottleneck]:
    """Put adapters into every block, between a sub-layer and the addition of its output to the residual stream.

    Args:
        model: plain backbone or language model; changed in place, its own weights keep their names.
        placement: ``houlsby`` (Houlsby et al. 2019) adapts every attention and feed-forward layer with GELU,
            ``pfeiffer`` (Pfeiffer et al. 2021) the feed-forward layers only, with ReLU.
        size: width of the bottlenecks.

    Returns:
        The adapters, in the data type of the model.
    """
    text_config = model.config.get_text_config()
    adapters = []
    for sublayer in sublayers_of(model):
        if placement == "houlsby" or sublayer.kind == "feed_forward":
            site = sublayer.adapter_site
            if site is None:
                raise ValueError(f"sub-layer {sublayer.name} has no place for an adapter")
            activation = nn.GELU() if placement == "houlsby" else nn.ReLU()
            adapter = Bottleneck(text_config.hidden_size, size, activation).to(model.device, model.dtype)
            site.adapter = adapter
            site.register_forward_hook(adapt_output)
            adapters.append(adapter)
    return adapters


def adapt_output(end: nn.Module, arguments: Any, output: Any) -> Any:
    """Forward hook of a sub-layer's end: its output (attentions: the first entry of it) passes the adapter."""
    if isinstance(output, tuple):
        return (end.adapter(output[0]), *output[1:])
    return end.adapter(output)
