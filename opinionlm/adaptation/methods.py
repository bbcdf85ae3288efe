"""Every way of adapting a model: which of its parameters train, and what is added to it.

docs/methods.md describes the methods; docs/methods_matrix.md shows which works with which family and task.
"""

from __future__ import annotations

from peft import PeftModel, TaskType
from torch import nn
from transformers import PreTrainedModel

from opinionlm.adaptation.compatibility import check_family, check_quantized
from opinionlm.adaptation.peft_configs import describe_adapter
from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.adapters import add_adapter
from opinionlm.models.backbones import anatomy_of, plain_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import quantized_modules, weight_count
from opinionlm.models.sublayers import normalisation_layers
from opinionlm.models.task_embedding import task_rows


def trained_blocks(method: MethodConfig, num_blocks: int) -> int:
    """Number of top blocks whose own weights train, and which therefore are never quantised.

    Raises:
        UserError: if more blocks are to train, or to stay frozen, than there are.
    """
    match method.adaptation:
        case "full" | "layerwise_lr" | "adapt":
            return num_blocks
        case "lisa":
            if method.lisa_blocks > num_blocks:
                raise UserError(
                    f"lisa_blocks: {method.lisa_blocks} exceeds the model's {num_blocks} blocks; give at most "
                    f"{num_blocks}"
                )
            return num_blocks
        case "top_blocks":
            if method.trainable_blocks > num_blocks:
                raise UserError(
                    f"trainable_blocks: {method.trainable_blocks} exceeds the model's {num_blocks} blocks; "
                    f"give at most {num_blocks}, or adaptation: full"
                )
            return method.trainable_blocks
        case "bottom_frozen":
            if method.frozen_blocks >= num_blocks:
                raise UserError(
                    f"frozen_blocks: {method.frozen_blocks} leaves none of the model's {num_blocks} blocks to train; "
                    f"give at most {num_blocks - 1}, or adaptation: head_only"
                )
            return num_blocks - method.frozen_blocks
        case _:
            return 0


def apply_adaptation(model: OpinionClassifier, method: MethodConfig, total_steps: int | None = None) -> None:
    """Make exactly those parameters of a classifier or tagger train that the method says, adding what it adds.

    The head always trains. Under ``top_blocks`` and ``bottom_frozen`` everything above the frozen blocks does, BERT's
    pooler included where the model has one; ``head_only`` and the adapters leave the pooler alone. The frozen part
    below the trained blocks is run without dropout, see `OpinionClassifier.freeze_prefix`. Rows of task tokens always
    train; they lie below all blocks, so that there is no frozen part. Under ``adapt`` the sub-layers that train are
    chosen later, by `opinionlm.training.adapt_selection.choose_sublayers`.

    Args:
        model: the classifier; changed in place.
        method: which adaptation.
        total_steps: optimizer steps of the run; only AdaLoRA needs them.

    Raises:
        UserError: if the method cannot work on this model.
    """
    check_family(method, model.config.text_config, generative=False)
    check_quantized(method, model.backbone)
    num_blocks = len(anatomy_of(model.backbone).blocks)
    frozen_below = 0
    match method.adaptation:
        case "head_only":
            model.backbone.requires_grad_(False)
            frozen_below = num_blocks
        case "adapt":
            require_plain_weights(model.backbone)
            model.backbone.requires_grad_(False)
        case "top_blocks" | "bottom_frozen":
            count = trained_blocks(method, num_blocks)
            train_top_blocks(model.backbone, count)
            if model.pooling == "pooler":
                model.backbone.pooler.requires_grad_(True)
            frozen_below = num_blocks - count
        case "full" | "layerwise_lr" | "lisa" | "bitfit" | "layernorm":
            train_own_parameters(model.backbone, method)
        case _:
            model.add_adapter_to_backbone(describe_adapter(method, model.config.text_config, total_steps))
            train_norms_with_adapters(model.backbone, method)
    model.head.requires_grad_(True)
    rows = task_rows(model.backbone)
    if rows is not None:
        rows.requires_grad_(True)
    model.freeze_prefix(frozen_below if rows is None else 0)


