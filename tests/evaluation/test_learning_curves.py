"""Learning curves with a known truth: the fit, the coverage of the forecast, crossings by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from opinionlm.evaluation.learning_curves import (
    Curve,
    crossing,
    crossings_of,
    fit_power_law,
    forecast,
    interval_of,
    mean_of_other_seeds,
    resampled_scores,
)
from opinionlm.evaluation.metrics import bootstrap_intervals
from opinionlm.evaluation.significance import macro_f1_of

SIZES = np.array([100, 200, 400, 800, 1600])


def law(sizes: np.ndarray, top: float = 0.8, slope: float = 2.0, exponent: float = 0.4) -> np.ndarray:
    return top - slope * sizes.astype(float) ** -exponent


def flat(name: str, scores: list[float], sizes: list[int] | None = None) -> Curve:
    own = np.array(scores)
    return Curve(name, np.array([100, 200, 400] if sizes is None else sizes), own, np.repeat(own[None], 50, axis=0))


def test_the_fit_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    wanted = np.array([2100.0, 5000.0])
    for _ in range(5):
        scores = law(SIZES) + 0.004 * rng.normal(size=len(SIZES))
        found = fit_power_law(SIZES.astype(float), scores[None], wanted)[0]
        bounds = ([0, 0, 0.05], [1, 100, 3])
        best, _ = curve_fit(lambda n, a, b, c: a - b * n**-c, SIZES, scores, p0=[0.8, 2, 0.4], bounds=bounds)
        assert found == pytest.approx(best[0] - best[1] * wanted ** -best[2], abs=2e-3)
    # No score is beyond 1, and none falls with more texts.
    assert (fit_power_law(SIZES.astype(float), np.linspace(0.5, 0.99, 5)[None], np.array([1e9])) <= 1).all()
    falling = fit_power_law(SIZES.astype(float), np.array([[0.6, 0.5, 0.5, 0.4, 0.4]]), np.array([10.0, 1e6]))
    assert falling[0] == pytest.approx([0.48, 0.48])


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_the_forecast_covers(seeds: int) -> None:
    truth = float(np.diff(law(np.array([1600, 2100])))[0])
    hits, draws = 0, 80
    for draw in range(draws):
        rng = np.random.default_rng([draw, seeds])
        scores = law(SIZES) + 0.01 * rng.normal(size=(seeds, len(SIZES)))
        resampled = [mean_of_other_seeds(np.repeat(own[:, None], 300, axis=1)) for own in scores.T]
        found = forecast(Curve("x", SIZES, scores.mean(axis=0), np.stack(resampled, axis=1)), 500)
        assert found is not None and found.low <= found.high
        hits += found.low <= truth <= found.high
    assert hits / draws >= 0.9


def test_other_seeds_vary_as_students_t() -> None:
    scores = np.array([0.5, 0.6, 0.8])
    found = mean_of_other_seeds(np.repeat(scores[:, None], 40_000, axis=1))
    low, high = stats.t.interval(0.95, 2, scores.mean(), scores.std(ddof=1) / 3**0.5)
    assert np.percentile(found, [2.5, 97.5]) == pytest.approx([low, high], abs=0.02)
    assert (mean_of_other_seeds(np.full((1, 5), 0.4)) == 0.4).all()


def test_fewer_than_three_sizes_are_no_ground_for_a_forecast() -> None:
    assert forecast(flat("x", [0.5, 0.6], [100, 200]), 500) is None


def test_crossings_by_hand() -> None:
    slow, fast = flat("slow", [0.3, 0.5, 0.7]), flat("fast", [0.4, 0.5 + 0.05, 0.6])
    # Behind by .05 at 200, ahead by .1 at 400: a third of the way in logarithms.
    found = crossing(slow, fast)
    assert found is not None and found.value == pytest.approx(200 * 2 ** (1 / 3)) and found.low == found.high
    assert crossing(fast, slow) is None
    band = flat("prompting", [0.45], [])
    assert [(one.name, other.name) for one, other, _ in crossings_of([slow, fast, band])] == [
        ("slow", "fast"),
        ("slow", "prompting"),
        ("fast", "prompting"),
    ]
    # Where resamples never cross back, the interval says so.
    unsure = Curve("unsure", slow.sizes, slow.scores, slow.resampled - np.linspace(-0.2, 0.2, 50)[:, None])
    wide = crossing(unsure, fast)
    assert wide is not None and wide.low == 0 and wide.high == np.inf


def test_intervals_of_scores_cover_over_seeds_and_rows() -> None:
    hits = 0
    for draw in range(60):
        rng = np.random.default_rng([draw, 9])
        gold = rng.integers(2, size=200)
        # Hard texts are hard for every seed.
        right = rng.random(200) < rng.normal(0.7, 0.03, size=(4, 1))
        score = partial(macro_f1_of, gold=gold, runs=np.where(right, gold, 1 - gold), classes=2)
        found = resampled_scores(200, score, replicates=200)
        low, high = np.percentile(found, [2.5, 97.5])
        # Two classes that are missed alike: macro-F1 is the share of right answers.
        hits += low <= 0.7 <= high
    assert hits >= 54


def test_the_band_of_rare_classes_is_the_interval_of_the_run() -> None:
    """Resamples lose some of twenty classes of two to four rows: their macro-F1 lies well below the run's own."""
    rng = np.random.default_rng(0)
    gold = np.repeat(np.arange(20), rng.integers(2, 5, size=20))
    predicted = np.where(rng.random(len(gold)) < 0.7, gold, (gold + 1) % 20)
    score = partial(macro_f1_of, gold=gold, runs=predicted[None], classes=20)
    own, resampled = score(np.ones((1, len(gold)))).ravel(), resampled_scores(len(gold), score, replicates=2000)
    assert resampled.mean() < own[0] - 0.05
    band = interval_of(own, resampled[:, None]).ravel()
    assert band == pytest.approx(bootstrap_intervals(gold, predicted, 20)["macro_f1_ci95"], abs=0.02)
    # What more texts bring is corrected alike: all sizes are biased by as much, and the gain lies inside its interval.
    sizes = np.array([100, 200, 400])
    drop = np.array([0.2, 0.1, 0.05])
    found = forecast(Curve("x", sizes, own - drop, resampled[:, None] - drop), 500)
    assert found is not None and found.low <= found.value <= found.high
