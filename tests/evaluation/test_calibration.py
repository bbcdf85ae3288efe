"""Temperature and Brier score: hand arithmetic, recovery of a known temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.metrics import brier_score_loss

from opinionlm.evaluation.calibration import COLDEST, HOTTEST, calibrated, fit_temperature, negative_log_likelihood
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
    found = fit_temperature(gold, logits)
    assert found == pytest.approx(temperature, rel=0.04)
    fresh_gold, fresh = sample(20_000, temperature, seed=1)
    after = expected_calibration_error(fresh_gold, calibrated(fresh, found))
    before = expected_calibration_error(fresh_gold, softmax(fresh))
    assert after < 0.02 and (temperature == 1.0 or after < before / 2)
    assert (calibrated(fresh, found).argmax(axis=1) == fresh.argmax(axis=1)).all()


def test_it_is_the_optimum() -> None:
    gold, logits = sample(500, 2.0)
    best = fit_temperature(gold, logits)
    slope = approx_fprime(
        np.array([best]), lambda t: negative_log_likelihood(gold, logits.astype(np.float64) / t[0]), 1e-6
    )
    assert abs(slope[0]) < 1e-5


def test_likelihood_by_hand() -> None:
    logits = np.array([[0.0, math.log(3.0)], [0.0, 0.0]])
    assert negative_log_likelihood(np.array([0, 1]), logits) == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_a_perfect_split_has_a_finite_temperature() -> None:
    assert COLDEST <= fit_temperature(np.arange(4), np.eye(4) * 9) < 1
    assert COLDEST <= fit_temperature(np.arange(4), np.eye(4) * 1e4) <= HOTTEST


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
