"""What a table would do: every cell rehearsed, its data, its parameters beside the paper's, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from opinionlm.config.config import Config
from opinionlm.data.preparation.sources import source_of
from opinionlm.errors import UserError
from opinionlm.experiments.cells import Cell
from opinionlm.experiments.differences import difference_line
from opinionlm.experiments.grid import Table
from opinionlm.experiments.run_numbers import signed
from opinionlm.runs.rehearsal import Rehearsal, rehearse

TRAINABLE = "model.trainable_parameters"


def dry_run_text(table: Table, configs: Mapping[str, Config], source: Path) -> str:
    """What is known of a table before it runs.

    Args:
        table: the table.
        configs: of the cells that are to run, by their names, from `check_options`.
        source: the table's YAML, for messages.

    Raises:
        UserError: a cell that its run would refuse, or files that are not there.
    """
    rehearsed = rehearse_cells(configs, source)
    lines = [*data_lines(list(configs.values())), *cell_lines(table, rehearsed)]
    return "\n".join([*lines, difference_line(table.source, table.differences)])


def rehearse_cells(configs: Mapping[str, Config], source: Path) -> dict[str, Rehearsal]:
    """Rehearse every cell.

    Raises:
        UserError: a cell that its run would refuse, and how many others there are.
    """
    rehearsed, refused = {}, []
    for name, config in configs.items():
        try:
            rehearsed[name] = rehearse(config)
        except UserError as error:
            refused.append(f"{source}: cell {name!r}: {error}")
    if refused:
        others = f" (and {len(refused) - 1} more cells are refused)" if len(refused) > 1 else ""
        raise UserError(refused[0] + others)
    return rehearsed


def data_lines(configs: Sequence[Config]) -> list[str]:
    """Where the data of cells come from; one line per data set.

    Raises:
        UserError: files that are not there.
    """
    lines = {}
    for config in configs:
        data = config.data
        key = (data.dataset, data.data_dir, data.data_source)
        if key not in lines:
            lines[key] = f"data    {data.dataset}: {source_of(data)}"
    return list(lines.values())


def cell_lines(table: Table, rehearsed: Mapping[str, Rehearsal]) -> list[str]:
    """One line per cell: rows that it reads, parameters that train, and the paper's number of them."""
    lines = []
    for cell in (one for one in table.cells if one.name in rehearsed):
        found = rehearsed[cell.name]
        parts = [f"{name} {count:,}" for name, count in found.rows.items()] or ["rows unknown until the data are read"]
        if found.parameters:
            trainable, total = found.parameters["trainable_parameters"], found.parameters["total_parameters"]
            part = f" {found.part}" if found.part else ""
            parts.append(f"trains {trainable:,} of {total:,}{part}{published_text(table, cell, trainable)}")
        lines.append(f"  {cell.name}: {', '.join(parts)}")
    remarks = dict.fromkeys(remark for found in rehearsed.values() for remark in found.remarks)
    return lines + [f"note    {remark}" for remark in remarks]


def published_text(table: Table, cell: Cell, trainable: int) -> str:
    """The paper's number of trainable parameters behind ours; blank where it gives none."""
    measure = next((name for name, place in table.measures.items() if place == TRAINABLE), None)
    if measure is None or measure not in cell.published:
        return ""
    published = int(cell.published[measure])
    difference = "" if trainable == published else f", {signed(trainable - published)}"
    return f" (paper {published:,}{difference})"
