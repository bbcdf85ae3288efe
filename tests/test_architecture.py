"""The rules of docs/design.md that a program can check."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ["config", "data", "models", "adaptation", "training", "evaluation", "experiments"]
MODULES = sorted((ROOT / "opinionlm").rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    """Names directly below ``opinionlm`` that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("opinionlm.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    part = path.relative_to(ROOT / "opinionlm").parts[0].removesuffix(".py")
    if part not in ORDER:
        return
    later = set(ORDER[ORDER.index(part) + 1 :])
    # Training gets its metrics handed in; evaluation in turn knows nothing of training.
    forbidden = later | ({"training"} if part == "evaluation" else set())
    assert imported_parts(path) & forbidden == set()


@pytest.mark.parametrize("path", [*MODULES, *ROOT.glob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_have_one_subject(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= (150 if path.parent == ROOT else 400)
