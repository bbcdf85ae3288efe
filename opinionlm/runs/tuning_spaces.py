"""What ``tune`` asks for: how many trials, and which options they choose from which values.

tune: {trials: 12, space: auto}
tune:
trials: 12
space:
learning_rate: {low: 1e-5, high: 1e-3, log: true}    # a range
warmup_steps: [0.0, 0.1]                             # values
options: {max_train_samples: 1000}                     # what trials change of the run, for the cost
storage: postgresql://…                                # instead of SQLite beside the runs
seed: 42                                               # of the trials' values and of their trainings
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from opinionlm.config.bounds import LARGEST_SEED, Bounds
from opinionlm.config.checks import validate
from opinionlm.config.chosen_metric import asked_metric
from opinionlm.config.config import Config, declared, options_in, options_of, type_of
from opinionlm.config.method_options import ClassWeightsConfig, LossConfig
from opinionlm.config.parser import require_known
from opinionlm.config.unread import is_read
from opinionlm.errors import UserError
from opinionlm.utils.names import nearest
from opinionlm.utils.typed_values import check_keys, convert


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included; whole ones for an option that is a whole number.

    Attributes:
        low: the lower end.
        high: the upper end.
        log: whether equal ratios are equally likely, instead of equal differences.
    """

    low: float
    high: float
    log: bool = False


# Option → the values that trials choose it from.
Space = Mapping[str, Range | tuple[Any, ...]]

WARMUP = {"warmup_steps": (0.0, 0.1)}
DECAY = {"weight_decay": (0.0, 0.01, 0.1)}
# Each way of training wants other rates: LoRA's lie some ten times above those of all parameters (Biderman et al.
# 2024), prompts' ten times above LoRA's (Lester et al. 2021). A row's space has only the options that it reads.
PRESETS: Mapping[str, Space] = {
    "full": {"learning_rate": Range(1e-5, 1e-3, log=True), **WARMUP, **DECAY},
    "top_blocks": {"learning_rate": Range(3e-5, 3e-3, log=True), **WARMUP, **DECAY},
    "lora": {"learning_rate": Range(1e-4, 1e-2, log=True), **WARMUP, "lora_r": (4, 8, 16, 32)},
    "head_only": {"learning_rate": Range(1e-4, 1e-1, log=True), **WARMUP, **DECAY},
    "prompts": {"learning_rate": Range(1e-3, 3e-1, log=True), **WARMUP, "num_virtual_tokens": (5, 10, 20)},
    "tfidf": {"class_weights": ("none", "inverse_frequency")},
}
KEYS = {"trials", "space", "options", "storage", "seed"}
# Options that trials set themselves, or that would make their scores those of other data.
RESERVED = {"output_dir", "run_name", "seed", "seeds", "overwrite", "tune", "dataset", "data_dir", "prepared_dir"}
RESERVED |= {"push_to_hub"}
# Options that change what the loss is, by which trials then do not compare.
LOSS_OPTIONS = {option.name for kind in (LossConfig, ClassWeightsConfig) for option in options_in(kind)}
# Options that change what a trial is scored on: scores of other texts or of another task do not compare.
SCORED_ON = {"max_eval_samples", "train_platforms", "eval_platforms", "data_source", "task"}


@dataclass(frozen=True)
class Tuning:
    """What ``tune`` asks for, the same for every row of a table.

    Attributes:
        trials: how many runs choose the values of a row.
        space: the name of a preset, ``auto`` for that of the row's method, or options with their values.
        options: what trials change of a run for the sake of cost.
        storage: a database URL; None for an SQLite file beside the runs.
        seed: of the values that are drawn, and of the trials' trainings.
    """

    trials: int
    space: str | Space
    options: Mapping[str, Any]
    storage: str | None = None
    seed: int = 42


def require_optuna() -> None:
    """Look for the package.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("optuna") is None:
        raise UserError(
            "tune: needs the package optuna: pip install -r requirements-tune.txt, or pip install 'opinionlm[tune]'"
        )


def read_tuning(raw: object, place: str) -> Tuning:
    """Read ``tune``.

    Args:
        raw: its value in a YAML file.
        place: where it stands, for messages.

    Raises:
        UserError: unknown keys, no whole number of trials above 0, a space or a seed that is none.
    """
    given = check_keys(raw, KEYS, place, {"trials"})
    trials = convert(given["trials"], int, f"{place}.trials")
    if trials < 1:
        raise UserError(f"{place}.trials: {trials} must be at least 1")
    options = check_keys(given.get("options") or {}, set(declared()), f"{place}.options")
    for name in sorted(options.keys() & RESERVED):
        raise UserError(f"{place}.options: {name}: is set by the trials themselves; leave it out")
    space = given.get("space", "auto")
    if isinstance(space, str):
        if space not in ("auto", *PRESETS):
            raise UserError(
                f"{place}.space: unknown preset {space!r}{nearest(space, PRESETS)}; there are auto, "
                f"{', '.join(PRESETS)}"
            )
    else:
        space = read_space(space, f"{place}.space")
    storage = convert(given.get("storage"), str | None, f"{place}.storage")
    seed = convert(given.get("seed", 42), int, f"{place}.seed")
    if problems := Bounds(at_least=0, at_most=LARGEST_SEED).problem(f"{place}.seed", seed):
        raise UserError(problems[0])
    return Tuning(trials, space, dict(options), storage, seed)


def read_space(raw: object, place: str) -> Space:
    """Options and the values that trials choose from.

    Raises:
        UserError: an unknown option, an empty list, or a range that is none.
    """
    if not isinstance(raw, Mapping) or not raw:
        raise UserError(f"{place}: expected the name of a preset, or options with their values, found {raw!r}")
    space: dict[str, Range | tuple[Any, ...]] = {}
    for name, values in raw.items():
        here = f"{place}.{name}"
        require_known(name, here, None)
        if name in RESERVED or name not in declared():
            raise UserError(f"{here}: is not to be tuned; leave it out")
        if name in SCORED_ON:
            raise UserError(f"{here}: is not to be tuned, as it changes what trials are scored on; leave it out")
        if isinstance(values, list) and values:
            space[name] = tuple(convert(value, type_of(name), here) for value in values)
            continue
        number = number_of(name)
        if not isinstance(values, Mapping) or number is None:
            ranges = ", or a range, as in {low: 1, high: 2}" if number else "; only numbers have ranges"
            raise UserError(f"{here}: expected a list of values, as in [one, other]{ranges}")
        ends = check_keys(values, {"low", "high", "log"}, here, {"low", "high"})
        low, high = (convert(ends[end], number, f"{here}.{end}") for end in ("low", "high"))
        log = convert(ends.get("log", False), bool, f"{here}.log")
        if not low < high or (log and low <= 0):
            raise UserError(f"{here}: {low} to {high} must be a range that rises" + (" from above 0" if log else ""))
        space[name] = Range(low, high, log)
    return space


def number_of(name: str) -> type[int] | type[float] | None:
    """The type of an option that is a number, or a number or none; None for other options."""
    kind = type_of(name)
    return next((number for number in (int, float) if kind in (number, number | None)), None)


def preset_of(config: Config) -> str:
    """The preset of a run's method."""
    if config.training.engine in ("tfidf", "sklearn"):
        return "tfidf"
    match config.method.adaptation:
        case "full" | "layerwise_lr":
            return "full"
        case "top_blocks" | "bottom_frozen" | "lisa" | "adapt":
            return "top_blocks"
        case "head_only":
            return "head_only"
        case "prefix" | "p_tuning_v2" | "prompt" | "p_tuning":
            return "prompts"
        case _:
            return "lora"


