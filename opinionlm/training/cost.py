"""What a run costs: floating-point operations, memory, time."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable

import torch
from torch import nn

from opinionlm.models.backbones import anatomy_of
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import weight_count


def train_flops_per_token(model: OpinionClassifier) -> float:
    """Floating-point operations that one training token of a classifier costs; see `block_flops`."""
    anatomy = anatomy_of(model.backbone)
    return block_flops(anatomy.blocks, any(weight.requires_grad for weight in anatomy.embedding.parameters()))


def block_flops(blocks: Iterable[nn.Module], gradient_flows: bool) -> float:
    """Floating-point operations that one training token costs, by the usual count of 2 per weight and pass.

    A forward pass costs 2 operations per weight of a matrix product. The backward pass costs 2 more per weight that
    a gradient flows through (every block above the lowest trained one) and 2 more per weight that trains. Attention
    scores, norms and the head (once per text, not per token) are left out, as is the embedding, which is a look-up.

    Args:
        blocks: lowest first.
        gradient_flows: whether something below the lowest block trains.
    """
    forward = backward = 0
    for block in blocks:
        sizes = [(weight_count(parameter), parameter.requires_grad) for parameter in block.parameters()]
        forward += 2 * sum(size for size, _ in sizes)
        trained = sum(size for size, trains in sizes if trains)
        gradient_flows = gradient_flows or trained > 0
        backward += 2 * trained
        if gradient_flows:
            backward += 2 * sum(size for size, _ in sizes)
    return float(forward + backward)


def peak_memory_mb() -> float:
    """Peak memory in MB (10^6 bytes): of the GPU where there is one, else of the process since it started."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reset_peak_memory() -> None:
    """Start measuring the GPU's peak memory anew; a process's own peak cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
