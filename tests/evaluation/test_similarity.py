"""Correlations and errors against scipy and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from opinionlm.evaluation.similarity import ScorePredictions, largest_errors, similarity_intervals, similarity_scores


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
