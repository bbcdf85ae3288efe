"""Layer-wise learning rates: the lower a block, the slower it learns."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from opinionlm.adaptation.targets import adapted_part
from opinionlm.config import MethodConfig, TrainingConfig
from opinionlm.models.sublayers import normalisation_layers, text_blocks


def parameter_groups(
    model: PreTrainedModel, method: MethodConfig, training: TrainingConfig
) -> list[dict[str, Any]] | None:
    """Groups for the optimizer under ``layerwise_lr``, None for every other method.

    The head, the final norm and whatever else stands above the blocks learn at ``learning_rate``, the block k places
    below them at ``learning_rate * decay**k`` (k = 1 for the topmost), the embedding one place below the lowest block
    (Howard and Ruder 2018, section 3.2). Biases and norms get no weight decay.

    Returns:
        ``{"params", "lr", "weight_decay"}`` each, lowest learning rate first.
    """
    if method.adaptation != "layerwise_lr":
        return None
    part = adapted_part(model)
    anatomy = text_blocks(part)
    depth: dict[nn.Parameter, int] = {}
    for place, block in enumerate(reversed(anatomy.blocks), start=1):
        depth |= dict.fromkeys(block.parameters(), place)
    for module in anatomy.before_blocks:
        depth |= dict.fromkeys(module.parameters(), len(anatomy.blocks) + 1)

    head_norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    undecayed = {weight for norm in [*normalisation_layers(part), *head_norms] for weight in norm.parameters()}
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter not in undecayed and name.rsplit(".", 1)[-1] != "bias"
            groups.setdefault((depth.get(parameter, 0), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": training.learning_rate * method.layerwise_lr_decay**place,
            "weight_decay": training.weight_decay if decays else 0.0,
        }
        for (place, decays), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
    ]
