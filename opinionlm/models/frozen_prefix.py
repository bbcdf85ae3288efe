"""The frozen lower part of a model: compute its output once, and let stored output stand in for it.

A frozen prefix is deterministic (`OpinionClassifier.freeze_prefix`, `LanguagePrefix`), so its output for a text never
changes. While stand-ins take the place of its blocks, the family's own forward pass still makes its masks and position
tables, and the blocks above the cut run on states that were computed before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from opinionlm.models.backbones import anatomy_of, frozen_parts
from opinionlm.models.chunks import over_chunks
from opinionlm.models.classifier import OpinionClassifier, stores_pooled, whole_backbone_frozen
from opinionlm.models.families import family_of
from opinionlm.models.forward import hidden_states
from opinionlm.models.stand_ins import StandIn


class PrefixReachedError(Exception):
    """Carries the states out of a forward pass that has nothing more to do; never leaves this module."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


class LanguagePrefix(nn.Module):
    """A causal language model as the cache of frozen blocks sees it: with the attributes of a classifier's prefix.

    Args:
        model: the language model, without PEFT.
        blocks: how many of its lowest blocks are frozen.
    """

    # The blocks above the cut read the state of every token.
    pools = False
    pooling = None

    def __init__(self, model: PreTrainedModel, blocks: int) -> None:
        super().__init__()
        self.backbone: PreTrainedModel = model.get_decoder()
        self.prefix_blocks = blocks
        self.stored_states: StandIn | None = None
        self.train(model.training)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the states."""
        return self.backbone.dtype

    def token_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Output of the last block ``(batch, length, hidden)``; arguments as in `hidden_states`."""
        return hidden_states(self.backbone, input_ids, attention_mask, token_type_ids)

    def switch_off_dropout(self) -> None:
        """Put the frozen part into evaluation mode, out of which ``train()`` of the language model takes it."""
        for part in frozen_parts(self.backbone, self.prefix_blocks):
            if part.training:
                part.eval()


@torch.no_grad()
def prefix_states(
    model: OpinionClassifier | LanguagePrefix,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Output of the frozen prefix for a batch.

    Args:
        model: with a frozen prefix.
        input_ids: ``(batch, length)``, or ``(batch, chunks, length)``.
        attention_mask: shaped alike.
        token_type_ids: shaped alike, of pairs.

    Returns:
        ``(batch, length, hidden)``, of chunks ``(batch, chunks, length, hidden)``: what the first trained block gets,
        or a tagger's head when the whole backbone is frozen. ``(batch, 1, hidden)`` when the whole backbone is frozen
        below a head that pools: the pooled vectors.
    """
    if stores_pooled(model):
        return model.pooled(input_ids, attention_mask, token_type_ids=token_type_ids).unsqueeze(1)
    if input_ids.dim() == 3:
        return over_chunks(partial(prefix_states, model), input_ids, attention_mask, token_type_ids)[0]
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


class PrefixStandIn:
    """Swaps a model's frozen blocks for stand-ins, and back.

    While it is installed, the frozen blocks are no part of the model: they are not moved, saved or optimised, and
    ``model(..., prefix_states=states)`` of a classifier runs only what lies above the cut.

    Args:
        model: with a frozen prefix below its topmost block.
    """

    def __init__(self, model: OpinionClassifier | LanguagePrefix) -> None:
        self.blocks = anatomy_of(model.backbone).blocks
        self.model = model
        self.originals = list(self.blocks[: model.prefix_blocks])

    def __enter__(self) -> PrefixStandIn:
        """Put the stand-ins in place."""
        family = family_of(self.model.backbone.config)
        for index, block in enumerate(self.originals):
            self.blocks[index] = StandIn(family, block)
        self.model.stored_states = self.blocks[0]
        return self

    def hand_out(self, states: torch.Tensor) -> None:
        """Have the next pass begin with these states ``(batch, length, hidden)``."""
        self.blocks[0].states = states

    def __exit__(self, *exception: object) -> None:
        """Put the frozen blocks back."""
        self.model.stored_states = None
        for index, block in enumerate(self.originals):
            self.blocks[index] = block
