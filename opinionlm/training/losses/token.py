"""Cross entropy of answer tokens, weighted by example, in float32 without a float32 copy of all logits."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction, FunctionCtx

# Logits taken to float32 at a time, in numbers: 64 MB.
CHUNK = 1 << 24


class TokenCrossEntropy(torch.autograd.Function):
    """Loss per token; forward and backward go through the rows in chunks, so that only those exist in float32."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses ``(tokens,)`` in float32 from logits ``(tokens, vocabulary)`` of any data type."""
        normalisers = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        for part in parts(logits):
            normalisers[part] = logits[part].float().logsumexp(dim=1)
        ctx.save_for_backward(logits, targets, normalisers)
        return normalisers - logits.gather(1, targets[:, None]).squeeze(1).float()

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient of a token's loss is its softmax less one at the target."""
        logits, targets, normalisers = ctx.saved_tensors
        result = torch.empty_like(logits)
        for part in parts(logits):
            probabilities = (logits[part].float() - normalisers[part, None]).exp_()
            probabilities[torch.arange(len(probabilities), device=logits.device), targets[part]] -= 1.0
            result[part] = probabilities.mul_(gradient[part, None]).to(logits.dtype)
        return result, None


def parts(logits: torch.Tensor) -> list[slice]:
    """Slices of rows that together have about `CHUNK` numbers each."""
    rows = max(1, CHUNK // logits.shape[1])
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]


class SupervisedCrossEntropy(nn.Module):
    """Sum over examples of weight times the summed loss of their answer tokens.

    Divided by the sum over examples of weight times number of tokens, this is the weighted mean loss per token; the
    trainer does so over the whole optimizer step.
    """

    def forward(
        self, logits: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """A float32 scalar.

        Args:
            logits: ``(tokens, vocabulary)``.
            targets: token ids ``(tokens,)``.
            rows: example of every token ``(tokens,)``.
            weights: of the examples ``(batch,)``.
        """
        return (weights[rows] * TokenCrossEntropy.apply(logits, targets)).sum()
