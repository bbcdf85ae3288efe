"""Scores against hand arithmetic and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.hierarchical import ancestor_matrix, lca_heights
from opinionlm.evaluation.metrics import (
    all_scores,
    bootstrap_intervals,
    class_f1_intervals,
    classification_scores,
    confidence_bin,
    confusion_matrix,
    corrected_intervals,
    ece_if_calibrated,
    expected_calibration_error,
    f1_from_confusion,
    level_scores,
    softmax,
    weighted_log_loss,
)
from opinionlm.evaluation.prediction_tables import prediction_header, prediction_rows

TREE = {
    "noise": None,
    "objective": None,
    "subjective": {
        "positive": None,
        "negative": None,
        "neutral": {"neutral_sentiment": None, "question": None, "advertisement": None, "miscellaneous": None},
    },
}
OPINIONS = Taxonomy.from_tree(TREE)
NOISE, OBJECTIVE, POSITIVE, NEGATIVE, NEUTRAL, QUESTION, AD, MISC = range(8)


def test_levels_by_hand() -> None:
    gold = np.array([NOISE, OBJECTIVE, POSITIVE, NEGATIVE, QUESTION, QUESTION])
    predicted = np.array([NOISE, NOISE, NEGATIVE, NEGATIVE, AD, POSITIVE])
    scores = classification_scores(gold, predicted, OPINIONS)
    assert scores["accuracy"] == pytest.approx(2 / 6)
    # noise 2·1/(1+2), objective 0, positive 0, negative 2·1/(1+2), question 0; advertisement 0, if at all
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 5)
    assert scores["macro_f1_sklearn"] == pytest.approx((2 / 3 + 2 / 3) / 6)
    # level 1: noise 2/3, objective 0, subjective 1
    assert scores["level1_macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert scores["level1_accuracy"] == pytest.approx(5 / 6)
    # level 2: positive 0, negative 2·1/(1+2), neutral 2·1/(2+1)
    assert scores["level2_macro_f1"] == pytest.approx((0 + 2 / 3 + 2 / 3) / 3)
    # level 3: question 0, advertisement 0
    assert scores["level3_macro_f1"] == 0
    # Kiritchenko: |common| = 1 + 0 + 1 + 2 + 2 + 1, |gold| = 1+1+2+2+3+3, |predicted| = 1+1+2+2+3+2
    precision, recall = 7 / 11, 7 / 12
    assert scores["hierarchical_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    # heights: objective/noise meet at the root (3), positive/negative at subjective (2),
    # question/advertisement at neutral (1), question/positive at subjective (2)
    assert scores["mistake_severity"] == pytest.approx((3 + 2 + 1 + 2) / 4)


def test_tree_matrices() -> None:
    heights = lca_heights(OPINIONS)
    assert (np.diagonal(heights) == 0).all() and (heights == heights.T).all()
    assert heights[NOISE, OBJECTIVE] == 3 and heights[AD, MISC] == 1
    assert ancestor_matrix(OPINIONS).sum(axis=1).tolist() == [1, 1, 2, 2, 3, 3, 3, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60))
def test_equal_to_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    scores = classification_scores(gold, predicted, OPINIONS)
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    own = sorted(set(gold.tolist()))
    assert scores["macro_f1"] == pytest.approx(f1_score(gold, predicted, labels=own, average="macro", zero_division=0))
    assert scores["macro_f1_sklearn"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert scores["weighted_f1"] == pytest.approx(f1_score(gold, predicted, average="weighted"))
    precision, recall, _, _ = precision_recall_fscore_support(
        gold, predicted, labels=own, average="macro", zero_division=0
    )
    assert (scores["macro_precision"], scores["macro_recall"]) == pytest.approx((precision, recall))
    each = f1_score(gold, predicted, labels=range(8), average=None, zero_division=0)
    assert [scores[f"f1_{label}"] for label in OPINIONS.leaves] == pytest.approx(each.tolist())
    for level in (1, 2, 3):
        names = [[OPINIONS.label_at(leaf, level) for leaf in column] for column in (gold, predicted)]
        present = sorted({name for name in names[0] if name})
        expected = f1_score(*names, labels=present, average="macro", zero_division=0) if present else 0.0
        assert scores[f"level{level}_macro_f1"] == pytest.approx(expected)


def test_loss_equals_torch() -> None:
    generator = np.random.default_rng(0)
    logits, gold = generator.normal(size=(50, 8)) * 5, generator.integers(0, 8, 50)
    weights = generator.random(8)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(gold), weight=torch.tensor(weights)
    ).item()
    assert weighted_log_loss(gold, logits, weights) == pytest.approx(expected)
    assert softmax(np.array([[1000.0, 1000.0]])).tolist() == [[0.5, 0.5]]


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.35, 0.65]])
    gold = np.array([0, 1, 1, 1])
    # bins of width 1/5: (0.8, 1] holds two of confidence 0.9 and accuracy 0.5;
    # (0.6, 0.8] holds 0.65 and (0.4, 0.6] holds 0.6, both right
    expected = (2 * 0.4 + 0.35 + 0.4) / 4
    assert expected_calibration_error(gold, probabilities, bins=5) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [300, 1200])
def test_error_of_perfectly_calibrated_answers(rows: int) -> None:
    generator = np.random.default_rng(rows)
    probabilities = softmax(generator.normal(0, 2, (rows, 8)))
    below = probabilities.cumsum(axis=1)[:, :-1]
    drawn = [
        expected_calibration_error((generator.random((rows, 1)) > below).sum(axis=1), probabilities)
        for _ in range(400)
    ]
    assert ece_if_calibrated(probabilities) == pytest.approx(np.mean(drawn), rel=0.05)
    # Sure answers leave nothing to chance.
    assert ece_if_calibrated(np.eye(8)[generator.integers(0, 8, rows)]) == 0.0


def test_intervals_cover_and_shrink() -> None:
    generator = np.random.default_rng(1)
    gold = generator.integers(0, 8, 4000)
    predicted = np.where(generator.random(4000) < 0.7, gold, generator.integers(0, 8, 4000))
    small = bootstrap_intervals(gold[:200], predicted[:200], 8)
    large = bootstrap_intervals(gold, predicted, 8)
    for name in ("accuracy", "macro_f1"):
        score = classification_scores(gold, predicted, OPINIONS)[name]
        low, high = large[f"{name}_ci95"]
        assert low < score < high
        assert high - low < (small[f"{name}_ci95"][1] - small[f"{name}_ci95"][0]) / 2
    # normal approximation of a share, for scale
    share = (gold == predicted).mean()
    assert large["accuracy_ci95"][1] - share == pytest.approx(1.96 * (share * (1 - share) / 4000) ** 0.5, rel=0.15)


def test_intervals_of_single_classes() -> None:
    generator = np.random.default_rng(1)
    gold = generator.choice(3, 300, p=[0.8, 0.18, 0.02])
    predicted = np.where(generator.random(300) < 0.7, gold, (gold + 1) % 3)
    confusion = confusion_matrix(gold, predicted, 4)[:3]
    bounds, f1 = class_f1_intervals(confusion), f1_from_confusion(confusion[:, :3])
    assert bounds.shape == (3, 2) and (bounds[:, 0] <= f1).all() and (f1 < bounds[:, 1]).all()
    # Drawing rows one by one gives the same ends.
    rows = [generator.integers(0, 300, 300) for _ in range(1000)]
    drawn = [f1_from_confusion(confusion_matrix(gold[row], predicted[row], 3)) for row in rows]
    assert bounds == pytest.approx(corrected_intervals(np.array(drawn), f1), abs=0.04)
    assert class_f1_intervals(np.diag([5, 0])).tolist() == [[1, 1], [0, 0]]


def test_answers_that_are_no_label_widen_nothing_and_count_as_misses() -> None:
    generator = np.random.default_rng(1)
    gold = generator.integers(0, 8, 4000)
    predicted = np.where(generator.random(4000) < 0.7, gold, -1)
    intervals = bootstrap_intervals(gold, predicted, 8)
    for name, score in (("accuracy", 0.7), ("macro_f1", 2 * 0.7 / 1.7)):
        low, high = intervals[f"{name}_ci95"]
        assert low < score < high and high - low < 0.05
    assert bootstrap_intervals(gold, np.full(4000, -1), 8) | {"ci95_rarest_class": 5} == {
        "accuracy_ci95": [0, 0],
        "macro_f1_ci95": [0, 0],
        "ci95_rows": 4000,
        "ci95_rarest_class": 5,
    }


def test_scores_are_plain_floats() -> None:
    generator = np.random.default_rng(2)
    scores = all_scores(generator.integers(0, 8, 30), generator.normal(size=(30, 8)), OPINIONS, np.ones(8))
    assert {type(value) for value in scores.values()} == {float}
    assert {"loss", "macro_f1", "level3_macro_f1", "hierarchical_f1", "mistake_severity", "ece"} <= scores.keys()


def test_prediction_rows_have_consistent_levels() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(50, 8)) * 3)
    header = prediction_header(OPINIONS)
    for row, cells in zip(probabilities, prediction_rows(probabilities, OPINIONS), strict=True):
        record = dict(zip(header, cells, strict=True))
        path = OPINIONS.paths[row.argmax()]
        assert tuple(record[f"level{level}"] for level in (1, 2, 3) if record[f"level{level}"]) == path
        assert record["predicted"] == path[-1]
        total = sum(float(record[f"probability_{label}"]) for label in OPINIONS.leaves)
        assert total == pytest.approx(1, abs=1e-5)


def test_the_interval_is_the_middle_of_the_binomial() -> None:
    """A resample's number of right answers is binomial, so that the ends of the interval are its quantiles."""
    gold = np.arange(200) % 8
    predicted = np.where(np.arange(200) < 140, gold, (gold + 1) % 8)
    low, high = bootstrap_intervals(gold, predicted, 8)["accuracy_ci95"]
    assert [low, high] == pytest.approx((binom.ppf([0.025, 0.975], 200, 0.7) / 200).tolist(), abs=0.006)
    assert bootstrap_intervals(gold, predicted, 8) == bootstrap_intervals(gold, predicted, 8, replicates=2000, seed=0)


