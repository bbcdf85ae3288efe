"""A page of what works with what, of which docs/methods_matrix.md and docs/export_matrix.md are made."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.tiny import FAMILIES


def matrix_page(
    head: Sequence[str], kind: str, tasks: Iterable[str], kinds: Iterable[str], results: Mapping[tuple, str]
) -> str:
    """A Markdown page with a table per task, families across, and the reasons of refusals below.

    Args:
        head: the lines before the tables.
        kind: what the rows of a table are.
        tasks: one table each.
        kinds: the rows.
        results: ``works``, or why not, of every (task, kind, family) that was tried.
    """
    reasons = sorted({reason for reason in results.values() if reason not in ("works", "not tried")})
    lines = list(head)
    for task in tasks:
        lines += ["", f"## {task}", "", f"| {kind} | " + " | ".join(FAMILIES) + " |"]
        lines.append("| --- |" + " :-: |" * len(FAMILIES))
        for one in kinds:
            cells = [results.get((task, one, family), "not tried") for family in FAMILIES]
            marks = {reason: str(number) for number, reason in enumerate(reasons, start=1)}
            marks |= {"works": "✓", "not tried": "·"}
            lines.append(f"| {one} | " + " | ".join(marks[cell] for cell in cells) + " |")
    lines += ["", "## Refusals", ""]
    lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join(lines) + "\n"


def written_results(page: str) -> dict[tuple[str, str, str], str]:
    """What a page says of every (task, kind, family): ``works``, ``not tried`` or the reason of a refusal."""
    results = {}
    body, refusals = page.split("\n## Refusals\n")
    outcomes = {"✓": "works", "·": "not tried"} | dict(re.findall(r"^(\d+)\. (.*)$", refusals, re.MULTILINE))
    for section in body.split("\n## ")[1:]:
        task, table = section.split("\n", 1)
        (_, *families), _, *rows = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()
        )
        for kind, *marks in rows:
            results |= {(task, kind, family): outcomes[mark] for family, mark in zip(families, marks, strict=True)}
    return results


def committed_outcome(page: str, task: str, kind: str, family: str) -> str:
    """What a page says of a cell: ``works``, or the reason of a refusal."""
    results = written_results(page)
    missing = (
        f"it says nothing of {kind!r} on {family!r}; write the new columns with the command that stands at its top "
        "and their families, and all of the page without families"
    )
    assert (task, kind, family) in results, missing
    return results[task, kind, family]


def write_page(name: str, matrix: Callable[[Sequence[str], Mapping[tuple, str]], str]) -> None:
    """Write a page of docs/ anew: the families that the command line names, the others as they stand; or all.

    Args:
        name: of the file.
        matrix: makes the page, given the families to try and what is known of the others.
    """
    path, families = Path(__file__).parents[1] / "docs" / name, sys.argv[1:]
    if unknown := [family for family in families if family not in FAMILIES]:
        sys.exit(f"{', '.join(unknown)}: no entry of FAMILIES in tests/tiny.py")
    known = written_results(path.read_text(encoding="utf-8")) if families else {}
    path.write_text(matrix(families or list(FAMILIES), known), encoding="utf-8")
