"""Scores, thresholds, calibration and risk control of several labels, against scikit-learn and by hand."""

import warnings

import numpy as np
import pytest
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from opinionlm.config.method_options import DecisionConfig
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.ensembles import averaged_log_odds
from opinionlm.evaluation.metrics import platform_scores, under_covers
from opinionlm.evaluation.multi_label import (
    f1_per_label,
    multi_label_intervals,
    multi_label_scores,
    probability_scores,
    ranking_precision,
    resampled_scores,
    sigmoid,
    written_list_scores,
)
from opinionlm.evaluation.multi_label_predictions import MultiLabelPredictions, label_table
from opinionlm.evaluation.multi_label_rules import (
    MultiLabelRule,
    fit_false_negative_control,
    fit_label_calibration,
    fit_multi_label_rule,
    fit_thresholds,
    log_odds,
    set_scores,
    threshold_penalty,
)
from opinionlm.evaluation.written_predictions import WrittenLists, list_cells

FLAT = Taxonomy.from_tree(["a", "b", "c", "d", "e"])
TREE = Taxonomy.from_tree({"x": ["a", "b"], "y": {"z": ["c", "d"]}, "e": None})


def drawn(rows: int, seed: int = 0, bias: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels, some rows without any, and logits that know something of them."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(rows, 5)) + np.linspace(bias, bias - 1, 5)
    gold = (sigmoid(2 * scores) > random.random((rows, 5))).astype(np.float32)
    return gold, scores + random.normal(scale=0.3, size=scores.shape)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed):
    gold, logits = drawn(60, seed)
    gold[:, 4] = 0  # a label that nobody has
    predicted = sigmoid(logits) >= 0.4
    predicted[:, 4] = False
    ours = multi_label_scores(gold, predicted, FLAT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        for average in ("micro", "macro", "weighted"):
            expected = metrics.f1_score(gold, predicted, average=average, zero_division=0)
            assert ours[f"{average}_f1"] == pytest.approx(expected)
    assert ours["samples_f1"] == pytest.approx(metrics.f1_score(gold, predicted, average="samples", zero_division=1))
    assert ours["subset_accuracy"] == pytest.approx(metrics.accuracy_score(gold, predicted))
    assert ours["hamming_loss"] == pytest.approx(metrics.hamming_loss(gold, predicted))
    assert ours["f1_e"] == 0.0 and np.isfinite(list(ours.values())).all()
    ranked = np.round(logits, 1)  # with ties
    expected = metrics.label_ranking_average_precision_score(gold, ranked)
    assert ranking_precision(gold, ranked) == pytest.approx(expected)


def test_a_faultless_split_makes_no_decision_certain():
    # Of 200 decisions that are all right one of 201 is taken to be wrong.
    gold = np.arange(200).reshape(40, 5) % 2
    temperature, biases = fit_label_calibration(gold, 9.0 * (2 * gold - 1))
    found = MultiLabelRule(temperature, tuple(biases)).probabilities(np.full((1, 5), 9.0))
    assert found == pytest.approx(200 / 201, abs=1e-4)


def test_a_label_that_training_never_had_heats_up_no_other():
    gold, logits = drawn(200)
    for value in (-1e4, 1e4):  # as linear models have it for a label that no text had, or all
        logits[:, 4], gold[:, 4] = value, value > 0
        temperature, biases = fit_label_calibration(gold, logits)
        gold[0, 4] = value < 0
        found, moved = fit_label_calibration(gold, logits)
        assert found == pytest.approx(temperature, rel=1e-3) and moved == pytest.approx(biases, abs=1e-3)


def test_a_platform_counts_the_labels_that_it_has():
    gold = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 0]])
    found = platform_scores(gold, gold, ["web", "web", "forum"], FLAT, multi_label_scores)
    assert {name: own["classes"] for name, own in found.items()} == {"web": 3, "forum": 1}


def test_a_tree_implies_ancestors_computed_by_hand():
    gold = np.array([[1, 0, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]])
    predicted = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    scores = multi_label_scores(gold, predicted, TREE)
    # Gold nodes: {x, a}, {y, z, c, d}, {}; predicted: {x, b}, {y, z, c, e}, {}; common: x, y, z, c.
    assert scores["hierarchical_precision"] == pytest.approx(4 / 6)
    assert scores["hierarchical_recall"] == pytest.approx(4 / 6)
    assert scores["hierarchical_f1"] == pytest.approx(4 / 6)
    # Level 1 has x, y (both right) and e (predicted once, never gold).
    assert scores["level1_macro_f1"] == pytest.approx(2 / 3)
    # c is right, a, b, d, e are not; the empty answer to a text without labels is right.
    assert scores["macro_f1"] == pytest.approx(1 / 5)
    assert scores["subset_accuracy"] == pytest.approx(1 / 3)
    assert scores["samples_f1"] == pytest.approx((0 + 1 / 2 + 1) / 3)


