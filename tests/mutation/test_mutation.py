"""The tool itself: what it changes, what it leaves alone, how it draws, and that it tells noticed from missed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.places import changes
from tests.mutation.run import EQUIVALENT, SUBJECTS, draw, equivalents, known_results, mutants_of, summary

MODULE = '''"""A docstring with 1 < 2."""

from __future__ import annotations

import functools

ÜMLAUT = "größer als 1"


@functools.lru_cache(maxsize=8)
def share(rows: list[int], least: int = 3, is_strict: bool = True) -> float:
    """Text with + and -."""
    if not rows or len(rows) < least:
        raise ValueError(f"{len(rows) + 1} rows, {least} are needed")
    assert least > 0
    print("rows", 17)
    größe = max(rows[0], -1)  # über 5
    return größe * 0.5 if (is_strict) and (  # at most
        größe
    ) <= 1e-9 else 0.0
'''
TOY = {
    "opinionlm/data/toy.py": "def is_large(number: int) -> bool:\n    return number > 2 and number > 1\n",
    "tests/data/test_toy.py": (
        "from opinionlm.data.toy import is_large\n\n\ndef test_bound() -> None:\n"
        "    assert not is_large(2)\n    assert is_large(3)\n"
    ),
    "tests/test_other.py": "def test_nothing() -> None:\n    pass\n",
    "pyproject.toml": (
        '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = "--strict-markers"\n'
        'markers = ["slow", "gpu", "network"]\n'
    ),
}
# The tool as a stranger starts it, on the toy; without torch, so that it takes a second.
SCRIPT = """
import json, pathlib, sys
from tests.mutation.checkout import TestRunner
from tests.mutation.run import judge, mutants_of
root = pathlib.Path(sys.argv[1])
runner = TestRunner(root)
records = [judge(mutant, runner, mirrored_only=False) for mutant in mutants_of(root, "opinionlm/data/toy.py")]
print(json.dumps(records))
"""


def test_changes_are_single_operators_numbers_and_names() -> None:
    found = [(change.before, change.after) for change in changes(MODULE)]
    assert found == [
        ("3", "2"),
        ("3", "4"),
        ("True", "False"),
        ("not", ""),
        ("or", "and"),
        ("<", "<="),
        ("max", "min"),
        ("0", "(-1)"),
        ("0", "1"),
        ("-", ""),
        ("1", "0"),
        ("1", "2"),
        ("*", "/"),
        ("0.5", "1.0"),
        ("and", "or"),
        ("<=", "<"),
        ("0.0", "1.0"),
    ]


def test_every_change_is_a_program_that_differs_in_one_place() -> None:
    whole = ast.dump(ast.parse(MODULE))
    for change in changes(MODULE):
        changed = change.apply(MODULE)
        assert ast.dump(ast.parse(changed)) != whole
        differing = [(a, b) for a, b in zip(MODULE.splitlines(), changed.splitlines(), strict=True) if a != b]
        assert [(a.strip(), b.strip()) for a, b in differing] == [(change.text, change.changed)]
        assert MODULE.splitlines()[change.line - 1].strip() == change.text


@pytest.mark.parametrize(
    ("left_alone", "why"),
    [
        ("x: Literal[1, 2]", "annotation"),
        ("zip(a, b, strict=True)", "guard against our own mistakes"),
        ("folder / NAME", "joins paths"),
        ("found = a | {'b': c}", "joins mappings"),
        ("isinstance(a, int | str)", "classes"),
        ("text + 'more'", "joins texts"),
        ("tiny = 1e-9", "tolerance"),
    ],
)
def test_what_cannot_matter_is_left_alone(left_alone: str, why: str) -> None:
    assert changes(left_alone) == [], why


def test_every_change_of_the_package_is_a_program(repository: Path) -> None:
    """Over all modules of all subjects: the operator is found between comments, brackets and non-ASCII text."""
    for path in (path for paths in SUBJECTS.values() for path in paths):
        source = (repository / "opinionlm" / path).read_text(encoding="utf-8")
        found = changes(source)
        assert found, path
        for change in found[:: max(1, len(found) // 8)]:
            ast.parse(change.apply(source))


def test_draws_follow_the_seed_and_take_subjects_in_turn(repository: Path) -> None:
    drawn = draw(repository, 21, seed=5)
    assert [mutant.key for mutant in drawn] == [mutant.key for mutant in draw(repository, 21, seed=5)]
    assert [mutant.key for mutant in drawn] != [mutant.key for mutant in draw(repository, 21, seed=6)]
    subjects = [next(s for s, paths in SUBJECTS.items() if m.path.removeprefix("opinionlm/") in paths) for m in drawn]
    assert subjects == list(SUBJECTS) * 3
    places = [(mutant.path, mutant.change.start) for mutant in draw(repository, 400, seed=5)]
    assert len(set(places)) == len(places) == 400
    assert {mutant.path for mutant in draw(repository, 9, 5, only="*/ema.py")} == {"opinionlm/training/ema.py"}


def test_noticed_and_missed_are_told_apart(tmp_path: Path, repository: Path) -> None:
    root = tmp_path / "checkout"
    for name, content in TOY.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root)],
        cwd=repository,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    records = json.loads(process.stdout.splitlines()[-1])
    outcomes = {record["place"].split("→")[1].strip(): record["outcome"] for record in records}
    # With "and number > 1" behind it, only the first bound decides.
    assert outcomes == {
        "return number >= 2 and number > 1": "noticed",
        "return number > 1 and number > 1": "noticed",
        "return number > 3 and number > 1": "noticed",
        "return number > 2 or number > 1": "noticed",
        "return number > 2 and number >= 1": "missed",
        "return number > 2 and number > 0": "missed",
        "return number > 2 and number > 2": "missed",
    }
    assert {record["by"] for record in records} == {"tests/data/test_toy.py::test_bound", None}
    assert [record["stage"] for record in records if record["outcome"] == "missed"] == ["rest"] * 3
    assert (root / "opinionlm/data/toy.py").read_text(encoding="utf-8") == TOY["opinionlm/data/toy.py"]


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    records = [
        {"key": "a", "outcome": "missed", "stage": "mirrored", "place": "a", "by": None},
        {"key": "b", "outcome": "noticed", "stage": "mirrored", "place": "b", "by": "t"},
        {"key": "a", "outcome": "noticed", "stage": "rest", "place": "a", "by": "t"},
        {"key": "c", "outcome": "missed", "stage": "mirrored", "place": "c", "by": None},
        {"key": "d", "outcome": "missed", "stage": "rest", "place": "d", "by": None},
    ]
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert set(known_results(results, again=False, mirrored_only=True)) == {"a", "b", "c", "d"}
    assert set(known_results(results, again=False, mirrored_only=False)) == {"a", "b", "d"}
    assert set(known_results(results, again=True, mirrored_only=True)) == {"a", "b"}
    assert known_results(tmp_path / "absent", again=False, mirrored_only=False) == {}
    text, share = summary([*records[1:], {"outcome": "equivalent", "stage": "none", "place": "e", "by": "why"}])
    assert share == 0.5
    assert text.splitlines()[-1].startswith("noticed 2 of 4 (50%), 1 of them by the tests of the module; 1 changes")


def test_arguments_for_no_change_are_of_today(repository: Path) -> None:
    """An entry of equivalent.yaml whose line is another by now argues for nothing."""
    for path, line, changed in equivalents():
        possible = {(mutant.change.text, mutant.change.changed) for mutant in mutants_of(repository, path)}
        assert (line, changed) in possible, f"{EQUIVALENT}: {path}: {line}"
