"""The console command ``opinionlm``: the scripts of the repository and the tools around runs, from every folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from opinionlm.errors import UserError, run_script
from opinionlm.utils.command_line import message_as_called
from opinionlm.utils.names import closest


@dataclass(frozen=True)
class Command:
    """A command of the console.

    Attributes:
        module: whose ``main`` it is.
        summary: one line for ``--help``.
    """

    module: str
    summary: str


COMMANDS = {
    "init": Command("opinionlm.data.inspection.__main__", "look at a file of your own, write its YAML files"),
    "get_data": Command("opinionlm.data.downloads", "fetch the files of a shipped data set into data/"),
    "preprocess": Command("opinionlm.scripts.preprocess", "clean raw files, remove copies, split, report"),
    "train_classifier": Command("opinionlm.scripts.train_classifier", "train a classifier, a tagger or a pair scorer"),
    "train_instruct": Command("opinionlm.scripts.train_instruct", "teach a language model to write its answers"),
    "prompt": Command("opinionlm.scripts.prompt", "label texts with a language model, without training"),
    "predict": Command("opinionlm.scripts.predict", "label new texts with a trained model"),
    "demo": Command("opinionlm.inference.demo", "a page to try a model in a browser"),
    "export": Command("opinionlm.scripts.export", "write a trained model that loads where opinionlm is absent"),
    "push": Command("opinionlm.inference.push", "upload a trained model to the Hugging Face hub"),
    "pretrain": Command("opinionlm.scripts.pretrain", "go on with pretraining on the texts of a training split"),
    "reproduce": Command("opinionlm.scripts.reproduce", "run a table of a paper and compare the numbers"),
    "compare": Command("opinionlm.experiments.compare", "compare finished runs on the same texts"),
    "ensemble": Command("opinionlm.experiments.ensemble", "finished runs as one: their probabilities averaged"),
    "dashboard": Command("opinionlm.experiments.dashboard.__main__", "one HTML page over all runs of a folder"),
    "group_report": Command("opinionlm.experiments.group_report", "what differs between the runs of a group"),
    "label_suspects": Command("opinionlm.experiments.label_suspects", "list texts whose label is likely wrong"),
    "cross_fit": Command("opinionlm.experiments.cross_fit", "soft labels of training texts, fold by fold"),
    "self_training": Command("opinionlm.experiments.self_training", "soft labels of texts that a run was not shown"),
    "changed_texts": Command("opinionlm.experiments.changed_texts", "scores under typos, other case, without emoji"),
    "mining": Command("opinionlm.adaptation.adapt.mining", "list the token sequences that a task is rich in"),
}


def main(argv: list[str] | None = None) -> None:
    """Run a command.

    Args:
        argv: the command and its arguments, by default those of the process.
    """
    run_script(lambda: run(sys.argv[1:] if argv is None else argv))


def run(arguments: list[str]) -> None:
    """Call the ``main`` of a command, or show which there are.

    Raises:
        UserError: no such command, or what the command refuses, its remedies named as console commands.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    if name == "--version":
        print(f"opinionlm {import_module('opinionlm').__version__}")
        return
    if name not in COMMANDS:
        near = closest(name, COMMANDS)
        hint = "" if near is None else f"did you mean '{near}'? "
        raise UserError(f"{name}: no such command; {hint}opinionlm --help lists them")
    # What argparse calls the program, and what locks and environment.json say was run.
    program = "python -m opinionlm" if Path(sys.argv[0]).name == "__main__.py" else "opinionlm"
    sys.argv = [f"{program} {name}", *rest]
    try:
        outcome = import_module(COMMANDS[name].module).main(rest)
    except UserError as error:
        raise UserError(message_as_called(str(error))) from error
    if isinstance(outcome, int):
        sys.exit(outcome)


def overview() -> str:
    """The commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: opinionlm COMMAND [options]\n",
            *lines,
            "\nopinionlm COMMAND --help lists the options of a command. The shipped configs are found by name from",
            "every folder: opinionlm train_classifier --config quickstart",
        ]
    )
