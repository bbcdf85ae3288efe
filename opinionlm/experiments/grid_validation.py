"""What can be known of a grid before its first run: whether every config is valid, and what is left to do."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opinionlm.errors import UserError
from opinionlm.experiments.grid import Table
from opinionlm.experiments.grid_runner import Run
from opinionlm.parsing import parse_config


def check_options(runs: Sequence[Run], source: Path) -> None:
    """Parse the config of every cell, as its script will.

    Raises:
        UserError: an option that the script does not know, or a config it refuses; with the cell's name.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cell.yaml"
        # Seeds of a cell have the same options.
        for run in {run.cell.name: run for run in runs}.values():
            file.write_text(yaml.safe_dump(run.options()), encoding="utf-8")
            script = run.cell.script.removesuffix(".py")
            try:
                parse_config(["--config", str(file)], description="", script=script)
            except UserError as error:
                reason = str(error).replace(f"{file}: ", "")
                raise UserError(f"{source}: cell {run.cell.name!r}: {reason}") from None


def plan_text(table: Table, runs: Sequence[Run], jobs: int = 1) -> str:
    """The runs of a table, which of them are finished, and how long the others may take."""
    metrics = {run.folder.name: run.metrics for run in runs}
    pending = [run for run in runs if metrics[run.folder.name] is None]
    lines = [f"{table.title} ({table.source}), scale {table.scale}"]
    lines.append(
        f"{len(table.cells)} cells × {len(table.seeds)} seeds, {len(pending)} runs to do; "
        + estimate(table, runs, metrics, jobs)
    )
    places: dict[str, set[str]] = {}
    for cell in table.cells:
        for name, reason in cell.left_out.items():
            places.setdefault(name, set()).add(reason)
    if places:
        shown = "; ".join(f"{name} ({', '.join(sorted(reasons))})" for name, reasons in places.items())
        lines.append(f"left out of the cells that do not read them: {shown}")
    for run in runs:
        done = "finished" if metrics[run.folder.name] is not None else "to do"
        lines.append(f"  {done:<9} {run.cell.script:<20} {run.folder.name}")
    return "\n".join(lines)


def whole_seconds(cost: Mapping[str, Any]) -> float:
    """Seconds that a finished run took; of one from before totals were kept, what it trained and predicted."""
    if "total_seconds" in cost:
        return cost["total_seconds"]
    return sum(cost[name] for name in ("train_seconds", "predict_seconds") if name in cost)


def estimate(table: Table, runs: Sequence[Run], metrics: Mapping[str, Mapping[str, Any] | None], jobs: int) -> str:
    """Minutes of training that are left.

    A run is taken to last as long as the finished seeds of its own cell, else as the mean of all finished runs, else
    as long as the table says.
    """
    seconds: dict[str, list[float]] = {}
    for run in runs:
        found = metrics[run.folder.name]
        if found is not None and "cost" in found:
            seconds.setdefault(run.cell.name, []).append(whole_seconds(found["cost"]))
    pending = [run for run in runs if metrics[run.folder.name] is None]
    if not pending:
        return "nothing left to run"
    shared = f" with {jobs} at a time" if jobs > 1 else ""
    if seconds:
        typical = float(np.mean([value for values in seconds.values() for value in values]))
        left = sum(float(np.mean(seconds.get(run.cell.name, [typical]))) for run in pending) / jobs
        return f"about {left / 60:.0f} min of training left{shared} ({typical:.0f} s per run so far)"
    if table.minutes is not None:
        left = len(pending) * table.minutes / jobs
        return f"about {left:.0f} min{shared}, by experience {table.minutes:g} min per run on two cores"
    return "cost unknown until the first run is finished"
