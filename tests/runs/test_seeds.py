"""Numbers over several seeds, by hand and by SciPy."""

from __future__ import annotations

import pytest
from scipy import stats

from opinionlm.runs.seeds import mean_and_interval


def test_the_interval_is_students() -> None:
    values = [0.5, 0.6, 0.8]
    found = mean_and_interval(values, "loss")
    low, high = stats.t.interval(0.95, 2, loc=19 / 30, scale=stats.sem(values))
    assert found["mean"] == pytest.approx(19 / 30) and found["ci95"] == pytest.approx([low, high])
    # It ends where the metric does.
    assert mean_and_interval(values, "macro_f1")["ci95"] == [pytest.approx(low), 1.0] and high > 1
    assert mean_and_interval([-0.9, 0.2], "pearson")["ci95"] == [-1.0, 1.0]
    assert mean_and_interval([0.1, 0.9], "recall_rare label")["ci95"] == [0.0, 1.0]
    assert mean_and_interval([0.1, 0.9], "test.recall_U.S.")["ci95"] == [0.0, 1.0]
    assert mean_and_interval([0.1, 0.9], "recall.macro")["ci95"] == [0.0, 1.0]
    assert mean_and_interval([0.1, 0.9], "hamming_loss")["ci95"][0] == 0
    assert mean_and_interval([1.0, 9.0], "cost.train_seconds")["ci95"] == [
        0.0,
        pytest.approx(5 + 12.706 * 4, abs=0.01),
    ]
    assert mean_and_interval([0.1, 0.9], "word_gain")["ci95"][0] < 0


def test_equal_seeds_do_not_differ_by_rounding() -> None:
    """The mean of three times 0.909 is not 0.909, and their standard deviation by the sum is 1e-16."""
    assert mean_and_interval([0.909] * 3, "macro_f1") == {"mean": 0.909, "std": 0.0, "ci95": [0.909, 0.909]}
    assert mean_and_interval([0.909], "macro_f1") == {"mean": 0.909, "std": None, "ci95": None}
