"""Losses of texts with any number of labels: one decision per label, averaged over the labels of a text.

Targets are float32 ``(batch, labels)`` of zeros and ones; a row of nan is a filler of `opinionlm.training.batching`. A
text counts once whatever its labels, so that the mean over an optimizer step is that of
`torch.nn.BCEWithLogitsLoss(pos_weight=…)` over all its texts, under accumulation and with several processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from opinionlm.config.method_options import ClassWeightsConfig
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.hierarchical import ancestor_matrix
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.imbalance import WeightKind


def positive_weights(kind: WeightKind, counts: Sequence[int], rows: int, method: ClassWeightsConfig) -> torch.Tensor:
    """How much more a text with a label counts for that label than one without, float32 ``(labels,)``.

    ``inverse_frequency``: texts without the label over texts with it, so that both weigh the same in sum.
    ``effective_number``: the same of their effective numbers (1 - β^n) / (1 - β) (Cui et al. 2019, eq. 2). A label
    that no training text has gets one: nothing is multiplied by it, and infinity would make nan of that.
    """
    positive = torch.tensor(counts, dtype=torch.float64)
    negative = (rows - positive).clamp(min=1.0)
    match kind:
        case "none":
            return torch.ones(len(counts))
        case "inverse_frequency":
            weights = negative / positive.clamp(min=1.0)
        case "effective_number":
            beta = method.effective_number_beta
            weights = (1 - beta**negative) / (1 - beta ** positive.clamp(min=1.0))
    return torch.where(positive > 0, weights, 1.0).to(torch.float32)


class BinaryCrossEntropy(ExampleLoss):
    """Mean over the labels of -[w y log p + (1 - y) log(1 - p)].

    Args:
        weights: of the labels that texts have, ``(labels,)``; ones give the plain loss.
    """

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights.to(torch.float32))

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses ``(batch,)`` in float32 from logits and targets ``(batch, labels)``; zero for a filler."""
        return self.label_losses(logits.float(), labels.float().nan_to_num()).mean(dim=-1) * self.example_weights(
            labels
        )

    def example_weights(self, labels: torch.Tensor) -> torch.Tensor:
        """One ``(batch,)`` for every text, zero for a filler."""
        return (~labels.isnan().any(dim=-1)).float()

    def label_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses of single labels, shaped as the logits ``(batch, labels)``."""
        return nn.functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=self.weights.to(logits.device), reduction="none"
        )


class AsymmetricLoss(BinaryCrossEntropy):
    """Binary cross entropy that looks away from easy absent labels (Ridnik et al. 2021, eq. 7).

    With p the probability of a label, a label that is there has w (1 - p)^γ₊ (-log p), one that is not
    p_m^γ₋ (-log(1 - p_m)), p_m = max(p - m, 0): below the margin m it costs nothing.
    """

    def __init__(self, weights: torch.Tensor, gamma_positive: float, gamma_negative: float, margin: float) -> None:
        super().__init__(weights)
        self.gamma_positive, self.gamma_negative, self.margin = gamma_positive, gamma_negative, margin

    def label_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses of single labels, shaped as the logits ``(batch, labels)``."""
        log_sigmoid = nn.functional.logsigmoid
        # The power of an exact zero would have an infinite slope for a gamma below 1.
        missed = torch.sigmoid(-logits).clamp(min=1e-12)
        present = self.weights.to(logits.device) * missed**self.gamma_positive * -log_sigmoid(logits)
        if self.margin == 0:
            absent = torch.sigmoid(logits).clamp(min=1e-12) ** self.gamma_negative * -log_sigmoid(-logits)
        else:
            shifted = (torch.sigmoid(logits) - self.margin).clamp(min=1e-12)
            absent = shifted**self.gamma_negative * -torch.log1p(-shifted)
        return targets * present + (1 - targets) * absent


class TreeBinaryCrossEntropy(BinaryCrossEntropy):
    """Binary cross entropy over all nodes of a label tree, of which a text has those above its leaves.

    A text has an inner node unless it has none of the leaves below: P(node) = 1 - Π (1 - p_leaf), so that a node is
    never less likely than a leaf below it. Without logarithms of differences: log(1 - P) is the sum of the leaves'
    log(1 - p). Nodes with one leaf below them say nothing new and are left out.

    Args:
        weights: of the leaves, as in `BinaryCrossEntropy`; inner nodes have one.
        taxonomy: the label tree.
    """

    def __init__(self, weights: torch.Tensor, taxonomy: Taxonomy) -> None:
        super().__init__(weights)
        below = np.unique(ancestor_matrix(taxonomy).T, axis=0)
        self.register_buffer("below", torch.from_numpy(below[below.sum(axis=1) > 1]).float())

    def label_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses of leaves and, behind them, of inner nodes ``(batch, nodes)``."""
        below = self.below.to(logits.device)
        absent = nn.functional.logsigmoid(-logits) @ below.T
        # log(1 - exp(absent)), where exp(absent) may be all but one.
        present = torch.log(-torch.expm1(absent.clamp(max=-1e-7)))
        has = ((targets @ below.T) > 0).float()
        return torch.cat([super().label_losses(logits, targets), -has * present - (1 - has) * absent], dim=-1)
