"""``--help`` of a script with more than a hundred options: those that matter, those about a word, or all."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from opinionlm.config.conditions import Script
from opinionlm.config.config import declared, options_of, takes_trainer_fields
from opinionlm.config.trainer_arguments import HONOURED, OLD_NAMES
from opinionlm.errors import UserError
from opinionlm.utils.names import closest

# In order of how soon they are needed; a script shows the first ones that it has.
COMMON: tuple[str, ...] = (
    *("dataset", "data_dir", "model_name_or_path", "run_name", "overwrite", "adaptation", "engine"),
    *("method", "shots", "decode", "prompt_template", "learning_rate", "num_train_epochs"),
    *("per_device_train_batch_size", "max_length", "seeds", "class_weights", "max_train_samples", "report_to"),
    *("mlm_probability", "output_dir", "max_eval_samples", "load_in_4bit", "seed", "bf16", "all_sequences"),
)
SHOWN = 15
ALL = "all"


class HelpAction(argparse.Action):
    """``--help``, ``--help WORD`` and ``--help all``.

    Args:
        script: whose options are shown; further arguments of the parser always are.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, script: Script, **kwargs: Any) -> None:
        super().__init__(
            option_strings,
            dest,
            nargs="?",
            const="",
            default=argparse.SUPPRESS,
            metavar="WORD",
            help=f"the options that matter most; those about a word, as in --help rate; --help {ALL}: all of them",
        )
        self.script: Script = script

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Print the help and leave."""
        names = options_of(self.script)
        shown, others = options_about(values, self.script)
        for action in parser._actions:
            if action.dest in names and action.dest not in shown:
                action.help = argparse.SUPPRESS
        print(parser.format_help(), end="")
        for name in others:
            print(f"\n  --{name}\n{'':24}{HONOURED[name].help} [a field of TrainingArguments]")
        if len(shown) < len(names):
            print(
                f"\n{len(shown)} of {len(names)} options; --help WORD shows those about a word, --help {ALL} every one"
            )
        parser.exit()


def options_about(word: str, script: Script) -> tuple[list[str], list[str]]:
    """The options of a script that ``--help WORD`` shows, and the fields of TrainingArguments.

    Args:
        word: of the name or the explanation of an option; blank for those that matter most, or ``all``.
        script: whose options they are.

    Raises:
        UserError: none has to do with the word.
    """
    names, word = options_of(script), word.lower().lstrip("-")
    if word == ALL:
        return list(names), []
    if not word:
        return [name for name in COMMON if name in names][:SHOWN], []
    fields = HONOURED if takes_trainer_fields(script) else {}
    says = {name: declared()[name][1].metadata["help"] for name in names} | {n: f.help for n, f in fields.items()}
    hint = re.search(r"'(\w+)'", OLD_NAMES.get(word, ""))
    whole = re.compile(rf"\b{re.escape(word)}", re.IGNORECASE)
    found = [name for name, text in says.items() if word in name or whole.search(text)]
    found += [hint[1]] if hint and hint[1] in says and hint[1] not in found else []
    if not found:
        near = closest(word, says)
        raise UserError(f"--help {word}: no option has to do with it" + (f"; did you mean '{near}'?" if near else ""))
    return [name for name in found if name in names], [name for name in found if name not in names]
