"""Data types of parameters: what a config calls them, and which one a machine computes fastest in."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from opinionlm.errors import UserError
from opinionlm.utils.memory import return_freed_memory


def computes_in_bfloat16(use_cpu: bool = False) -> bool:
    """Whether this machine's GPU, or else its processor, has instructions for bfloat16.

    A processor without them converts every number to float32 and back, which takes several times as long as float32.
    """
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(present for name, present in torch.cpu.get_capabilities().items() if "bf16" in name)


def wants_autocast(bf16: Literal[True, False, "auto"], use_cpu: bool) -> bool:
    """What the option ``bf16`` is on this machine."""
    return computes_in_bfloat16(use_cpu) if bf16 == "auto" else bf16


def torch_dtype(name: str) -> torch.dtype | str:
    """The torch data type for a config value; ``auto`` stays the checkpoint's own."""
    match name:
        case "float32":
            return torch.float32
        case "bfloat16":
            return torch.bfloat16
        case "float16":
            return torch.float16
        case "auto":
            return "auto"
        case "fastest":
            return torch.bfloat16 if computes_in_bfloat16() else torch.float32
        case _:
            raise UserError(f"dtype: '{name}' is not one of auto, fastest, float32, bfloat16, float16")


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Take all parameters to a data type, in place, as loading a model in it does.

    Buffers keep their digits, which ``model.to(dtype)`` would round: the frequencies of rotary positions in bfloat16
    are wrong by a radian after some hundred tokens.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    # The C library would keep what the small ones had: 0.3 GB of Gemma 3 270M.
    return_freed_memory()


def describe_device(device: torch.device, processes: int, dtype: str, bf16: bool) -> str:
    """What computes, and in which numbers, as a line of a run's header says it."""
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    shown = name if device.type == "cuda" else f"{name}, {threads} thread{'s' * (threads != 1)}"
    several = f", {processes} processes" if processes > 1 else ""
    numbers = describe_dtype(dtype) + (" with bfloat16 autocast" if bf16 else "")
    emulated = "bfloat16" in numbers and not computes_in_bfloat16()
    slow = (
        ", which this machine emulates: --bf16 false --dtype fastest takes a fraction of the time" if emulated else ""
    )
    return f"{shown}{several}; {numbers}{slow}"


def describe_dtype(name: str) -> str:
    """A config value as users read it: beside ``fastest`` what that is on this machine."""
    return f"fastest ({str(torch_dtype(name)).removeprefix('torch.')})" if name == "fastest" else name
