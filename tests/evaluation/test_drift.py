"""Periods: where one begins, and which are taken; with figures and scores in tests/data/readers/test_timestamps.py."""

from __future__ import annotations

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.drift import period_of, period_scores, periods
from opinionlm.reporting.figures import drift_figure


def test_quarters_have_three_months() -> None:
    names = [period_of(f"2021-{month:02}-15T00:00:00Z", "quarter") for month in range(1, 13)]
    assert names == [f"2021-Q{1 + month // 3}" for month in range(12)]


def test_four_of_five_rows_are_enough() -> None:
    january, february = ["2021-01-09T"] * 4, ["2021-02-09T"] * 4
    # Ten rows, of which eight are in months that are large enough: exactly the share; of eleven it is less.
    others = ["2021-04-01T", "2021-07-01T"]
    assert list(periods(january + february + others, 4)) == ["2021-01", "2021-02"]
    assert list(periods([*january, *february, *others, "2021-10-01T"], 4)) == []


def test_years_where_quarters_are_too_small() -> None:
    times = [f"{year}-{month:02}-01T" for year in (2020, 2021) for month in (1, 4, 7, 10)]
    found = periods(times, 4)
    assert list(found) == ["2020", "2021"] and found["2021"].tolist() == [4, 5, 6, 7]


def test_two_hundred_rows_are_enough_unless_told() -> None:
    taxonomy = Taxonomy.from_tree(["a", "b"])
    gold = np.arange(399) % 2
    for first, expected in ((200, []), (199, []), (198, [])):
        times = ["2021-01-01T"] * first + ["2021-02-01T"] * (399 - first)
        assert list(periods(times)) == list(period_scores(gold, gold, times, taxonomy)) == expected
    times = ["2021-01-01T"] * 200 + ["2021-02-01T"] * 200
    gold = np.arange(400) % 2
    assert list(periods(times)) == list(period_scores(gold, gold, times, taxonomy)) == ["2021-01", "2021-02"]


def test_shares_of_every_period_by_hand() -> None:
    taxonomy = Taxonomy.from_tree(["a", "b"])
    gold = np.array([0, 0, 1, 1, 0, 1, 1, 1])
    predicted = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    times = ["2021-01-01T"] * 4 + ["2021-02-01T"] * 4
    january, february = period_scores(gold, predicted, times, taxonomy, 4).values()
    shares = {name: january[name] for name in january if "share_" in name}
    assert shares == {"share_a": 0.75, "share_b": 0.25, "gold_share_a": 0.5, "gold_share_b": 0.5}
    assert (february["share_a"], february["share_b"], february["gold_share_a"]) == (0.25, 0.75, 0.25)


def test_shares_are_drawn_beside_the_scores() -> None:
    taxonomy = Taxonomy.from_tree([f"label{number}" for number in range(12)])
    gold = np.arange(120) % 12
    times = ["2021-01-01T"] * 60 + ["2021-02-01T"] * 60
    scores, shares = drift_figure(period_scores(gold, gold, times, taxonomy, min_rows=60)).axes
    assert [axes.get_title(loc="left")[:6] for axes in (scores, shares)] == ["Scores", "Share "]
    # Eight labels at most, each predicted and gold.
    assert len(shares.lines) == 16 and len(shares.get_legend().get_texts()) == 8
