"""Weights and losses of single examples by hand; whole steps are in test_exact_loss.py and its kin."""

from __future__ import annotations

import math

import pytest
import torch

from opinionlm.training.losses.base import MeanSquaredError, WeightedCrossEntropy, inverse_frequency_weights


def test_inverse_frequency_by_hand() -> None:
    # 1/1, 1/2 and 1/4 times 3 / 1.75; a class without examples has no weight and counts in their number.
    assert inverse_frequency_weights([1, 2, 4]).tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])
    assert inverse_frequency_weights([2, 0, 2]).tolist() == pytest.approx([1.5, 0.0, 1.5])
    assert inverse_frequency_weights([5, 5]).tolist() == [1.0, 1.0]


def test_weighted_mean_by_hand() -> None:
    loss = WeightedCrossEntropy(torch.tensor([1.0, 3.0]))
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0], [9.0, -9.0]], requires_grad=True)
    labels = torch.tensor([0, 1, -100])
    assert loss.example_losses(logits, labels).tolist() == pytest.approx([math.log(4), math.log(2), 0.0])
    assert loss.example_weights(labels).tolist() == [1.0, 3.0, 0.0]
    assert loss.weighted_sum(logits, labels).item() == pytest.approx(math.log(4) + 3 * math.log(2))
    mean = loss(logits, labels)
    assert mean.item() == pytest.approx((math.log(4) + 3 * math.log(2)) / 4)
    mean.backward()
    assert not logits.grad[2].any()
    # Tokens: the same numbers in another shape.
    tokens, tags = logits.detach().view(1, 3, 2), labels.view(1, 3)
    assert loss.example_losses(tokens, tags).shape == loss.example_weights(tags).shape == (1, 3)
    torch.testing.assert_close(loss(tokens, tags), mean.detach())


def test_squared_errors_by_hand() -> None:
    outputs = torch.tensor([[1.0], [2.0], [5.0]], requires_grad=True)
    scores = torch.tensor([3.0, math.nan, 4.0])
    loss = MeanSquaredError()
    assert loss.example_losses(outputs, scores).tolist() == [4.0, 0.0, 1.0]
    assert loss.example_weights(scores).tolist() == [1.0, 0.0, 1.0]
    value = loss(outputs, scores)
    value.backward()
    assert value.item() == 2.5 and outputs.grad.flatten().tolist() == [-2.0, 0.0, 1.0]