def space_of(tuning: Tuning, config: Config) -> Space:
    """The options that a run reads, of its preset or of those that are asked for; none of a run that trains nothing.

    Raises:
        UserError: the run would refuse a value of the space, or an option changes what compares its trials.
    """
    if config.script not in ("train_classifier", "train_instruct"):
        return {}
    whole = tuning.space
    if isinstance(whole, str):
        whole = PRESETS[preset_of(config) if whole == "auto" else whole]
    known = {name: values for name, values in whole.items() if name in options_of(config.script)}
    space = {name: values for name, values in known.items() if is_read(config, name)}
    if asked_metric(config.training) == "loss" and (others := sorted(space.keys() & LOSS_OPTIONS)):
        raise UserError(
            f"{config.source}: tune.space.{others[0]}: is not to be tuned where metric_for_best_model: loss compares "
            "trials, since it changes what the loss is; leave it out, or choose by another score"
        )
    for name, value in corners(space):
        tried = copy.deepcopy(config)
        tried.set(name, value)
        validate(tried, {name: f"{config.source}: tune.space.{name}"})
    return space


def require_all_read(tuning: Tuning, spaces: Iterable[Space], place: str) -> None:
    """Every option that is asked for has to be read by a run.

    Raises:
        UserError: one is read by none, or no run reads any.
    """
    read = {name for space in spaces for name in space}
    for name in tuning.space if not isinstance(tuning.space, str) else ():
        if name not in read:
            raise UserError(f"{place}.space: {name}: no run reads it; leave it out")
    if not read:
        raise UserError(f"{place}.space: no run reads an option of {tuning.space!r}")


def require_not_given(given: Mapping[str, str], space: Collection[str]) -> None:
    """What trials choose cannot also be given beside the file that asks for them: their values would win over it.

    Args:
        given: option → where it stands, for messages.
        space: the options that trials choose.

    Raises:
        UserError: one is given.
    """
    for name, place in given.items():
        if name in space:
            raise UserError(f"{place}: trials choose its value; leave it out here, or give a tune.space without it")


def checked_tuning(config: Config) -> Tuning:
    """What a run asks for with ``tune``, checked.

    Raises:
        UserError: as of `read_tuning`, `space_of`, `require_all_read` and `require_not_given`.
    """
    place = f"{config.source}: tune"
    tuning = read_tuning(config.training.tune, place)
    space = space_of(tuning, config)
    require_all_read(tuning, [space], place)
    require_not_given(config.given, space)
    return tuning


def corners(space: Space) -> Iterator[tuple[str, Any]]:
    """Every option with each of its values; of a range with both ends, and of numbers with decimals one between."""
    for name, values in space.items():
        if not isinstance(values, Range):
            yield from ((name, value) for value in values)
            continue
        yield from ((name, value) for value in (values.low, values.high))
        if isinstance(values.low, float):
            # Both ends of 5 to 50 are whole numbers of warmup_steps; what trials draw between them is not, nor this.
            yield name, values.low + (values.high - values.low) / math.pi


def edges(space: Space, chosen: Mapping[str, Any]) -> list[str]:
    """What lies at an end of its range, so that better values may lie beyond it: within a twentieth, of ratios if log.

    Args:
        space: of the trials.
        chosen: option → the value of the best trial.
    """
    found = []
    for name, values in space.items():
        if not isinstance(values, Range):
            continue
        place = position(values, chosen[name])
        if not 0.05 < place < 0.95:
            end, word = (values.low, "lower") if place < 0.5 else (values.high, "upper")
            found.append(f"{name} {chosen[name]:.3g} is at the {word} end of its range ({end:g})")
    return found


def position(values: Range, value: float) -> float:
    """Where in a range a value lies, from 0 to 1."""
    if not values.log:
        return (value - values.low) / (values.high - values.low)
    return math.log(value / values.low) / math.log(values.high / values.low)
