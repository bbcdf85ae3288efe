"""Invented posts by the million, in the form of the bundled sample: three files with all their damage.

Every part is a bundled sample of another seed (`tools.sample_posts`), so a million posts hold what three
thousand hold: copies, contradictory labels, records with too many fields, damaged characters.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tools.sample_posts.__main__ import build

FILES = ("reddit.csv", "twitter.csv", "youtube.csv")
ROWS_PER_PART = 3_038


def write_posts(folder: Path, rows: int) -> int:
    """Write ``sample/reddit.csv`` and the other two files.

    Args:
        folder: the data folder to be; files that are there already are kept.
        rows: records wanted; whole parts are written, so there are a few more.

    Returns:
        The records written, those that no reader can use included.
    """
    parts = max(1, -(-rows // ROWS_PER_PART))
    target = folder / "sample"
    if not all((target / name).is_file() for name in FILES):
        target.mkdir(parents=True, exist_ok=True)
        drafts = [target / f"{name}.part" for name in FILES]
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            for number, part in enumerate(pool.map(_part, range(parts), chunksize=4)):
                for path, content in zip(drafts, part, strict=True):
                    with path.open("ab" if number else "wb") as file:
                        file.write(content if number == 0 else _without_header(content))
        for path in drafts:
            path.rename(path.with_suffix(""))
    return parts * ROWS_PER_PART


def _part(number: int) -> list[bytes]:
    files = build(10_000 + 10 * number)
    return [files[name] for name in FILES]


def _without_header(content: bytes) -> bytes:
    return content.split(b"\n", 1)[1]
