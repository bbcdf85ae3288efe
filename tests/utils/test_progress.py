"""Progress in a terminal and in a log."""

from __future__ import annotations

import re
import sys

import pytest

from opinionlm.utils import progress
from opinionlm.utils.command_line import SCRIPTS, command
from opinionlm.utils.progress import progress_bar
from tests.conftest import REPOSITORY


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time that tqdm reads; tests move it on."""
    now = [1_000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_half_minute(clock, capsys):
    with progress_bar(desc="training", total=100, unit="steps") as bar:
        bar.set_postfix_str("loss 0.1234", refresh=False)
        for _ in range(100):
            clock[0] += 1
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and not any("\r" in line for line in lines)
    assert re.fullmatch(r"training: 30 of 100 steps, 1.00 steps/s, loss 0.1234, 01:10 left", lines[0])
    assert lines[2].startswith("training: 90 of 100 steps")


def test_a_log_claims_no_end_that_nobody_knows(clock, capsys):
    for _ in progress_bar(iter(range(40)), desc="reading and cleaning", unit="rows"):
        clock[0] += 1
    line = re.sub(" +", " ", capsys.readouterr().err).strip()
    assert line == "reading and cleaning: 30 rows, 1.00 rows/s"


def test_what_is_soon_over_says_nothing(clock, capsys):
    for _ in progress_bar(range(29), desc="folds", unit="folds"):
        clock[0] += 1
    with progress_bar(desc="nothing", total=2, unit="steps", disable=True) as bar:
        clock[0] += 100
        bar.update()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(desc="training", total=10, unit="steps") as bar:
        clock[0] += 5
        bar.update(5)
    said = capsys.readouterr().err
    assert "\r" in said and "training:  50%" in said and "steps/s" in said


@pytest.mark.parametrize(("unit", "one"), [("steps", "step"), ("batches", "batch"), ("bytes", "byte")])
def test_a_slow_rate_names_one_of_them(unit, one, clock, capsys):
    with progress_bar(desc="evaluation", total=2, unit=unit) as bar:
        clock[0] += 40
        bar.update()
    assert f", 40.00 s per {one}, " in capsys.readouterr().err


def test_moves_of_the_cursor_are_no_lines(capsys):
    lines = progress.LogLines()
    for text in ("\r", "\n\n", "\x1b[A\x1b[A", "   ", "\rhalf done"):
        lines.write(text)
    assert capsys.readouterr().err == "half done\n"


@pytest.mark.parametrize(
    ("called", "name", "expected"),
    [
        ("opinionlm train_classifier", "predict", "opinionlm predict"),
        ("python -m opinionlm init", "predict", "python -m opinionlm predict"),
        ("train_classifier.py", "predict", "python predict.py"),
        ("/some where/preprocess.py", "get_data", "python -m opinionlm get_data"),
        ("/some where/my_study.py", "predict", "python -m opinionlm predict"),
        ("-c", "predict", "python -m opinionlm predict"),
    ],
)
def test_commands_are_named_as_the_user_calls_them(called, name, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called])
    assert command(name) == expected


def test_the_scripts_are_those_of_the_checkout():
    assert {*SCRIPTS} == {path.stem for path in REPOSITORY.glob("*.py")}
