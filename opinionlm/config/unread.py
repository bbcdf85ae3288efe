"""Which options the chosen way reads: refusals, what ``--help`` says of it, and what a choice made later leaves out.

What has to be chosen for an option stands beside its declaration (`opinionlm.config.conditions`). Here it is looked up
for a config, whose choices may be known from the data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from opinionlm.config.chosen_metric import SCORES
from opinionlm.config.conditions import DECIDED_BY, GRADIENT_ENGINES, Conditions, Presence, Script
from opinionlm.config.config import declared, default_of, options_of, scripts_of
from opinionlm.config.trainer_arguments import HONOURED
from opinionlm.errors import UserError
from opinionlm.utils.yaml import load_yaml

if TYPE_CHECKING:
    from opinionlm.config.config import Config

# Choices that are no options, or that other things decide: what they follow from, for who chose them last.
FACTS = {
    "task": ("task", "dataset"),
    "script": (),
    "model_source": ("model_name_or_path", "tokenizer_name_or_path"),
    "objective": ("model_name_or_path",),
    "task_tokens": ("task_tokens", "adaptation"),
    "class_weights": ("class_weights", "loss", "engine", "task", "dataset"),
}
# A choice that only the data or the model's own configuration tell: whatever needs it counts as read until then.
UNKNOWN = object()
ADJUSTING_LOSSES = ("logit_adjusted", "tree_conditional")


@dataclass(frozen=True)
class Unread:
    """An option that is not read, and given, or decided by another (`opinionlm.config.conditions.DECIDED_BY`).

    Attributes:
        name: of the option.
        value: that it has.
        failed: the conditions that do not hold: choice, what was chosen, and what would read the option.
    """

    name: str
    value: Any
    failed: tuple[tuple[str, Any, tuple[Any, ...] | Presence], ...]

    @property
    def reason(self) -> str:
        """The first choice that does not read it."""
        name, chosen, wanted = self.failed[0]
        return f"without {name}" if wanted is Presence.GIVEN else f"{name}: {chosen}"

    def follows_from(self, stated: Mapping[str, int], place: int) -> bool:
        """Whether that place, by its number in ``stated``, states a choice that does not read it."""
        return any(stated.get(source) == place for name, _, _ in self.failed for source in FACTS.get(name, (name,)))

    @property
    def is_decided(self) -> bool:
        """Whether another option decides in its place, which is no mistake."""
        return all(DECIDED_BY.get(self.name) == name for name, _, _ in self.failed)


def value_of(config: Config, name: str) -> Any:
    """An option's value; the default where the script has no such option."""
    return config.value(name) if config.script in scripts_of(name) else default_of(name)


def data_task(dataset: str) -> Any:
    """The task of a data set as far as its YAML or its folder tells it; `UNKNOWN` where they cannot be read."""
    path = Path(dataset)
    # The manifest of a prepared folder is JSON, which is YAML too.
    file = path / "dataset.json" if path.is_dir() else path
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return UNKNOWN
    return written_task(content)


@cache
def written_task(text: str) -> Any:
    """The task that a dataset YAML or a manifest names; `UNKNOWN` where it is neither."""
    try:
        content = load_yaml(text)
    except (ValueError, yaml.YAMLError):
        return UNKNOWN
    task = content.get("task", "sequence") if isinstance(content, dict) else None
    return task if task in SCORES else UNKNOWN


def choice(config: Config, name: str, known: Mapping[str, Any]) -> Any:
    """What was chosen, ``auto`` decided; `UNKNOWN` where nobody can tell yet.

    Args:
        config: the options.
        name: of an option, or one of `FACTS`.
        known: facts, such as the task that the data turned out to be of.
    """
    if name in known:
        return known[name]
    match name:
        case "script":
            return config.script
        case "task":
            return data_task(config.data.dataset) if config.data.task == "auto" else config.data.task
        case "objective":
            return UNKNOWN
        case "model_source":
            names = (config.model.model_name_or_path, config.model.tokenizer_name_or_path)
            return "folder" if all(name is None or Path(name).exists() for name in names) else "hub"
        case "task_tokens" if config.adapt.task_tokens == "auto":
            return "on" if config.method.adaptation == "adapt" else "off"
        case "class_weights" if config.method.class_weights == "auto":
            return automatic_weights(config, choice(config, "task", known))
        case _:
            return value_of(config, name)


