"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A small table to look at."""

    columns: list[str]
    rows: list[list[str | int | float]]


def plain_cell(value: str | int | float) -> str:
    """A value of ours: three digits behind the point; line ends and pipes are made harmless."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def cell(value: str | int | float) -> str:
    """A value from data: thousands separated, text from posts harmless."""
    if not isinstance(value, str):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}" if value < 1e5 else f"{value:,.0f}"
    text = "".join(char if char.isprintable() else " " for char in value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def pipe_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], shown: Callable[[Any], str] = plain_cell
) -> list[str]:
    """Lines of a Markdown table, every value of a row as `shown` writes it."""
    lines = [map(plain_cell, columns), ["---"] * len(columns), *(map(shown, row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def markdown(table: Table) -> str:
    """A table in Markdown."""
    return "\n".join(pipe_table(table.columns, table.rows))
