"""Logistic regression: the choice of C, absent classes, and the way back into a linear head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from opinionlm.errors import UserError
from opinionlm.models.linear.logistic_regression import ABSENT, GRID, fit_logistic
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.engines import fit_head
from tests.tiny import tiny_classifier
from tests.training.test_exact_loss import examples


def macro_f1(gold: np.ndarray, logits: np.ndarray) -> float:
    return f1_score(gold, logits.argmax(axis=1), average="macro", zero_division=0)


def clouds(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows)
    return generator.normal(size=(rows, 6)) * 2 + np.eye(6)[labels] * 3, labels


@pytest.mark.parametrize("classes", [2, 4])
def test_the_best_c_is_scikit_learns(classes: int) -> None:
    train, validation = clouds(classes, 120, 0), clouds(classes, 80, 1)
    fit = fit_logistic(train, validation, classes, balanced=True, score=macro_f1)
    assert fit.scores.keys() == set(GRID)
    assert fit.scores[fit.c] == max(fit.scores.values())
    oracle = LogisticRegression(C=fit.c, class_weight="balanced", max_iter=5000).fit(*train)
    logits = fit.logits(validation[0])
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, oracle.predict_proba(validation[0]), atol=1e-9)


@pytest.mark.parametrize("several", [False, True])
def test_of_equal_answers_the_likeliest_fit_is_kept(several: bool) -> None:
    """Two clouds far apart: every C answers alike, and the smallest one says the same of all texts."""
    features, labels = clouds(2, 100, 0)
    features = features + np.outer(2 * labels - 1, np.full(6, 20.0))
    gold = np.eye(2, dtype=int)[labels] if several else labels
    fit = fit_logistic((features * 1e-3, gold), (features * 1e-3, gold), 2, False, lambda gold, logits: 1.0)
    logits = fit.logits(features * 1e-3)
    losses = [metrics.log_loss(labels, expit(logits[:, 1] - (0 if several else logits[:, 0])))]
    for c in GRID:
        oracle = LogisticRegression(C=c, max_iter=5000).fit(features * 1e-3, labels)
        losses.append(metrics.log_loss(labels, oracle.predict_proba(features * 1e-3)))
    assert losses[0] == pytest.approx(min(losses)) and losses[0] < max(losses) / 2


@pytest.mark.parametrize("several", [False, True])
def test_labels_without_training_texts_do_not_choose_c(several: bool) -> None:
    train, held_out = clouds(3, 150, 0), clouds(3, 100, 1)
    own, absent = held_out[1].copy(), held_out[1].copy()
    absent[:30] = 3
    chosen = []
    for gold in (own, absent):
        labels = [np.eye(4, dtype=int)[one] if several else one for one in (train[1], gold)]
        fit = fit_logistic((train[0], labels[0]), (held_out[0], labels[1]), 4, False, lambda gold, logits: 1.0)
        chosen.append(fit.c)
    # Of one label per text those rows say nothing; of any number, that they lack the other labels.
    assert chosen[0] == chosen[1] or several
    assert min(chosen) > min(GRID)


def test_a_class_without_training_rows_is_never_the_answer() -> None:
    features, labels = clouds(3, 90, 0)
    labels = np.array([0, 2, 3])[labels]  # of four classes number 1 is absent
    fit = fit_logistic((features, labels), (features, labels), 4, balanced=False, score=macro_f1, grid=(1.0,))
    assert fit.bias[1] == ABSENT and not fit.weight[1].any()
    assert 1 not in fit.logits(features).argmax(axis=1)


def test_one_class_is_refused() -> None:
    one = np.zeros((4, 2)), np.zeros(4, dtype=int)
    with pytest.raises(UserError, match="two classes"):
        fit_logistic(one, one, 2, balanced=True, score=macro_f1)


def test_the_head_predicts_like_the_regression() -> None:
    model = tiny_classifier("bert")
    model.freeze_prefix(4)
    encoded = examples(40)
    with torch.no_grad():
        vectors = [
            model.pooled(torch.tensor([row["input_ids"]]), torch.ones(1, row["length"], dtype=torch.long)).squeeze(0)
            for row in encoded
        ]
    readers = {name: EncodedTexts(encoded, np.arange(40)[::-1], vectors) for name in ("train", "validation")}
    fit = fit_head(model, readers, balanced=True, score=macro_f1)
    rows = torch.stack(vectors).double().numpy()
    expected = fit.logits((rows - rows.mean(axis=0)) / rows.std(axis=0))
    with torch.no_grad():
        found = torch.cat(
            [
                model(torch.tensor([row["input_ids"]]), torch.ones(1, row["length"], dtype=torch.long)).logits
                for row in encoded
            ]
        )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_dead_feature_gets_no_weight_that_float16_cannot_hold() -> None:
    # As MiniLM has one: its spread over all texts is 1e-32.
    model = tiny_classifier("bert")
    model.freeze_prefix(4)
    encoded = examples(40)
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(model.backbone.config.hidden_size, generator=generator) for _ in encoded]
    for vector in vectors:
        vector[3] *= 1e-32
    readers = {name: EncodedTexts(encoded, np.arange(40), vectors) for name in ("train", "validation")}
    fit_head(model, readers, balanced=True, score=macro_f1)
    assert model.head.output.weight.abs().max() < torch.finfo(torch.float16).max


def test_hidden_layers_are_refused() -> None:
    model = tiny_classifier("bert", head_hidden_sizes=[8])
    with pytest.raises(UserError, match="linear head"):
        fit_head(model, {}, balanced=True, score=macro_f1)


def test_thirteen_half_decades_are_tried() -> None:
    assert len(GRID) == 13 and GRID[0] == pytest.approx(1e-3) and GRID[6] == 1.0 and GRID[-1] == pytest.approx(1e3)
    assert (np.array(GRID[1:]) / GRID[:-1]).tolist() == pytest.approx([10**0.5] * 12)


@pytest.mark.parametrize("balanced", [True, False])
def test_classes_are_balanced_where_asked_for(balanced: bool) -> None:
    """At its optimum an unpenalised regression gives each class as much probability as its rows have weight."""
    features, labels = clouds(2, 400, 3)
    keep = (labels == 0) | (np.arange(400) % 4 == 0)
    features, labels = features[keep], labels[keep]
    fit = fit_logistic((features, labels), (features, labels), 2, balanced, macro_f1, grid=(1e4,))
    logits = fit.logits(features)
    rare = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    weights = (
        np.where(labels == 1, (labels == 0).sum() / (labels == 1).sum(), 1.0) if balanced else np.ones(len(labels))
    )
    assert (weights * rare).sum() == pytest.approx((weights * (labels == 1)).sum(), rel=1e-3)


def test_no_bias_reaches_a_class_without_training_rows() -> None:
    # Lower than any logit of a trained class, and a number that bfloat16 holds exactly enough to stay finite.
    assert ABSENT < -1e3 and np.isfinite(torch.tensor(ABSENT).bfloat16().float().item())
