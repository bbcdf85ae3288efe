"""Tests of difference against hand-made cases and plain resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from opinionlm.evaluation.significance import mcnemar, paired_bootstrap


def test_mcnemar_by_hand() -> None:
    gold = np.zeros(12, dtype=int)
    first, second = np.ones(12, dtype=int), np.ones(12, dtype=int)
    first[:2] = 0  # right on 2 posts alone
    second[2:11] = 0  # right on 9 posts alone
    one, other, p_value = mcnemar(gold, first, second)
    assert (one, other) == (2, 9)
    assert p_value == pytest.approx(2 * sum(stats.binom.pmf(k, 11, 0.5) for k in range(3)))
    assert mcnemar(gold, first, first) == (0, 0, 1.0)


def predictions(seed: int, quality: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, 4, 300)
    return gold, np.where(generator.random(300) < quality, gold, generator.integers(0, 4, 300))


def test_bootstrap_equals_plain_resampling() -> None:
    gold, first = predictions(0, 0.5)
    second = np.where(np.random.default_rng(9).random(300) < 0.2, gold, first)
    found = paired_bootstrap(gold, first, second, 4, replicates=4000)

    def macro(rows: np.ndarray, predicted: np.ndarray) -> float:
        # All four classes are in every resample; scikit-learn needs 4 ms for the same.
        right = np.bincount(gold[rows][gold[rows] == predicted[rows]], minlength=4)
        return (2 * right / (np.bincount(gold[rows], minlength=4) + np.bincount(predicted[rows], minlength=4))).mean()

    everything = np.arange(300)
    for predicted in (first, second):
        assert macro(everything, predicted) == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert found.value == pytest.approx(macro(everything, second) - macro(everything, first))
    draw = np.random.default_rng(1)
    plain = [macro(rows, second) - macro(rows, first) for rows in draw.integers(0, 300, (800, 300))]
    assert [found.low, found.high] == pytest.approx(np.percentile(plain, [2.5, 97.5]).tolist(), abs=0.012)
    assert found.p_value < 0.01


def test_equal_models_do_not_differ() -> None:
    gold, first = predictions(0, 0.5)
    same = paired_bootstrap(gold, first, first, 4)
    assert (same.value, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_no_valid_answer_is_wrong() -> None:
    gold = np.array([0, 0, 1, 1])
    found = paired_bootstrap(gold, np.array([0, 2, 1, 2]), gold, 2, replicates=500)
    # Two invalid answers: recall 1/2 and precision 1 for both classes, F1 2/3.
    assert found.value == pytest.approx(1 - 2 / 3)


def test_coverage_of_the_interval() -> None:
    """Where two models are equally good, the test rejects about one time in twenty."""
    rejected = 0
    for seed in range(120):
        generator = np.random.default_rng(seed)
        gold = generator.integers(0, 3, 200)
        one, other = (np.where(generator.random(200) < 0.6, gold, generator.integers(0, 3, 200)) for _ in range(2))
        rejected += paired_bootstrap(gold, one, other, 3, replicates=400).p_value < 0.05
    assert 0 <= rejected / 120 < 0.12


def test_the_smallest_p_value_is_that_of_one_resample() -> None:
    gold = np.arange(300) % 3
    found = paired_bootstrap(gold, (gold + 1) % 3, gold, 3, replicates=500)
    assert (found.value, found.p_value) == (1.0, 2 / 500)
    assert paired_bootstrap(gold, gold, (gold + 1) % 3, 3, replicates=500).p_value == 2 / 500
    other = np.where(np.arange(300) < 20, (gold + 1) % 3, gold)
    assert paired_bootstrap(gold, other, gold, 3) == paired_bootstrap(gold, other, gold, 3, replicates=10_000, seed=0)


def test_several_runs_of_a_model_count_by_their_mean() -> None:
    gold, first = predictions(0, 0.5)
    seconds = [predictions(0, quality)[1] for quality in (0.6, 0.8)]
    assert paired_bootstrap(gold, first[None], first[None], 4) == paired_bootstrap(gold, first, first, 4)
    found = paired_bootstrap(gold, first[None], np.array(seconds), 4, replicates=2000)
    apart = [paired_bootstrap(gold, first, second, 4, replicates=2000) for second in seconds]
    assert found.value == pytest.approx(np.mean([one.value for one in apart]))
    # The mean of two runs varies less than the runs on average do, and not in another place.
    assert min(one.low for one in apart) < found.low < found.value < found.high < max(one.high for one in apart)
