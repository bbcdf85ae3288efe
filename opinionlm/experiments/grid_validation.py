"""What can be known of a grid before its first run: whether every config is valid, and what is left to do."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from opinionlm.errors import UserError
from opinionlm.experiments.grid import Table
from opinionlm.experiments.grid_runner import Run
from opinionlm.parsing import parse_config


def check_options(runs: Sequence[Run], source: Path) -> None:
    """Parse the config of every run, as the run's script will.

    Raises:
        UserError: an option that the script does not know, or a config it refuses; with the cell's name.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cell.yaml"
        for run in runs:
            file.write_text(yaml.safe_dump(run.options()), encoding="utf-8")
            script = run.cell.script.removesuffix(".py")
            try:
                parse_config(["--config", str(file)], description="", script=script)
            except UserError as error:
                reason = str(error).replace(f"{file}: ", "")
                raise UserError(f"{source}: cell {run.cell.name!r}: {reason}") from None


def plan_text(table: Table, runs: Sequence[Run]) -> str:
    """The runs of a table, which of them are finished, and how long the others may take."""
    metrics = {run.folder.name: run.metrics for run in runs}
    seconds = [m["cost"]["train_seconds"] for m in metrics.values() if m is not None and "cost" in m]
    pending = sum(m is None for m in metrics.values())
    if pending == 0:
        estimate = "nothing left to run"
    elif seconds:
        typical = float(np.mean(seconds))
        estimate = f"about {pending * typical / 60:.0f} min of training left ({typical:.0f} s per run so far)"
    else:
        estimate = "cost unknown until the first run is finished"
    lines = [f"{table.title} ({table.source}), scale {table.scale}"]
    lines.append(f"{len(table.cells)} cells × {len(table.seeds)} seeds, {pending} runs to do; {estimate}")
    for run in runs:
        done = "finished" if metrics[run.folder.name] is not None else "to do"
        lines.append(f"  {done:<9} {run.cell.script:<20} {run.folder.name}")
    return "\n".join(lines)
