"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def table(header: list[str], rows: list[list[Any]]) -> list[str]:
    """Markdown table lines."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]


def cell(value: Any) -> str:
    """A value as Markdown: thousands separated, text from posts harmless."""
    if not isinstance(value, str):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}" if value < 1e5 else f"{value:,.0f}"
    text = "".join(char if char.isprintable() else " " for char in value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


@dataclass(frozen=True)
class Table:
    """A small table to look at."""

    columns: list[str]
    rows: list[list[str | int | float]]


def pipe_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def markdown(table: Table) -> str:
    """A table in Markdown; line ends and pipes in cells are made harmless."""

    def cell(value: str | int | float) -> str:
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        return " ".join(text.replace("|", "\\|").split())

    lines: list[Sequence[str | int | float]] = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
