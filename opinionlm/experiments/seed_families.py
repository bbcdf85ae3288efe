"""Which runs are samples of one way of training: equal options but for the seed, each seed once, no ensembles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from opinionlm.config.config import HARMLESS

# Options that say where things lie or how a run is tracked and logged, and the seed itself.
NOT_COMPARED = HARMLESS | {
    "seed",
    "run_name",
    "output_dir",
    "data_dir",
    "prepared_dir",
    "source",
    "cache_dir",
    "cache_limit_gb",
    "cache_frozen",
    "logging_steps",
}

T = TypeVar("T")


def members_of(metrics: Mapping[str, Any]) -> int | None:
    """How many models answer together in a run folder of `opinionlm.runs.ensembles`; None in any other.

    An ensemble is no run of a seed: its weights and its seconds are those of its members.

    Args:
        metrics: content of ``metrics.json``.
    """
    train = metrics.get("train")
    members = train.get("members") if isinstance(train, Mapping) else None
    return members if isinstance(members, int) else None


def value_key(value: Any) -> str:
    """What tells option values apart: a number written as 16 and one written as 16.0 are the same."""
    return repr(float(value)) if type(value) in (int, float) else repr(value)


def one_per_seed(runs: Iterable[tuple[Any, T]]) -> list[T]:
    """The first run of every seed: trained twice with one seed is no second sample.

    Args:
        runs: pairs of a seed and a run, of one family.
    """
    kept: dict[str, T] = {}
    for seed, run in runs:
        kept.setdefault(value_key(seed), run)
    return list(kept.values())
