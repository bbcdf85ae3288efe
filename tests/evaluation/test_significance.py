"""Tests of difference against hand-made cases and plain resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from opinionlm.evaluation.significance import holm, mcnemar, paired_bootstrap, reality_check

EIGHT = [0.35, 0.2, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04]


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


@pytest.mark.slow
@pytest.mark.parametrize(("shares", "right"), [(EIGHT, 0.6), ([0.8, 0.16, 0.04], 0.8)])
def test_equally_good_models_are_told_apart_one_time_in_twenty(shares: list[float], right: float) -> None:
    draw, classes, rejected, held = np.random.default_rng(0), len(shares), 0, 0
    for _ in range(400):
        gold = draw.choice(classes, 200, p=shares)

        def answers(gold: np.ndarray = gold) -> np.ndarray:
            return np.where(draw.random(200) < right, gold, draw.choice(classes, 200, p=shares))

        alike, shared = answers(), draw.random(200) < 0.5
        one, other = (np.where(shared, alike, answers()) for _ in range(2))
        found = paired_bootstrap(gold, one, other, classes, replicates=400)
        rejected += found.p_value < 0.05
        held += found.low <= 0 <= found.high
    # Three standard errors of a share of 400.
    assert rejected / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5 and held == 400 - rejected


@pytest.mark.slow
def test_seeds_count_as_well_as_rows() -> None:
    """Two ways of training that differ by their seeds' luck alone are told apart one time in twenty too."""
    draw, rejected, alone = np.random.default_rng(1), 0, 0
    for _ in range(300):
        gold = draw.integers(0, 3, 400)

        def way(gold: np.ndarray = gold) -> np.ndarray:
            rights = np.clip(draw.normal(0.6, 0.06, 3), 0, 1)
            return np.stack([np.where(draw.random(400) < r, gold, draw.integers(0, 3, 400)) for r in rights])

        one, other = way(), way()
        rejected += paired_bootstrap(gold, one, other, 3, replicates=200).p_value < 0.05
        alone += paired_bootstrap(gold, one[0], other[0], 3, replicates=200).p_value < 0.05
    assert rejected / 300 <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5 < alone / 300


def test_the_parts_of_a_difference_by_hand() -> None:
    gold, first = predictions(0, 0.5)
    seeds = [predictions(0, 0.5)[1]] + [np.where(np.arange(300) < 10 * k, gold, first) for k in (1, 3)]
    found = paired_bootstrap(gold, np.stack([first, first]), np.stack(seeds), 4)
    scores = [f1_score(gold, one, average="macro") for one in seeds]
    base = f1_score(gold, first, average="macro")
    assert found.value == pytest.approx(np.mean(scores) - base)
    pooled = (2 * np.var(scores, ddof=1) / 3) ** 0.5
    assert found.effect == pytest.approx(found.value / pooled)
    rows_alone = paired_bootstrap(gold, first, np.stack(seeds)[2], 4)
    assert rows_alone.effect is None
    # Seeds that do not vary add nothing to what the rows say.
    twice = paired_bootstrap(gold, first, np.stack([seeds[2], seeds[2]]), 4)
    assert (twice.low, twice.high, twice.p_value) == (rows_alone.low, rows_alone.high, rows_alone.p_value)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.2]) == [0.2] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_never_varies_has_no_interval() -> None:
    gold = np.arange(300) % 3
    found = paired_bootstrap(gold, (gold + 1) % 3, gold, 3, replicates=500)
    assert (found.value, found.low, found.high, found.p_value) == (1.0, 1.0, 1.0, 0.0)
    other = np.where(np.arange(300) < 20, (gold + 1) % 3, gold)
    assert paired_bootstrap(gold, other, gold, 3) == paired_bootstrap(gold, other, gold, 3, replicates=2_000, seed=0)


def test_several_runs_of_a_model_count_by_their_mean() -> None:
    gold, first = predictions(0, 0.5)
    seconds = [predictions(0, quality)[1] for quality in (0.6, 0.8)]
    assert paired_bootstrap(gold, first[None], first[None], 4) == paired_bootstrap(gold, first, first, 4)
    found = paired_bootstrap(gold, first[None], np.array(seconds), 4, replicates=2000)
    apart = [paired_bootstrap(gold, first, second, 4, replicates=2000) for second in seconds]
    assert found.value == pytest.approx(np.mean([one.value for one in apart]))
    # What two seeds so unlike say of a third is little: the interval is wider than that of either alone.
    assert found.high - found.low > max(one.high - one.low for one in apart)


def test_the_best_of_options_by_an_independent_count() -> None:
    # White's reality check written out, with scikit-learn's macro-F1 on resampled rows.
    rng = np.random.default_rng(3)
    gold = rng.integers(3, size=90)
    baseline = np.where(rng.random(90) < 0.6, gold, rng.integers(3, size=90))
    options = np.stack([np.where(rng.random(90) < share, gold, baseline) for share in (0.02, 0.1)])
    runs = [baseline, *np.unique(options, axis=0)]

    def gains(rows: np.ndarray) -> np.ndarray:
        scores = [f1_score(gold[rows], run[rows], average="macro", labels=[0, 1, 2], zero_division=0) for run in runs]
        return np.array(scores[1:]) - scores[0]

    counts = np.random.default_rng(0).multinomial(90, np.full(90, 1 / 90), size=200)
    resampled = np.stack([gains(np.repeat(np.arange(90), count)) for count in counts])
    errors = resampled.std(axis=0, ddof=1)
    chance = ((resampled - resampled.mean(axis=0)) / errors).max(axis=1)
    expected = (chance >= (gains(np.arange(90)) / errors).max()).mean()
    assert reality_check(gold, baseline, options, 3) == pytest.approx(expected)
    assert reality_check(gold, baseline, baseline[None], 3) == 1.0
    assert reality_check(gold, gold, options, 3) == 1.0
