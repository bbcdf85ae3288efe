"""The topmost block of a decoder, computed only for the tokens whose states are read.

A head that pools the last token reads one state of a text, a loss on answers a handful. In the topmost block those
tokens look at the keys and values of all others; whatever else the block computes for the others, most of its work,
nobody reads. So its own code runs on the chosen tokens alone, as in generation, where keys and values come from a
cache of earlier tokens; here they are computed within the same pass, and gradients reach them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


def can_choose_tokens(model: PreTrainedModel | PeftModel) -> bool:
    """Whether `only_tokens` may be used: the family has such blocks, and nothing else needs the states of all tokens.

    Args:
        model: a backbone, or a language model with its output layer; PEFT may have wrapped either.
    """
    base = plain_backbone(model)
    has_virtual_tokens = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    return (
        family_of(base.config).separate_queries
        and base.config.get_text_config()._attn_implementation in IMPLEMENTATIONS
        and not has_virtual_tokens
        # Blocks would run once more in the backward pass, when the tokens are no longer known.
        and not base.is_activation_checkpointing
        # A hook of every pass would have it compiled anew.
        and not torch.compiler.is_compiling()
        and not is_watched(anatomy_of(model).blocks[-1])
    )


def is_watched(block: nn.Module) -> bool:
    """Whether a hook reads what a block or a part of it is given or puts out; those of adapters read any tokens."""
    hooks = (hook for module in block.modules() for hook in (module._forward_pre_hooks, module._forward_hooks))
    return any(function is not adapt_output for registered in hooks for function in registered.values())


@contextmanager
def only_tokens(model: PreTrainedModel | PeftModel, positions: torch.Tensor) -> Iterator[None]:
    """Within this context the model's last hidden states are those of chosen tokens.

    Args:
        model: one that `can_choose_tokens`.
        positions: of the tokens in each text, ``(batch, chosen)``. The hidden states become
            ``(batch, chosen, hidden)``: those of these tokens but for rounding, as are all gradients.
    """
    normed_keys = "self_attn.k_norm" in family_of(plain_backbone(model).config).block[0].norms

    def choose(block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        states, *others = given
        rows = torch.arange(len(states), device=states.device).unsqueeze(1)
        tables = [table.expand(len(states), -1, -1) for table in named["position_embeddings"]]
        of_queries = {
            "attention_mask": mask_of_queries(named["attention_mask"], rows, positions, states.shape[1]),
            "position_embeddings": tuple(table[rows, positions] for table in tables),
            "past_key_values": KeysAndValues(block, states, tables, normed_keys),
        }
        return (states[rows, positions], *others), named | of_queries

    handle = anatomy_of(model).blocks[-1].register_forward_pre_hook(choose, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class KeysAndValues:
    """Keys and values of all tokens, in the place of transformers' cache of earlier ones.

    Args:
        block: of the Llama kind.
        states: its input ``(batch, length, hidden)``.
        tables: cosines and sines of the rotary positions, ``(batch, length, head width)``.
        normed_keys: whether it normalises keys.
    """

    def __init__(self, block: nn.Module, states: torch.Tensor, tables: list[torch.Tensor], normed_keys: bool) -> None:
        attention, normed = block.self_attn, block.input_layernorm(states)
        heads = (*states.shape[:2], -1, attention.head_dim)
        keys = attention.k_proj(normed).view(heads).transpose(1, 2)
        if normed_keys:
            keys = attention.k_norm(keys)
        # It turns a pair, queries and keys.
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
