"""All that differs between families of models: one entry per family.

An entry is a function that describes the models of a family for a configuration (`opinionlm.models.family`). A new
family is one more entry and its line in `FAMILIES`; beside it only `opinionlm.models.native_heads`, the heads of the
families' own classes, tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedConfig

from opinionlm.errors import UserError
from opinionlm.models.family import Decoder, Family, SublayerPaths


def bert(config: PreTrainedConfig) -> Family:
    """BERT, and sentence encoders built like it (MiniLM)."""
    return Family(
        blocks="encoder.layer",
        block=(
            SublayerPaths("attention", ("attention",), ("attention.output.LayerNorm",), "attention.output.dropout"),
            SublayerPaths("feed_forward", ("intermediate", "output"), ("output.LayerNorm",), "output.dropout"),
        ),
        before_blocks=("embeddings",),
        embedding_norms=("embeddings.LayerNorm",),
        pooler=True,
        position_embeddings=config.max_position_embeddings,
        segments=True,
        # As the methods paper (section 6.1); the GoEmotions grid takes query and value.
        low_rank_layers=("query", "key", "value"),
        key_value_layers=("key", "value"),
        feed_forward_layer="output.dense",
        # The name alone would also match the attention's output.
        feed_forward_pattern=r".*\.layer\.\d+\.output\.dense",
        biases=True,
        key_values=(config.num_attention_heads, config.hidden_size // config.num_attention_heads),
    )


def electra(config: PreTrainedConfig) -> Family:
    """ELECTRA's discriminator: BERT, in small models with a narrower embedding and a layer that widens it."""
    is_narrow = config.embedding_size != config.hidden_size
    return replace(
        bert(config),
        before_blocks=("embeddings", "embeddings_project") if is_narrow else ("embeddings",),
        embedding_width=config.embedding_size if is_narrow else None,
        pooler=False,
    )


def roberta(config: PreTrainedConfig) -> Family:
    """RoBERTa and XLM-RoBERTa: BERT with positions counted from behind the padding id, and without segments."""
    return replace(bert(config), first_position=config.pad_token_id + 1, segments=False)


def mpnet(config: PreTrainedConfig) -> Family:
    """MPNet: BERT with another attention."""
    encoder = bert(config)
    attention = SublayerPaths("attention", ("attention",), ("attention.LayerNorm",), "attention.dropout")
    return replace(
        encoder,
        block=(attention, encoder.block[1]),
        # One table of relative positions serves every block, so it has to stay as it is wherever a block does.
        before_blocks=("embeddings", "encoder.relative_attention_bias"),
        # It counts positions from 2, whatever its padding token is.
        first_position=2,
        segments=False,
        low_rank_layers=("q", "k", "v"),
        key_value_layers=("k", "v"),
        feed_forward_pattern=None,
        block_output="pair",
        key_values=None,
    )


def deberta(config: PreTrainedConfig) -> Family:
    """DeBERTa 2 and 3: BERT with relative positions.

    Raises:
        UserError: if a convolution stands beside the lowest block.
    """
    # Keys that not every configuration has, with the defaults of the model itself.
    if getattr(config, "conv_kernel_size", 0) > 0:
        raise UserError(
            "model_name_or_path: this DeBERTa has a convolution beside its lowest block (conv_kernel_size), "
            "as the xlarge models of version 2 have; give one without, such as microsoft/deberta-v3-base"
        )
    # As in MPNet, one table of relative positions, and its norm, serves every block.
    table = ("encoder.rel_embeddings",) if config.relative_attention else ()
    norm = ("encoder.LayerNorm",) if "layer_norm" in getattr(config, "norm_rel_ebd", "none").lower() else ()
    return replace(
        bert(config),
        before_blocks=("embeddings", *table, *norm),
        embedding_norms=("embeddings.LayerNorm", *norm),
        pooler=False,
        position_embeddings=config.max_position_embeddings if config.position_biased_input else None,
        segments=False,
        low_rank_layers=("query_proj", "key_proj", "value_proj"),
        key_value_layers=("key_proj", "value_proj"),
        block_output="pair",
        key_values=None,
    )


