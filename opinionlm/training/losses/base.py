"""Losses over labelled examples, each a weighted mean whose weights are known before the forward pass.

Knowing the weights beforehand is what makes a weighted loss exact over a whole optimizer step: the trainer divides
by the sum of the weights of *all* examples of the step, over accumulation steps and processes, not per batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class ExampleLoss(nn.Module, ABC):
    """A loss per item and a weight per item; an item is a text, a pair of texts or a token."""

    @abstractmethod
    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Unweighted losses in float32, shaped as the labels; zero where a label does not count."""

    @abstractmethod
    def example_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Weights in float32, shaped as the labels; zero where a label does not count."""

    def weighted_sum(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum over the batch of weight times loss: the numerator of the weighted mean, a float32 scalar."""
        return (self.example_weights(labels) * self.example_losses(logits, labels)).sum()

    def for_evaluation(self) -> ExampleLoss:
        """What splits are scored by, the same at every step: the loss itself, unless it changes while it trains."""
        return self

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted mean loss of one batch taken by itself, a float32 scalar."""
        return self.weighted_sum(logits, labels) / self.example_weights(labels).sum()


class WeightedCrossEntropy(ExampleLoss):
    """Cross entropy with class weights, over texts or over tokens.

    Args:
        class_weights: float ``(classes,)``; ones give plain cross entropy.
    """

    def __init__(self, class_weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights.to(torch.float32))

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Unweighted losses in float32 from logits ``(batch, classes)`` and label ids ``(batch,)``.

        The same for tokens: logits ``(batch, length, classes)`` and label ids ``(batch, length)``. A label of -100
        (padding, or a filler of `opinionlm.training.batching`) has loss and weight zero.
        """
        flat = nn.functional.cross_entropy(
            logits.float().flatten(0, -2), labels.flatten(), reduction="none", ignore_index=-100
        )
        return flat.view(labels.shape)

    def example_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Weights in float32 of items with these label ids, shaped as they are."""
        weights = self.class_weights.to(labels.device)[labels.clamp(min=0)]
        return torch.where(labels >= 0, weights, 0.0)


class SoftTargetCrossEntropy(WeightedCrossEntropy):
    """Cross entropy of texts whose target is a distribution over the classes (Hinton et al. 2015), weighted by class.

    A text's loss is −Σ w_c t_c log p_c over its weight Σ w_c t_c, so that the weighted mean is that of
    `torch.nn.functional.cross_entropy` with probabilities as targets, but for its denominator: torch divides by the
    number of texts. Label ids still count as `WeightedCrossEntropy` counts them: validation has no other targets.
    """

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses ``(batch,)`` from logits and targets ``(batch, classes)``, or from label ids ``(batch,)``.

        A target of nan (a filler of `opinionlm.training.batching`) has loss and weight zero.
        """
        if not labels.is_floating_point():
            return super().example_losses(logits, labels)
        weighted = labels.nan_to_num() * self.class_weights.to(labels.device)
        losses = -(weighted * logits.float().log_softmax(dim=-1)).sum(dim=-1)
        return losses / weighted.sum(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)

    def example_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Weights ``(batch,)`` of texts with these targets or label ids."""
        if not labels.is_floating_point():
            return super().example_weights(labels)
        return labels.nan_to_num() @ self.class_weights.to(labels.device)


class MeanSquaredError(ExampleLoss):
    """Squared error of a single output, every text or pair of texts counting the same."""

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Squared errors ``(batch,)`` in float32 from outputs ``(batch, 1)`` and scores ``(batch,)``.

        A score of nan (a filler of `opinionlm.training.batching`) has loss and weight zero.
        """
        outputs = logits.float().squeeze(-1)
        # The filler's target is its own output: masking the square afterwards would leave a gradient of 0 · nan.
        targets = torch.where(labels.isnan(), outputs.detach(), labels.float())
        return (outputs - targets).square()

    def example_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """One ``(batch,)`` for every score, zero for nan."""
        return (~labels.isnan()).float()


def split_loss(loss: ExampleLoss, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Exact weighted mean loss over a whole split (nats), the quantity that training minimises.

    Args:
        loss: of one text; `ExampleLoss.for_evaluation` of it counts.
        logits: ``(rows, classes)``.
        labels: leaf ids ``(rows,)``.
    """
    loss = loss.for_evaluation()
    weights = loss.example_weights(labels).double()
    losses = loss.example_losses(logits, labels).double()
    return float((weights * losses).sum() / weights.sum())
