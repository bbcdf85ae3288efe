"""Comparisons that a table asks for with ``compare: <axis>``: its runs along that axis, post by post."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opinionlm.experiments.compare import compare_folders, write_comparison
from opinionlm.experiments.grid import Table
from opinionlm.experiments.grid_runner import Run


def write_comparisons(folder: Path, table: Table, runs: Sequence[Run]) -> list[Path]:
    """One comparison for every seed and combination of the other axes' labels.

    Args:
        folder: gets ``comparisons/``.
        table: with the axis in ``compare``; without one nothing is written.
        runs: of the table; where fewer than two runs of a comparison are finished, it is left out.

    Returns:
        The files.

    Raises:
        UserError: runs were evaluated on different posts.
    """
    if table.compare is None:
        return []
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        others = tuple(label for axis, label in run.cell.labels.items() if axis != table.compare)
        groups.setdefault((*others, f"seed{run.seed}"), []).append(run)
    paths: list[Path] = []
    for labels, members in groups.items():
        finished = [run.folder for run in members if run.metrics is not None]
        if len(finished) >= 2:
            stem = folder / "comparisons" / "-".join(labels).lower().replace(" ", "_").replace("/", "_")
            paths += write_comparison(stem, *compare_folders(finished, "test"))
    return paths
