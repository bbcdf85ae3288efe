"""One pass through a backbone of any family: token ids in, hidden states aligned with them out."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from opinionlm.models.backbones import anatomy_of


def hidden_states(
    backbone: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states of a batch.

    Args:
        backbone: the text backbone.
        input_ids: ``(batch, length)``, padded on either side.
        attention_mask: ``(batch, length)``.
        token_type_ids: ``(batch, length)``, which text of a pair a token belongs to. Only BERT learned to read them;
            GPT-2 would take them for words.

    Returns:
        ``(batch, length, hidden)``, one state per position of ``input_ids``.
    """
    arguments: dict[str, torch.Tensor | bool] = dict(position_arguments(backbone, attention_mask))
    if token_type_ids is not None and backbone.config.model_type == "bert":
        arguments["token_type_ids"] = token_type_ids
    if anatomy_of(backbone).causal:
        arguments["use_cache"] = False
    return backbone(input_ids=input_ids, attention_mask=attention_mask, **arguments).last_hidden_state


def position_arguments(backbone: PreTrainedModel, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Position ids that count tokens, not padding, so that left and right padding give the same logits.

    Args:
        backbone: the text backbone.
        attention_mask: ``(batch, length)``.

    Returns:
        ``{"position_ids": (batch, length)}``, empty for families with relative positions only.
    """
    positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
    match backbone.config.model_type:
        case "t5":
            return {}
        case "roberta":
            return {"position_ids": positions + backbone.config.pad_token_id + 1}
        case _:
            return {"position_ids": positions}
