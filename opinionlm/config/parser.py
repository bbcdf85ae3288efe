"""Read a config: dataclass defaults, then the YAML file, then the command line."""

from __future__ import annotations

import argparse
import difflib
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from opinionlm.config.checks import validate
from opinionlm.config.conditions import Script
from opinionlm.config.config import GROUPS, Config, option_names, scripts_of
from opinionlm.config.options import DataConfig
from opinionlm.config.trainer_arguments import OLD_NAMES, TRAINER_FIELDS, stated_value
from opinionlm.config.unread import is_read, leave_out, read_by
from opinionlm.errors import UserError
from opinionlm.utils.shipped import find_shipped, shipped_root
from opinionlm.utils.typed_values import CommandLineText, convert, read_scalar
from opinionlm.utils.yaml import load_yaml

__all__ = [
    "GROUPS",
    "all_options",
    "build_parser",
    "pair_up",
    "parse_config",
    "read_scalar",
    "read_yaml",
    "set_option",
]


def parse_config(
    argv: list[str] | None,
    description: str,
    script: Script = "train_classifier",
    own: argparse.ArgumentParser | None = None,
) -> Config:
    """Build a validated config from ``--config FILE`` and ``--option value`` pairs; the command line wins.

    Args:
        argv: arguments without the program's name, by default ``sys.argv[1:]``.
        description: first lines of ``--help``.
        script: whose options are known; those of the other are unknown options.
        own: further options of a module, without ``--help``, which it has read itself; ``--help`` lists them first.

    Raises:
        UserError: unreadable file, unknown option, value of a wrong type, or any problem `validate` finds.
    """
    parser = build_parser(description, script, own)
    not_ours = {"config", *(vars(own.parse_args([])) if own is not None else ())}
    try:
        known, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"the command line: {error}; --help lists the options") from None
    given = {key: value for key, value in vars(known).items() if key not in not_ours and value is not None}
    typed = {key: CommandLineText(value) for key, value in (given | pair_up(rest)).items()}
    return new_config(known.config, Layer("the command line", typed), script)


def new_config(file: str | Path | None, given: Layer, script: Script) -> Config:
    """Build a validated config from a YAML file and options that win over it.

    Args:
        file: the user's, or the name of a shipped one; None for the defaults.
        given: the options, from the command line or a call.
        script: whose options are known.

    Raises:
        UserError: as `parse_config`.
    """
    layers, in_file = [given], {}
    if file is not None:
        file = find_shipped(file, "configs")
        in_file = read_yaml(file)
        layers.insert(0, Layer(str(file), in_file))
    config, stated = combine(layers, script)
    left_out = leave_out(config, stated, [layer.place for layer in layers])
    if left_out and os.environ.get("RANK", "0") == "0":
        print("\n".join(left_out))
    if not config.training.run_name:
        stem = "run" if file is None else file.stem
        usual = str(in_file.get("dataset", DataConfig().dataset))
        config.training.run_name = default_run_name(stem, usual, config)
    validate(config)
    return config


@dataclass(frozen=True)
class Layer:
    """Options that one place states.

    Attributes:
        place: a file, or the command line.
        values: option → value.
    """

    place: str
    values: Mapping[str, Any]

    def place_of(self, key: str) -> str:
        """Where an option stands, for messages."""
        return f"--{key}" if isinstance(self.values[key], CommandLineText) else f"{self.place}: {key}"


def combine(layers: Sequence[Layer], script: Script) -> tuple[Config, dict[str, int]]:
    """Put options together, the later layers winning. Nothing is refused yet but what no option can hold.

    Args:
        layers: the first one gives the config its source.
        script: whose options they are. Mining takes the YAML of a training and reads its own options there.

    Returns:
        The config, and the number of the layer that every stated option comes from.

    Raises:
        UserError: unknown option, or a value of a wrong type.
    """
    config = Config(source=layers[0].place, script=script)
    stated: dict[str, int] = {}
    for number, layer in enumerate(layers):
        for key, value in layer.values.items():
            if any(key in later.values for later in layers[number + 1 :]):
                continue
            if script == "mining" and layer.place_of(key) != f"--{key}" and key not in all_options(script):
                # Refuses what train_classifier.py does not know either.
                set_option(Config(), key, value, layer.place_of(key))
                continue
            set_option(config, key, value, layer.place_of(key))
            stated[key] = number
    if config.method.adaptation == "qlora" and "load_in_4bit" not in stated and is_read(config, "adaptation"):
        config.model.load_in_4bit = True
    return config, stated


