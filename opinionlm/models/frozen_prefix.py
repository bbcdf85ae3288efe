"""The frozen lower part of a classifier: compute its output once, and let stored output stand in for it.

A frozen prefix is deterministic (`OpinionClassifier.freeze_prefix`), so its output for a text never changes. While
stand-ins take the place of its blocks, the family's own forward pass still makes its masks and position tables, and
the blocks above the cut run on states that were computed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from opinionlm.models.backbones import anatomy_of

if TYPE_CHECKING:
    from opinionlm.models.classifier import OpinionClassifier


class PrefixReachedError(Exception):
    """Carries the states out of a forward pass that has nothing more to do; never leaves this module."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


def whole_backbone_frozen(model: OpinionClassifier) -> bool:
    """Whether the prefix is the whole backbone, so that only the head is left to compute."""
    return model.prefix_blocks == len(anatomy_of(model.backbone).blocks)


def stores_pooled(model: OpinionClassifier) -> bool:
    """Whether one pooled vector per text is all there is to keep: the whole backbone is frozen, and the head pools."""
    return model.pools and whole_backbone_frozen(model)


@torch.no_grad()
def prefix_states(
    model: OpinionClassifier,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Output of the frozen prefix for a batch.

    Args:
        model: a classifier with a frozen prefix.
        input_ids: ``(batch, length)``.
        attention_mask: ``(batch, length)``.
        token_type_ids: ``(batch, length)``, of pairs.

    Returns:
        ``(batch, length, hidden)``: what the first trained block gets, or a tagger's head when the whole backbone is
        frozen. ``(batch, 1, hidden)`` when the whole backbone is frozen below a head that pools: the pooled vectors.
    """
    if stores_pooled(model):
        return model.pooled(input_ids, attention_mask, token_type_ids=token_type_ids).unsqueeze(1)
    if whole_backbone_frozen(model):
        return model.token_states(input_ids, attention_mask, token_type_ids=token_type_ids)

    def stop(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise PrefixReachedError(positional[0] if positional else named["hidden_states"])

    first_trained = anatomy_of(model.backbone).blocks[model.prefix_blocks]
    hook = first_trained.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model.token_states(input_ids, attention_mask, token_type_ids=token_type_ids)
    except PrefixReachedError as reached:
        return reached.states
    finally:
        hook.remove()
    raise RuntimeError("the forward pass ended without reaching the first trained block")


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


def stand_ins(family: str, frozen: Sequence[nn.Module]) -> tuple[StoredStates, list[nn.Module]]:
    """What takes the place of the frozen blocks: one that hands out states, and one per other block.

    Args:
        family: ``model_type`` of the backbone.
        frozen: its frozen blocks, lowest first.
    """
    match family:
        case "t5":
            return StoredStatesT5(frozen[0]), [PassThroughT5() for _ in frozen[1:]]
        case "mpnet" | "deberta-v2":
            return StoredStatesInPair(), [PassThroughInPair() for _ in frozen[1:]]
        case "modernbert":
            # The model asks every block which of its two masks it wants.
            first, others = StoredStates(), [PassThrough() for _ in frozen[1:]]
            for block, stand_in in zip(frozen, (first, *others), strict=True):
                stand_in.attention_type = block.attention_type
            return first, others
        case _:
            return StoredStates(), [PassThrough() for _ in frozen[1:]]


class PrefixStandIn:
    """Swaps a classifier's frozen blocks for stand-ins, and back.

    While it is installed, the frozen blocks are no part of the model: they are not moved, saved or optimised, and
    ``model(..., prefix_states=states)`` runs only what lies above the cut.

    Args:
        model: a classifier with a frozen prefix below its topmost block.
    """

    def __init__(self, model: OpinionClassifier) -> None:
        self.blocks = anatomy_of(model.backbone).blocks
        self.model = model
        self.originals = list(self.blocks[: model.prefix_blocks])

    def __enter__(self) -> PrefixStandIn:
        """Put the stand-ins in place."""
        first, others = stand_ins(self.model.backbone.config.model_type, self.originals)
        self.model.stored_states = first
        for index, block in enumerate([first, *others]):
            self.blocks[index] = block
        return self

    def __exit__(self, *exception: object) -> None:
        """Put the frozen blocks back."""
        self.restore()

    def restore(self) -> None:
        """Put the frozen blocks back; safe to call twice."""
        self.model.stored_states = None
        for index, block in enumerate(self.originals):
            self.blocks[index] = block
