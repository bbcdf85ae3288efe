"""Figures in tests: drawn where a test is about them; elsewhere one pixel stands for each.

Of a short run two thirds of the seconds go into figures, half of them into pixels, half into building seven of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib.figure import Figure
from PIL import Image

import opinionlm.data.preparation.report as data_report
from opinionlm.reporting import charts, figures

# What a run's own figures are built by, where every run finds it.
BUILDERS = ((charts, "draw"), (figures, "learning_curves"))
SAVE, DRAW_LENGTHS = Figure.savefig, data_report.draw_token_lengths


class _Drawing:
    """Whether figures are drawn now."""

    on = True


def leave_a_pixel(figure: Figure, target: Path | BinaryIO, *, format: str | None = None, **options: Any) -> None:
    """Stand for ``Figure.savefig``: a valid file of the same kind that shows nothing."""
    if _Drawing.on:
        SAVE(figure, target, format=format, **options)
    elif (format or Path(target).suffix[1:]) == "svg":
        _write(target, b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    else:
        buffer = io.BytesIO()
        Image.new("RGB", (1, 1)).save(buffer, "PNG")
        _write(target, buffer.getvalue())


def _write(target: Path | BinaryIO, content: bytes) -> None:
    if isinstance(target, io.IOBase):
        target.write(content)
    else:
        Path(target).write_bytes(content)


def leave_empty(build: Callable[..., Figure]) -> Callable[..., Figure]:
    """Stand for a function that builds a figure: one without anything."""

    @wraps(build)
    def built(*arguments: Any, **options: Any) -> Figure:
        return build(*arguments, **options) if _Drawing.on else Figure()

    return built


def leave_lengths_out(path: Path, parts: list) -> None:
    """Stand for the figure of a data report."""
    if _Drawing.on:
        DRAW_LENGTHS(path, parts)
    else:
        leave_a_pixel(Figure(), path)


def draw_nothing() -> None:
    """From now on figures of this process are left out, but within `drawn`."""
    Figure.savefig = leave_a_pixel
    data_report.draw_token_lengths = leave_lengths_out
    for module, name in BUILDERS:
        setattr(module, name, leave_empty(getattr(module, name)))
    _Drawing.on = False


@contextmanager
def drawn() -> Iterator[None]:
    """Truly draw the figures that are saved meanwhile."""
    before, _Drawing.on = _Drawing.on, True
    try:
        yield
    finally:
        _Drawing.on = before
