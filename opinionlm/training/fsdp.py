"""Weights that are split over processes (FSDP2), read and written whole: files are as those of one process."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def is_split(model: nn.Module) -> bool:
    """Whether the weights of a model are, or were before `gather_weights`, split over processes."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def split_up(model: nn.Module) -> None:
    """Have the weights of an FSDP2 model split up again: after a forward pass some are still whole, and only lent."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@torch.no_grad()
def put(parameter: torch.Tensor, value: torch.Tensor) -> None:
    """Copy a whole tensor into a parameter; into a split one every process copies its share."""
    if isinstance(parameter, DTensor):
        value = value.to(parameter.device, parameter.dtype)
        value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
    parameter.copy_(value)


@torch.no_grad()
def gather_weights(model: nn.Module) -> None:
    """Give a model whose weights are split over processes plain whole ones, on the CPU, to be saved.

    All processes have to call this together. It does nothing where no weight is split.
    """
    split_up(model)
    gathered: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if isinstance(parameter, DTensor):
                if id(parameter) not in gathered:
                    whole = parameter.full_tensor().cpu()
                    gathered[id(parameter)] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
                # Not setattr: a module that FSDP took over refuses plain parameters.
                module._parameters[name] = gathered[id(parameter)]