def default_run_name(stem: str, usual_dataset: str, config: Config) -> str:
    """The config file's name, another data set's name than its own, and the seed: a folder for every data set.

    Args:
        stem: of the config file, ``run`` without one.
        usual_dataset: what the file names, by default the bundled sample.
        config: the run's options.

    Returns:
        Such as ``minilm-seed42``, ``minilm-mydata-seed42``, without a seed where ``seeds`` names several; under a W&B
        sweep the run's id there stands for the seed.
    """
    data, training = config.data.dataset, config.training
    if os.path.normpath(data) != os.path.normpath(usual_dataset):
        path = Path(os.path.normpath(data))
        name = path.stem if path.suffix.lower() in (".yaml", ".yml") else path.name
        # Bytes, of which a folder's name has 255; whole characters.
        stem = f"{stem}-{name.encode()[:80].decode(errors='ignore')}"
    if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
        return f"{stem}-{os.environ['WANDB_RUN_ID']}"
    return stem if training.seeds else f"{stem}-seed{training.seed}"


def build_parser(
    description: str, script: Script, own: argparse.ArgumentParser | None = None
) -> argparse.ArgumentParser:
    """A parser with one option per dataclass field that the script has, grouped, with defaults and choices."""
    parents = [own] if own is not None else []
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--config FILE] [--option value ...]",
        description=description.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
        parents=parents,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the options below")
    for name, group in GROUPS.items():
        names = option_names(group, script)
        if not names:
            continue
        section = parser.add_argument_group(name, (group.__doc__ or "").splitlines()[0])
        hints = annotations_of(group)
        defaults = group()
        for option in fields(group):
            if option.name not in names:
                continue
            choices = describe_type(hints[option.name])
            default = getattr(defaults, option.name)
            conditions = read_by(option.name, script)
            when = f"; read by {conditions}" if conditions else ""
            help_text = f"{option.metadata['help']} [{default!r}{when}]".replace("%", "%%")
            is_list = typing.get_origin(hints[option.name]) is list or "list" in choices
            if is_list:
                section.add_argument(f"--{option.name}", metavar="VALUE", help=help_text, nargs="*")
            else:
                section.add_argument(f"--{option.name}", metavar=choices, help=help_text, nargs="?", const="true")
    return parser


def describe_type(annotation: Any) -> str:
    """A type as a reader of ``--help`` wants to see it: ``a|b|c`` for choices, the plain name otherwise."""
    if typing.get_origin(annotation) is Literal:
        return "|".join(typing.get_args(annotation))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return "|".join(describe_type(part) for part in typing.get_args(annotation) if part is not type(None))
    return annotation.__name__ if typing.get_origin(annotation) is None else str(annotation)


def pair_up(rest: list[str]) -> dict[str, str]:
    """Pair ``--name value`` arguments that are no option of ours; they may name fields of TrainingArguments."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(rest):
        name = rest[position]
        if not name.startswith("--"):
            raise UserError(f"command line: unexpected argument {name!r}; options are written --name value")
        name, _, value = name[2:].partition("=")
        position += 1
        if not value and position < len(rest) and not rest[position].startswith("--"):
            value = rest[position]
            position += 1
        pairs[name] = value or "true"
    return pairs


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat mapping from a YAML file.

    Raises:
        UserError: no such file, not YAML, or not a mapping of names to values.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"--config: no such file: {path}; the shipped ones are in {shipped_root() / 'configs'}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config: cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise UserError(f"{place}: not valid YAML: {str(error).splitlines()[0]}") from error
    if content is None:
        raise UserError(f"{path}: the file is empty; give at least one option")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path}: must be a mapping of option names to values")
    return content


def set_option(config: Config, key: str, value: Any, place: str) -> None:
    """Set one option, converted to its declared type.

    Raises:
        UserError: unknown name (with the nearest valid one), a value that does not fit its type, or a field of
            `transformers.TrainingArguments` that these scripts do not honour.
    """
    for name, group in GROUPS.items():
        if key in option_names(group, config.script):
            annotation = annotations_of(group)[key]
            setattr(getattr(config, name), key, convert(value, annotation, place))
            return
    elsewhere = [script for script in typing.get_args(Script) if key in all_options(script)]
    if key in TRAINER_FIELDS and config.script in scripts_of("extra") and not elsewhere:
        config.training.extra |= stated_value(key, value, place)
        return
    if elsewhere:
        hint = f"it belongs to {elsewhere[0]}.py; leave it out here"
    elif key in OLD_NAMES:
        hint = OLD_NAMES[key]
    else:
        near = difflib.get_close_matches(key, [*all_options(config.script), *sorted(TRAINER_FIELDS)], n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else "see --help for all options"
    raise UserError(f"{place}: unknown option; {hint}")


@cache
def annotations_of(group: type) -> dict[str, Any]:
    """The types of a group's options."""
    return typing.get_type_hints(group)


def all_options(script: Script) -> list[str]:
    """The names of all options of a script."""
    return [name for group in GROUPS.values() for name in option_names(group, script)]
