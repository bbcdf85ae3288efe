"""Figures in tests: drawn where a test is about them; elsewhere one pixel stands for each.

Of a short run two thirds of the seconds go into pixels: layout, letters and compression of seven figures. They are
still built, with all their numbers; only their drawing is left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib.figure import Figure
from PIL import Image

DRAW = Figure.savefig


def leave_a_pixel(figure: Figure, target: Path | BinaryIO, *, format: str | None = None, **options: Any) -> None:
    """Stand for ``Figure.savefig``: a valid file of the same kind that shows nothing."""
    if (format or Path(target).suffix[1:]) == "svg":
        content = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    else:
        buffer = io.BytesIO()
        Image.new("RGB", (1, 1)).save(buffer, "PNG")
        content = buffer.getvalue()
    if isinstance(target, io.IOBase):
        target.write(content)
    else:
        Path(target).write_bytes(content)


@contextmanager
def figures_saved_by(save: Any) -> Iterator[None]:
    """Let another function save figures, for a while."""
    before = Figure.savefig
    Figure.savefig = save
    try:
        yield
    finally:
        Figure.savefig = before


def drawn():
    """Truly draw the figures that are saved meanwhile."""
    return figures_saved_by(DRAW)
