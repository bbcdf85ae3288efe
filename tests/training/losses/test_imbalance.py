"""Losses for imbalanced labels and label trees: hand arithmetic, limits, ignored labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.hierarchical import lca_heights
from opinionlm.training.losses.base import WeightedCrossEntropy
from opinionlm.training.losses.hierarchical import (
    ConditionalTreeCrossEntropy,
    MarginalTreeCrossEntropy,
    SoftTreeCrossEntropy,
    tree_distances,
)
from opinionlm.training.losses.imbalance import (
    FocalLoss,
    LogitAdjustedCrossEntropy,
    MarginLoss,
    SmoothedCrossEntropy,
    effective_number_weights,
)

TREE = Taxonomy.from_tree(
    {"noise": None, "objective": None, "subjective": {"neutral": ["question", "other"], "positive": None}}
)
COUNTS = [40, 20, 30, 2, 8]
ONES = torch.ones(5)


def batch(rows: int = 30, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64).float() * 2
    return logits, torch.randint(0, classes, (rows,), generator=generator)


LOSSES = {
    "smoothed": SmoothedCrossEntropy(ONES, 0.1),
    "adjusted": LogitAdjustedCrossEntropy(ONES, COUNTS, 1.0),
    "focal": FocalLoss(ONES, 2.0),
    "margin": MarginLoss(ONES, COUNTS, 0.5),
    "marginal": MarginalTreeCrossEntropy(ONES, TREE),
    "conditional": ConditionalTreeCrossEntropy(ONES, TREE, COUNTS, 1.0),
    "soft": SoftTreeCrossEntropy(ONES, TREE, 4.0),
}
NEUTRAL = {
    "smoothed": SmoothedCrossEntropy(ONES, 0.0),
    "adjusted": LogitAdjustedCrossEntropy(ONES, COUNTS, 0.0),
    "focal": FocalLoss(ONES, 0.0),
    "margin": MarginLoss(ONES, COUNTS, 0.0),
    "conditional": ConditionalTreeCrossEntropy(ONES, TREE, COUNTS, 0.0),
    "soft": SoftTreeCrossEntropy(ONES, TREE, 200.0),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_without_its_effect_each_is_cross_entropy(name: str) -> None:
    logits, labels = batch()
    expected = cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(NEUTRAL[name].example_losses(logits, labels), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_labels_have_neither_loss_nor_gradient(name: str) -> None:
    logits, labels = batch()
    labels[::3] = -100
    logits.requires_grad_()
    losses = LOSSES[name].example_losses(logits, labels)
    assert losses[::3].abs().max() == 0 and losses[1::3].min() > 0
    LOSSES[name].weighted_sum(logits, labels).backward()
    assert logits.grad[::3].abs().max() == 0 and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name: str) -> None:
    logits = torch.tensor([[300.0, -300.0, 0.0, 0.0, 0.0], [300.0, -300.0, 0.0, 0.0, 0.0]], requires_grad=True)
    losses = LOSSES[name].example_losses(logits, torch.tensor([0, 1]))
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(logits.grad).all()


def test_effective_numbers_by_hand() -> None:
    weights = np.array([(1 - 0.9) / (1 - 0.9**n) for n in (1, 2, 10)])
    assert effective_number_weights([1, 2, 10], 0.9).tolist() == pytest.approx(weights / weights.sum() * 3)
    assert effective_number_weights([4, 0, 4], 0.9).tolist() == pytest.approx([1.5, 0, 1.5])
    assert effective_number_weights([3, 7], 0.0).tolist() == pytest.approx([1, 1])
    # By default 1,000 examples bring as much news as (1 - 0.999^1000) / 0.001, some 632.
    one, thousand = effective_number_weights([1, 1000]).tolist()
    assert one / thousand == pytest.approx((1 - math.exp(1000 * math.log(0.999))) * 1000, rel=1e-5)
    assert one + thousand == pytest.approx(2)


def test_values_by_hand() -> None:
    logits, label = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0])
    ones = torch.ones(2)
    # p = 1/4 for label 0.
    assert FocalLoss(ones, 2.0)(logits, label).item() == pytest.approx((3 / 4) ** 2 * math.log(4))
    smoothed = 0.8 * math.log(4) + 0.2 * (math.log(4) + math.log(4 / 3)) / 2
    assert SmoothedCrossEntropy(ones, 0.2)(logits, label).item() == pytest.approx(smoothed)
    # Priors 3/4 and 1/4: adjusted odds are 1 · 3 against 3 · 1.
    assert LogitAdjustedCrossEntropy(ones, [3, 1], 1.0)(logits, label).item() == pytest.approx(math.log(2))
    # Margins 0.5 for one example and 0.25 for sixteen.
    margin = MarginLoss(ones, [1, 16], 0.5)
    assert margin(logits, label).item() == pytest.approx(math.log(1 + 3 * math.exp(0.5)))
    assert margin(logits, 1 - label).item() == pytest.approx(math.log(1 + math.exp(0.25) / 3))


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_smoothed_mean_is_torchs(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, 5, generator=generator) * 3, torch.randint(0, 5, (40,), generator=generator)
    weights, labels[7] = torch.tensor([0.2, 0.6, 1.0, 2.2, 1.0]), -100
    ours = SmoothedCrossEntropy(weights, smoothing)(logits, labels)
    torchs = cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(torchs.item(), rel=1e-5)
    # Tags: the same over positions.
    tags = SmoothedCrossEntropy(weights, smoothing)(logits.view(8, 5, 5), labels.view(8, 5))
    assert tags.item() == pytest.approx(torchs.item(), rel=1e-5)


def test_smoothed_weights_by_hand() -> None:
    # p = 1/4, 3/4; label 0; weights ½ and 1½: (0.8 · ½ · log 4 + 0.1 · (½ · log 4 + 1½ · log 4/3)) / ½.
    logits, label = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0])
    by_hand = (0.8 * 0.5 * math.log(4) + 0.1 * (0.5 * math.log(4) + 1.5 * math.log(4 / 3))) / 0.5
    assert SmoothedCrossEntropy(torch.tensor([0.5, 1.5]), 0.2)(logits, label).item() == pytest.approx(by_hand)
    # A label of weight zero brings nothing in, and no division by it.
    none = SmoothedCrossEntropy(torch.tensor([0.0, 2.0]), 0.2)
    assert none.weighted_sum(logits, label).item() == 0.0 and none.example_losses(logits, label).isfinite().all()


def test_scaled_margins_by_hand() -> None:
    logits, label = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0])
    margin = MarginLoss(torch.ones(2), [1, 16], 0.5, scale=30.0)
    # Softmax of 30 · (−½, log 3): the loss is log(1 + exp(30 · (log 3 + ½))).
    assert margin(logits, label).item() == pytest.approx(30 * (math.log(3) + 0.5), rel=1e-6)
    # By default nothing is multiplied.
    plain, one = (MarginLoss(torch.ones(2), [1, 16], 0.5, *scale) for scale in ((), (1.0,)))
    assert plain(logits, label) == one(logits, label)


def test_deferred_weights_start_when_told() -> None:
    loss, labels = MarginLoss(torch.tensor([1.0, 3.0]), [3, 1], 0.5), torch.tensor([0, 1, -100])
    assert loss.example_weights(labels).tolist() == [1, 1, 0]
    loss.start_weighting()
    assert loss.example_weights(labels).tolist() == [1, 3, 0]


def test_marginal_loss_by_hand() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]])
    # The path of "question" is subjective (0.7), neutral (0.45), question (0.3); that of "noise" itself alone.
    losses = MarginalTreeCrossEntropy(ONES, TREE).example_losses(
        probabilities.log().repeat(2, 1), torch.tensor([2, 0])
    )
    expected = [-(math.log(0.7) + math.log(0.45) + math.log(0.3)) / 3, -math.log(0.1)]
    assert losses.tolist() == pytest.approx(expected)


def test_conditional_loss_by_hand() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]])
    criterion = ConditionalTreeCrossEntropy(ONES, TREE, COUNTS, 1.0)
    loss = criterion.example_losses(probabilities.log(), torch.tensor([3]))
    # Siblings: noise, objective, subjective (40, 20, 40); neutral, positive (32, 8); question, other (30, 2).
    top = 0.7 * 40 / (0.1 * 40 + 0.2 * 20 + 0.7 * 40)
    middle = 0.45 * 32 / (0.45 * 32 + 0.25 * 8)
    leaf = 0.15 * 2 / (0.3 * 30 + 0.15 * 2)
    assert loss.item() == pytest.approx(-math.log(top * middle * leaf), rel=1e-5)


def test_soft_labels_fall_with_distance() -> None:
    loss = SoftTreeCrossEntropy(ONES, TREE, 3.0)
    assert tree_distances(TREE) == lca_heights(TREE).tolist()
    for row, distances in zip(loss.targets, tree_distances(TREE), strict=True):
        expected = np.exp(-3.0 * np.array(distances) / 3)
        assert row.tolist() == pytest.approx(expected / expected.sum(), rel=1e-5)


def test_adjusted_training_finds_the_balanced_classifier() -> None:
    """On two overlapping clouds, 95 to 5, plain cross entropy prefers the frequent class; the adjusted does not."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(4000, generator=generator) < 0.05).long()
    points = torch.randn(4000, 1, generator=generator) + labels[:, None] * 2.0
    counts = torch.bincount(labels).tolist()
    borders = {}
    ones = torch.ones(2)
    for name, loss in {
        "plain": WeightedCrossEntropy(ones),
        "adjusted": LogitAdjustedCrossEntropy(ones, counts, 1.0),
    }.items():
        layer = torch.nn.Linear(1, 2)
        optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200)

        def step(layer=layer, optimizer=optimizer, loss=loss) -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(layer(points), labels)
            value.backward()
            return value

        optimizer.step(step)
        weight, bias = (parameter[1] - parameter[0] for parameter in (layer.weight.detach(), layer.bias.detach()))
        borders[name] = float(-bias / weight)
    assert borders["adjusted"] == pytest.approx(1.0, abs=0.15)  # half-way between the clouds
    assert borders["plain"] > 1.8