def adapt_generative(
    model: PreTrainedModel, method: MethodConfig, total_steps: int | None = None
) -> PreTrainedModel | PeftModel:
    """The same for a language model that writes its answer.

    The output layer stays as it is except where everything trains (it is mostly tied to the embedding). Blocks are
    counted in the order a text passes them: in T5 the decoder's are above the encoder's.

    Returns:
        The model, wrapped by PEFT where the method is PEFT's.

    Raises:
        UserError: if the method cannot work on this model.
    """
    check_family(method, model.config, generative=True)
    check_quantized(method, model)
    match method.adaptation:
        case "top_blocks" | "bottom_frozen":
            train_top_blocks(model, trained_blocks(method, len(anatomy_of(model).blocks)))
        case "full" | "layerwise_lr" | "lisa" | "bitfit" | "layernorm":
            train_own_parameters(model, method)
        case _:
            task = TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM
            adapted = add_adapter(model, describe_adapter(method, model.config, total_steps), task)
            train_norms_with_adapters(adapted, method)
            return adapted
    return model


def train_top_blocks(model: PreTrainedModel, count: int) -> None:
    """The last blocks and the final norm train (opinion paper, section 11), nothing else does."""
    parts = anatomy_of(model)
    model.requires_grad_(False)
    for block in parts.blocks[len(parts.blocks) - count :]:
        require_plain_weights(block)
        block.requires_grad_(True)
    if parts.final_norm is not None and count > 0:
        parts.final_norm.requires_grad_(True)


def require_plain_weights(part: nn.Module) -> None:
    """Refuse to train what a checkpoint holds in a few bits, whatever ``load_in_4bit`` says.

    Raises:
        UserError: some weights are no plain numbers.
    """
    if quantized_modules(part) or not all(parameter.is_floating_point() for parameter in part.parameters()):
        raise UserError(
            "model_name_or_path: the weights that would train are stored in 4 or 8 bits, which cannot train; use "
            "adaptation: lora or head_only, or give the model as it was before it was quantised"
        )


def train_own_parameters(model: PreTrainedModel, method: MethodConfig) -> None:
    """Methods that train some or all of the model's own parameters, wherever they are."""
    everything = method.adaptation in ("full", "layerwise_lr", "lisa")
    if everything:
        require_plain_weights(model)
    model.requires_grad_(everything)
    if method.adaptation == "lisa" and not method.lisa_embedding:
        for part in anatomy_of(model).before_blocks:
            part.requires_grad_(False)
    if method.adaptation == "bitfit":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.rsplit(".", 1)[-1] == "bias")
    if method.adaptation == "layernorm":
        for norm in normalisation_layers(model):
            norm.requires_grad_(True)


def train_norms_with_adapters(model: PreTrainedModel | PeftModel, method: MethodConfig) -> None:
    """Houlsby et al. (section 2.1) train the normalisation layers beside their adapters; Pfeiffer et al. do not."""
    if method.adaptation == "houlsby":
        for norm in normalisation_layers(model):
            norm.requires_grad_(True)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Total and trainable parameters; a 4-bit weight counts by its unquantised shape."""
    total = trainable = 0
    for parameter in model.parameters():
        size = weight_count(parameter)
        total += size
        trainable += size if parameter.requires_grad else 0
    return {"total_parameters": total, "trainable_parameters": trainable}


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, which is what a checkpoint holds.

    Under LISA, whose blocks take turns, all of them: outside an optimizer step every block counts as trained, see
    `opinionlm.adaptation.callbacks.BlockSampling`.
    """
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def wrapped_part(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """The backbone of a classifier or tagger, or the language model itself, with PEFT's wrapper where it has one."""
    return model.backbone if isinstance(model, OpinionClassifier) else model


def adapted_part(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The same without PEFT's wrapper."""
    return plain_backbone(wrapped_part(model))


def peft_part(model: PreTrainedModel | PeftModel) -> PeftModel | None:
    """PEFT's wrapper in or around a model, None where no PEFT method is at work."""
    part = wrapped_part(model)
    return part if isinstance(part, PeftModel) else None