def distilbert(config: PreTrainedConfig) -> Family:
    """DistilBERT."""
    return Family(
        blocks="transformer.layer",
        block=(
            SublayerPaths(
                "attention", ("attention", "sa_layer_norm"), ("sa_layer_norm",), "attention.out_lin", "attention"
            ),
            SublayerPaths("feed_forward", ("ffn", "output_layer_norm"), ("output_layer_norm",), "ffn.lin2", "ffn"),
        ),
        before_blocks=("embeddings",),
        embedding_norms=("embeddings.LayerNorm",),
        position_embeddings=config.max_position_embeddings,
        low_rank_layers=("q_lin", "v_lin"),
        key_value_layers=("k_lin", "v_lin"),
        feed_forward_layer="lin2",
        biases=True,
    )


def modernbert(config: PreTrainedConfig) -> Family:
    """ModernBERT."""
    return Family(
        blocks="layers",
        block=(
            # In the lowest block this norm is an identity: the embedding's own stands there.
            SublayerPaths("attention", ("attn_norm", "attn"), ("attn_norm",), "attn.Wo", "attn"),
            SublayerPaths("feed_forward", ("mlp_norm", "mlp"), ("mlp_norm",), "mlp.Wo", "mlp"),
        ),
        before_blocks=("embeddings",),
        embedding_norms=("embeddings.norm",),
        final_norm="final_norm",
        # The model asks every block which of its two masks it wants.
        block_attributes=("attention_type",),
        # Query, key and value are one layer.
        low_rank_layers=("Wqkv",),
        key_value_layers=("Wqkv",),
        feed_forward_layer="mlp.Wo",
        biases=config.attention_bias or config.mlp_bias or config.norm_bias,
    )