def test_fifteen_bins_unless_told() -> None:
    generator = np.random.default_rng(3)
    probabilities, gold = softmax(generator.normal(size=(400, 8))), generator.integers(0, 8, 400)
    for bins in (14, 15, 16):
        is_default = bins == 15
        assert (
            expected_calibration_error(gold, probabilities)
            == expected_calibration_error(gold, probabilities, bins=bins)
        ) == is_default
        assert (ece_if_calibrated(probabilities) == ece_if_calibrated(probabilities, bins=bins)) == is_default


def test_borders_of_bins_belong_to_the_bin_below() -> None:
    # Confidences 0.5 and 0.5 + a hair lie in different halves: 0.5 right and 0.5 wrong do not cancel out.
    probabilities = np.array([[0.5, 0.3, 0.2], [0.501, 0.3, 0.199], [1.0, 0.0, 0.0]])
    error = expected_calibration_error(np.array([0, 1, 0]), probabilities, bins=2)
    assert error == pytest.approx((abs(0.5 - 1) + abs(0.501 + 1.0 - 1)) / 3)


def test_answers_that_name_no_leaf_are_wrong_at_every_level() -> None:
    gold = np.array([NOISE, POSITIVE, QUESTION, AD])
    predicted = np.array([NOISE, 8, QUESTION, 8])
    # Level 1: noise 1; subjective 2·1/(3 + 1). Level 2: positive 0, neutral 2·1/(2 + 1). Level 3: question 1, ad 0.
    for level, macro, accuracy in ((1, (1 + 0.5) / 2, 0.5), (2, (0 + 2 / 3) / 2, 0.5), (3, (1 + 0) / 2, 0.5)):
        scores = level_scores(gold, predicted, OPINIONS, level)
        assert scores[f"level{level}_macro_f1"] == pytest.approx(macro)
        assert scores[f"level{level}_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_any_size_have_probabilities_and_a_loss(dtype: type) -> None:
    logits = np.array([[0.0, -2000.0, 0.0], [5000.0, 3000.0, 3000.0], [-9e4, -9e4, -9e4]], dtype=dtype)
    np.testing.assert_array_equal(softmax(logits), [[0.5, 0, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    # Of the second row 2,000 nats, of the others log 2 and log 3; the last one counts twice.
    loss = weighted_log_loss(np.array([0, 1, 2]), logits, np.array([1.0, 1.0, 2.0]))
    assert loss == pytest.approx((np.log(2) + 2000 + 2 * np.log(3)) / 4)


def test_bins_by_hand() -> None:
    confidences = np.array([0.0, 1e-9, 0.25, 0.2500001, 0.5, 0.75, 0.7500001, 1.0, 1.0000001])
    assert confidence_bin(confidences, 4).tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 3]
    assert confidence_bin(np.array([0.0, 0.3, 1.0]), 1).tolist() == [0, 0, 0]
