"""What a family of models, quantised weights or a table of positions allow of an adaptation."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import BackboneConfig
from opinionlm.errors import UserError
from opinionlm.models.families import family_of
from opinionlm.models.quantization import quantized_modules


def check_family(method: MethodConfig, model_config: PreTrainedConfig, generative: bool) -> None:
    """Refuse a method that has nothing to work on in a family, before any weights are loaded.

    Args:
        method: which adaptation.
        model_config: the model's configuration; of a wrapper its text part counts.
        generative: whether the model writes its answer instead of having a head.

    Raises:
        UserError: if the method cannot work on the family; says why, and what to use instead.
    """
    config = model_config.get_text_config()
    family, name = family_of(config), method.adaptation

    def refuse(reason: str, remedy: str) -> None:
        raise UserError(f"adaptation: {name!r} cannot work on a '{config.model_type}' model: {reason}; use {remedy}")

    match name:
        case "prefix" | "p_tuning_v2":
            if family.key_values is None:
                refuse("its attention takes no keys and values from outside", "prompt, p_tuning or lora")
            if family.decoder is not None and not generative:
                refuse("its encoder takes no keys and values from outside", "prompt, p_tuning or lora")
        case "bitfit":
            if not family.biases:
                refuse("it has no biases", "layernorm or ia3")
        case "head_only":
            if generative:
                refuse("a model that writes its answer has no head of its own", "top_blocks or lora")


def check_quantized(method: MethodConfig, model: PreTrainedModel) -> None:
    """Refuse DoRA on transposed weights in 4 bits, whose norms PEFT 0.21 takes along the wrong side.

    Raises:
        UserError: if both come together, with what works instead.
    """
    if method.adaptation == "dora" and family_of(model.config).transposed_weights and quantized_modules(model):
        raise UserError(
            f"load_in_4bit: adaptation 'dora' cannot work on a 4-bit '{model.config.model_type}' model, whose weights "
            "are stored transposed; use qlora, or set load_in_4bit: false"
        )


def check_vocabulary(model: BackboneConfig, model_config: PreTrainedConfig, vocabulary: int) -> None:
    """Refuse a tokenizer with more entries than the embedding has rows.

    Raises:
        UserError: it has.
    """
    rows = model_config.get_text_config().vocab_size
    if vocabulary > rows:
        raise UserError(
            f"tokenizer_name_or_path: the tokenizer has {vocabulary:,} entries, the embedding of "
            f"'{model.model_name_or_path}' {rows:,} rows; give the model's own tokenizer"
        )


def check_length(method: MethodConfig, model_config: PreTrainedConfig, max_length: int) -> None:
    """Refuse texts that, with the virtual tokens in front, may be longer than a table of learned positions.

    Raises:
        UserError: if they may be, with the greatest ``max_length`` that fits.
    """
    config = model_config.get_text_config()
    family = family_of(config)
    if family.position_embeddings is None:
        return
    places = family.position_embeddings - (family.first_position or 0)
    if max_length > places:
        raise UserError(
            f"max_length: {max_length} tokens exceed the {places} positions of a '{config.model_type}' model; give at "
            f"most {places}"
        )
    virtual = 0
    if method.adaptation in ("prefix", "p_tuning_v2", "prompt", "p_tuning"):
        virtual = method.num_virtual_tokens
    if max_length + virtual > places:
        raise UserError(
            f"max_length: {max_length} tokens and {virtual} virtual ones exceed the model's {places} positions; give "
            f"at most {places - virtual}, or a smaller num_virtual_tokens"
        )
