"""Decisions over a label tree: levels agree whatever the logits, rules learn from validation what they should."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opinionlm.config.method_options import DecisionConfig, DecisionKind
from opinionlm.evaluation.decisions import (
    OFFSETS,
    TAUS,
    AnswerRule,
    fit_adjustment,
    fit_answers,
    fit_offsets,
    macro_f1,
)
from opinionlm.evaluation.hierarchical import lca_heights
from opinionlm.evaluation.metrics import classification_scores, softmax
from opinionlm.evaluation.prediction_tables import prediction_header, prediction_rows
from tests.evaluation.test_metrics import OPINIONS

LEAVES = len(OPINIONS.leaves)
COUNTS = [900, 300, 200, 60, 50, 30, 20, 5]


def imbalanced(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels by `COUNTS`, and logits that know a little and hold the priors, as cross entropy learns them."""
    generator = np.random.default_rng(seed)
    prior = np.array(COUNTS) / sum(COUNTS)
    gold = generator.choice(LEAVES, rows, p=prior)
    evidence = generator.normal(size=(rows, LEAVES))
    evidence[np.arange(rows), gold] += 1.5
    return gold, (1.5 * evidence + np.log(prior)).astype(np.float32)


def fitted(kind: str, rows: int = 600) -> AnswerRule:
    return fit_answers(*imbalanced(rows), COUNTS, OPINIONS, DecisionConfig(decision=kind))


RULES = {kind: fitted(kind) for kind in get_args(DecisionKind)}


@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=25, deadline=None)
@given(logits=arrays(np.float32, (3, LEAVES), elements=st.floats(-80, 80, width=32)))
def test_levels_agree_on_any_logits(kind: str, logits: np.ndarray) -> None:
    rule = RULES[kind]
    probabilities = rule.probabilities(logits)
    decided = rule.decide(probabilities, OPINIONS)
    header = prediction_header(OPINIONS)
    for leaf, cells in zip(decided, prediction_rows(probabilities, OPINIONS, decided), strict=True):
        row = dict(zip(header, cells, strict=True))
        path = dict(zip((f"level{level}" for level in range(1, 4)), OPINIONS.paths[leaf], strict=False))
        assert row["predicted"] == OPINIONS.leaves[leaf]
        assert {name: row[name] for name in ("level1", "level2", "level3") if row[name]} == path
        assert float(row["confidence"]) == float(row[f"probability_{row['predicted']}"])


def test_argmax_is_what_the_logits_say() -> None:
    gold, logits = imbalanced(600)
    rule = RULES["argmax"]
    assert rule.tau is None
    # Calibration moves the classes against each other, and the decision takes that back.
    assert max(map(abs, rule.biases)) > 0.1 and rule.offsets == tuple(-bias for bias in rule.biases)
    probabilities = rule.probabilities(logits)
    assert (probabilities.argmax(axis=1) != logits.argmax(axis=1)).any()
    assert (rule.decide(probabilities, OPINIONS) == logits.argmax(axis=1)).all()
    # The first of equal logits wins, whatever their biases.
    even = np.zeros((1, LEAVES), dtype=np.float32)
    assert rule.decide(rule.probabilities(even), OPINIONS).tolist() == [0]


def test_initial_offsets_come_before_the_decision() -> None:
    gold, logits = imbalanced(600)
    offsets = np.linspace(-1, 1, LEAVES)
    rule = fit_answers(gold, logits, COUNTS, OPINIONS, DecisionConfig(decision="argmax"), offsets)
    expected = (logits / rule.temperature + offsets).argmax(axis=1)
    assert (expected != logits.argmax(axis=1)).any()
    assert (rule.decide(rule.probabilities(logits), OPINIONS) == expected).all()


