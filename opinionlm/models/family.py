"""What is said of a family of models: where its parts lie and how they behave.

Modules are named by their paths, as ``get_submodule`` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["attention", "feed_forward"]


@dataclass(frozen=True)
class SublayerPaths:
    """Where an attention or a feed-forward layer lies; paths start at the block.

    Attributes:
        kind: which of the two.
        parts: modules that hold its parameters, its normalisations among them.
        norms: its normalisation layers.
        output: module whose output, a tensor, is added to the residual stream.
        adapter_site: module whose output, or the first entry of it, a bottleneck adapter changes; ``output`` where
            left out. Never a linear layer, which 4-bit loading replaces.
    """

    kind: Kind
    parts: tuple[str, ...]
    norms: tuple[str, ...]
    output: str
    adapter_site: str | None = None


@dataclass(frozen=True)
class Decoder:
    """The second half of an encoder-decoder; paths start at the language model.

    Attributes:
        blocks: list of blocks.
        block: the sub-layers of each, in the order of the forward pass.
        final_norm: normalisation after the last block.
    """

    blocks: str
    block: tuple[SublayerPaths, ...]
    final_norm: str


@dataclass(frozen=True)
class Family:
    """How the models of a family are built; paths start at the backbone.

    Attributes:
        blocks: list of transformer blocks; of an encoder-decoder those of the encoder.
        block: the sub-layers of each, in the order of the forward pass.
        before_blocks: what turns token ids into the first block's input, dropout included, and what all blocks share.
        low_rank_layers: layers that LoRA and its kin adapt by default; docs/methods.md names the papers.
        key_value_layers: layers whose output, keys and values, IA3 rescales (Liu et al. 2022).
        feed_forward_layer: layer whose input, the activation between the two projections, IA3 rescales.
        feed_forward_pattern: expression in its place where the name alone would match other layers too.
        biases: whether the blocks have biases.
        final_norm: normalisation after the last block, None for families that have none there.
        embedding_norms: normalisation layers below the blocks.
        causal: whether a token sees only those before it (then the last token is the one to pool).
        decoder: of an encoder-decoder.
        wrapper: ``model_type`` of the multimodal models around this text model that can write.
        pooler: whether a model can be built with a dense layer over the first token (``add_pooling_layer``).
        position_embeddings: rows of the table of learned positions, None without one.
        first_position: position id of the first token, None where the forward pass takes no ``position_ids``.
        segments: whether embeddings tell the texts of a pair apart (``token_type_ids``).
        embedding_scaled: whether the embedding multiplies its rows by its ``embed_scale``.
        embedding_width: of an input embedding that is narrower than the blocks.
        embedding_names: both paths of an input embedding that has two, the tied one first.
        block_output: what a block returns: its states; a ``pair`` of them and attention weights; or a
            ``position_bias`` with them, and cross-attention weights.
        block_attributes: attributes of a block that the forward pass around it reads.
        key_values: number and width of the heads of keys and values that attention takes from outside (prefix
            tuning), None where it takes none.
        separate_queries: whether the queries of some tokens can be computed apart from the keys and values of all, as
            `opinionlm.models.topmost_block` does: in Llama's blocks, whatever their biases. Attention reads what
            ``input_layernorm`` puts out, through ``q_proj``, ``k_proj`` and ``v_proj``; norms of queries and keys, if
            any, work on single heads.
        transposed_weights: whether linear layers store their weights as ``(in, out)`` (``Conv1D``).
    """

    blocks: str
    block: tuple[SublayerPaths, ...]
    before_blocks: tuple[str, ...]
    low_rank_layers: tuple[str, ...]
    key_value_layers: tuple[str, ...]
    feed_forward_layer: str
    feed_forward_pattern: str | None = None
    biases: bool = False
    final_norm: str | None = None
    embedding_norms: tuple[str, ...] = ()
    causal: bool = False
    decoder: Decoder | None = None
    wrapper: str | None = None
    pooler: bool = False
    position_embeddings: int | None = None
    first_position: int | None = 0
    segments: bool = False
    embedding_scaled: bool = False
    embedding_width: int | None = None
    embedding_names: tuple[str, str] | None = None
    block_output: Literal["states", "pair", "position_bias"] = "states"
    block_attributes: tuple[str, ...] = ()
    key_values: tuple[int, int] | None = None
    separate_queries: bool = False
    transposed_weights: bool = False
