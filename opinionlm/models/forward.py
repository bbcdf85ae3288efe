"""One forward pass through a backbone of any family, with or without learned virtual tokens in front of the text."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel, PeftType
from transformers import PreTrainedModel

from opinionlm.models.backbones import plain_backbone
from opinionlm.models.families import family_of
from opinionlm.models.topmost_block import READ_TOKENS


def hidden_states(
    backbone: PreTrainedModel | PeftModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor | None = None,
    read_tokens: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states, one for every entry of ``input_ids``.

    Positions are counted over tokens, not over padding, so that side and amount of padding do not matter.

    Args:
        backbone: a text backbone, plain or adapted by PEFT.
        input_ids: token ids ``(batch, length)``, padded on either side.
        attention_mask: ``(batch, length)``, 1 at tokens and 0 at padding.
        token_type_ids: segments ``(batch, length)``; families without embeddings for them ignore them.
        read_tokens: places ``(batch, chosen)`` of the only tokens whose states are wanted, for a backbone that
            `opinionlm.models.topmost_block.can_choose_tokens` is true of.

    Returns:
        ``(batch, length, hidden)``; what stands at padding means nothing. ``(batch, chosen, hidden)`` with
        ``read_tokens``.
    """
    if isinstance(backbone, PeftModel) and backbone.active_peft_config.is_prompt_learning:
        return behind_virtual_tokens(backbone, input_ids, attention_mask, token_type_ids)
    # Adapters of the other kinds sit inside the base model, which can be called by itself.
    base = plain_backbone(backbone)
    positions = position_arguments(base, attention_mask)
    segments = segment_arguments(base, token_type_ids)
    chosen = {} if read_tokens is None else {READ_TOKENS: read_tokens}
    output = base(
        input_ids=input_ids,
        attention_mask=attention_mask,
        **positions,
        **segments,
        **cache_arguments(base),
        **chosen,
    )
    return output.last_hidden_state


def behind_virtual_tokens(
    backbone: PeftModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor | None,
) -> torch.Tensor:
    """The pass of prompt and prefix methods; arguments and result as in `hidden_states`.

    PEFT's own forward drops positions and segments and leaves padding between the virtual tokens and a left-padded
    text. Relative positions and sliding windows count that padding, so the tokens are moved to the left first and
    their states moved back afterwards.
    """
    base, settings = backbone.get_base_model(), backbone.active_peft_config
    batch, virtual = input_ids.shape[0], settings.num_virtual_tokens
    order = attention_mask.argsort(dim=1, descending=True, stable=True)
    ids, mask = input_ids.gather(1, order), attention_mask.gather(1, order)
    mask = torch.cat([mask.new_ones(batch, virtual), mask], dim=1)
    positions = position_arguments(base, mask)
    segments = None if token_type_ids is None else token_type_ids.gather(1, order)
    learned = backbone.get_prompt(batch)
    if settings.peft_type == PeftType.PREFIX_TUNING:
        # The virtual tokens are keys and values of every block; the text itself keeps its length.
        positions = {name: value[:, virtual:] for name, value in positions.items()}
        inputs: dict[str, Any] = {"input_ids": ids, "past_key_values": learned}
        cut = 0
    else:
        embedded = base.get_input_embeddings()(ids)
        inputs = {"inputs_embeds": torch.cat([learned.to(embedded.dtype), embedded], dim=1)}
        if segments is not None:
            segments = torch.cat([segments.new_zeros(batch, virtual), segments], dim=1)
        cut = virtual
    output = base(
        attention_mask=mask, **inputs, **positions, **segment_arguments(base, segments), **cache_arguments(base)
    )
    states = output.last_hidden_state[:, cut:]
    back = order.argsort(dim=1).unsqueeze(-1).expand(-1, -1, states.shape[-1])
    return states.gather(1, back)


def position_arguments(backbone: PreTrainedModel, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Position ids that count tokens, not padding, so that left and right padding give the same logits.

    Returns:
        ``{"position_ids": (batch, length)}``, empty for families with relative positions only.
    """
    first = family_of(backbone.config).first_position
    if first is None:
        return {}
    return {"position_ids": (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0) + first}


def segment_arguments(backbone: PreTrainedModel, token_type_ids: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """``{"token_type_ids": …}`` for families whose embeddings tell the texts of a pair apart, empty for the others."""
    if token_type_ids is None or not family_of(backbone.config).segments:
        return {}
    return {"token_type_ids": token_type_ids}


def cache_arguments(backbone: PreTrainedModel) -> dict[str, bool]:
    """Keep decoders from collecting keys and values that are never read."""
    return {"use_cache": False} if family_of(backbone.config).causal else {}
