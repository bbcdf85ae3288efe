"""Numbers over several seeds, by hand and by SciPy."""

from __future__ import annotations

import pytest
from scipy import stats

from opinionlm.runs.seeds import mean_and_interval


def test_the_interval_is_students() -> None:
    values = [0.5, 0.6, 0.8]
    found = mean_and_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=19 / 30, scale=stats.sem(values))
    assert found["mean"] == pytest.approx(19 / 30) and found["ci95"] == pytest.approx([low, high])


def test_equal_seeds_do_not_differ_by_rounding() -> None:
    """The mean of three times 0.909 is not 0.909, and their standard deviation by the sum is 1e-16."""
    assert mean_and_interval([0.909] * 3) == {"mean": 0.909, "std": 0.0, "ci95": [0.909, 0.909]}
    assert mean_and_interval([0.909]) == {"mean": 0.909, "std": None, "ci95": None}
