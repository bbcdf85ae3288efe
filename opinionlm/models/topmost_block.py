"""The topmost block of a decoder, computed only for the tokens whose states are read.

A head that pools the last token reads one state of a text, a loss on answers a handful. In the topmost block those
tokens look at the keys and values of all others; whatever else the block computes for the others, most of its work,
nobody reads. So its own code runs on the chosen tokens alone, as in generation, where keys and values come from a
cache of earlier tokens; here they are computed within the same pass, and gradients reach them.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from opinionlm.models.backbones import anatomy_of, plain_backbone
from opinionlm.models.bottleneck import adapt_output
from opinionlm.models.families import family_of

# Attention that takes a mask with a row for every query.
IMPLEMENTATIONS = ("eager", "sdpa")
# Argument of a model's forward pass, which the families hand on to their blocks: places of the tokens that are read.
READ_TOKENS = "read_tokens"


def prepare_topmost_block(model: PreTrainedModel | PeftModel) -> None:
    """Have the topmost block of a backbone, or of a language model, heed `READ_TOKENS`; no other family is changed."""
    if family_of(plain_backbone(model).config).separate_queries:
        block = anatomy_of(model).blocks[-1]
        if choose_tokens not in block._forward_pre_hooks.values():
            block.register_forward_pre_hook(choose_tokens, with_kwargs=True)


def can_choose_tokens(model: PreTrainedModel | PeftModel) -> bool:
    """Whether the pass of a model may be given `READ_TOKENS`: it heeds them, and nothing needs all tokens' states.

    Given places ``(batch, chosen)`` of tokens in their texts, its last hidden states become
    ``(batch, chosen, hidden)``: those of these tokens up to rounding, as are all gradients. Nothing is kept between
    passes, so that several threads may use a model.

    Args:
        model: a backbone, or a language model with its output layer; PEFT may have wrapped either.
    """
    base, block = plain_backbone(model), anatomy_of(model).blocks[-1]
    has_virtual_tokens = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    return (
        choose_tokens in block._forward_pre_hooks.values()
        and base.config.get_text_config()._attn_implementation in IMPLEMENTATIONS
        and not has_virtual_tokens
        # transformers takes a cache away from blocks that are to run again in the backward pass.
        and not block.gradient_checkpointing
        and not torch.compiler.is_exporting()
        and not is_watched(block)
    )


def is_watched(block: nn.Module) -> bool:
    """Whether a hook reads what a block or a part of it is given or puts out; adapters' can work on any tokens."""
    hooks = (hook for module in block.modules() for hook in (module._forward_pre_hooks, module._forward_hooks))
    own = (adapt_output, choose_tokens)
    return any(function not in own for registered in hooks for function in registered.values())


def choose_tokens(
    block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook of a topmost block: hand it the states, tables and masks of the read tokens, if some are named.

    Args:
        block: of the Llama kind.
        given: its input ``(batch, length, hidden)``.
        named: masks, rotary tables, and `READ_TOKENS`.
    """
    positions = named.pop(READ_TOKENS, None)
    if positions is None:
        return None
    states, *others = given
    rows = torch.arange(len(states), device=states.device).unsqueeze(1)
    tables = [table.expand(len(states), -1, -1) for table in named["position_embeddings"]]
    of_queries = {
        "attention_mask": mask_of_queries(named["attention_mask"], rows, positions, states.shape[1]),
        "position_embeddings": tuple(table[rows, positions] for table in tables),
        "past_key_values": KeysAndValues(block, states, tables),
    }
    return (states[rows, positions], *others), named | of_queries


class KeysAndValues:
    """Keys and values of all tokens, in the place of transformers' cache of earlier ones.

    Args:
        block: of the Llama kind.
        states: its input ``(batch, length, hidden)``.
        tables: cosines and sines of the rotary positions, ``(batch, length, head width)``.
    """

    def __init__(self, block: nn.Module, states: torch.Tensor, tables: list[torch.Tensor]) -> None:
        attention, normed = block.self_attn, block.input_layernorm(states)
        heads = (*states.shape[:2], -1, attention.head_dim)
        keys = attention.k_proj(normed).view(heads).transpose(1, 2)
        if "self_attn.k_norm" in family_of(attention.config).block[0].norms:
            keys = attention.k_norm(keys)
        # `apply_rotary_pos_emb` takes queries and keys.
        self.keys = apply_rotary_pos_emb(keys, keys, *tables)[1]
        self.values = attention.v_proj(normed).view(heads).transpose(1, 2)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the attention looks at, ``(batch, heads, length, head width)``; the given ones are among them."""
        return self.keys, self.values


def mask_of_queries(
    mask: torch.Tensor | None, rows: torch.Tensor, positions: torch.Tensor, length: int
) -> torch.Tensor:
    """What each chosen token may look at, ``(batch, 1, chosen, length)``.

    Args:
        mask: of the whole texts, ``(batch or 1, 1, length, length)``; None where every token looks at all before it.
        rows: ``(batch, 1)``.
        positions: ``(batch, chosen)``.
        length: of the padded texts.
    """
    if mask is None:
        return (torch.arange(length, device=positions.device) <= positions.unsqueeze(-1)).unsqueeze(1)
    return mask.expand(len(rows), -1, -1, -1)[rows, 0, positions].unsqueeze(1)