@pytest.mark.parametrize("kind", ["logit_adjusted", "thresholds"])
def test_rare_leaves_gain_on_fresh_rows(kind: str) -> None:
    gold, logits = imbalanced(20_000, seed=1)
    rule = RULES[kind]
    decided = rule.decide(rule.probabilities(logits), OPINIONS)
    assert macro_f1(gold, decided, LEAVES) > macro_f1(gold, logits.argmax(axis=1), LEAVES) + 0.01


def test_tau_is_the_best_on_validation_and_the_smallest_of_equals() -> None:
    gold, logits = imbalanced(600)
    tau, offsets = fit_adjustment(gold, softmax(logits), COUNTS)
    assert 0 < tau < 2.5
    np.testing.assert_allclose(offsets, -tau * np.log(np.array(COUNTS) / sum(COUNTS)))
    # Where all is right already, nothing is adjusted.
    assert fit_adjustment(np.arange(LEAVES), softmax(np.eye(LEAVES) * 60), COUNTS)[0] == 0


def test_offsets_by_hand() -> None:
    # Leaf 1 always has 0.4 against 0.6: an offset above log(0.6 / 0.4) = 0.41 gets its rows right, one of 0.5 is the
    # first candidate to do so. Leaf 0's rows have 0.9.
    gold = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    offsets = fit_offsets(gold, probabilities)
    assert np.sort(np.abs(offsets)).tolist() == pytest.approx([0.0, 0.5])
    assert ((np.log(probabilities) + offsets).argmax(axis=1) == gold).all()


def test_offsets_are_regularised_and_deterministic() -> None:
    gold, logits = imbalanced(400)
    probabilities = softmax(logits)
    loose, default = fit_offsets(gold, probabilities, penalty=0.0), fit_offsets(gold, probabilities)
    assert np.abs(default).mean() <= np.abs(loose).mean()
    assert (fit_offsets(gold, probabilities, penalty=10.0) == 0).all()
    assert (fit_offsets(gold, probabilities) == default).all()

    def value(offsets: np.ndarray) -> float:
        return macro_f1(gold, (np.log(probabilities) + offsets).argmax(axis=1), LEAVES)

    assert value(default) - 0.01 * np.abs(default).mean() > value(np.zeros(LEAVES))


def test_expected_cost_by_hand() -> None:
    # The likeliest leaf is noise, but most of the mass lies below "subjective": a leaf there is wrong by less.
    probabilities = np.zeros((1, LEAVES))
    names = list(OPINIONS.leaves)
    for name, share in {"noise": 0.3, "question": 0.25, "advertisement": 0.25, "positive": 0.2}.items():
        probabilities[0, names.index(name)] = share
    costs = probabilities @ lca_heights(OPINIONS)
    decided = RULES["expected_cost"].decide(probabilities, OPINIONS)
    assert names[decided[0]] == "question" and costs[0, decided[0]] == costs.min() < costs[0, names.index("noise")]
    # Question, by hand: noise 0.3 · 3, advertisement 0.25 · 1, positive 0.2 · 2.
    assert costs[0, decided[0]] == pytest.approx(0.3 * 3 + 0.25 * 1 + 0.2 * 2)


def test_expected_cost_has_the_least_cost_on_average() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(20_000, LEAVES))
    probabilities = softmax(logits)
    gold = np.array([generator.choice(LEAVES, p=row) for row in probabilities])
    cost = {
        kind: lca_heights(OPINIONS)[gold, AnswerRule(kind=kind).decide(probabilities, OPINIONS)].mean()
        for kind in ("argmax", "expected_cost")
    }
    assert cost["expected_cost"] < cost["argmax"]


def test_our_macro_f1_is_the_reported_one() -> None:
    gold, predicted = np.random.default_rng(0).integers(0, LEAVES - 1, (2, 50))
    assert macro_f1(gold, predicted, LEAVES) == classification_scores(gold, predicted, OPINIONS)["macro_f1"]


def test_strengths_and_offsets_that_are_tried() -> None:
    """docs/methods.md names them; both hold the value that changes nothing."""
    assert tuple(tenths / 10 for tenths in range(26)) == TAUS
    assert np.round(OFFSETS, 9).tolist() == [tenths / 10 for tenths in range(-30, 31)]


