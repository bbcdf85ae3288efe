"""Cost beside quality: sums by hand, the front, its figure."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.experiments.costs import Cost, cost_lines, cost_of, pareto_fronts
from opinionlm.experiments.grid import load_table
from opinionlm.experiments.grid_runner import runs_of
from opinionlm.experiments.table_figures import pareto_figure, spread, write_figures
from opinionlm.experiments.table_parts import score_beside_cost
from opinionlm.experiments.tables import collect, markdown
from tests.experiments.test_grid import save


def cost(name: str, score: float, seconds: float, tuning: float = 0.0) -> Cost:
    return Cost(name, score, seconds, tuning, 500.0, 1000.0, None)


def test_the_front_is_what_no_row_beats_in_both() -> None:
    rows = [cost("dear", 0.8, 100), cost("worse", 0.7, 120), cost("cheap", 0.6, 1), cost("tuned", 0.8, 10, 95)]
    (front,) = pareto_fronts(rows)
    assert [one.name for one in front] == ["cheap", "dear"]
    for row in rows:
        beaten = any(o.score >= row.score and o.spent <= row.spent and o != row for o in rows)
        assert (row in front) != beaten
    text = "\n".join(cost_lines(rows))
    assert "| tuned | 0.800 | 10 | 95 | 500 | 1,000 |  |" in text and "| cheap | 0.600 | 1.000 |" in text
    assert cost_lines(rows[:1]) == [] and "tuning" not in "\n".join(cost_lines(rows[:3]))


def test_rows_are_compared_with_those_of_the_same_data() -> None:
    easy, hard = ("data/easy.yaml", "data/hard.yaml")
    rows = [
        Cost("easy, quick", 0.9, 10.0, 0.0, 1.0, 1.0, 10.0, data=easy),
        Cost("easy, dear", 0.95, 20.0, 0.0, 1.0, 1.0, 20.0, data=easy),
        Cost("hard, quick", 0.3, 100.0, 0.0, 1.0, 1.0, 10.0, data=hard),
        Cost("hard, dear", 0.2, 300.0, 0.0, 1.0, 1.0, 20.0, data=hard),
    ]
    assert [[one.name for one in front] for front in pareto_fronts(rows)] == [
        ["easy, quick", "easy, dear"],
        ["hard, quick"],
    ]
    lines = "\n".join(cost_lines(rows))
    # 10 and 200 seconds more, 0.05 less for every text.
    assert "|  | 4,000 |" in lines and "| yes | 200 |" in lines and lines.count("cheapest |") == 2
    assert "no other row of the same data" in lines and "the row of the same data that is cheapest" in lines


def test_means_over_runs_by_hand() -> None:
    runs = [
        {
            "validation": {"ci95_rows": 50},
            "test": {"ci95_rows": 150},
            "cost": {"total_seconds": seconds, "peak_memory_mb": 100.0, "evaluation_seconds": seconds / 10},
            "model": {"trainable_parameters": 7},
        }
        for seconds in (10.0, 20.0)
    ]
    found = cost_of("mine", 0.5, 3.0, runs)
    assert found is not None and (found.seconds, found.spent, found.parameters) == (15.0, 18.0, 7.0)
    assert found.posts_per_second == pytest.approx((200 / 1 + 200 / 2) / 2)
    assert cost_of("mine", 0.5, 3.0, [*runs, {"cost": {}}]) is None


def test_break_even_and_prices_by_hand() -> None:
    slow = Cost("slow", 0.6, 100.0, 0.0, 1.0, 1.0, posts_per_second=10.0)
    fast = Cost("fast", 0.7, 400.0, 200.0, 1.0, 1.0, posts_per_second=50.0, p50_ms=3.0, p95_ms=9.0)
    slower = Cost("slower", 0.8, 300.0, 0.0, 1.0, 1.0, posts_per_second=5.0)
    # 500 seconds more of training, 0.1 - 0.02 seconds less for every text.
    assert fast.pays_from(slow) == pytest.approx(500 / 0.08) and slower.pays_from(slow) is None
    texts = fast.pays_from(slow)
    assert texts is not None and slow.spent + texts / 10 == pytest.approx(fast.spent + texts / 50)
    lines = "\n".join(cost_lines([slow, fast, slower], price_per_hour=3.6))
    # 3.6 an hour is 0.001 a second.
    assert "| fast | 0.700 | 400 | 200 | 1.000 | 1 | 50 | 3.000 | 9.000 |  | 6,250 | 0.6 | 20.00 |" in lines
    assert "| slow | 0.600 | 100 | 0.000 | 1.000 | 1 | 10 |  |  | yes | cheapest | 0.1 | 100.00 |" in lines
    assert "| never | 0.3 | 200.00 |" in lines and "at 3.6 an hour" in lines
    assert "price" not in "\n".join(cost_lines([slow, fast, slower])).lower()


def test_the_measured_speed_of_the_saved_model_counts_where_there_is_one() -> None:
    run = {
        "validation": {"ci95_rows": 50},
        "test": {"ci95_rows": 150},
        "cost": {"total_seconds": 10.0, "peak_memory_mb": 100.0, "evaluation_seconds": 10.0},
        "model": {"trainable_parameters": 7},
    }
    measured = run | {"cost": run["cost"] | {"predict": {"posts_per_second": 90.0, "p50_ms": 2.0, "p95_ms": 4.0}}}
    found = cost_of("mine", 0.5, 0.0, [measured, measured])
    assert found is not None and (found.posts_per_second, found.p50_ms, found.p95_ms) == (90.0, 2.0, 4.0)
    mixed = cost_of("mine", 0.5, 0.0, [measured, run])
    assert mixed is not None and (mixed.posts_per_second, mixed.p50_ms) == (20.0, None)


@pytest.mark.usefixtures("drawn_figures")
def test_a_table_shows_cost_and_draws_the_front(tmp_path) -> None:
    path = save(tmp_path, scales={"small": {"seeds": 0}}, figures=["pareto"])
    table = load_table(path, "small", {})
    runs = runs_of(table, tmp_path)
    for number, run in enumerate(runs):
        run.folder.mkdir(parents=True)
        content = {
            "test": {"accuracy": 0.5 + number / 10},
            "cost": {"total_seconds": 10.0 * (number + 1), "peak_memory_mb": 300.0},
            "model": {"trainable_parameters": 5},
        }
        (run.folder / "metrics.json").write_text(json.dumps(content))
    results = collect(table, runs)
    text = markdown(table, results)
    assert "### Cost" in text and "| fast, inverse | 0.800 | 40 | 300 | 5 | yes |" in text
    assert [path.name for path in write_figures(tmp_path, table, results)] == ["pareto.png", "pareto.svg"]
    assert "fast, inverse" in (tmp_path / "pareto.svg").read_text()
    figure = pareto_figure(table, [result.cost for result in results if result.cost is not None])
    (axes,) = figure.axes
    figure.canvas.draw()
    assert axes.get_ylabel() == "Accuracy"
    low, high = axes.get_xlim()
    seen = [tick.get_text() for tick in axes.get_xticklabels() if low <= tick.get_position()[0] <= high]
    assert seen == ["10", "20"]


@pytest.mark.usefixtures("drawn_figures")
def test_ticks_of_costs_within_a_decade_differ(tmp_path) -> None:
    table = load_table(save(tmp_path, scales={"small": {"seeds": 0}}, figures=["pareto"]), "small", {})
    near = [Cost(name, 0.8, seconds, 0.0, 300.0, 5, None) for name, seconds in (("a", 1.07), ("b", 1.2), ("c", 1.35))]
    figure = pareto_figure(table, near)
    figure.canvas.draw()
    seen = [tick.get_text() for tick in figure.axes[0].get_xticklabels() if tick.get_text()]
    assert len(set(seen)) == len(seen)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_names_beside_points_keep_their_order_and_a_distance(heights: list[float]) -> None:
    gap = min(0.055, 1 / len(heights))
    found = spread(sorted(heights, reverse=True), gap)
    assert all(one - other >= gap - 1e-9 for one, other in pairwise(found)) and found[-1] >= 0
    apart = sorted(set(np.round(heights, 1)), reverse=True)
    assert spread(apart, 0.01) == apart


def test_the_front_is_over_one_score_of_which_more_is_better(tmp_path) -> None:
    measures = {"Loss": "test.loss", "Macro-F1": "test.macro_f1", "Accuracy": "test.accuracy"}
    table = load_table(save(tmp_path, measures=measures, scales={"small": {"seeds": "0"}}), "small", {})
    runs = runs_of(table, tmp_path)
    for number, run in enumerate(runs):
        run.folder.mkdir(parents=True)
        scores = {"loss": 0.9, "accuracy": 0.8} | ({"macro_f1": 0.5} if number else {})
        costs = {"total_seconds": 10.0, "peak_memory_mb": 100.0}
        content = {"test": scores, "cost": costs, "model": {"trainable_parameters": 7}}
        (run.folder / "metrics.json").write_text(json.dumps(content))
    found = [result.cost for result in collect(table, runs)]
    assert found[0] is None and [one.score for one in found[1:]] == [0.5] * 3


@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        ({"Accuracy": "test.accuracy", "Entity F1": "test.entity_f1"}, "Entity F1"),
        ({"Accuracy": "test.accuracy", "Macro-F1": "test.macro_f1"}, "Macro-F1"),
        ({"Loss": "test.loss", "Accuracy": "test.accuracy", "Seconds": "cost.total_seconds"}, "Accuracy"),
        ({"Loss": "test.loss"}, None),
    ],
)
def test_the_score_beside_cost_is_the_one_that_tells_ways_apart(measures, expected, tmp_path) -> None:
    """Taggers stood by the accuracy of their words, of which nine of ten are no entity."""
    assert score_beside_cost(load_table(save(tmp_path, measures=measures, published=[]), "smoke", {})) == expected
