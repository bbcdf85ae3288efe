"""Which runs are samples of one way of training: equal options but for the seed, no trained model in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from opinionlm.config.conditions import Script
from opinionlm.config.config import HARMLESS, Config, default_of, options_of
from opinionlm.config.unread import choice, missing_choices

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


def without_unread(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run with None in the place of those that its own choices do not read: they were no part of it."""
    read = read_among(options, options.keys())
    return {name: value if name in read else None for name, value in options.items()}


def read_among(options: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Those of some options that a run's own choices read, and those that this version does not know."""
    script = script_of(options)
    config = Config(script=script)
    for name in options.keys() & options_of(script):
        config.set(name, options[name])
    # Looked up once, since it may stand in a file.
    known = {"task": choice(config, "task", {})}
    return {name for name in names if name not in options_of(script) or not missing_choices(config, name, known)}


def way_key(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What runs that differ in their seed alone have in common: the options that are read and not at their defaults.

    Args:
        options: of a run's ``config.yaml``; those of `NOT_COMPARED` are left aside.
    """
    known = options_of(script_of(options))
    own = [(name, value_key(options[name])) for name in sorted(options.keys() - NOT_COMPARED)]
    changed = {name: key for name, key in own if name not in known or key != value_key(default_of(name))}
    return (("script", script_of(options)), *sorted((name, changed[name]) for name in read_among(options, changed)))


def model_name(options: Mapping[str, Any]) -> str:
    """What tells the model that a run trained from all others: its way of training, shortened, and its seed."""
    way = hashlib.sha256(repr(way_key(options)).encode()).hexdigest()[:12]
    return f"{way}-seed{options.get('seed')}"


def options_shown(options: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run as a reader sees them: None for those that it did not read.

    None at all of an ensemble of several ways, whose folder has those of the first member.
    """
    return {} if len(set(ways_in(metrics))) > 1 else without_unread(options)


def ways_in(metrics: Mapping[str, Any]) -> list[str]:
    """The ways of an ensemble's members, as `model_name` shortens them; empty of a run, and where none were noted."""
    models = metrics["train"].get("member_models", ()) if members_of(metrics) is not None else ()
    return sorted(model.rpartition("-seed")[0] for model in models)


def family_of(options: Mapping[str, Any], metrics: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """What a run has in common with the other samples of its way.

    Ensembles are samples of one way where their members are, in any order, and the first member's options, which
    decide for all, are the same.

    Args:
        options: of its ``config.yaml``.
        metrics: content of its ``metrics.json``.
        name: of the run; ensembles from before their members were noted have nothing else.
    """
    if members_of(metrics) is None:
        return way_key(options)
    ways = ways_in(metrics)
    return ("ensemble", *ways, *way_key(options)) if ways else ("ensemble", name)


def models_of(options: Mapping[str, Any], metrics: Mapping[str, Any]) -> frozenset[str]:
    """The trained models that a run's answers come from: its own, or those of its members."""
    models = metrics["train"].get("member_models", ()) if members_of(metrics) is not None else ()
    return frozenset(models or [value_key(options.get("seed"))])


def independent(runs: Iterable[tuple[frozenset[str], T]]) -> list[T]:
    """The runs that share no trained model with an earlier one: the same model twice is no second sample.

    Args:
        runs: pairs of what `models_of` gives and a run, of one family.
    """
    kept, seen = [], set[str]()
    for models, run in runs:
        if not models & seen:
            kept.append(run)
        seen |= models
    return kept
