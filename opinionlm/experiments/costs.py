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
        posts_per_second: validation and test texts over the seconds of their evaluation; None where a run does not
            count them.
    """

    name: str
    score: float
    seconds: float
    tuning_seconds: float
    memory: float
    parameters: float
    posts_per_second: float | None

    @property
    def spent(self) -> float:
        """Seconds to get one model: a run and the trials before it."""
        return self.seconds + self.tuning_seconds


def cost_of(name: str, score: float, tuning_seconds: float, runs: Sequence[Mapping[str, Any]]) -> Cost | None:
    """The cost of a row.

    Args:
        name: of the row.
        score: mean over its runs.
        tuning_seconds: of its trials.
        runs: content of ``metrics.json`` of its finished runs; one at least.

    Returns:
        None where a run does not tell all of it.
    """
    means = {}
    for field, place in PLACES.items():
        values = [value for run in runs if (value := look_up(run, place)) is not None]
        if len(values) < len(runs):
            return None
        means[field] = float(np.mean(values))
    return Cost(name, score, tuning_seconds=tuning_seconds, posts_per_second=speed_of(runs), **means)


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


def pareto_front(costs: Sequence[Cost]) -> list[Cost]:
    """The rows that no other row equals or beats in score for as little or less time, cheapest first."""
    front: list[Cost] = []
    for cost in sorted(costs, key=lambda one: (one.spent, -one.score)):
        if not front or cost.score > front[-1].score:
            front.append(cost)
    return front


def cost_lines(costs: Sequence[Cost]) -> list[str]:
    """The section about cost below a table, as Markdown; empty for fewer than two rows."""
    if len(costs) < 2:
        return []
    front, tuned = pareto_front(costs), any(cost.tuning_seconds for cost in costs)
    header = ["row", "score", "seconds per run", *(["seconds of tuning"] if tuned else []), "peak MB"]
    header += ["trained parameters", "texts/s", "on the front"]
    rows = [
        [
            cost.name,
            number(cost.score),
            number(cost.seconds),
            *([number(cost.tuning_seconds)] if tuned else []),
            number(cost.memory),
            f"{cost.parameters:,.0f}",
            number(cost.posts_per_second),
            "yes" if cost in front else "",
        ]
        for cost in costs
    ]
    note = "No other row scores as much for as few seconds" + (", tuning included" if tuned else "")
    return ["### Cost", "", f"On the front: {note[0].lower()}{note[1:]}.", "", *pipe_table(header, rows)]
