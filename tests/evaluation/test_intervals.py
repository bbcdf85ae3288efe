"""Intervals of macro-F1: how often they hold the truth, by simulation, and what is said where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from opinionlm.evaluation.metrics import (
    bootstrap_intervals,
    class_f1_intervals,
    classification_scores,
    confusion_matrix,
    corrected_interval,
    f1_from_confusion,
    under_covers,
)
from opinionlm.evaluation.multi_label import f1_bounds
from tests.evaluation.test_metrics import OPINIONS

# Shares of classes, and what a model's accuracy on each of them is drawn around.
POPULATIONS = {
    "opinions": ([0.35, 0.20, 0.12, 0.10, 0.08, 0.06, 0.05, 0.04], 0.6),
    "emotions": ([0.50, 0.25, 0.12, 0.06, 0.04, 0.03], 0.7),
    "skewed": ([0.80, 0.16, 0.04], 0.8),
}


def population(shares: list[float], accuracy: float, seed: int) -> np.ndarray:
    """Probabilities of (gold, predicted)."""
    draw, prior = np.random.default_rng(seed), np.array(shares)
    cells = np.zeros((len(prior), len(prior)))
    for gold, share in enumerate(prior):
        right = np.clip(draw.normal(accuracy, 0.12), 0.15, 0.97)
        wrong = np.where(np.arange(len(prior)) == gold, 0, prior * draw.uniform(0.5, 1.5, len(prior)))
        cells[gold] = share * (1 - right) * wrong / wrong.sum()
        cells[gold, gold] = share * right
    return cells


@pytest.mark.slow
@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_of_200_rows_cover_where_every_class_has_five(name: str) -> None:
    cells = population(*POPULATIONS[name], seed=3)
    classes, true, draw = len(cells), f1_from_confusion(cells).mean(), np.random.default_rng(10)
    held = []
    while len(held) < 500:
        counts = draw.multinomial(200, cells.ravel()).reshape(cells.shape)
        if counts.sum(axis=1).min() < 5:
            continue
        gold, predicted = (np.repeat(ids, counts.ravel()) for ids in np.divmod(np.arange(classes**2), classes))
        found = bootstrap_intervals(gold, predicted, classes, replicates=600)
        assert not under_covers(found)
        held.append(found["macro_f1_ci95"][0] <= true <= found["macro_f1_ci95"][1])
    assert np.mean(held) >= 0.93


def test_an_interval_that_covers_less_says_so() -> None:
    gold = np.repeat([0, 1], [57, 3])
    found = bootstrap_intervals(gold, gold, 8)
    assert under_covers(found) == "too narrow: only 60 rows and only 3 of the rarest label"
    assert under_covers(found | {"ci95_rows": 200}) == "too narrow: only 3 of the rarest label"
    assert under_covers({"macro_f1_ci95": [0.1, 0.2]}) == ""


def test_an_answer_of_a_class_that_no_row_has_counts_as_the_one_mistake_that_it_is() -> None:
    gold = np.arange(100) % 2
    predicted = np.where(np.arange(100) < 10, 1 - gold, gold)
    elsewhere = predicted.copy()
    elsewhere[0] = 5
    one, other = (classification_scores(gold, rows, OPINIONS) for rows in (predicted, elsewhere))
    assert one["macro_f1"] == one["macro_f1_sklearn"] == pytest.approx(0.9)
    # One false positive less of a class that is there.
    assert other["macro_f1"] == pytest.approx(0.90455, abs=1e-4) and other["macro_f1_sklearn"] < 0.61


def test_the_correction_takes_back_what_resamples_lose() -> None:
    """A class of two rows is missing from every seventh resample, which no draw of other rows makes up for."""
    gold = np.repeat([0, 1, 2], [60, 38, 2])
    found = bootstrap_intervals(gold, np.where(np.arange(100) % 10 == 0, (gold + 1) % 3, gold), 3)
    draws = np.random.default_rng(0)
    plain = []
    for _ in range(2000):
        rows = draws.integers(0, 100, 100)
        answers = np.where(rows % 10 == 0, (gold[rows] + 1) % 3, gold[rows])
        hits = np.bincount(gold[rows][gold[rows] == answers], minlength=3)
        total = np.bincount(gold[rows], minlength=3) + np.bincount(answers, minlength=3)
        plain.append((2 * hits / np.maximum(total, 1)).mean())
    low, high = np.percentile(plain, [2.5, 97.5])
    assert found["macro_f1_ci95"][0] > low and found["macro_f1_ci95"][1] >= high


def test_a_class_by_itself_is_corrected_alike() -> None:
    """F1 near 1 is skewed: by simulation plain percentiles hold that of 20 rows 91.8 % of the time, these 93.3 %."""
    gold = np.repeat([0, 1], [380, 20])
    predicted = np.where(np.isin(np.arange(400), [0, 380]), 1 - gold, gold)
    drawn = np.random.default_rng(0).integers(0, 400, (2000, 400))
    hits = ((gold[drawn] == 1) & (predicted[drawn] == 1)).sum(axis=1)
    plain = 2 * hits / ((gold[drawn] == 1).sum(axis=1) + (predicted[drawn] == 1).sum(axis=1))
    confusion = confusion_matrix(gold, predicted, 2)
    sets = np.eye(2)[gold], np.eye(2)[predicted]
    for low, high in (class_f1_intervals(confusion)[1], f1_bounds(*sets)[1]):
        assert (low, high) == pytest.approx(corrected_interval(plain, 38 / 40), abs=0.015)
        assert low < np.percentile(plain, 2.5) - 0.002