def gpt2(config: PreTrainedConfig) -> Family:
    """GPT-2."""
    return Family(
        blocks="h",
        block=(
            SublayerPaths("attention", ("ln_1", "attn"), ("ln_1",), "attn.c_proj", "attn"),
            SublayerPaths("feed_forward", ("ln_2", "mlp"), ("ln_2",), "mlp.c_proj", "mlp"),
        ),
        before_blocks=("wte", "wpe", "drop"),
        final_norm="ln_f",
        causal=True,
        position_embeddings=config.max_position_embeddings,
        # Query, key and value are one layer. As the GoEmotions grid; the methods paper's tagging adds c_fc.
        low_rank_layers=("c_attn",),
        key_value_layers=("c_attn",),
        feed_forward_layer="mlp.c_proj",
        biases=True,
        key_values=(config.num_attention_heads, config.hidden_size // config.num_attention_heads),
        transposed_weights=True,
    )


def mistral(config: PreTrainedConfig) -> Family:
    """Mistral, whose blocks Llama, Qwen, Phi 3 and Gemma vary."""
    # Not every configuration has the key; the models look for it in the same way.
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Family(
        blocks="layers",
        block=(
            SublayerPaths(
                "attention", ("input_layernorm", "self_attn"), ("input_layernorm",), "self_attn.o_proj", "self_attn"
            ),
            SublayerPaths(
                "feed_forward",
                ("post_attention_layernorm", "mlp"),
                ("post_attention_layernorm",),
                "mlp.down_proj",
                "mlp",
            ),
        ),
        before_blocks=("embed_tokens",),
        final_norm="norm",
        causal=True,
        low_rank_layers=("q_proj", "v_proj"),
        key_value_layers=("k_proj", "v_proj"),
        feed_forward_layer="down_proj",
        key_values=(config.num_key_value_heads, head_width),
        separate_queries=True,
    )


def llama(config: PreTrainedConfig) -> Family:
    """Llama."""
    return replace(mistral(config), biases=config.attention_bias or config.mlp_bias)


def qwen2(config: PreTrainedConfig) -> Family:
    """Qwen 2: biases of query, key and value."""
    return replace(mistral(config), biases=True, low_rank_layers=("q_proj", "k_proj", "v_proj"))


def qwen3(config: PreTrainedConfig) -> Family:
    """Qwen 3: queries and keys are normalised."""
    return replace(
        with_query_key_norms(mistral(config)),
        biases=config.attention_bias,
        low_rank_layers=("q_proj", "k_proj", "v_proj"),
    )


def phi3(config: PreTrainedConfig) -> Family:
    """Phi 3: query, key and value are one layer."""
    return replace(
        mistral(config), low_rank_layers=("qkv_proj",), key_value_layers=("qkv_proj",), separate_queries=False
    )


def gemma(config: PreTrainedConfig) -> Family:
    """The first Gemma: Mistral's blocks, and an embedding that is scaled."""
    return replace(mistral(config), biases=config.attention_bias, embedding_scaled=True)


def gemma2(config: PreTrainedConfig) -> Family:
    """Gemma 2: normalises once more in front of the residual."""
    attention_norms = ("input_layernorm", "post_attention_layernorm")
    mlp_norms = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
    block = (
        SublayerPaths("attention", ("self_attn", *attention_norms), attention_norms, attention_norms[1], "self_attn"),
        SublayerPaths("feed_forward", ("mlp", *mlp_norms), mlp_norms, mlp_norms[1], "mlp"),
    )
    return replace(gemma(config), block=block)


def gemma3(config: PreTrainedConfig) -> Family:
    """Gemma 3, the text model: queries and keys are normalised too."""
    return replace(with_query_key_norms(gemma2(config)), wrapper="gemma3")


def with_query_key_norms(family: Family) -> Family:
    """The same blocks with norms of queries and keys inside the attention."""
    attention, feed_forward = family.block
    norms = (*attention.norms, "self_attn.q_norm", "self_attn.k_norm")
    return replace(family, block=(replace(attention, norms=norms), feed_forward))


def t5(config: PreTrainedConfig) -> Family:
    """T5, of which classifiers use the encoder."""
    attention = SublayerPaths("attention", ("layer.0",), ("layer.0.layer_norm",), "layer.0.dropout")
    cross_attention = SublayerPaths("attention", ("layer.1",), ("layer.1.layer_norm",), "layer.1.dropout")
    feed_forward = SublayerPaths("feed_forward", ("layer.1",), ("layer.1.layer_norm",), "layer.1.dropout")
    behind_cross_attention = SublayerPaths("feed_forward", ("layer.2",), ("layer.2.layer_norm",), "layer.2.dropout")
    return Family(
        blocks="encoder.block",
        block=(attention, feed_forward),
        # One dropout module serves the input of the first block and the output of the last.
        before_blocks=("shared", "encoder.dropout"),
        final_norm="encoder.final_layer_norm",
        decoder=Decoder(
            "decoder.block", (attention, cross_attention, behind_cross_attention), "decoder.final_layer_norm"
        ),
        first_position=None,
        embedding_names=("encoder.embed_tokens", "shared"),
        # The lowest block alone has a table of relative positions, and hands on what it looks up.
        block_output="position_bias",
        low_rank_layers=("q", "v"),
        key_value_layers=("k", "v"),
        feed_forward_layer="wo",
        key_values=(config.num_attention_heads, config.d_kv),
    )


FAMILIES: dict[str, Callable[[PreTrainedConfig], Family]] = {
    "bert": bert,
    "electra": electra,
    "roberta": roberta,
    "xlm-roberta": roberta,
    "mpnet": mpnet,
    "deberta-v2": deberta,
    "distilbert": distilbert,
    "modernbert": modernbert,
    "gpt2": gpt2,
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "phi3": phi3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "t5": t5,
}


def family_of(config: PreTrainedConfig) -> Family:
    """Look the family of a model up.

    Args:
        config: the model's configuration; of a multimodal wrapper, a classifier or a tagger the text part counts.

    Raises:
        UserError: if the family has no entry, or the entry does not cover this model.
    """
    text_config = config.get_text_config()
    if text_config.model_type not in FAMILIES:
        raise UserError(
            f"model_name_or_path: the model type '{text_config.model_type}' is not known; give a model of one of "
            f"{', '.join(FAMILIES)}, or add an entry to opinionlm/models/families.py"
        )
    return FAMILIES[text_config.model_type](text_config)
