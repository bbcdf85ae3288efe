"""Which parameters train: full fine-tuning, the top blocks, or the head alone."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from opinionlm.config import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.generative import decoder_blocks
from opinionlm.models.quantization import weight_count


def trained_blocks(method: MethodConfig, num_blocks: int) -> int:
    """Number of top blocks that train.

    Raises:
        UserError: ``trainable_blocks`` exceeds what the model has.
    """
    match method.adaptation:
        case "full":
            return num_blocks
        case "head_only":
            return 0
        case "top_blocks":
            if method.trainable_blocks > num_blocks:
                raise UserError(
                    f"trainable_blocks: {method.trainable_blocks} exceeds the model's {num_blocks} blocks; "
                    f"give at most {num_blocks}, or adaptation: full"
                )
            return method.trainable_blocks


def apply_adaptation(model: OpinionClassifier, method: MethodConfig) -> None:
    """Set ``requires_grad`` of every parameter.

    ``top_blocks`` is the opinion paper's recipe (section 11): the last blocks, the final norm and the head train.
    The language model's output layer is not part of the classifier, and the embedding stays frozen.

    Args:
        model: the classifier; changed in place.
        method: which adaptation.

    Raises:
        UserError: more blocks asked for than there are.
    """
    anatomy = anatomy_of(model.backbone)
    count = trained_blocks(method, len(anatomy.blocks))
    model.requires_grad_(method.adaptation == "full")
    model.head.requires_grad_(True)
    if method.adaptation == "top_blocks":
        parts: list[nn.Module] = list(anatomy.blocks)[len(anatomy.blocks) - count :]
        if anatomy.final_norm is not None:
            parts.append(anatomy.final_norm)
        for part in parts:
            part.requires_grad_(True)
    model.freeze_prefix(0 if method.adaptation == "full" else len(anatomy.blocks) - count)


def adapt_generative(model: PreTrainedModel, method: MethodConfig, total_steps: int | None = None) -> PreTrainedModel:
    """Set ``requires_grad`` of a language model: everything, or its top blocks and final norm."""
    model.requires_grad_(method.adaptation == "full")
    match method.adaptation:
        case "full":
            pass
        case "top_blocks":
            blocks = decoder_blocks(model)
            for block in blocks[len(blocks) - trained_blocks(method, len(blocks)) :]:
                block.requires_grad_(True)
        case _:
            raise UserError(f"adaptation: {method.adaptation} comes with the methods branch")
    return model


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Total and trainable parameters; a 4-bit weight counts by its unquantised shape."""
    total = trainable = 0
    for parameter in model.parameters():
        size = weight_count(parameter)
        total += size
        trainable += size if parameter.requires_grad else 0
    return {"total_parameters": total, "trainable_parameters": trainable}
