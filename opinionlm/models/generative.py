"""Language models that write their answer: loading, and logits at the supervised positions only.

A vocabulary has up to 262,144 entries, so that the logits of every position of a batch are by far the largest tensor
of a training step, while a loss on answers needs a handful of them. Here the hidden states of those positions are
taken out *before* the output layer, by a hook in front of it; what the family does to its logits afterwards (Gemma's
soft capping) and before (T5's scaling) still happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from opinionlm.config.options import ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, load_weights, plain_backbone
from opinionlm.models.families import family_of
from opinionlm.models.precision import torch_dtype
from opinionlm.models.quantization import (
    name_unquantized_modules,
    nf4_config,
    quantized_modules,
)
from opinionlm.models.topmost_block import READ_TOKENS, can_choose_tokens, prepare_topmost_block


def load_generative(model: ModelConfig, trained_blocks: int, config: PreTrainedConfig) -> PreTrainedModel:
    """Load a pretrained language model with its output layer.

    Args:
        model: what to load and how (data type, attention, 4-bit, random weights).
        trained_blocks: with 4-bit loading, the number of top blocks that will train and so keep their data type.
        config: the model's configuration, from `opinionlm.models.backbones.read_model_config`.

    Returns:
        A causal or an encoder-decoder model; the multimodal Gemma 3 is reduced to its text model. Parameters are in
        ``model.dtype``, frozen linear layers in NF4 with ``load_in_4bit``; the output layer is never quantised.

    Raises:
        UserError: if the model is encoder-only, has no weights, or bitsandbytes cannot load it in 4 bits.
    """
    auto_class = generative_class(config)
    dtype = torch_dtype(model.dtype)
    if model.attn_implementation is not None:
        config._attn_implementation = model.attn_implementation
    if model.random_weights:
        text_config = config.get_text_config() if is_multimodal(config) else config
        created = auto_class.from_config(text_config, dtype=dtype if isinstance(dtype, torch.dtype) else None)
        prepare_topmost_block(created)
        return created
    extra: dict[str, object] = {}
    if model.load_in_4bit:
        extra["quantization_config"] = nf4_config(model, unquantized_names(config, trained_blocks))
    remedy = "the generative route needs a model saved with its output layer"
    loaded = load_weights(auto_class, model, config, dtype, extra, remedy)
    if is_multimodal(config):
        loaded = text_model_of(loaded)
    # A checkpoint may ask for a cache, which training has no use for and activation checkpointing cannot have.
    loaded.config.use_cache = False
    prepare_topmost_block(loaded)
    return loaded


def generative_class(config: PreTrainedConfig) -> type[AutoModelForCausalLM] | type[AutoModelForSeq2SeqLM]:
    """The Auto class that loads a model with its output layer.

    Raises:
        UserError: if the family is not known, or an encoder-only one, which writes nothing.
    """
    family = family_of(config)
    if is_multimodal(config) and config.model_type != family.wrapper:
        raise UserError(
            f"model_name_or_path: '{config.model_type}' is no text model, nor a multimodal one that is known; give a "
            "text model"
        )
    if family.decoder is not None and config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    if family.causal:
        return AutoModelForCausalLM
    raise UserError(
        f"model_name_or_path: '{config.model_type}' is an encoder-only model and writes no answers; give a "
        "causal model (gpt2, llama, mistral, qwen, phi3, gemma) or T5, or train it with train_classifier.py"
    )


def is_multimodal(config: PreTrainedConfig) -> bool:
    """Whether a configuration wraps a text model together with others."""
    return config.get_text_config() is not config


def text_model_of(wrapper: PreTrainedModel) -> PreTrainedModel:
    """The text model in a multimodal one, with its output layer and without the vision tower."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(wrapper.config.get_text_config())
    model.model, model.lm_head = wrapper.get_decoder(), wrapper.lm_head
    model.generation_config = wrapper.generation_config
    if quantized_modules(model):
        # Saved models name what is not quantised from their own root.
        model.config.quantization_config = wrapper.config.quantization_config
        name_unquantized_modules(model)
        model.hf_quantizer, model.is_quantized = wrapper.hf_quantizer, True
    return model.eval()


def unquantized_names(config: PreTrainedConfig, trained_blocks: int) -> list[str]:
    """Full paths, from the root that is loaded, of what 4-bit loading leaves alone: top blocks and output layer.

    bitsandbytes skips modules by their path from the root, and a wrong path quantises silently.
    """
    with torch.device("meta"):
        root = generative_class(config).from_config(config)
    blocks = list(anatomy_of(root).blocks)
    kept = {id(module) for module in [*blocks[len(blocks) - trained_blocks :], output_layer(root)]}
    return [name for name, module in root.named_modules() if id(module) in kept]