def test_thresholds_are_the_best_that_can_be_found():
    gold, logits = drawn(80, 4)
    probabilities = sigmoid(logits)
    shared = fit_thresholds(gold, probabilities, per_label=False)
    assert len(set(shared)) == 1
    best = max(f1_per_label(gold, probabilities >= t).mean() for t in np.linspace(0.02, 0.9, 89))
    assert f1_per_label(gold, probabilities >= shared).mean() == pytest.approx(best)
    own = fit_thresholds(gold, probabilities, per_label=True)
    for label in range(5):
        found = np.append(0.0, np.unique(probabilities[:, label]))
        tried = [*(found[:-1] + found[1:]) / 2, shared[0], own[label]]
        f1 = [metrics.f1_score(gold[:, label], probabilities[:, label] >= t, zero_division=0) for t in tried]
        penalty = threshold_penalty(gold[:, label].sum())
        value = np.array(f1) - penalty * np.abs(log_odds(np.array(tried)) - log_odds(shared[:1]))
        assert value[-1] == pytest.approx(value.max())
    assert f1_per_label(gold, probabilities >= own).mean() >= best


def test_a_label_that_validation_never_shows_keeps_the_common_threshold():
    gold, logits = drawn(50, 5)
    gold[:, 2] = 0
    rule = fit_multi_label_rule(gold, logits, DecisionConfig())
    shared = fit_thresholds(gold, rule.probabilities(logits), per_label=False)
    assert rule.thresholds[2] == shared[0] and np.isfinite(rule.thresholds).all() and np.isfinite(rule.biases).all()


def test_nobody_and_everybody_have_finite_rules():
    for gold in (np.zeros((20, 3)), np.ones((20, 3))):
        logits = np.random.default_rng(0).normal(size=(20, 3))
        rule = fit_multi_label_rule(gold, logits, DecisionConfig())
        scores = multi_label_scores(gold, rule.decide(rule.probabilities(logits)), Taxonomy.from_tree(["a", "b", "c"]))
        assert np.isfinite([*rule.thresholds, *rule.biases, *scores.values()]).all()


def test_calibration_finds_what_the_logits_were_distorted_by():
    gold, logits = drawn(4000, 6)
    temperature, biases = fit_label_calibration(gold, logits)
    distorted = logits * 3 + np.array([2.0, -1.0, 0.5, 0.0, 1.0])
    rule = MultiLabelRule(*(lambda t, b: (t, tuple(b)))(*fit_label_calibration(gold, distorted)))
    undone = rule.probabilities(distorted)
    assert undone == pytest.approx(MultiLabelRule(temperature, tuple(biases)).probabilities(logits), abs=0.01)
    before, after = probability_scores(gold, sigmoid(distorted)), probability_scores(gold, undone)
    assert after["ece"] < 0.03 < before["ece"] and after["brier"] < before["brier"]


def test_false_negative_control_by_hand():
    # Four texts with labels and one without; nonconformity scores 1 - p of the gold labels: .1, .2 and .6, .4, .3.
    gold = np.array([[1, 0], [1, 1], [1, 0], [0, 1], [0, 0]])
    probabilities = np.array([[0.9, 0.5], [0.8, 0.4], [0.6, 0.2], [0.1, 0.7], [0.9, 0.9]])
    sets = fit_false_negative_control(gold, probabilities)
    # Rates of n = 4 by rising threshold: .1: (0 + 1 + 1 + 1) / 4; .2: (1/2 + 1 + 1) / 4; .3: (1/2 + 1) / 4;
    # .4: (1/2) / 4; .6: 0. Asked for: 4/5 · rate + 1/5 <= 1 - coverage.
    found = dict(zip([0.5, 0.6, 0.7, 0.8, 0.9], [sets.thresholds[at] for at in (0, 10, 20, 30, 40)], strict=True))
    assert found == {
        0.5: pytest.approx(0.3),  # 4/5 · 3/8 + 1/5 = .5
        0.6: pytest.approx(0.4),  # 4/5 · 1/8 + 1/5 = .3
        0.7: pytest.approx(0.4),
        0.8: pytest.approx(0.6),  # rate 0: 1/5
        0.9: 1.0,  # out of reach of four texts
    }
    scores = set_scores(gold, sets.members(probabilities, 0.7))
    assert scores == {"false_negative_rate": pytest.approx(1 / 8), "label_set_size": pytest.approx(6 / 5)}


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
def test_risk_is_controlled_on_new_texts(coverage):
    rates = []
    for seed in range(40):
        gold, logits = drawn(600, 100 + seed)
        sets = fit_false_negative_control(gold[:300], sigmoid(logits[:300]))
        members = sets.members(sigmoid(logits[300:]), coverage)
        rates.append(set_scores(gold[300:], members)["false_negative_rate"])
    assert abs(np.mean(rates) - (1 - coverage)) < 0.01


