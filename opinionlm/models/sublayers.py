"""What the blocks of every family consist of: where attention and feed-forward end, and which layers normalise.

Like `opinionlm.models.backbones.anatomy_of`, an explicit case per family; no name is matched by substring.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from opinionlm.models.backbones import anatomy_of


@dataclass(frozen=True)
class TextBlocks:
    """The blocks of a text model in the order in which a text passes them.

    Attributes:
        blocks: of the backbone; of an encoder-decoder the encoder's, then the decoder's.
        before_blocks: what turns token ids into the first block's input.
        norms: normalisation layers outside the blocks: of the embedding and after the last block.
        final_norm: the one after the last block, None for families without.
    """

    blocks: list[nn.Module]
    before_blocks: tuple[nn.Module, ...]
    norms: list[nn.Module]
    final_norm: nn.Module | None


def text_blocks(model: PreTrainedModel) -> TextBlocks:
    """Blocks of a plain backbone, or of a language model with its output layer.

    Args:
        model: not wrapped by PEFT.

    Raises:
        UserError: the family is not known.
    """
    if model.config.is_encoder_decoder:
        encoder, decoder = model.get_encoder(), model.get_decoder()
        norms = [encoder.final_layer_norm, decoder.final_layer_norm]
        before = (model.get_input_embeddings(), encoder.dropout)
        return TextBlocks([*encoder.block, *decoder.block], before, norms, decoder.final_layer_norm)
    # A backbone without an output layer is its own decoder; an encoder has none.
    backbone = model if model.get_output_embeddings() is None else model.get_decoder()
    anatomy = anatomy_of(backbone)
    match backbone.config.model_type:
        case "bert" | "roberta" | "xlm-roberta" | "mpnet" | "distilbert":
            norms = [backbone.embeddings.LayerNorm]
        case "deberta-v2":
            # That of the embedding, and where there is one that of the table of relative positions.
            before = [module for part in anatomy.before_blocks for module in part.modules()]
            norms = [module for module in before if isinstance(module, nn.LayerNorm)]
        case "modernbert":
            norms = [backbone.embeddings.norm, anatomy.final_norm]
        case _:
            norms = [anatomy.final_norm]
    return TextBlocks(list(anatomy.blocks), anatomy.before_blocks, norms, anatomy.final_norm)


@dataclass(frozen=True)
class Sublayers:
    """The parts of one block.

    Attributes:
        attention_ends: modules whose output (or its first entry) is what an attention adds to the residual stream.
        feed_forward_end: the same of the feed-forward layer.
        norms: the block's normalisation layers.
    """

    attention_ends: list[nn.Module]
    feed_forward_end: nn.Module
    norms: list[nn.Module]


def sublayers_of(family: str, block: nn.Module) -> Sublayers:
    """Look the parts of a block up.

    Ends are never linear layers themselves, which loading in 4 bits replaces.

    Args:
        family: ``model_type`` of the text configuration, one that `anatomy_of` knows.
        block: one of the model's blocks.
    """
    match family:
        case "bert" | "roberta" | "xlm-roberta" | "mpnet" | "deberta-v2":
            # MPNet's attention holds its dropout and norm itself, the others' in a module behind it.
            attention, output = block.attention if family == "mpnet" else block.attention.output, block.output
            return Sublayers([attention.dropout], output.dropout, [attention.LayerNorm, output.LayerNorm])
        case "distilbert":
            return Sublayers([block.attention], block.ffn, [block.sa_layer_norm, block.output_layer_norm])
        case "modernbert":
            # The lowest block has no norm in front of its attention: the embedding's own stands there.
            norms = [norm for norm in (block.attn_norm, block.mlp_norm) if isinstance(norm, nn.LayerNorm)]
            return Sublayers([block.attn], block.mlp, norms)
        case "gpt2":
            return Sublayers([block.attn], block.mlp, [block.ln_1, block.ln_2])
        case "t5":
            # Self-attention, in a decoder also cross-attention, and the feed-forward layer, each with its norm.
            *attentions, feed_forward = block.layer
            norms = [part.layer_norm for part in block.layer]
            return Sublayers([part.dropout for part in attentions], feed_forward.dropout, norms)
        case "llama" | "mistral" | "qwen2" | "phi3":
            norms = [block.input_layernorm, block.post_attention_layernorm]
        case "qwen3":
            norms = [block.input_layernorm, block.post_attention_layernorm]
            norms += [block.self_attn.q_norm, block.self_attn.k_norm]
        case "gemma2" | "gemma3_text":
            norms = [block.input_layernorm, block.post_attention_layernorm]
            norms += [block.pre_feedforward_layernorm, block.post_feedforward_layernorm]
            if family == "gemma3_text":
                norms += [block.self_attn.q_norm, block.self_attn.k_norm]
        case _:
            raise ValueError(f"no case for the blocks of '{family}'")
    return Sublayers([block.self_attn], block.mlp, norms)


def normalisation_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Every normalisation layer of a text model that is not wrapped by PEFT."""
    parts = text_blocks(model)
    family = model.config.get_text_config().model_type
    return parts.norms + [norm for block in parts.blocks for norm in sublayers_of(family, block).norms]
