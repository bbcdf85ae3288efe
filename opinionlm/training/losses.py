"""Losses over labelled examples, each a weighted mean whose weights are known before the forward pass.

Knowing the weights beforehand is what makes a weighted loss exact over a whole optimizer step: the trainer divides
by the sum of the weights of *all* examples of the step, over accumulation steps and processes, not per batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def inverse_frequency_weights(counts: Sequence[int]) -> torch.Tensor:
    """Class weights 1/count, normalised to sum to the number of classes (opinion paper, Algorithm 4).

    Args:
        counts: training examples per class, in the order of the label ids. A class without examples has no inverse
            frequency; it gets weight zero, which no training example can bring into play.

    Returns:
        float32 ``(classes,)``.
    """
    count = torch.tensor(counts, dtype=torch.float64)
    inverse = torch.where(count > 0, 1.0 / count.clamp(min=1.0), 0.0)
    return (inverse / inverse.sum() * len(counts)).to(torch.float32)


class WeightedCrossEntropy(nn.Module):
    """Cross entropy with class weights, as a loss per example and a weight per example.

    Args:
        class_weights: float ``(classes,)``; ones give plain cross entropy.
    """

    def __init__(self, class_weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights.to(torch.float32))

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Unweighted losses ``(batch,)`` in float32 from logits ``(batch, classes)`` and label ids ``(batch,)``.

        A row labelled -100 (a filler of `opinionlm.training.batching`) has loss and weight zero.
        """
        return nn.functional.cross_entropy(logits.float(), labels, reduction="none", ignore_index=-100)

    def example_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Weights ``(batch,)`` in float32 of examples with these label ids."""
        weights = self.class_weights.to(labels.device)[labels.clamp(min=0)]
        return torch.where(labels >= 0, weights, 0.0)

    def weighted_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum over the batch of weight times loss: the numerator of the weighted mean, a float32 scalar."""
        return (self.example_weights(labels) * self.example_losses(logits, labels)).sum()

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted mean loss of one batch taken by itself, a float32 scalar."""
        return self.weighted_sum(logits, labels) / self.example_weights(labels).sum()
