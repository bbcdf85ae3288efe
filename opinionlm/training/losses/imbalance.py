"""Losses for imbalanced labels, beside weighted cross entropy: each one a loss per example like its siblings.

They differ in what they do about rare classes: shift the logits by how frequent a class is (logit adjustment), ask for
a larger margin (LDAM), look away from what is easy (focal), or count examples by how much news they bring
(effective numbers).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.config.method_options import ClassWeightsConfig, LossConfig
from opinionlm.training.losses.base import ExampleLoss, WeightedCrossEntropy, inverse_frequency_weights

WeightKind = Literal["none", "inverse_frequency", "effective_number"]


def effective_number_weights(counts: Sequence[int], beta: float = 0.999) -> torch.Tensor:
    """Class weights (1 − β) / (1 − β^count), normalised to sum to the number of classes (Cui et al. 2019, eq. 4).

    Args:
        counts: training examples per class. A class without examples gets weight zero.
        beta: 0 weights all classes alike, towards 1 the weights approach inverse frequency.

    Returns:
        float32 ``(classes,)``.
    """
    count = torch.tensor(counts, dtype=torch.float64)
    effective = torch.where(count > 0, (1.0 - beta) / (1.0 - beta**count).clamp(min=1e-300), 0.0)
    return (effective / effective.sum() * len(counts)).to(torch.float32)


def class_weights_of(kind: WeightKind, counts: Sequence[int], method: ClassWeightsConfig) -> torch.Tensor:
    """Class weights of a kind, float32 ``(classes,)``."""
    match kind:
        case "none":
            return torch.ones(len(counts))
        case "inverse_frequency":
            return inverse_frequency_weights(counts)
        case "effective_number":
            return effective_number_weights(counts, method.effective_number_beta)


def log_priors(counts: Sequence[int]) -> torch.Tensor:
    """Log of each class's share of the training examples, float32 ``(classes,)``; an absent class counts as one."""
    count = torch.tensor(counts, dtype=torch.float64).clamp(min=1.0)
    return (count / count.sum()).log().to(torch.float32)


class SmoothedCrossEntropy(WeightedCrossEntropy):
    """Cross entropy against a target that keeps a share for all classes (Szegedy et al. 2016, section 7).

    The weighted mean is that of `torch.nn.functional.cross_entropy` with ``weight`` and ``label_smoothing``: every
    class of the target counts by its own weight, and the sum is divided by the weights of the labels,
    Σ [(1 − ε) w_y (−log p_y) + ε / C · Σ_c w_c (−log p_c)] / Σ w_y. (An example whose label has weight zero counts for
    nothing here, and by its smoothed part there.)

    Args:
        class_weights: of the examples, by their label ``(classes,)``.
        smoothing: share of the target that is spread evenly.
    """

    def __init__(self, class_weights: torch.Tensor, smoothing: float) -> None:
        super().__init__(class_weights)
        self.smoothing = smoothing

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses in float32, shaped as the labels."""
        hard = super().example_losses(logits, labels)
        class_weights = self.class_weights.to(logits.device)
        even = -(class_weights * logits.float().log_softmax(dim=-1)).mean(dim=-1)
        # `weighted_sum` multiplies by the label's weight, which belongs to the hard part alone.
        own = self.example_weights(labels)
        smooth = torch.where(own > 0, even / own.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
        return (1 - self.smoothing) * hard + self.smoothing * smooth


class LogitAdjustedCrossEntropy(WeightedCrossEntropy):
    """Cross entropy of logits to which τ · log prior is added in training (Menon et al. 2021, eq. 10).

    At prediction the plain logits then favour no class for being frequent. τ = 1 is the balanced softmax (Ren et al.
    2020). Class weights are usually ones here: the adjustment does their work.

    Args:
        class_weights: of the examples, by their label ``(classes,)``.
        counts: training examples per class.
        tau: strength of the adjustment; 0 is plain cross entropy.
    """

    def __init__(self, class_weights: torch.Tensor, counts: Sequence[int], tau: float) -> None:
        super().__init__(class_weights)
        self.register_buffer("adjustment", tau * log_priors(counts))

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses in float32, shaped as the labels."""
        return super().example_losses(logits.float() + self.adjustment.to(logits.device), labels)


