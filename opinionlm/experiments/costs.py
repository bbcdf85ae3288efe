"""What the rows of a table cost, beside what they score, and which of them no other row beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opinionlm.experiments.run_numbers import look_up, number
from opinionlm.utils.markdown import pipe_table

PLACES = {"seconds": "cost.total_seconds", "memory": "cost.peak_memory_mb", "parameters": "model.trainable_parameters"}


@dataclass(frozen=True)
class Cost:
    """Quality and cost of a row, means over its finished runs.

    Attributes:
        name: of the row.
        score: the table's first score.
        seconds: of a run: mining, selection, cache, training, evaluation.
        tuning_seconds: of all trials, once for all seeds; 0 without tuning.
        memory: the process's peak in MB.
        parameters: that train.
        posts_per_second: that the saved model answers, where its runs measured it; else validation and test texts over
            the seconds of their evaluation. None where a run tells neither.
        p50_ms: median milliseconds until a single text is answered; None where it was not measured.
        p95_ms: within which 95 of 100 single texts are answered.
        data: what it was trained and scored on; rows are compared with those of the same data alone.
    """

    name: str
    score: float
    seconds: float
    tuning_seconds: float
    memory: float
    parameters: float
    posts_per_second: float | None
    p50_ms: float | None = None
    p95_ms: float | None = None
    data: str = ""

    @property
    def spent(self) -> float:
        """Seconds to get one model: a run and the trials before it."""
        return self.seconds + self.tuning_seconds

    def pays_from(self, cheapest: Cost) -> float | None:
        """Texts to answer from which on training and answering take less in all than by the row cheapest to train.

        Returns:
            None where it never does, or the speeds are unknown.
        """
        if self.posts_per_second is None or cheapest.posts_per_second is None:
            return None
        saved = 1 / cheapest.posts_per_second - 1 / self.posts_per_second
        return (self.spent - cheapest.spent) / saved if saved > 0 else None


def cost_of(
    name: str, score: float, tuning_seconds: float, runs: Sequence[Mapping[str, Any]], data: str = ""
) -> Cost | None:
    """The cost of a row.

    Args:
        name: of the row.
        score: the table's first score, mean over the runs.
        tuning_seconds: of all trials.
        runs: content of ``metrics.json`` of its finished runs, one at least.
        data: what it was scored on; see `Cost`.

    Returns:
        None where a run does not tell all of it.
    """
    means = {field: mean_at(runs, place) for field, place in PLACES.items()}
    known = {field: value for field, value in means.items() if value is not None}
    if len(known) < len(means):
        return None
    speed = mean_at(runs, "cost.predict.posts_per_second")
    return Cost(
        name,
        score,
        tuning_seconds=tuning_seconds,
        posts_per_second=speed_of(runs) if speed is None else speed,
        p50_ms=mean_at(runs, "cost.predict.p50_ms"),
        p95_ms=mean_at(runs, "cost.predict.p95_ms"),
        data=data,
        **known,
    )


def mean_at(runs: Sequence[Mapping[str, Any]], place: str) -> float | None:
    """Mean over runs of a number of ``metrics.json``; None where a run has none."""
    values = [value for run in runs if (value := look_up(run, place)) is not None]
    return float(np.mean(values)) if len(values) == len(runs) else None


def speed_of(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Evaluated texts per second, mean over runs."""
    speeds = []
    for run in runs:
        rows = [look_up(run, f"{split}.ci95_rows") for split in ("validation", "test")]
        seconds = look_up(run, "cost.evaluation_seconds")
        if not seconds or None in rows:
            return None
        speeds.append(sum(one for one in rows if one is not None) / seconds)
    return float(np.mean(speeds))


def pareto_fronts(costs: Sequence[Cost]) -> list[list[Cost]]:
    """Of each data, the rows that no other equals or beats in score for as little or less time, cheapest first."""
    fronts: dict[str, list[Cost]] = {}
    for cost in sorted(costs, key=lambda one: (one.spent, -one.score)):
        front = fronts.setdefault(cost.data, [])
        if not front or cost.score > front[-1].score:
            front.append(cost)
    return list(fronts.values())


def cost_lines(costs: Sequence[Cost], price_per_hour: float | None = None) -> list[str]:
    """The section about cost below a table, as Markdown; empty for fewer than two rows.

    Args:
        costs: of the rows.
        price_per_hour: of the machine that they ran on; None for no prices.
    """
    if len(costs) < 2:
        return []
    tuned = any(cost.tuning_seconds for cost in costs)
    fronts = pareto_fronts(costs)
    columns = cost_columns(costs, fronts)
    if price_per_hour is not None:
        columns["price of a model"] = [price_text(cost.spent, price_per_hour) for cost in costs]
        columns["price per million texts"] = [
            "" if cost.posts_per_second is None else price_text(1e6 / cost.posts_per_second, price_per_hour)
            for cost in costs
        ]
    # Columns that nothing fills are left out.
    shown = {name: texts for name, texts in columns.items() if any(texts)}
    same = " of the same data" if len(fronts) > 1 else ""
    note = f"no other row{same} scores as much for as few seconds" + (", tuning included" if tuned else "")
    lines = ["### Cost", "", f"On the front: {note}."]
    if "pays from" in shown:
        cheapest = "the row of the same data" if same else f"{fronts[0][0].name}, the row"
        lines += [
            f'"Pays from": texts to answer from which on training and answering take less time in all than with '
            f"{cheapest} that is cheapest to train; a row that never does may still be worth its score."
        ]
    if price_per_hour is not None:
        lines += [f"Prices: seconds on the machine that ran this, at {price_per_hour:g} an hour."]
    return [*lines, "", *pipe_table(list(shown), [list(row) for row in zip(*shown.values(), strict=True)])]


def cost_columns(costs: Sequence[Cost], fronts: Sequence[Sequence[Cost]]) -> dict[str, list[str]]:
    """Title → a text per row, blank where it is unknown; every front begins with what is cheapest to train."""
    cheapest = {front[0].data: front[0] for front in fronts}
    return {
        "row": [cost.name for cost in costs],
        "score": [number(cost.score) for cost in costs],
        "seconds per run": [number(cost.seconds) for cost in costs],
        "seconds of tuning": [number(cost.tuning_seconds) for cost in costs if any(c.tuning_seconds for c in costs)],
        "peak MB": [number(cost.memory) for cost in costs],
        "trained parameters": [f"{cost.parameters:,.0f}" for cost in costs],
        "texts/s": [number(cost.posts_per_second) for cost in costs],
        "ms per text (p50)": [number(cost.p50_ms) for cost in costs],
        "ms per text (p95)": [number(cost.p95_ms) for cost in costs],
        "on the front": ["yes" if any(cost in front for front in fronts) else "" for cost in costs],
        "pays from": [pays_text(cost, cheapest[cost.data]) for cost in costs],
    }


def pays_text(cost: Cost, cheapest: Cost) -> str:
    """From how many texts on a row pays; blank where speeds are unknown."""
    if None in (cost.posts_per_second, cheapest.posts_per_second):
        return ""
    texts = cost.pays_from(cheapest)
    return "cheapest" if cost is cheapest else "never" if texts is None else f"{texts:,.0f}"


def price_text(seconds: float, price_per_hour: float) -> str:
    """What seconds cost, two digits that count below 1."""
    price = seconds / 3600 * price_per_hour
    return f"{price:,.2f}" if price >= 1 else f"{price:.2g}"
