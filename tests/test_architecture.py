"""The rules of docs/design.md that a program can check."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "opinionlm"
MODULES = sorted(PACKAGE.rglob("*.py"))
# From the ground up: a room imports its own modules and those of the rooms before it.
ROOMS = ["errors", "utils", "config", "data", "models", "adaptation", "evaluation", "training", "tasks"]
ROOMS += ["inference", "reporting", "runs", "experiments", "scripts", "api"]
# The package's own face, which hands out names of every room when they are asked for.
FACE = ["__init__", "__main__", "registration"]


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, nodes: list[ast.AST]) -> set[str]:
    """Modules of the package that a module imports, wherever it does, ``TYPE_CHECKING`` included."""
    modules: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "opinionlm":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                modules.add(whole if (ROOT / whole.replace(".", "/")).with_suffix(".py").is_file() else node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.split(".")[0] == "opinionlm"}
    return modules - {name_of(path)}


def room_of(module: str) -> str:
    """The room that a module lies in."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def parsed() -> tuple[dict[str, set[str]], set[str]]:
    """What every module imports, and the modules with a ``match`` on a task; parsing takes seconds."""
    imports, matching = {}, set()
    for path in MODULES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        imports[name_of(path)] = imports_of(path, nodes)
        subjects = [ast.unparse(node.subject) for node in nodes if isinstance(node, ast.Match)]
        if any(subject.split(".")[-1] == "task" for subject in subjects):
            matching.add(name_of(path))
    return imports, matching


def test_every_module_lies_in_a_room() -> None:
    assert {room_of(module) for module in parsed()[0]} <= {*ROOMS, *FACE}


def test_imports_run_downward() -> None:
    upward = {
        (module, other)
        for module, others in parsed()[0].items()
        if room_of(module) in ROOMS
        for other in others
        if room_of(other) not in ROOMS[: ROOMS.index(room_of(module)) + 1]
    }
    assert upward == set()


def test_no_circle() -> None:
    """Modules whose imports are all resolved are taken away until none is left; a circle would be."""
    imports, _ = parsed()
    left = {module: others & imports.keys() for module, others in imports.items()}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in free}
    assert sorted(left) == []


def test_files_have_one_subject() -> None:
    for path in [*MODULES, *ROOT.glob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= (150 if path.parent == ROOT else 400), path


def test_tasks_are_told_apart_in_their_own_room() -> None:
    """``match`` on a task stands in ``tasks/``, and where files of data become rows of a task."""
    assert {room_of(module) for module in parsed()[1]} <= {"tasks", "data"}
