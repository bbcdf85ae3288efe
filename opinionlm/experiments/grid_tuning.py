"""The rows of a table, each tuned with the same budget before its runs."""

from __future__ import annotations

from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from opinionlm.config.config import Config
from opinionlm.errors import UserError
from opinionlm.experiments.grid import Table
from opinionlm.runs.tuning_spaces import (
    Space,
    Tuning,
    require_all_read,
    require_not_given,
    require_optuna,
    space_of,
)
from opinionlm.utils.shipped import job_environment


def spaces_of(tuning: Tuning, configs: Mapping[str, Config], source: Path) -> dict[str, Space]:
    """The space of every row; one that reads nothing of what is tuned has none.

    Args:
        tuning: of the table.
        configs: by the cells' names, from `check_options`.
        source: the table's YAML, for messages.

    Raises:
        UserError: an option that no row reads, a value that a row refuses, or rows that differ in nothing else.
    """
    spaces = {}
    for name, config in configs.items():
        try:
            spaces[name] = space_of(tuning, config)
        except UserError as error:
            raise UserError(f"{source}: cell {name!r}: {error}") from None
    require_all_read(tuning, spaces.values(), f"{source}: tune")
    seen: dict[str, str] = {}
    for name, config in configs.items():
        own = {"run_name", "wandb_tags", *spaces[name]}
        rest = repr((config.script, sorted((k, v) for k, v in config.flat().items() if k not in own)))
        if rest in seen and spaces[name]:
            raise UserError(
                f"{source}: tune: the cells {seen[rest]!r} and {name!r} differ only in what is tuned; leave one out"
            )
        seen[rest] = name
    return spaces


def require_untuned(overrides: Mapping[str, Any], tuning: Tuning, configs: Mapping[str, Config], source: Path) -> None:
    """Refuse options of the command line that trials choose; the other arguments are those of `spaces_of`.

    Raises:
        UserError: there is one; or see `spaces_of`.
    """
    spaces = spaces_of(tuning, configs, source)
    require_not_given({name: f"--{name}" for name in overrides}, {name for one in spaces.values() for name in one})


def tune_rows(
    table: Table, names: Set[str], configs: Mapping[str, Config], source: Path, folder: Path, jobs: int
) -> Table:
    """Tune rows, ``jobs`` at a time; several processes or machines may do so together.

    Args:
        table: with ``tune``.
        names: of the cells that are tuned.
        configs: by the cells' names, from `check_options`.
        source: the table's YAML, for messages.
        folder: of the table; gets ``tuning/`` with a folder per row.
        jobs: rows at a time; each gets its share of the cores.

    Returns:
        The table with the best values among the options of these cells.

    Raises:
        UserError: see `spaces_of` and `opinionlm.runs.tuning.tune`; all others are tuned before.
    """
    require_optuna()
    # Loaded late: Optuna is an extra.
    from opinionlm.runs.tuning import tune
    from opinionlm.runs.tuning_trials import Trainings

    tuning = table.tuning
    assert tuning is not None
    rows = [name for name, space in spaces_of(tuning, configs, source).items() if space and name in names]
    trainings = Trainings(job_environment(jobs), forks=True)
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            name: pool.submit(
                tune, configs[name], tuning, f"{table.group}/{name}", folder / "tuning" / name, trainings
            )
            for name in rows
        }
        try:
            wait(futures.values())
        except KeyboardInterrupt:
            # The threads end with the trials under way, which are put back.
            pool.shutdown(wait=False, cancel_futures=True)
            trainings.stopped.set()
            raise
        failed = {name: error for name, future in futures.items() if (error := future.exception()) is not None}
    for name, error in failed.items():
        if not isinstance(error, UserError):
            raise error
        raise UserError(f"{source}: cell {name!r}: {error}" + f" (and {len(failed) - 1} more)" * (len(failed) > 1))
    tuned = {name: future.result() for name, future in futures.items()}
    cells = tuple(
        replace(cell, options=dict(cell.options) | dict(tuned[cell.name].best.values)) if cell.name in tuned else cell
        for cell in table.cells
    )
    return replace(table, cells=cells, tuned=tuned)
