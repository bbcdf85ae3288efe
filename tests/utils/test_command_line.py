"""What a command says of itself and of the others."""

from __future__ import annotations

import importlib
import re

import pytest

from opinionlm.scripts.console import COMMANDS
from opinionlm.utils.command_line import COMMAND, as_called, message_as_called

HELP = """First line.

    python predict.py --model best
    python -m opinionlm.experiments.compare outputs/one outputs/two
    python -m opinionlm init posts.csv
    python script_of_mine.py"""


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("opinionlm predict", ["opinionlm predict", "opinionlm compare"]),
        ("/work/predict.py", ["python predict.py", "python -m opinionlm compare"]),
        ("-c", ["python -m opinionlm predict", "python -m opinionlm compare"]),
    ],
)
def test_a_help_names_commands_as_it_was_called(called, expected, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", [called])
    lines = [line.strip() for line in as_called(HELP).splitlines()[2:]]
    assert lines == [
        f"{expected[0]} --model best",
        f"{expected[1]} outputs/one outputs/two",
        "python -m opinionlm init posts.csv",
        "python script_of_mine.py",
    ]


def test_a_message_names_scripts_as_the_console_calls_them(monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["opinionlm compare"])
    said = "x: give train_classifier.py, or python prompt.py; /work/predict.py and my_prompt.py are yours"
    expected = "x: give opinionlm train_classifier, or opinionlm prompt; /work/predict.py and my_prompt.py are yours"
    assert message_as_called(said) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_a_help_is_one(name) -> None:
    text = importlib.import_module(COMMANDS[name].module).__doc__ or ""
    for found in COMMAND.finditer(text):
        assert (found["script"] or found["module"]) in COMMANDS, found[0]
    assert not re.search(r"python [a-z_/]+\.py(?! )", COMMAND.sub("", text))
