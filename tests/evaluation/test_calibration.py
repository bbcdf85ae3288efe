"""Calibration and Brier score: hand arithmetic, recovery of a known temperature and of known biases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from opinionlm.evaluation.calibration import COLDEST, HOTTEST, calibrated, fit_calibration
from opinionlm.evaluation.metrics import brier_score, expected_calibration_error, platform_scores, softmax
from tests.evaluation.test_metrics import OPINIONS


def sample(rows: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits), and those logits as a model would exaggerate them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, 8)) * 1.5
    gold = (softmax(logits).cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1).clip(max=7)
    return gold, (logits * temperature).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_and_calibrates(temperature: float) -> None:
    gold, logits = sample(20_000, temperature)
    found, biases = fit_calibration(gold, logits)
    assert found == pytest.approx(temperature, rel=0.04)
    assert np.abs(biases).max() < 0.1
    fresh_gold, fresh = sample(20_000, temperature, seed=1)
    after = expected_calibration_error(fresh_gold, calibrated(fresh, found, biases))
    before = expected_calibration_error(fresh_gold, softmax(fresh))
    assert after < 0.02 and (temperature == 1.0 or after < before / 2)


def test_what_class_weights_moved_is_taken_back() -> None:
    # Training with class weights w gives, at best, probabilities proportional to w · p: logits shifted by log w.
    shift = np.log(np.array([0.2, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0]))
    gold, logits = sample(20_000, 1.0)
    temperature, biases = fit_calibration(gold, logits + shift)
    np.testing.assert_allclose(biases, shift.mean() - shift, atol=0.1)
    fresh_gold, fresh = sample(20_000, 1.0, seed=1)
    after = expected_calibration_error(fresh_gold, calibrated(fresh + shift, temperature, biases))
    assert after < 0.02 and after < expected_calibration_error(fresh_gold, softmax(fresh + shift)) / 2


def test_it_is_the_optimum_whatever_is_added_to_a_row() -> None:
    gold, logits = sample(500, 2.0)
    temperature, biases = fit_calibration(gold, logits)

    next_best = np.where(np.eye(8)[gold] == 1, -np.inf, logits).argmax(axis=1)

    def penalised(parameters: np.ndarray) -> float:
        scores = logits.astype(np.float64) * parameters[0] + parameters[1:]
        wrong = log_loss(next_best, softmax(scores)) / 500
        return log_loss(gold, softmax(scores)) + wrong + (parameters[1:] ** 2).sum() / 1000

    slopes = approx_fprime(np.append(1 / temperature, biases), penalised, 1e-6)
    assert np.abs(slopes).max() < 1e-5 and abs(biases.mean()) < 1e-12
    again = fit_calibration(gold, logits + np.arange(500)[:, None])
    assert again[0] == pytest.approx(temperature, rel=1e-4)
    np.testing.assert_allclose(again[1], biases, atol=1e-4)


def test_a_row_of_a_class_that_training_never_had_heats_up_no_other() -> None:
    gold, logits = sample(500, 2.0)
    logits = np.column_stack([logits, np.full(500, -1e4)])  # as linear models have it
    temperature, biases = fit_calibration(gold, logits)
    found, _ = fit_calibration(np.append(gold, 8), np.concatenate([logits, logits[:1]]))
    assert found == pytest.approx(temperature, rel=1e-3) and temperature < HOTTEST / 2
    assert fit_calibration(np.full(3, 8), logits[:3])[0] > 0


def test_of_two_classes_it_is_the_logistic_regression_of_scikit_learn() -> None:
    # Of two classes with biases ±b the score of the second against the first is (difference of logits) / T + 2b. With
    # a prior of variance 1 on each bias, b² = (2b)² / 4: a penalised intercept, given to scikit-learn as a feature
    # √2 (its penalty is half the square), with no penalty to speak of on the other feature. The row that is wrong: all
    # once more with the other label, together of weight 1.
    generator = np.random.default_rng(0)
    gold = generator.integers(0, 2, 300)
    logits = generator.normal(size=(300, 2)) + 1.2 * np.eye(2)[gold] + np.array([0.0, 0.8])
    temperature, biases = fit_calibration(gold, logits)
    features = np.column_stack([1e4 * (logits[:, 1] - logits[:, 0]), np.full(300, math.sqrt(2))])
    oracle = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-12, solver="newton-cholesky").fit(
        np.tile(features, (2, 1)), np.concatenate([gold, 1 - gold]), np.repeat([1, 1 / 300], 300)
    )
    slope, intercept = oracle.coef_[0] * np.array([1e4, math.sqrt(2)])
    assert 1 / temperature == pytest.approx(slope, rel=1e-4)
    assert biases[1] - biases[0] == pytest.approx(intercept, rel=1e-4)


def test_a_class_without_rows_is_moved_little() -> None:
    gold, logits = sample(40, 1.0)
    gold[gold == 7] = 0
    _, biases = fit_calibration(gold, logits)
    assert -4 < biases[7] < 0 and np.isfinite(biases).all()


@pytest.mark.parametrize("rows", [4, 60, 400])
@pytest.mark.parametrize("certainty", [0.5, 9.0, 600.0])
def test_a_perfect_split_makes_no_answer_certain(rows: int, certainty: float) -> None:
    # Of n rows that are all right one of n + 1 is taken to be wrong, however sure the model is.
    gold = np.arange(rows) % 4
    temperature, biases = fit_calibration(gold, np.eye(4)[gold] * certainty)
    assert np.abs(biases).max() < 1e-6
    # Of four rows even a temperature of 20 is too cold for logits of 600.
    expected = rows / (rows + 1) if temperature < HOTTEST else 1.0
    assert calibrated(np.eye(4) * certainty, temperature, biases).max() == pytest.approx(expected, abs=1e-4)


def test_a_split_that_is_all_wrong_is_as_hot_as_it_may_be() -> None:
    # A temperature turns no order round.
    assert fit_calibration(np.arange(4), np.eye(4)[[1, 2, 3, 0]] * 9)[0] == pytest.approx(HOTTEST)


def test_brier_by_hand_and_by_scikit_learn() -> None:
    # (0.7 − 1)² + 0.3² and 0.4² + (0.6 − 1)²…
    assert brier_score(np.array([0, 1]), np.array([[0.7, 0.3], [0.4, 0.6]])) == pytest.approx((0.18 + 0.32) / 2)
    gold, logits = sample(300, 1.0)
    expected = brier_score_loss(gold, softmax(logits), scale_by_half=False, labels=np.arange(8))
    assert brier_score(gold, softmax(logits)) == pytest.approx(expected)


def test_platforms_are_scored_by_themselves() -> None:
    gold, predicted = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    scores = platform_scores(gold, predicted, ["a", "b", "b", ""], OPINIONS)
    assert list(scores) == ["a", "b"] and scores["a"]["rows"] == 1
    assert scores["a"]["accuracy"] == 1 and scores["b"]["accuracy"] == 0.5
    # Of "b": one label right with one false alarm (F1 2/3), the other missed (F1 0).
    assert scores["b"]["macro_f1"] == pytest.approx(1 / 3)


def test_where_the_search_ends() -> None:
    gold = np.arange(80) % 4
    assert fit_calibration(gold, np.eye(4)[gold] * 1e-4)[0] == pytest.approx(COLDEST)
    assert fit_calibration(gold, np.eye(4)[(gold + 1) % 4] * 9.0)[0] == pytest.approx(HOTTEST)