def count_blocks(config: PreTrainedConfig) -> int:
    """Number of blocks of a model that is not loaded yet, an encoder's and a decoder's together."""
    with torch.device("meta"):
        return len(anatomy_of(generative_class(config).from_config(config)).blocks)


def output_layer(model: PreTrainedModel | PeftModel) -> nn.Module:
    """The layer that maps hidden states to the vocabulary."""
    return plain_backbone(model).get_output_embeddings()


class RoundedLayer:
    """A frozen linear layer that computes from a bfloat16 copy of its weights, inside a ``with`` block.

    Autocast rounds the weights of a frozen layer anew in every pass, which takes a CPU a quarter of a second where
    there are 262,144 rows of 640 float32 numbers. The logits are the same to the bit.

    Args:
        layer: with float32 weights; they are not to change while this is used.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.weight = layer.weight.detach().to(torch.bfloat16)
        self.bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)

    def __enter__(self) -> RoundedLayer:
        """Have the layer compute from the copy."""
        self.layer.forward = self.forward
        return self

    def __exit__(self, *exception: object) -> None:
        """Have it compute from its own weights again."""
        del self.layer.forward

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the layer puts out under bfloat16 autocast: from ``(..., inputs)`` to bfloat16 ``(..., outputs)``."""
        return nn.functional.linear(hidden.to(torch.bfloat16), self.weight, self.bias)


def rounded_output_layer(model: PreTrainedModel | PeftModel) -> RoundedLayer | None:
    """The output layer computed from a bfloat16 copy; None where it trains, is adapted, or is no float32."""
    layer = output_layer(model)
    is_plain = type(layer) is nn.Linear and layer.weight.dtype == torch.float32
    return RoundedLayer(layer) if is_plain and not layer.weight.requires_grad else None


@contextmanager
def gathered(model: PreTrainedModel | PeftModel, rows: torch.Tensor, positions: torch.Tensor, length: int) -> Iterator:
    """Within this context the output layer sees only chosen positions.

    Args:
        model: a causal or encoder-decoder model, with or without PEFT.
        rows: batch index of every chosen position, ``(chosen,)``.
        positions: their places in a sequence of ``length``, ``(chosen,)``.
        length: tokens per sequence as the caller counts them. Virtual tokens of prompt methods stand in front of
            them and shift every place.
    """

    def gather(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        (hidden,) = inputs
        return (hidden[rows, positions + hidden.shape[1] - length],)

    handle = output_layer(model).register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Supervised:
    """What a model says at the supervised positions of a batch, row after row.

    Attributes:
        logits: ``(supervised, vocabulary)``, in the data type that the model computes in.
        targets: the tokens that belong there, ``(supervised,)``.
        rows: the batch index of each, ``(supervised,)``.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    rows: torch.Tensor


def supervised_logits(
    model: nn.Module, base: PreTrainedModel | PeftModel, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> Supervised:
    """Logits at the supervised positions, and the tokens that belong there.

    Args:
        model: what is called: ``base``, or ``base`` wrapped for several processes.
        base: the language model itself, with or without PEFT.
        inputs: ``input_ids`` and ``attention_mask`` ``(batch, length)``.
        labels: -100 where nothing is to be learned; ``(batch, length)`` aligned with ``input_ids`` for causal models
            (the hidden state *before* a token predicts it), ``(batch, answer length)`` for encoder-decoder models.
    """
    causal = not base.config.is_encoder_decoder
    wanted = labels[:, 1:] if causal else labels
    rows, positions = (wanted != -100).nonzero(as_tuple=True)
    arguments = dict(inputs)
    if causal:
        # Positions count tokens, so that padding on either side makes no difference to absolute positions.
        arguments["position_ids"] = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    else:
        arguments["decoder_input_ids"] = base.prepare_decoder_input_ids_from_labels(labels)
    chosen, slots = per_text(rows, positions, len(labels))
    # Where most tokens are supervised, or none, choosing them gains nothing.
    if causal and 0 < 2 * chosen.shape[1] <= labels.shape[1] and can_choose_tokens(base):
        arguments[READ_TOKENS] = chosen
        wanted_places, length = slots, chosen.shape[1]
    else:
        wanted_places, length = positions, labels.shape[1]
    with gathered(base, rows, wanted_places, length):
        logits = model(**arguments, use_cache=False).logits
    return Supervised(logits, wanted[rows, positions], rows)


def per_text(rows: torch.Tensor, positions: torch.Tensor, texts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of a batch, text by text.

    Args:
        rows: the text of each position, ascending, ``(chosen,)``.
        positions: ``(chosen,)``.
        texts: of the batch.

    Returns:
        ``(texts, largest number of a text)``, 0 where a text has fewer; and in which column each position stands,
        ``(chosen,)``.
    """
    counts = rows.bincount(minlength=texts)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    grid = positions.new_zeros(texts, int(counts.max()))
    grid[rows, slots] = positions
    return grid, slots
