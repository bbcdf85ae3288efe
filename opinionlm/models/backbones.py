"""Load a backbone of any family, and find its blocks and norms where `opinionlm.models.families` says they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)

from opinionlm.errors import UserError, one_line
from opinionlm.models.families import family_of
from opinionlm.models.family import SublayerPaths
from opinionlm.models.gguf import require_converted
from opinionlm.models.precision import torch_dtype
from opinionlm.models.quantization import mend_cpu_kernels, nf4_config
from opinionlm.utils.shipped import find_model, require_model

if TYPE_CHECKING:
    from opinionlm.config.options import ModelConfig


@dataclass(frozen=True)
class Anatomy:
    """The parts of a text model that the project works with.

    Attributes:
        blocks: the transformer blocks in the order in which a text passes them; of an encoder-decoder the encoder's,
            then the decoder's.
        layouts: where the sub-layers of each lie.
        before_blocks: what turns token ids into the first block's input, dropout included.
        final_norm: the normalisation after the last block, None for families that have none there.
        norms: normalisation layers outside the blocks: of the embedding and after the last block.
        embedding: the input embedding.
        hidden_size: width of the hidden states.
        causal: whether a token sees only those before it (then the last token is the one to pool).
    """

    blocks: nn.ModuleList
    layouts: tuple[tuple[SublayerPaths, ...], ...]
    before_blocks: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    norms: tuple[nn.Module, ...]
    embedding: nn.Module
    hidden_size: int
    causal: bool


def plain_backbone(backbone: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The family's own model inside a backbone, or a language model, that PEFT may have wrapped."""
    return backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone


def anatomy_of(model: PreTrainedModel | PeftModel) -> Anatomy:
    """Find blocks, norms and what lies below the blocks.

    Args:
        model: a backbone as `load_backbone` returns it, or a language model with its output layer; PEFT may have
            wrapped either.

    Raises:
        UserError: if the family is not known.
    """
    model = plain_backbone(model)
    family = family_of(model.config)
    # A backbone without an output layer is its own decoder; an encoder has none.
    encodes_alone = model.get_output_embeddings() is None or model.config.is_encoder_decoder
    backbone = model if encodes_alone else model.get_decoder()
    blocks: nn.ModuleList = backbone.get_submodule(family.blocks)
    layouts = (family.block,) * len(blocks)
    norms = [backbone.get_submodule(path) for path in family.embedding_norms]
    final_norm = None if family.final_norm is None else backbone.get_submodule(family.final_norm)
    if final_norm is not None:
        norms.append(final_norm)
    if family.decoder is not None and model.config.is_encoder_decoder:
        decoder_blocks = model.get_submodule(family.decoder.blocks)
        blocks = nn.ModuleList([*blocks, *decoder_blocks])
        layouts += (family.decoder.block,) * len(decoder_blocks)
        final_norm = model.get_submodule(family.decoder.final_norm)
        norms.append(final_norm)
    return Anatomy(
        blocks,
        layouts,
        tuple(backbone.get_submodule(path) for path in family.before_blocks),
        final_norm,
        tuple(norms),
        model.get_input_embeddings(),
        model.config.get_text_config().hidden_size,
        family.causal,
    )


def frozen_parts(backbone: PreTrainedModel | PeftModel, blocks: int) -> list[nn.Module]:
    """What a frozen prefix of so many blocks consists of, lowest first: all before the blocks, and the blocks."""
    anatomy = anatomy_of(backbone)
    return [*anatomy.before_blocks, *anatomy.blocks[:blocks]]


def read_model_config(model: ModelConfig) -> PreTrainedConfig:
    """Read a model's configuration from a local directory or the hub, without its weights.

    GGUF files, of the model and of the tokenizer, are converted first, so this comes before `load_tokenizer`.

    Raises:
        UserError: if a GGUF file cannot be read; if there is no such directory, no ``config.json`` in it, nor such a
            model in the hub or its cache.
    """
    for given in filter(None, (model.model_name_or_path, model.tokenizer_name_or_path)):
        require_converted(given)
    name = str(find_model(model.model_name_or_path))
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UserError(f"model_name_or_path: {name} has no config.json; give a directory written by save_pretrained")
    require_model(model.model_name_or_path)
    try:
        return AutoConfig.from_pretrained(
            name, revision=model.model_revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model_name_or_path: cannot read the configuration of '{name}' ({reason}); give a local directory, or "
            "check the name, your connection and, for gated models such as Gemma, `hf auth login`"
        ) from error


def new_backbone(
    config: PreTrainedConfig, dtype: torch.dtype | None = None, with_pooler: bool = False
) -> PreTrainedModel:
    """Build a text backbone with random weights from a configuration.

    The multimodal Gemma 3 wrapper yields its text decoder, T5 its encoder, and BERT comes without the pooler unless
    it is asked for (an unused trainable layer would stop distributed training).

    Args:
        config: configuration of the model; that of a multimodal wrapper is reduced to its text part.
        dtype: data type of the parameters, the default float32.
        with_pooler: keep BERT's own dense layer over the first token.

    Raises:
        UserError: if a pooler is asked for and the family has none.
    """
    text_config = config.get_text_config()
    if with_pooler:
        require_pooler(text_config)
    pooler = {"add_pooling_layer": with_pooler} if family_of(text_config).pooler else {}
    return backbone_class(text_config).from_config(text_config, dtype=dtype, **pooler)


def backbone_class(config: PreTrainedConfig) -> type[AutoModel] | type[AutoModelForTextEncoding]:
    """The Auto class that loads a model without its output layer; an encoder-decoder without its decoder."""
    return AutoModel if family_of(config).decoder is None else AutoModelForTextEncoding