def automatic_weights(config: Config, task: Any) -> Any:
    """How ``class_weights: auto`` weighs classes.

    The classes of a label tree by inverse frequency, as the opinion paper does. Tags are left alone: nearly every word
    is tagged ``O``, which would then count for next to nothing; and so are losses that adjust logits by the priors,
    which is the same medicine again. Logistic regression has no weights unless they are asked for.
    """
    if config.training.engine not in GRADIENT_ENGINES or config.method.loss in ADJUSTING_LOSSES:
        return "none"
    return UNKNOWN if task is UNKNOWN else "inverse_frequency" if task == "sequence" else "none"


def is_given(value: Any) -> bool:
    """Whether an option asks for something; 0, -1, null, false and nothing ask for nothing."""
    return value > 0 if isinstance(value, int | float) else bool(value)


def failed_conditions(
    config: Config, conditions: Conditions, known: Mapping[str, Any]
) -> Iterator[tuple[str, Any, tuple[Any, ...] | Presence]]:
    """The conditions that do not hold. A choice that is itself not read does not count as made."""
    for name, wanted in conditions.items():
        chosen = choice(config, name, known)
        is_auto = name in ("class_weights", "task_tokens") and value_of(config, name) == "auto"
        shown = f"auto ({chosen})" if is_auto else ", ".join(chosen) if isinstance(chosen, list) else chosen
        root = []
        if name in declared() and config.script in scripts_of(name):
            root = missing_choices(config, name, known)
        if root and wanted is not Presence.ABSENT:
            yield from root
        elif not root and not fits(chosen, wanted):
            yield name, shown, wanted


def fits(chosen: Any, wanted: tuple[Any, ...] | Presence) -> bool:
    """Whether a choice is what a condition asks for; of a list, one entry has to be."""
    match wanted:
        case Presence.ABSENT:
            return not is_given(chosen)
        case Presence.GIVEN:
            return is_given(chosen)
        case _:
            return chosen is UNKNOWN or any(
                one in wanted for one in (chosen if isinstance(chosen, list) else [chosen])
            )


def missing_choices(
    config: Config, name: str, known: Mapping[str, Any]
) -> list[tuple[str, Any, tuple[Any, ...] | Presence]]:
    """Which choices an option would need to be read; none where it is. Of several ways the nearest is named."""
    ways = [list(failed_conditions(config, way, known)) for way in declared()[name][1].metadata["when"]]
    if not ways or not all(ways):
        return []
    return min((way for way in ways if way[0][0] != "script"), key=len)


def is_read(config: Config, name: str) -> bool:
    """Whether the chosen way reads an option or a field of TrainingArguments, as far as can be known."""
    if name in declared():
        return not missing_choices(config, name, {})
    return not list(failed_conditions(config, {"engine": engines_of(name)}, {}))


def engines_of(name: str) -> tuple[str, ...]:
    """The engines that read a field of TrainingArguments."""
    return HONOURED[name].engines if name in HONOURED else GRADIENT_ENGINES


def unread_options(config: Config, known: Mapping[str, Any] | None = None) -> list[Unread]:
    """The options of a script that differ from their default although the chosen way does not read them.

    Those that another one decides (`DECIDED_BY`) are among them at their default, too.

    Args:
        config: the options.
        known: what the data or the model's configuration tell of `FACTS`.
    """
    known = known or {}
    if "task" not in known:
        known = {**known, "task": choice(config, "task", known)}
    found = []
    for name in options_of(config.script):
        value, default = config.value(name), default_of(name)
        if value == default and name not in DECIDED_BY:
            continue
        failed = missing_choices(config, name, known)
        one = Unread(name, value, tuple(failed))
        if failed and (value != default or one.is_decided):
            found.append(one)
    for name, value in config.training.extra.items():
        # Their engines stand in the table of the fields.
        if failed := list(failed_conditions(config, {"engine": engines_of(name)}, known)):
            found.append(Unread(name, value, tuple(failed)))
    return found


