"""Losses of several labels against torch and the formulas written out."""

import pytest
import torch

from opinionlm.config.method_options import ClassWeightsConfig
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.training.losses.multi_label import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    TreeBinaryCrossEntropy,
    positive_weights,
)

COUNTS, ROWS = [50, 10, 0, 100], 100


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 4, generator=generator)
    return logits.requires_grad_(), (torch.rand(6, 4, generator=generator) < 0.4).float()


def test_weights_are_finite_for_labels_of_no_text_and_of_every_text():
    method = ClassWeightsConfig(effective_number_beta=0.9)
    assert positive_weights("none", COUNTS, ROWS, method).tolist() == [1, 1, 1, 1]
    frequency = positive_weights("inverse_frequency", COUNTS, ROWS, method)
    assert frequency.tolist() == pytest.approx([1, 9, 1, 0.01])
    effective = positive_weights("effective_number", COUNTS, ROWS, method)
    expected = [1, (1 - 0.9**90) / (1 - 0.9**10), 1, (1 - 0.9) / (1 - 0.9**100)]
    assert effective.tolist() == pytest.approx(expected)
    # Towards 1 effective numbers are plain ones.
    near = positive_weights("effective_number", COUNTS, ROWS, ClassWeightsConfig(effective_number_beta=0.999999))
    assert near.tolist() == pytest.approx(frequency.tolist(), rel=1e-3)


def test_binary_cross_entropy_is_torchs():
    logits, labels = example()
    weights = torch.tensor([3.0, 1.0, 0.5, 20.0])
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=weights)(logits, labels)
    torch.testing.assert_close(BinaryCrossEntropy(weights)(logits, labels), expected)


def test_a_text_without_labels_counts_and_a_filler_does_not():
    logits, labels = example()
    labels[1] = 0
    labels[4] = torch.nan
    loss = BinaryCrossEntropy(torch.ones(4))
    assert loss.example_weights(labels).tolist() == [1, 1, 1, 1, 0, 1]
    loss.weighted_sum(logits, labels).backward()
    assert logits.grad[4].abs().sum() == 0 and logits.grad.isfinite().all() and logits.grad[1].abs().sum() > 0
    rest = [0, 1, 2, 3, 5]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[rest], labels[rest])
    torch.testing.assert_close(loss(logits, labels), expected)


def test_asymmetric_loss_by_its_formula():
    logits, labels = example()
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0])
    p = logits.detach().sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    expected = -(labels * weights * (1 - p) ** 1.0 * p.log() + (1 - labels) * shifted**4.0 * (1 - shifted).log())
    torch.testing.assert_close(AsymmetricLoss(weights, 1.0, 4.0, 0.05)(logits, labels), expected.mean())


def test_asymmetric_loss_without_its_parts_is_binary_cross_entropy():
    logits, labels = example()
    plain = BinaryCrossEntropy(torch.ones(4))(logits, labels)
    torch.testing.assert_close(AsymmetricLoss(torch.ones(4), 0.0, 0.0, 0.0)(logits, labels), plain)


def test_all_nodes_of_a_tree_by_hand():
    tree = Taxonomy.from_tree({"x": ["a", "b"], "y": {"z": ["c"]}, "d": None})
    logits, labels = example()
    p = logits.detach().sigmoid()
    # Only x has two leaves; y and z are c.
    x, has = 1 - (1 - p[:, 0]) * (1 - p[:, 1]), labels[:, :2].max(dim=1).values
    weights = torch.tensor([2.0, 1.0, 1.0, 1.0])
    leaves = -(labels * weights * p.log() + (1 - labels) * (1 - p).log())
    node = -(has * x.log() + (1 - has) * (1 - x).log())
    expected = torch.cat([leaves, node[:, None]], dim=1).mean()
    loss = TreeBinaryCrossEntropy(weights, tree)
    torch.testing.assert_close(loss(logits, labels), expected)
    ends = torch.tensor([[80.0, -80.0, 0.0, 0.0], [-80.0, -80.0, 80.0, 0.0]], requires_grad=True)
    value = loss(ends, torch.tensor([[0.0, 0, 0, 0], [1, 0, 1, 0]]))
    value.backward()
    assert value.isfinite() and ends.grad.isfinite().all()


@pytest.mark.parametrize("gammas", [(0.0, 4.0), (1.0, 0.5), (0.5, 2.0)])
def test_gradients_stay_finite_at_the_ends(gammas):
    logits = torch.tensor([[-80.0, -3.0, 0.0, 80.0], [80.0, -80.0, 3.0, -80.0]], requires_grad=True)
    labels = torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 1]])
    value = AsymmetricLoss(torch.ones(4), *gammas, 0.05)(logits, labels)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
    # An absent label below the margin costs nothing and is left alone.
    assert logits.grad[1, 1].abs() < 1e-6