class FocalLoss(WeightedCrossEntropy):
    """Cross entropy times (1 − p)^γ, where p is the probability of the label (Lin et al. 2017, eq. 4).

    Args:
        class_weights: of the examples, by their label ``(classes,)``.
        gamma: 0 is plain cross entropy; the larger, the less an easy example counts.
    """

    def __init__(self, class_weights: torch.Tensor, gamma: float) -> None:
        super().__init__(class_weights)
        self.gamma = gamma

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses in float32, shaped as the labels."""
        losses = super().example_losses(logits, labels)
        # -expm1(-loss) is 1 - p without the rounding that 1 - exp(-loss) suffers where p is near 1; the power of an
        # exact zero would have an infinite slope for gamma below 1.
        return (-torch.expm1(-losses)).clamp(min=1e-12) ** self.gamma * losses


class MarginLoss(WeightedCrossEntropy):
    """Cross entropy that asks for a margin of C / count^¼ (LDAM, Cao et al. 2019, eq. 13).

    The loss is the cross entropy of ``scale · (logits − margin of the label)``. The authors' code has a scale of 30,
    and a head of cosines, whose logits lie in [−1, 1]: there a margin of ½ is large. The logits of our heads have no
    such bounds, so a scale of 1 lets them outgrow any margin, and the loss is then nearly plain cross entropy.

    The paper's deferred re-weighting belongs to it: class weights begin to count late in training, when
    `start_weighting` is called; until then all examples count alike. Evaluations have them from the first one on, so
    that their losses, by which checkpoints may be chosen, are one quantity.

    Args:
        class_weights: of the examples in the last phase, by their label ``(classes,)``.
        counts: training examples per class.
        largest_margin: the margin of the rarest class, in logits.
        scale: multiplies logits and margins.
    """

    def __init__(
        self, class_weights: torch.Tensor, counts: Sequence[int], largest_margin: float, scale: float = 1.0
    ) -> None:
        super().__init__(torch.ones_like(class_weights))
        self.scale = scale
        self.register_buffer("deferred_weights", class_weights.to(torch.float32))
        margins = torch.tensor(counts, dtype=torch.float64).clamp(min=1.0) ** -0.25
        self.register_buffer("margins", (margins / margins.max() * largest_margin).to(torch.float32))

    def start_weighting(self) -> None:
        """From now on examples count by their class weights."""
        self.class_weights = self.deferred_weights

    def for_evaluation(self) -> MarginLoss:
        """The loss of the last phase."""
        last = copy.deepcopy(self)
        last.start_weighting()
        return last

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses in float32, shaped as the labels."""
        own = nn.functional.one_hot(labels.clamp(min=0), logits.shape[-1])
        shifted = logits.float() - own * self.margins.to(logits.device)
        return super().example_losses(self.scale * shifted, labels)


class DeferredWeighting(TrainerCallback):
    """Lets class weights count from a share of training on (LDAM-DRW, Cao et al. 2019, section 3.3).

    It acts between optimizer steps, so that the denominator of a step's weighted mean and its losses always have the
    same weights. Whether they count depends on the number of the step alone, so a resumed run goes on the same way.
    """

    def __init__(self, loss: MarginLoss, share: float) -> None:
        self.loss, self.share = loss, share

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Where a run goes on behind that step, or begins there, they count at once."""
        self._start_if_due(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After each optimizer step: does the next one count them?"""
        self._start_if_due(state)

    def _start_if_due(self, state: TrainerState) -> None:
        if self.share < 1 and state.global_step >= math.ceil(self.share * state.max_steps):
            self.loss.start_weighting()


def loss_callbacks(loss: ExampleLoss, method: LossConfig) -> list[TrainerCallback]:
    """Callbacks that a loss needs while it trains; most need none."""
    return [DeferredWeighting(loss, method.ldam_reweight_from)] if isinstance(loss, MarginLoss) else []
