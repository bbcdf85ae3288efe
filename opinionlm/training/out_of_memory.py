"""What can go wrong in an optimizer step: too little memory, and losses that are no numbers."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

import torch
import torch.distributed

from opinionlm.errors import UserError

Batch = dict[str, torch.Tensor]
# What torch's allocator for the CPU says, as a plain RuntimeError.
CPU_MEMORY = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is exhausted, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in CPU_MEMORY)


def rows_of(batch: Batch) -> int:
    """Rows of a batch; they are the first dimension of each of its tensors."""
    return len(next(iter(batch.values())))


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into at most so many smaller ones, in its order, padding as it was."""
    size = math.ceil(rows_of(batch) / parts)
    return [
        {name: tensor[start : start + size] for name, tensor in batch.items()}
        for start in range(0, rows_of(batch), size)
    ]


def next_parts(parts: int, rows: int, processes: int, error: BaseException) -> int:
    """Into how many parts batches are cut after memory did not suffice; says so.

    The loss of a step is a sum over its examples divided by the sum of their weights, which is known beforehand: in
    how many forward passes it is computed does not change it.

    Args:
        parts: so far.
        rows: of the largest batch of the step.
        processes: that train together. Distributed training exchanges gradients while it computes them, so a single
            process cannot begin a step again.
        error: what was raised.

    Raises:
        UserError: there is nothing left to cut.
    """
    if processes > 1:
        raise UserError(
            f"out of memory with {math.ceil(rows / parts)} texts per process; halve per_device_train_batch_size and "
            "double gradient_accumulation_steps, which computes the same"
        ) from error
    if parts >= rows:
        raise UserError(
            "out of memory with a single text; lower max_length, set activation_checkpointing: true, or train less of "
            "the model (see docs/methods.md)"
        ) from error
    parts = min(2 * parts, rows)
    print(
        f"out of memory: batches of {rows} are computed in {parts} parts from here on, whose gradients add up; the "
        f"effective batch stays what it was",
        flush=True,
    )
    return parts


def free_memory() -> None:
    """Give back what a failed attempt still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_parts(compute: Callable[[Batch], torch.Tensor], batch: Batch) -> torch.Tensor:
    """Compute rows without gradients, in ever smaller parts where memory does not suffice."""
    parts = 1
    while True:
        try:
            return torch.cat([compute(part) for part in cut(batch, parts)])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or parts >= rows_of(batch):
                raise
        parts *= 2
        free_memory()
