"""Read a config: dataclass defaults, then the YAML file, then the command line."""

from __future__ import annotations

import argparse
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from opinionlm.config.checks import validate
from opinionlm.config.conditions import Script
from opinionlm.config.config import (
    SCRIPTS,
    Config,
    declared,
    default_of,
    options_in,
    options_of,
    scripts_of,
    subject_of,
    takes_trainer_fields,
    type_of,
)
from opinionlm.config.help import HelpAction
from opinionlm.config.options import DataConfig
from opinionlm.config.trainer_arguments import OLD_NAMES, TRAINER_FIELDS, stated_value
from opinionlm.config.unread import is_read, leave_out, read_by
from opinionlm.errors import UserError
from opinionlm.utils.command_line import Parser, unknown_option
from opinionlm.utils.shipped import find_shipped, shipped_root
from opinionlm.utils.typed_values import CommandLineText, as_yaml, convert
from opinionlm.utils.yaml import line_of_keys, load_with_node


class ConfigParser(Parser):
    """The command line of a script whose options are those of a config: ``--config FILE`` and ``--option value``.

    Args:
        description: first lines of ``--help``.
        script: whose options are known. A module adds its own with ``add_argument``.
    """

    def __init__(self, description: str | None, script: Script) -> None:
        super().__init__(description, usage="%(prog)s [--config FILE] [--option value ...]", add_help=False)
        self.script: Script = script
        self.add_argument("-h", "--help", action=HelpAction, script=script)
        self.add_argument("--config", metavar="FILE", help="YAML file with any of the options below")
        for kind in SCRIPTS[script]:
            section = self.add_argument_group(subject_of(kind))
            for entry in options_in(kind):
                words = describe_type(type_of(entry.name))
                text = option_help(entry, script).replace("%", "%%")
                if "list" in words:
                    section.add_argument(f"--{entry.name}", metavar="VALUE", help=text, nargs="*")
                else:
                    section.add_argument(f"--{entry.name}", metavar=words, help=text, nargs="?", const="true")

    def parse_config(self, argv: list[str] | None) -> tuple[argparse.Namespace, Config]:
        """Read the command line, which wins over the YAML file that it names.

        Args:
            argv: arguments without the program's name, by default ``sys.argv[1:]``.

        Returns:
            The arguments that the module added, and the validated config.

        Raises:
            UserError: unreadable file, unknown option, value of a wrong type, or any problem `validate` finds.
        """
        known, rest = self.parse_known_args(argv)
        values, own = vars(known), vars(known).keys() - {"config", *options_of(self.script)}
        given = {name: value for name, value in values.items() if name not in {"config", *own} and value is not None}
        fields_of_trainer = pair_up(rest)
        for name in fields_of_trainer:
            require_known(name, f"--{name}", self.script, {"config", *own})
        typed = {name: CommandLineText(value) for name, value in (given | fields_of_trainer).items()}
        config = new_config(known.config, Layer("the command line", typed), self.script)
        return argparse.Namespace(**{name: values[name] for name in own}), config


def parse_config(argv: list[str] | None, description: str | None, script: Script = "train_classifier") -> Config:
    """The config of a script that has no other options; see `ConfigParser.parse_config`."""
    return ConfigParser(description, script).parse_config(argv)[1]


def option_help(entry: Field[Any], script: Script) -> str:
    """What ``--help`` says of an option: its meaning, default, range, and what has to be chosen for it."""
    conditions = read_by(entry.name, script)
    notes = [repr(default_of(entry.name)), entry.metadata["bounds"].words()]
    notes += [f"read by {conditions}"] if conditions else []
    return f"{entry.metadata['help']} [{'; '.join(filter(None, notes))}]"


