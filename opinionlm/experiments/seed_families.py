"""Which runs are samples of one way of training: equal options but for the seed, each seed once, no ensembles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from opinionlm.config.conditions import Script
from opinionlm.config.config import HARMLESS, default_of, options_of

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


def script_of(options: Mapping[str, Any]) -> Script:
    """Which script a run's options are of, by one that the others have not."""
    if "shots" in options:
        return "prompt"
    if "prompt_template" in options:
        return "train_instruct"
    return "pretrain" if "mlm_probability" in options else "train_classifier"


def option_of(options: Mapping[str, Any], name: str) -> Any:
    """The value of an option in a run: its default in one from before there was the option, None in another script."""
    if name in options or name not in options_of(script_of(options)):
        return options.get(name)
    return default_of(name)


def option_key(options: Mapping[str, Any], name: str) -> str:
    """What tells the values of an option apart; see `option_of`."""
    return value_key(option_of(options, name))


def way_key(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What runs that differ in nothing but their seed have in common: every option that is not at its default.

    Args:
        options: of a run's ``config.yaml``; those of `NOT_COMPARED` are left aside.
    """
    known = options_of(script_of(options))
    own = [(name, value_key(options[name])) for name in sorted(options.keys() - NOT_COMPARED)]
    changed = [(name, key) for name, key in own if name not in known or key != value_key(default_of(name))]
    return (("script", script_of(options)), *changed)


def one_per_seed(runs: Iterable[tuple[Any, T]]) -> list[T]:
    """The first run of every seed: trained twice with one seed is no second sample.

    Args:
        runs: pairs of a seed and a run, of one family.
    """
    kept: dict[str, T] = {}
    for seed, run in runs:
        kept.setdefault(value_key(seed), run)
    return list(kept.values())
