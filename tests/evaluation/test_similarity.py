"""Correlations and errors against scipy and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from opinionlm.evaluation.similarity import (
    ScorePredictions,
    largest_errors,
    pearson_of,
    similarity_intervals,
    similarity_scores,
)


def test_equal_to_scipy_with_ties() -> None:
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 6, 300).astype(float)
    predicted = gold + generator.normal(size=300).round(1)
    scores = similarity_scores(gold, predicted)
    assert scores["pearson"] == pytest.approx(pearsonr(gold, predicted).statistic)
    assert scores["spearman"] == pytest.approx(spearmanr(gold, predicted).statistic)
    assert scores["mse"] == pytest.approx(((gold - predicted) ** 2).mean())
    intervals = similarity_intervals(gold, predicted, replicates=200)
    for name, value in scores.items():
        assert intervals[f"{name}_ci95"][0] < value < intervals[f"{name}_ci95"][1]


def test_constant_predictions_have_no_correlation_and_stay_json() -> None:
    gold = np.array([0.0, 1.0, 2.0])
    scores = similarity_scores(gold, np.ones(3)) | similarity_intervals(gold, np.ones(3), replicates=20)
    assert scores["pearson"] == scores["spearman"] == 0.0
    json.dumps(scores, allow_nan=False)


def test_rounding_is_no_correlation() -> None:
    gold = np.array([0.0, 1.0, 2.0, 5.0])
    for value in (0.1, 1 / 3, 1e-300, 7.7e8, -2.3):
        # The mean of equal numbers is often another number, and what subtracting it leaves correlates perfectly.
        same = np.full(4, value)
        for scores in (similarity_scores(gold, same), similarity_scores(same, gold), similarity_scores(same, same)):
            assert scores["pearson"] == scores["spearman"] == 0.0
    # A model that gives every pair one score does so but for the last bits of float32.
    collapsed = np.float32(0.37) + np.arange(4, dtype=np.float32) * np.spacing(np.float32(0.37))
    assert len(set(collapsed.tolist())) > 1
    scores = similarity_scores(gold, collapsed)
    assert scores["pearson"] == scores["spearman"] == 0.0
    assert similarity_scores(np.array([2.0]), np.array([1.0]))["pearson"] == 0.0


def test_small_differences_still_correlate() -> None:
    gold = np.array([0.0, 1.0, 2.0, 5.0])
    for scale, shift in ((1e-5, 0.5), (1.0, 1e5), (1e-200, 0.0), (1e100, 0.0), (3.0, -7.0)):
        scores = similarity_scores(gold, gold * scale + shift)
        assert scores["pearson"] == pytest.approx(1.0) and scores["spearman"] == pytest.approx(1.0)
        assert -1.0 <= scores["pearson"] <= 1.0
    # Gold scores are exact: a narrow range far from zero is a range.
    assert similarity_scores(gold * 1e-3 + 1e6, gold)["pearson"] == pytest.approx(1.0)


def test_correlations_of_counted_rows_are_those_of_the_rows_written_out() -> None:
    draw = np.random.default_rng(5)
    gold = draw.integers(0, 6, 40).astype(float)
    runs = np.stack([gold + draw.normal(0, 2, 40), -gold + draw.normal(0, 1, 40), np.full(40, 0.3)])
    counts = draw.multinomial(40, np.full(40, 1 / 40), size=25).astype(float)
    found = pearson_of(counts, gold, 1000 * runs)
    for sample, times in enumerate(counts.astype(int)):
        rows = np.repeat(np.arange(40), times)
        for run in range(2):
            assert found[run, sample] == pytest.approx(pearsonr(gold[rows], runs[run][rows]).statistic)
    assert not found[2].any() and not pearson_of(counts, np.full(40, 3.0), runs).any()
    # What float32 leaves of one score is no correlation.
    assert not pearson_of(counts, gold, 5 + 1e-7 * gold[None]).any()


def test_largest_errors_come_first() -> None:
    split = ScorePredictions(list("abc"), list("xyz"), np.array([0.0, 5.0, 2.0]), np.array([1.0, 0.5, 2.0]))
    assert largest_errors(split, limit=2).rows == [["b", "y", 5.0, 0.5, -4.5], ["a", "x", 0.0, 1.0, 1.0]]


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    generator = np.random.default_rng(1)
    gold = generator.normal(size=400)
    predicted = gold + generator.normal(size=400)
    errors = np.abs(gold - predicted)
    low, high = similarity_intervals(gold, predicted)["mae_ci95"]
    width = 1.96 * errors.std() / 20
    assert errors.mean() - low == pytest.approx(width, rel=0.1) and high - errors.mean() == pytest.approx(
        width, rel=0.1
    )
    assert similarity_intervals(gold, predicted) == similarity_intervals(gold, predicted, replicates=1000, seed=0)


def test_fifty_errors_unless_told() -> None:
    gold = np.arange(60.0)
    names = [str(at) for at in range(60)]
    assert len(largest_errors(ScorePredictions(names, names, gold, np.zeros(60))).rows) == 50


def test_eight_steps_of_float32_are_one_score() -> None:
    """Just below 1 float32 has steps of 2^-24, half its eps: sixteen of them are rounding, seventeen an order."""
    gold = np.arange(4.0)
    for steps, correlation in ((16, 0.0), (17, 1.0)):
        predicted = 1.0 - 2.0**-24 * np.array([steps, steps / 2, steps / 4, 0])
        scores = similarity_scores(gold, predicted)
        assert scores["spearman"] == pytest.approx(correlation) and (scores["pearson"] > 0.9) == bool(correlation)