def new_config(file: str | Path | None, given: Layer, script: Script) -> Config:
    """Build a validated config from a YAML file (or the name of a shipped one) and options that win over it.

    Raises:
        UserError: as `parse_config`.
    """
    layers = [given]
    in_file: dict[str, Any] = {}
    if file is not None:
        file = find_shipped(file, "configs")
        in_file, lines = read_yaml_lines(file)
        layers.insert(0, Layer(str(file), in_file, lines))
    config, stated = combine(layers, script)
    config.given = {name: given.place_of(name) for name in given.values}
    left_out = leave_out(config, stated, [layer.place for layer in layers])
    if left_out and os.environ.get("RANK", "0") == "0":
        print("\n".join(left_out))
    if not config.training.run_name:
        stem = "run" if file is None else file.stem
        usual = str(in_file.get("dataset", DataConfig().dataset))
        config.training.run_name = default_run_name(stem, usual, config)
    validate(config, {name: layers[number].place_of(name) for name, number in stated.items()})
    return config


@dataclass(frozen=True)
class Layer:
    """Options that one place states.

    Attributes:
        place: a file, or the command line.
        values: option → value.
        lines: option → its line in the file, where that is known.
    """

    place: str
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def place_of(self, key: str) -> str:
        """Where an option stands, for messages; its name last."""
        if isinstance(self.values[key], CommandLineText):
            return f"--{key}"
        return f"{self.place}:{self.lines[key]}: {key}" if key in self.lines else f"{self.place}: {key}"


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
            if script == "mining" and layer.place_of(key) != f"--{key}" and key not in options_of(script):
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


def describe_type(annotation: Any) -> str:
    """A type as a reader of ``--help`` wants to see it: ``a|b|c`` for choices, the plain name otherwise."""
    if typing.get_origin(annotation) is Literal:
        return "|".join(as_yaml(choice) for choice in typing.get_args(annotation))
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
            raise UserError(f"the command line: unexpected argument {name!r}; options are written --name value")
        name, _, value = name[2:].partition("=")
        position += 1
        if not value and position < len(rest) and not rest[position].startswith("--"):
            value = rest[position]
            position += 1
        pairs[name] = value or "true"
    return pairs


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat mapping from a YAML file; raises as `read_yaml_lines`."""
    return read_yaml_lines(path)[0]


def read_yaml_lines(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Read a flat mapping from a YAML file, and the line of every name.

    Raises:
        UserError: no such file, not YAML, or not a mapping of names to values.
    """
    try:
        content, node = load_with_node(path.read_text(encoding="utf-8"))
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
    return content, line_of_keys(node)


def set_option(config: Config, key: str, value: Any, place: str) -> None:
    """Set one option, converted to its declared type.

    Raises:
        UserError: unknown name (with the nearest valid one), a value that does not fit its type, or a field of
            `transformers.TrainingArguments` that these scripts do not honour.
    """
    require_known(key, place, config.script)
    if key in options_of(config.script):
        config.set(key, convert(value, type_of(key), place))
    else:
        config.training.extra |= stated_value(key, value, place)


def require_known(key: str, place: str, script: Script | None, others: Iterable[str] = ()) -> None:
    """Refuse what is neither an option of the script nor, if it trains, a field of TrainingArguments.

    Args:
        key: the option.
        place: where it stands, its name last.
        script: whose option it should be; None where that of any will do.
        others: names of further arguments, one of which may have been meant.

    Raises:
        UserError: it is neither; names the script that has it, or the nearest name.
    """
    mine = tuple(declared()) if script is None else options_of(script)
    trainer_fields = TRAINER_FIELDS if script is None or takes_trainer_fields(script) else ()
    elsewhere = scripts_of(key) if key in declared() else ()
    if key in mine or (key in trainer_fields and not elsewhere):
        return
    if elsewhere:
        raise UserError(f"{place}: unknown option; it belongs to {elsewhere[0]}.py; leave it out here")
    near = set(re.findall(r"'(\w+)'", OLD_NAMES.get(key, "")))
    if key in OLD_NAMES and near <= {*mine, *trainer_fields}:
        raise UserError(f"{place}: unknown option; {OLD_NAMES[key]}")
    raise UserError(unknown_option(place, sorted({*mine, *others, *trainer_fields})))
