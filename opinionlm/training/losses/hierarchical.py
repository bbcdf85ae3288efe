"""Losses that know the label tree. All of them read leaf logits, so that every classifier can be trained with them.

The softmax over the leaves gives every node of the tree a probability, the sum over the leaves below it, and with it
every node a probability given its parent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.training.losses.base import WeightedCrossEntropy

# Stands for the logarithm of zero: finite, so that no gradient becomes nan.
NEVER = -1e9


def node_paths(taxonomy: Taxonomy) -> list[tuple[str, ...]]:
    """Every node below the root as its path, parents before children, in the order of the leaves."""
    nodes = {path[: depth + 1]: None for path in taxonomy.paths for depth in range(len(path))}
    return list(nodes)


class TreeLoss(WeightedCrossEntropy):
    """What the losses over the tree share: log-probabilities of all nodes.

    Args:
        class_weights: of the examples, by their leaf ``(leaves,)``.
        taxonomy: the label tree.
    """

    def __init__(self, class_weights: torch.Tensor, taxonomy: Taxonomy) -> None:
        super().__init__(class_weights)
        self.taxonomy = taxonomy
        self.nodes = node_paths(taxonomy)
        below = torch.tensor([[leaf[: len(node)] == node for leaf in taxonomy.paths] for node in self.nodes])
        # (nodes, leaves): leaves below each node, itself included; its transpose is each leaf's path.
        self.register_buffer("below", below)
        parents = [self.nodes.index(node[:-1]) if len(node) > 1 else -1 for node in self.nodes]
        self.register_buffer("parents", torch.tensor(parents))

    def node_log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probability of every node ``(batch, nodes)`` in float32 from leaf logits ``(batch, leaves)``."""
        leaves = logits.float().log_softmax(dim=-1)
        masked = torch.where(self.below.to(logits.device), leaves.unsqueeze(-2), NEVER)
        return masked.logsumexp(dim=-1)

    def on_path(self, labels: torch.Tensor) -> torch.Tensor:
        """Which nodes lie on the path to each label: bool ``(batch, nodes)``; none for an ignored label."""
        paths = self.below.t().to(labels.device)[labels.clamp(min=0)]
        return paths & (labels >= 0).unsqueeze(-1)


class MarginalTreeCrossEntropy(TreeLoss):
    """Sum over the levels of the cross entropy of the label's ancestor there, the leaf's own level included.

    A mistake within the right branch costs less than one in another branch. Levels count alike; dividing by their
    number keeps the scale of plain cross entropy.
    """

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses ``(batch,)`` in float32."""
        path = self.on_path(labels)
        losses = -torch.where(path, self.node_log_probabilities(logits), 0.0).sum(dim=-1)
        return losses / path.sum(dim=-1).clamp(min=1)


class ConditionalTreeCrossEntropy(TreeLoss):
    """Conditional softmax over the tree with logit adjustment per parent (Plaud et al. 2024, arXiv 2410.01305).

    The probability of a leaf is the product along its path of a softmax among siblings; in training every node's
    score is shifted by τ times the log of its share among its siblings in the training data, so that the model itself
    favours no sibling for being frequent.

    Args:
        class_weights: of the examples, by their leaf ``(leaves,)``.
        taxonomy: the label tree.
        counts: training examples per leaf.
        tau: strength of the adjustment; 0 is plain cross entropy over the leaves.
    """

    def __init__(self, class_weights: torch.Tensor, taxonomy: Taxonomy, counts: Sequence[int], tau: float) -> None:
        super().__init__(class_weights, taxonomy)
        found = self.below.double() @ torch.tensor(counts, dtype=torch.float64).clamp(min=1.0)
        siblings = self.parents.unsqueeze(0) == self.parents.unsqueeze(1)
        shares = found / (siblings.double() @ found)
        self.register_buffer("siblings", siblings)
        self.register_buffer("adjustment", (tau * shares.log()).to(torch.float32))

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses ``(batch,)`` in float32."""
        # Log-probabilities of siblings differ from their scores by a constant, which the softmax takes out again.
        scores = self.node_log_probabilities(logits) + self.adjustment.to(logits.device)
        among_siblings = torch.where(self.siblings.to(logits.device), scores.unsqueeze(-2), NEVER)
        conditional = scores - among_siblings.logsumexp(dim=-1)
        return -torch.where(self.on_path(labels), conditional, 0.0).sum(dim=-1)


class SoftTreeCrossEntropy(TreeLoss):
    """Cross entropy against soft labels that fall with the distance in the tree (Bertinetto et al. 2020, eq. 5).

    The share of a leaf is proportional to exp(−β · d), where d is the height of the lowest common ancestor with the
    label, divided by the height of the tree.

    Args:
        class_weights: of the examples, by their leaf ``(leaves,)``.
        taxonomy: the label tree.
        beta: the larger, the harder the labels.
    """

    def __init__(self, class_weights: torch.Tensor, taxonomy: Taxonomy, beta: float) -> None:
        super().__init__(class_weights, taxonomy)
        distances = torch.tensor(tree_distances(taxonomy), dtype=torch.float64) / taxonomy.depth
        self.register_buffer("targets", (-beta * distances).softmax(dim=-1).to(torch.float32))

    def example_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses ``(batch,)`` in float32."""
        targets = self.targets.to(logits.device)[labels.clamp(min=0)]
        losses = -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1)
        return torch.where(labels >= 0, losses, 0.0)


def tree_distances(taxonomy: Taxonomy) -> list[list[int]]:
    """Height of the lowest common ancestor of every pair of leaves; zero for a leaf and itself."""
    heights: dict[tuple[str, ...], int] = {}
    for path in taxonomy.paths:
        for depth in range(len(path) + 1):
            heights[path[:depth]] = max(heights.get(path[:depth], 0), len(path) - depth)

    def distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
        if one == other:
            return 0
        shared = 0
        while one[: shared + 1] == other[: shared + 1]:
            shared += 1
        return heights[one[:shared]]

    return [[distance(one, other) for other in taxonomy.paths] for one in taxonomy.paths]