def test_intervals_and_paired_resampling():
    gold, logits = drawn(300, 7)
    predicted = sigmoid(logits) >= 0.35
    scores, intervals = multi_label_scores(gold, predicted, FLAT), multi_label_intervals(gold, predicted)
    for name in ("macro_f1", "micro_f1", "subset_accuracy"):
        low, high = intervals[f"{name}_ci95"]
        assert low < scores[name] < high < low + 0.2
    random = np.random.default_rng(3)
    slow = []
    for _ in range(400):
        rows = random.integers(0, 300, 300)
        slow.append(metrics.f1_score(gold[rows], predicted[rows], average="macro", zero_division=0))
    low, high = np.percentile(slow, [2.5, 97.5])
    # Corrected for what resamples lose of rare labels: of about the same width, and not lower.
    assert np.ptp(intervals["macro_f1_ci95"]) == pytest.approx(high - low, abs=0.015)
    assert low - 0.005 < intervals["macro_f1_ci95"][0] < low + 0.03
    both = resampled_scores(gold, [predicted, predicted], 50, seed=1)
    assert (both["macro_f1"][0] == both["macro_f1"][1]).all()


def test_intervals_of_few_rows_say_that_they_are_too_narrow():
    """Percentiles held the truth in .81 of 250 draws like these, where .95 is claimed."""
    draw, rates, right = np.random.default_rng(0), np.array([0.4, 0.1, 0.03]), np.array([0.8, 0.6, 0.5])
    truth = np.mean(2 * rates * right / (rates + rates * right + (1 - rates) * 0.03))
    sides = np.zeros(2)
    for _ in range(60):
        gold = draw.random((150, 3)) < rates
        predicted = np.where(gold, draw.random((150, 3)) < right, draw.random((150, 3)) < 0.03)
        found = multi_label_intervals(gold, predicted, replicates=200)
        low, high = found["macro_f1_ci95"]
        sides += [truth < low, truth > high]
        assert found["ci95_rows"] == 150 and found["ci95_rarest_class"] == min(filter(None, gold.sum(axis=0)))
        assert "too narrow: only 150 rows" in under_covers(found)
    assert sides.sum() / 60 < 0.19


def test_the_mean_of_models_is_the_mean_of_probabilities():
    members = [np.array([[0.2, 0.9]]), np.array([[0.4, 1.0]])]
    assert sigmoid(averaged_log_odds(members)) == pytest.approx(np.array([[0.3, 0.95]]))


def test_table_lists_labels_and_levels():
    gold = np.array([[1, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    predictions = MultiLabelPredictions(
        TREE.leaves, ["one", "two"], gold, np.full((2, 5), 0.25), gold.astype(bool)[::-1], (0.5,) * 5
    )
    header, rows = label_table(["i", "j"], ["", "web"], predictions, TREE)
    first, second = rows
    assert header[:8] == ["id", "platform", "text", "gold", "predicted", "level1", "level2", "level3"]
    assert first[:8] == ["i", "", "one", '["a", "c", "e"]', "[]", "[]", "[]", "[]"]
    assert second[3:8] == ["[]", '["a", "c", "e"]', '["x", "y", "e"]', '["a", "z"]', '["c"]']
    assert second[8:] == ["0.250000"] * 5 and header[8] == "probability_a"
    tables, charts = predictions.tables(), predictions.charts()
    assert [row[0] for row in tables["per_label"].rows] == list(TREE.leaves)
    assert len(tables["confident_mistakes"].rows) == 6
    # A text with the gold label a is predicted nothing; its other labels stand beside it in no cell.
    assert charts["co_occurrence"].counts.sum() == 0 and charts["co_occurrence"].support.tolist() == [1, 0, 1, 0, 1]


def test_an_answer_that_is_no_list_is_never_right():
    taxonomy = Taxonomy.from_tree(["a", "b"])
    gold = np.array([[1, 0], [0, 0], [0, 0], [1, 1]])
    predicted = np.array([[1, 0], [0, 0], [0, 0], [0, 0]], dtype=bool)
    scores = written_list_scores(gold, predicted, np.array([True, True, False, False]), taxonomy)
    # Right: the first label, and the second text without any.
    assert scores["subset_accuracy"] == scores["samples_f1"] == 0.5
    assert scores["invalid_rate"] == 0.5 and scores["f1_a"] == pytest.approx(2 / 3) and scores["f1_b"] == 0
    written = WrittenLists(["a", "b"], gold, predicted, np.array([True, True, False, False]), ["a", "none", "", "c"])
    low, high = written.intervals()["subset_accuracy_ci95"]
    assert low <= 0.5 <= high and (low, high) != (0.75, 0.75)
    rows = list(list_cells(written.predicted, written.is_list, written.answers, taxonomy))
    assert rows == [['["a"]', "a"], ["[]", "none"], ["", ""], ["", "c"]]
