"""What a run costs: floating-point operations, memory, time."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable

import torch
from torch import nn

from opinionlm.config.method_options import MethodConfig
from opinionlm.models.backbones import anatomy_of, plain_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.quantization import weight_count
from opinionlm.models.sublayers import Sublayer, sublayers_of


def train_flops(
    model: OpinionClassifier,
    method: MethodConfig,
    tokens: int,
    cached: bool,
    cached_tokens: int,
    recomputed: bool,
    passes: int = 1,
) -> float:
    """Floating-point operations that a run spent on its training texts; see `train_flops_per_token` for the count.

    Frozen blocks below a cached cut run once per token whose states this run computed, and not at all where another
    run had computed them. Evaluation, and AdaPT's measurement of sensitivity, are left out.

    Args:
        model: with its adaptation applied and its frozen blocks in place.
        method: the adaptation.
        tokens: that training steps read, padding left out.
        cached: whether steps began above the frozen prefix, from its stored states.
        cached_tokens: training tokens whose states this run computed.
        recomputed: whether activation checkpointing computed blocks again in the backward pass.
        passes: over every token; R-Drop makes two of what is not stored.
    """
    per_token = train_flops_per_token(model, method, recomputed)
    if not cached:
        return per_token * tokens * passes
    prefix = prefix_flops(model, method)
    return (per_token - prefix) * tokens * passes + prefix * cached_tokens


def prefix_flops(model: OpinionClassifier, method: MethodConfig) -> float:
    """Floating-point operations of the forward pass of one token through the frozen prefix of a model."""
    blocks = anatomy_of(model.backbone).blocks[: model.prefix_blocks]
    if method.adaptation == "adapt":
        parts = [part for part in sublayers_of(model.backbone) if part.block < model.prefix_blocks]
        return block_flops(parts, gradient_flows=False)
    return block_flops(blocks, gradient_flows=False)


def train_flops_per_token(model: OpinionClassifier, method: MethodConfig, recomputed: bool = False) -> float:
    """Floating-point operations that one training token costs, by the usual count of 2 per weight and pass.

    A forward pass costs 2 operations per weight of a matrix product, those of adapters included. The backward pass
    costs 2 more per weight that a gradient flows through (every block above the lowest trained weight) and 2 more per
    weight that trains. Attention scores, norms and the head (once per text, not per token) are left out, as are the
    embedding, which is a look-up. A topmost block that runs only for the tokens that are read counts whole
    (`opinionlm.models.topmost_block`). Virtual tokens are left out too: a prompt of v tokens makes a text of n tokens
    cost (n + v) / n times as much.

    Args:
        model: with its adaptation applied.
        method: the adaptation; under LISA only ``lisa_blocks`` of the blocks train at a time.
        recomputed: whether blocks that gradients flow through run forward a second time (activation checkpointing).
    """
    blocks = anatomy_of(model.backbone).blocks
    share = method.lisa_blocks / len(blocks) if method.adaptation == "lisa" else 1.0
    # AdaPT chooses sub-layers: below the lowest one no gradient flows, not even through the rest of its block.
    parts = sublayers_of(model.backbone) if method.adaptation == "adapt" else blocks
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    # What trains outside the blocks of the backbone (embedding, prompts, prefixes) gets its gradient through them
    # all, except the norm above them and BERT's pooler.
    above = {id(parameter) for parameter in parameters_above_blocks(model)}
    gradient_flows = any(
        parameter.requires_grad and id(parameter) not in inside | above for parameter in model.backbone.parameters()
    )
    return block_flops(parts, gradient_flows, share, recomputed)


def block_flops(
    blocks: Iterable[nn.Module | Sublayer], gradient_flows: bool, share: float = 1.0, recomputed: bool = False
) -> float:
    """Floating-point operations that one training token costs in a model's blocks; see `train_flops_per_token`.

    Args:
        blocks: or their sub-layers, lowest first.
        gradient_flows: whether something below the lowest block trains.
        share: of the blocks that train at a time.
        recomputed: whether blocks that gradients flow through run forward a second time.
    """
    forward = backward = 0.0
    for block in blocks:
        sizes = [(weight_count(parameter), parameter.requires_grad) for parameter in block.parameters()]
        forward += 2 * sum(size for size, _ in sizes)
        trained = sum(size for size, trains in sizes if trains)
        gradient_flows = gradient_flows or trained > 0
        backward += 2 * trained * share
        if gradient_flows:
            backward += (4 if recomputed else 2) * sum(size for size, _ in sizes)
    return float(forward + backward)


def parameters_above_blocks(model: OpinionClassifier) -> list[nn.Parameter]:
    """Parameters of a backbone that its blocks feed."""
    final_norm = anatomy_of(model.backbone).final_norm
    parameters = [] if final_norm is None else list(final_norm.parameters())
    if model.pooling == "pooler":
        parameters += plain_backbone(model.backbone).pooler.parameters()
    return parameters


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
