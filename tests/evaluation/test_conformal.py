"""Conformal label sets: hand arithmetic, coverage on fresh rows, a maintained library as the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from opinionlm.evaluation.conformal import (
    COVERAGES,
    LabelSets,
    fit_label_sets,
    nonconformity_scores,
    set_scores,
    threshold,
)
from opinionlm.evaluation.metrics import softmax
from tests.evaluation.test_calibration import sample

ROW = np.array([[0.5, 0.2, 0.3]])


def test_misfits_by_hand() -> None:
    assert nonconformity_scores(ROW, "lac")[0].tolist() == pytest.approx([0.5, 0.8, 0.7])
    assert nonconformity_scores(ROW, "aps")[0].tolist() == pytest.approx([0.5, 1.0, 0.8])


def test_threshold_by_hand() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    # (9 + 1) · 0.9 = 9: the ninth; (9 + 1) · 0.81 = 8.1: the ninth too; 0.5: the fifth; beyond the last: every label.
    assert [threshold(scores, coverage) for coverage in (0.9, 0.81, 0.5, 0.91)] == [0.9, 0.9, 0.5, 1.0]


def test_sets_by_hand() -> None:
    sets = LabelSets("lac", tuple(0.75 if coverage < 0.9 else 1.0 for coverage in COVERAGES))
    assert sets.members(ROW, 0.8)[0].tolist() == [True, False, True]
    assert sets.members(ROW, 0.9).all() and sets.members(ROW, 0.885)[0].tolist() == [True, False, True]
    scores = set_scores(np.array([1]), sets.members(ROW, 0.8))
    assert scores == {"label_set_coverage": 0.0, "label_set_size": 2.0}


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.6, 0.9, 0.95])
def test_fresh_rows_are_covered(score: str, coverage: float) -> None:
    # An overconfident model: coverage does not depend on its being right.
    gold, logits = sample(40_000, 3.0)
    sets = fit_label_sets(gold[:20_000], softmax(logits[:20_000]), score)
    probabilities = softmax(logits[20_000:])
    threshold = sets.thresholds[round(100 * coverage) - 50]
    fitting = nonconformity_scores(probabilities, score) <= threshold
    assert set_scores(gold[20_000:], fitting)["label_set_coverage"] == pytest.approx(coverage, abs=0.015)
    # The likeliest label is added where nothing fits; that makes no set wrong that was right.
    members = sets.members(probabilities, coverage)
    assert (members >= fitting).all() and (score == "lac" or members.any(axis=1).all())
    assert set_scores(gold[20_000:], members)["label_set_coverage"] > coverage - 0.015
    assert sets.thresholds == tuple(sorted(sets.thresholds))


def test_the_easiest_texts_have_their_label() -> None:
    easy, hard = [0.99, 0.006, 0.004], [0.4, 0.35, 0.25]
    aps, lac = (LabelSets(score, tuple(0.8 for _ in COVERAGES)) for score in ("aps", "lac"))
    assert aps.members(np.array([easy, hard]), 0.9).tolist() == [[True, False, False], [True, True, False]]
    # By lac a set is empty where every label is unlikely, never where one is likely.
    strict = LabelSets("lac", tuple(0.3 for _ in COVERAGES))
    assert strict.members(np.array([easy, hard]), 0.9).tolist() == [[True, False, False], [False, False, False]]
    assert lac.members(np.array([easy]), 0.9)[0].tolist() == [True, False, False]


def test_mapie_sums_the_same_probabilities() -> None:
    aps = pytest.importorskip("mapie.conformity_scores.sets.aps", reason="mapie==1.6.0 is not installed")
    gold, logits = sample(2_000, 2.0)
    probabilities = softmax(logits)
    oracle, _ = aps.APSConformityScore.get_true_label_cumsum_proba(gold[:1000], probabilities[:1000], np.arange(8))
    ours = fit_label_sets(gold[:1000], probabilities[:1000], "aps")
    for coverage in (0.6, 0.8, 0.9, 0.95):
        limit = min(1.0, np.sort(oracle.ravel())[int(np.ceil(1001 * coverage)) - 1])
        assert ours.thresholds[round(100 * coverage) - 50] == pytest.approx(limit)
        members = ours.members(probabilities[1000:], coverage)
        for row, chosen in zip(probabilities[1000:], members, strict=True):
            expected, total = set(), 0.0
            for label in np.argsort(-row, kind="stable").tolist():
                total += row[label]
                if not expected or total <= limit + 1e-12:
                    expected.add(label)
            assert expected == set(np.flatnonzero(chosen).tolist())
        assert set_scores(gold[1000:], members)["label_set_coverage"] > coverage - 0.03


def test_too_few_rows_promise_nothing_more() -> None:
    gold, logits = sample(20, 1.0)
    sets = fit_label_sets(gold, softmax(logits), "lac")
    assert sets.members(softmax(logits), 0.99).all() and not sets.members(softmax(logits), 0.6).all()


def test_mapie_gives_the_same_sets() -> None:
    mapie = pytest.importorskip("mapie.classification", reason="mapie==1.6.0 is not installed")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Hands probabilities through, as a fitted model would give them."""

        def fit(self, features, labels):
            self.classes_ = np.arange(8)
            return self

        def predict_proba(self, features):
            return features

        def predict(self, features):
            return features.argmax(axis=1)

    gold, logits = sample(900, 2.0)
    probabilities = softmax(logits)
    # Its APS draws random numbers in calibration too, so only LAC can be compared set by set.
    ours = fit_label_sets(gold[:400], probabilities[:400], "lac")
    for coverage in (0.6, 0.9, 0.95):
        oracle = mapie.SplitConformalClassifier(
            Given().fit(None, None), confidence_level=coverage, conformity_score="lac", prefit=True
        ).conformalize(probabilities[:400], gold[:400])
        _, sets = oracle.predict_set(probabilities[400:])
        assert (ours.members(probabilities[400:], coverage) == sets[:, :, 0]).all(), coverage


def test_every_coverage_has_its_own_threshold() -> None:
    assert tuple(percent / 100 for percent in range(50, 100)) == COVERAGES
    sets = LabelSets("lac", tuple(float(at) for at in range(50)))
    probabilities = 1.0 - np.arange(50.0)[None]  # the label number n has the score n
    for at, coverage in enumerate(COVERAGES):
        assert sets.members(probabilities, coverage).sum() == at + 1
        assert sets.members(probabilities, coverage - 0.004).sum() == at + 1


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_what_fits_exactly_as_badly_is_in(score: str) -> None:
    gold, logits = sample(199, 1.0)
    probabilities = softmax(logits)
    sets = fit_label_sets(gold, probabilities, score)
    # Of 199 rows the 180th smallest score is the threshold of 0.9: that row itself is covered, and none behind it.
    covered = sets.members(probabilities, 0.9)[np.arange(199), gold].sum()
    assert covered == 180


def test_a_set_of_every_label_holds_them_whatever_rounding_adds() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(4000, 8)) * 3)
    assert (np.sort(probabilities)[:, ::-1].cumsum(axis=1)[:, -1] > 1).any()
    assert nonconformity_scores(probabilities, "aps").max() == 1.0
    assert LabelSets("aps", (1.0,) * 50).members(probabilities, 0.9).all()
