"""Memory that is free, of the process and of a GPU."""

from __future__ import annotations

import ctypes
import sys

import torch


def return_freed_memory() -> None:
    """Give the system back what the C library keeps of freed memory, for the next thing to use.

    glibc keeps blocks below 32 MB for itself, which batches of ever-changing shapes fill badly: after scoring 400
    prompts with Gemma 3 270M a process of 1.7 GB held 4.2. Other C libraries have no such function; nothing happens
    there.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def free_gpu_memory(device: torch.device) -> int:
    """Bytes of a GPU that torch can still hand out: those of the driver, and those that torch keeps without using."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
