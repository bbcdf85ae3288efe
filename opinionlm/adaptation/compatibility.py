"""What a family of models, quantised weights or a table of positions allow of an adaptation."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedModel

from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.quantization import quantized_modules


def check_family(method: MethodConfig, model_config: PreTrainedConfig, generative: bool) -> None:
    """Refuse a method that has nothing to work on in a family, before any weights are loaded.

    Args:
        method: which adaptation.
        model_config: the model's configuration; of a wrapper its text part counts.
        generative: whether the model writes its answer instead of having a head.

    Raises:
        UserError: the method, the family, why, and what to use instead.
    """
    config = model_config.get_text_config()
    family, name = config.model_type, method.adaptation

    def refuse(reason: str, remedy: str) -> None:
        raise UserError(f"adaptation: {name!r} cannot work on a '{family}' model: {reason}; use {remedy}")

    match name:
        case "prefix" | "p_tuning_v2":
            if family in ("deberta-v2", "distilbert", "mpnet", "modernbert"):
                refuse("its attention takes no keys and values from outside", "prompt, p_tuning or lora")
            if family == "t5" and not generative:
                refuse("its encoder takes no keys and values from outside", "prompt, p_tuning or lora")
        case "bitfit":
            if not has_biases(config):
                refuse("it has no biases", "layernorm or ia3")
        case "head_only":
            if generative:
                refuse("a model that writes its answer has no head of its own", "top_blocks or lora")


def check_quantized(method: MethodConfig, model: PreTrainedModel) -> None:
    """Refuse DoRA on a GPT-2 in 4 bits, whose transposed weights PEFT 0.21 takes the norms of along the wrong side.

    Raises:
        UserError: with what works instead.
    """
    if method.adaptation == "dora" and model.config.model_type == "gpt2" and quantized_modules(model):
        raise UserError(
            "load_in_4bit: adaptation 'dora' cannot work on a 4-bit 'gpt2' model, whose weights are stored "
            "transposed; use qlora, or set load_in_4bit: false"
        )


def has_biases(config: PreTrainedConfig) -> bool:
    """Whether a family's blocks have biases."""
    match config.model_type:
        case "bert" | "roberta" | "xlm-roberta" | "mpnet" | "deberta-v2" | "distilbert" | "gpt2" | "qwen2":
            return True
        case "llama":
            return config.attention_bias or config.mlp_bias
        case "modernbert":
            return config.attention_bias or config.mlp_bias or config.norm_bias
        case "qwen3" | "gemma2" | "gemma3_text":
            return config.attention_bias
        case _:
            return False


def check_length(method: MethodConfig, model_config: PreTrainedConfig, max_length: int) -> None:
    """Refuse texts that, with the virtual tokens in front, may be longer than a table of learned positions.

    Raises:
        UserError: with the greatest ``max_length`` that fits.
    """
    config = model_config.get_text_config()
    match config.model_type:
        case "bert" | "distilbert" | "gpt2":
            places = config.max_position_embeddings
        case "roberta" | "xlm-roberta":
            places = config.max_position_embeddings - config.pad_token_id - 1
        case "deberta-v2" if config.position_biased_input:
            places = config.max_position_embeddings
        case "mpnet":
            # It counts positions from 2, whatever its padding token is.
            places = config.max_position_embeddings - 2
        case _:
            return
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