def refuse_unread(config: Config, **known: Any) -> None:
    """Check once more, when facts (`FACTS`) are known that parsing could not know.

    Raises:
        UserError: options that the chosen way does not read.
    """
    if unread := refusals(unread_options(config, known)):
        raise UserError(f"{config.source}: " + "; ".join(unread))


def refusals(unread: Iterable[Unread]) -> list[str]:
    """What is wrong and the remedy: a sentence for each choice that does not read options."""
    groups: dict[tuple[str, Any, Any], list[str]] = {}
    for one in unread:
        if not one.is_decided:
            choice, chosen, wanted = one.failed[0]
            remedy = wanted if isinstance(wanted, Presence) else wanted[0]
            groups.setdefault((choice, chosen, remedy), []).append(f"{one.name}: {one.value!r}")
    return [refusal(given, *failed) for failed, given in groups.items()]


def refusal(given: list[str], choice: str, chosen: Any, wanted: Any) -> str:
    """A sentence on options, each with its value, that a choice does not read; with the value that would, or how."""
    verb, them = ("is", "it") if len(given) == 1 else ("are", "them")
    start = f"{', '.join(given)} {verb} not read"
    if wanted is Presence.GIVEN:
        return f"{start} without {choice}; leave {them} out, or give {choice}"
    if wanted is Presence.ABSENT:
        remedy = "leave one of the two out" if len(given) == 1 else f"leave them out, or {choice}"
        return f"{start} beside {choice}: {chosen}; {remedy}"
    remedy = "" if choice in ("task", "model_source", "objective") else f", or use {choice}: {wanted}"
    return f"{start} by {choice}: {chosen}; leave {them} out{remedy}"


def leave_out(config: Config, stated: Mapping[str, int], places: list[str]) -> list[str]:
    """Set back what an earlier place states and a choice of a later place does not read, or another option decides.

    Args:
        config: the options; changed in place.
        stated: option → number of the place that stated it last.
        places: that options come from, the later winning.

    Returns:
        One line for each choice, to be printed.
    """
    groups: dict[str, list[Unread]] = {}
    for one in unread_options(config):
        origin = stated.get(one.name, len(places))
        for name, chosen, wanted in one.failed:
            chosen_at = max((stated.get(source, -1) for source in FACTS.get(name, (name,))), default=-1)
            if chosen_at > origin or (one.is_decided and one.name in stated):
                verb = "replaces" if isinstance(wanted, Presence) else "does not read"
                groups.setdefault(f"{name}: {chosen} {verb}", []).append(one)
                reset(config, one.name)
                break
    return [
        f"{start} {', '.join(one.name for one in ones)} of {places[stated[ones[0].name]]}; "
        + ("it is left out" if len(ones) == 1 else "they are left out")
        for start, ones in groups.items()
    ]


def reset(config: Config, name: str) -> None:
    """Give an option its default again."""
    if name in declared():
        config.set(name, default_of(name))
    else:
        del config.training.extra[name]


def read_by(name: str, script: Script) -> str:
    """What has to be chosen for an option of a script to be read, in words; empty where it always is."""
    ways = []
    for way in declared()[name][1].metadata["when"]:
        # What the script has no option for is as by default.
        fixed = {one for one in way if one in declared() and one != "task" and script not in scripts_of(one)}
        defaults = {one: default_of(one) for one in fixed} | ({"script": script} if "script" in way else {})
        if not all(fits(value, way[one]) for one, value in defaults.items()):
            continue
        parts = [condition_words(one, wanted) for one, wanted in way.items() if one not in defaults]
        if not parts:
            return ""
        ways.append("; ".join(parts))
    return ", or ".join(ways)


def condition_words(name: str, wanted: tuple[Any, ...] | Presence) -> str:
    """A condition as ``choice: values``, or ``with`` or ``without`` the choice."""
    if isinstance(wanted, Presence):
        return f"{wanted.value} {name}"
    return f"{name}: {', '.join('true' if value is True else value for value in wanted)}"
