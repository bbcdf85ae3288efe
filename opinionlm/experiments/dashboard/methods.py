"""One row per method: runs that differ by nothing but the seed, and whether it differs from the best beyond chance."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from os.path import commonprefix
from typing import Any

import numpy as np

from opinionlm.config.chosen_metric import direction
from opinionlm.errors import UserError
from opinionlm.evaluation.significance import holm, score_difference
from opinionlm.experiments.answers import Answers, read_answers, way_of
from opinionlm.experiments.dashboard.collect import Run
from opinionlm.experiments.ways import CLAIMED
from opinionlm.runs.seed_families import independent
from opinionlm.runs.seeds import mean_and_interval

# Of the paired test; fewer where there are very many texts, for its memory.
REPLICATES, MOST_CELLS = 2_000, 40_000_000


def methods_of(runs: Sequence[Run], main: str) -> list[dict[str, Any]]:
    """Runs by method, each with mean, standard deviation and 95 % t interval of every metric.

    Ensembles of the same ways are a method of their own; of runs that share a trained model the first counts.

    Args:
        runs: of one group.
        main: the metric by which the best method is found, on test.
    """
    families: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        families.setdefault((run.data_fingerprint, run.family), []).append(run)
    members = [independent((run.models, run) for run in family) for family in families.values()]
    found = [_method(family, main) for family in members]
    for method, difference in zip(found, _differences(members, main), strict=True):
        method["difference"] = difference
    return found


def _method(runs: Sequence[Run], main: str) -> dict[str, Any]:
    """One method; its best run is the best on validation, which never saw test."""
    names = [name for name in runs[0].metrics if all(name in run.metrics for run in runs)]
    statistics = {name: mean_and_interval([run.metrics[name] for run in runs], name) for name in names}
    sign = -1 if direction(main) == "lower" else 1
    scored = [split for split in ("validation", "test") if f"{split}.{main}" in names]
    best = max(runs, key=lambda run: sign * run.metrics[f"{scored[0]}.{main}"]) if scored else runs[0]
    return {
        "name": family_name([run.name for run in runs]),
        "runs": [run.name for run in runs],
        "members": runs[0].members,
        "seeds": [shown_option(run.config.get("seed")) for run in runs],
        "best": best.name,
        "metrics": {
            name: [
                rounded(entry["mean"]),
                None if entry["std"] is None else rounded(entry["std"]),
                None if entry["ci95"] is None else [rounded(end) for end in entry["ci95"]],
            ]
            for name, entry in statistics.items()
        },
    }


def _differences(families: Sequence[Sequence[Run]], main: str) -> list[list[float] | None]:
    """Of every method: its score minus that of the best, its 95 % interval and p; None of the best and where untold.

    The interval is of this comparison alone; p is corrected for the number of methods (Holm).

    Args:
        families: the runs of each method.
        main: the metric of the group; only those in `CLAIMED` are tested.
    """
    none: list[list[float] | None] = [None] * len(families)
    means = [np.mean([run.metrics.get(f"test.{main}", math.nan) for run in family]) for family in families]
    if len(families) == 1 or main not in CLAIMED or all(math.isnan(mean) for mean in means):
        return none
    best = int(np.nanargmax(means))
    answers = [_answers(family) for family in families]
    if not (shared := answers[best]):
        return none
    first, compared = way_of("", shared), (type(shared[0]), shared[0].posts)
    replicates = min(REPLICATES, max(200, MOST_CELLS // first.rows))
    found = {
        place: score_difference(first.rows, first.scored, way_of("", own).scored, replicates)
        for place, own in enumerate(answers)
        if place != best and own and (type(own[0]), own[0].posts) == compared
    }
    corrected = holm([difference.p_value for difference in found.values()])
    for (place, one), p_value in zip(found.items(), corrected, strict=True):
        none[place] = [rounded(value) for value in (one.value, one.low, one.high, p_value)]
    return none


def _answers(runs: Sequence[Run]) -> list[Answers]:
    """What the runs of a method answered to the same test texts; empty where one has no answers, or other texts."""
    try:
        found = [read_answers(run.folder, "test") for run in runs]
    except UserError:
        # The page says of each run what cannot be read.
        return []
    answers = [one for one in found if one is not None]
    same = {(type(one), one.posts) for one in answers}
    return answers if len(answers) == len(runs) and len(same) == 1 else []


def family_name(names: Sequence[str]) -> str:
    """What the names of several seeds have in common."""
    start = re.sub(r"[-_.]?(seed)?[-_.]?\d*$", "", commonprefix(list(names)))
    return start or names[0]


def shown_option(value: Any) -> str | int | float | bool | None:
    """An option's value as the page shows and sorts it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return str(value)


def rounded(value: float) -> float | int:
    """Six significant digits: more than anybody reads, fewer bytes."""
    return value if isinstance(value, int) else float(f"{value:.6g}")