def require_pooler(config: PreTrainedConfig) -> None:
    """Refuse ``pooling: pooler`` for a family without a pooler of its own.

    Raises:
        UserError: if the family has none, with the poolings that every family has.
    """
    if not family_of(config).pooler:
        raise UserError(
            f"pooling: 'pooler' is a layer that a model of type '{config.model_type}' does not have; use first, last "
            "or mean, or leave it out"
        )


def load_backbone(model: ModelConfig, trained_blocks: int, config: PreTrainedConfig | None = None) -> PreTrainedModel:
    """Load a pretrained backbone for classification.

    Args:
        model: what to load and how (data type, attention, 4-bit, random weights).
        trained_blocks: with 4-bit loading, the number of top blocks that will train and so keep their data type.
        config: the model's configuration when it was read before.

    Returns:
        The text backbone; parameters in ``model.dtype``, frozen linear layers in NF4 with ``load_in_4bit``.

    Raises:
        UserError: if weights are missing, the family is not known or lacks the pooler asked for, or bitsandbytes
            cannot load the model in 4 bits.
    """
    config = config if config is not None else read_model_config(model)
    with_pooler = model.pooling == "pooler"
    if with_pooler:
        require_pooler(config.get_text_config())
    dtype = torch_dtype(model.dtype)
    if model.attn_implementation is not None:
        config._attn_implementation = model.attn_implementation
    if model.random_weights:
        return new_backbone(config, dtype if isinstance(dtype, torch.dtype) else None, with_pooler)
    is_wrapper = config.get_text_config() is not config
    extra: dict[str, object] = {"add_pooling_layer": with_pooler} if family_of(config).pooler else {}
    if model.load_in_4bit:
        skipped = [*trained_block_names(config, trained_blocks), *(["pooler"] if with_pooler else [])]
        extra["quantization_config"] = nf4_config(model, skip_modules=skipped)
    remedy = "is its config.json the one of these weights?"
    backbone = load_weights(backbone_class(config), model, config, dtype, extra, remedy)
    if is_wrapper:
        # Text-only work needs no vision tower: keeping the decoder alone saves its memory and its dead gradients.
        wrapper_config, backbone = backbone.config, backbone.get_decoder()
        if model.load_in_4bit:
            backbone.config.quantization_config = wrapper_config.quantization_config
    return backbone


def load_weights(
    auto_class: type[AutoModel] | type[AutoModelForCausalLM] | type[AutoModelForSeq2SeqLM],
    model: ModelConfig,
    config: PreTrainedConfig,
    dtype: torch.dtype | str,
    extra: dict[str, object],
    remedy: str,
) -> PreTrainedModel:
    """Load a pretrained model whole, or say in one line why not.

    Args:
        auto_class: the Auto class that knows the model.
        model: where it is.
        config: its configuration.
        dtype: data type of the parameters, or ``auto``.
        extra: further arguments of ``from_pretrained``: quantisation, pooler.
        remedy: what to do where weights are missing.

    Raises:
        UserError: if weights are missing, or bitsandbytes cannot load the model in 4 bits.
    """
    loaded, missing = load_what_is_there(auto_class, model, config, dtype, extra)
    if missing:
        raise UserError(
            f"model_name_or_path: '{model.model_name_or_path}' lacks {len(missing)} weights of a "
            f"{type(loaded).__name__} (for instance {missing[0]}), which would stay random; {remedy}"
        )
    return loaded


def load_what_is_there(
    auto_class: type[AutoModel] | type[AutoModelForCausalLM] | type[AutoModelForSeq2SeqLM],
    model: ModelConfig,
    config: PreTrainedConfig,
    dtype: torch.dtype | str,
    extra: dict[str, object],
) -> tuple[PreTrainedModel, list[str]]:
    """Load a pretrained model, from safetensors only; the arguments are those of `load_weights`.

    Returns:
        The model, and the sorted names of the weights that its folder lacks, which are random.

    Raises:
        UserError: if no weights are there, or damaged ones, or bitsandbytes cannot load the model in 4 bits.
    """
    try:
        loaded, report = auto_class.from_pretrained(
            str(find_model(model.model_name_or_path)),
            config=config,
            revision=model.model_revision,
            trust_remote_code=model.trust_remote_code,
            use_safetensors=True,  # never a pickle, which runs whatever code it holds
            dtype=dtype,
            output_loading_info=True,
            **extra,
        )
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model_name_or_path: no weights of '{model.model_name_or_path}' could be loaded ({reason}); give a "
            "directory that holds model.safetensors whole, or set random_weights: true to start without weights"
        ) from error
    except (ImportError, RuntimeError, ValueError) as error:
        if not model.load_in_4bit:
            raise
        raise UserError(
            f"load_in_4bit: bitsandbytes cannot serve it here ({one_line(error)}); set load_in_4bit: false"
        ) from error
    mend_cpu_kernels(loaded)
    return loaded, sorted(report["missing_keys"])


def trained_block_names(config: PreTrainedConfig, trained_blocks: int) -> list[str]:
    """Full paths, from the root that `AutoModel` loads, of the top blocks that stay unquantised.

    bitsandbytes skips modules by their path from the root, and that root differs between a text model
    (``layers.25``) and the multimodal wrapper (``language_model.layers.33``); a wrong path quantises silently.
    """
    with torch.device("meta"):
        root = backbone_class(config).from_config(config)
        blocks = anatomy_of(root.get_decoder()).blocks
    trained = {id(block) for block in list(blocks)[len(blocks) - trained_blocks :]}
    return [name for name, module in root.named_modules() if id(module) in trained]
