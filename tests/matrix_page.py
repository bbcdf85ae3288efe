"""A page of what works with what, of which docs/methods_matrix.md and docs/export_matrix.md are made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

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
    reasons = sorted({reason for reason in results.values() if reason != "works"})
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


def committed_outcome(page: str, task: str, kind: str, family: str) -> str:
    """What a page says of a cell: ``works``, or the reason of a refusal."""
    section = page.split(f"## {task}\n")[1].split("\n## ")[0]
    row = next(line for line in section.splitlines() if line.startswith(f"| {kind} |"))
    mark = row.split("|")[2 + list(FAMILIES).index(family)].strip()
    return "works" if mark == "✓" else re.search(rf"^{mark}\. (.*)$", page, re.MULTILINE).group(1)