def test_offsets_reach_the_ends_of_what_is_tried() -> None:
    # Leaf 1 has e^-2.95 of leaf 0's probability in its own row: only an offset of 3 nats, up or down, gets it right.
    scores = np.array([[0.0, -2.95], [0.0, -8.0]])
    offsets = fit_offsets(np.array([1, 0]), softmax(scores), penalty=0.0)
    assert ((scores + offsets).argmax(axis=1) == [1, 0]).all()
    assert np.abs(offsets).max() == pytest.approx(3.0)


def test_no_offset_where_nothing_is_gained() -> None:
    gold = np.array([0, 1, 2, 2])
    assert (fit_offsets(gold, softmax(np.eye(3)[gold] * 5)) == 0).all()
    assert (fit_offsets(gold, softmax(np.eye(3)[gold] * 5), penalty=0.0) == 0).all()


def test_the_penalty_is_a_hundredth_unless_told() -> None:
    gold, logits = imbalanced(400)
    probabilities = softmax(logits)
    assert (fit_offsets(gold, probabilities) == fit_offsets(gold, probabilities, penalty=0.01)).all()


def test_expected_cost_has_no_offsets_and_the_others_have_one_per_leaf() -> None:
    assert {kind: len(rule.offsets) for kind, rule in RULES.items()} == {
        "argmax": LEAVES,
        "logit_adjusted": LEAVES,
        "thresholds": LEAVES,
        "expected_cost": 0,
    }
    assert AnswerRule() == AnswerRule(1.0, "argmax", (), None, None, ())


def ascent_by_trial(gold: np.ndarray, probabilities: np.ndarray, penalty: float) -> np.ndarray:
    """What the docstring of `fit_offsets` says, every candidate tried by labelling all rows anew."""
    scores = np.log(probabilities)
    leaves = scores.shape[1]
    offsets, nearest = np.zeros(leaves), sorted(OFFSETS.tolist(), key=abs)

    def value(shifts: np.ndarray) -> float:
        return macro_f1(gold, (scores + shifts).argmax(axis=1), leaves) - penalty * np.abs(shifts).mean()

    for _ in range(20):
        before = offsets
        for leaf in range(leaves):
            for candidate in nearest:
                trial = np.where(np.arange(leaves) == leaf, candidate, offsets)
                if value(trial) > value(offsets) + 1e-9:
                    offsets = trial
        if (offsets == before).all():
            return offsets
    return offsets


@settings(max_examples=40, deadline=None)
@given(
    # Few different probabilities, so that leaves tie, and win or lose by the order they have.
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(1, 4), min_size=3, max_size=3)), min_size=2, max_size=9
    ),
    penalty=st.sampled_from([0.0, 0.01, 0.1]),
)
def test_offsets_are_those_of_labelling_all_rows_anew(rows: list[tuple[int, list[int]]], penalty: float) -> None:
    gold = np.array([label for label, _ in rows])
    weights = np.array([weights for _, weights in rows], dtype=float)
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    found = fit_offsets(gold, probabilities, penalty)
    np.testing.assert_allclose(found, ascent_by_trial(gold, probabilities, penalty), atol=1e-12)


def test_of_equal_scores_the_first_leaf_wins_while_offsets_are_sought() -> None:
    # Both leaves of row 0 are equally likely, and its label is the first one: nothing is to be gained.
    even = np.array([[0.5, 0.5], [0.1, 0.9]])
    assert (fit_offsets(np.array([0, 1]), even, penalty=0.0) == 0).all()
    # Its label is the second one: the smallest step from the tie is enough.
    offsets = fit_offsets(np.array([1, 0]), np.array([[0.5, 0.5], [0.9, 0.1]]), penalty=0.0)
    assert np.abs(offsets).tolist() == pytest.approx([0.1, 0.0])
