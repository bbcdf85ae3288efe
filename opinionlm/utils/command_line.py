"""The parser of every command: a mistake is one line that names the nearest option."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from opinionlm.errors import UserError
from opinionlm.utils.names import closest

# What `opinionlm.scripts.console` may be called as.
PROGRAMS = ("opinionlm", "python -m opinionlm")
# The commands that are scripts of a checkout, too.
SCRIPTS = ("preprocess", "train_classifier", "train_instruct", "prompt", "predict", "export", "pretrain", "reproduce")

# A command in the help of a script or module.
COMMAND = re.compile(
    rf"python (?:(?P<script>{'|'.join(SCRIPTS)})\.py|-m opinionlm\.(?:[a-z_]+\.)*(?P<module>[a-z_]+))\b"
)
# A script named within a sentence; one of somebody's own folder keeps its name.
SCRIPT = re.compile(rf"(?<![\w/\\.-])(?:python )?(?P<script>{'|'.join(SCRIPTS)})\.py\b")


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as every other mistake, before a missing argument hides a mistyped option.

    Args:
        description: first lines of ``--help``; commands in it stay on their lines.
        usage: how it is called, where that is not to be made of the arguments.
        add_help: ``--help`` shows every argument.
    """

    def __init__(self, description: str | None, usage: str | None = None, add_help: bool = True) -> None:
        super().__init__(
            description=as_called((description or "").strip()),
            usage=usage,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=add_help,
        )

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """Read a command line.

        Args:
            argv: arguments without the program's name, None for those of the process.

        Raises:
            UserError: one of them is unknown, or they make no sense.
        """
        given = sys.argv[1:] if argv is None else argv
        known = [name for action in self._actions for name in action.option_strings]
        for argument in given[: given.index("--")] if "--" in given else given:
            name = argument.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in known:
                raise UserError(unknown_option(name, [one.removeprefix("--") for one in known]))
        return self.parse_args(given)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print, as one line."""
        raise UserError(f"the command line: {message}; --help lists the options")


def command(name: str) -> str:
    """How another command is called, in the way that this one was: by the console command, or a script of a checkout.

    Within a program of one's own, or a notebook, it is the module, which is there wherever the package is.
    """
    for program in PROGRAMS:
        if sys.argv[0].startswith(f"{program} "):
            return f"{program} {name}"
    from_checkout = name in SCRIPTS and Path(sys.argv[0]).stem in SCRIPTS
    return f"python {name}.py" if from_checkout else f"{PROGRAMS[1]} {name}"


def as_called(text: str) -> str:
    """A help text with its commands as this one was called: ``opinionlm predict`` where that is installed."""
    return COMMAND.sub(lambda found: command(found["script"] or found["module"]), text)


def message_as_called(text: str) -> str:
    """A message with its scripts as the console command calls them: an installed package has no ``predict.py``."""
    return SCRIPT.sub(lambda found: command(found["script"]), text)


def unknown_option(place: str, known: Iterable[str]) -> str:
    """One line about an option that there is not; ``place`` ends with its name."""
    near = closest(place.rpartition(" ")[2].lstrip("-"), known)
    return f"{place}: unknown option; " + (f"did you mean '{near}'?" if near else "see --help for all options")


def whole_number(text: str) -> int:
    """A whole number above zero, for ``type=``."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value
