"""Which parameters an optimizer gets, in which groups."""

from __future__ import annotations

from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

# Names of parameters that weight decay would only shrink towards a useless value; Trainer's own list.
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trained parameters in two groups: with weight decay, and biases and norms without.

    Args:
        model: the model, its adaptation applied.
        weight_decay: of the first group.
    """
    decaying = set(get_parameter_names(model, [nn.LayerNorm], NO_DECAY))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return [
        {"params": [p for name, p in trained.items() if name in decaying], "weight_decay": weight_decay},
        {"params": [p for name, p in trained.items() if name not in decaying], "weight_decay": 0.0},
    ]
