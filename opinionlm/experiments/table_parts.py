"""What stands below the cells of a table: means over the labels of an axis, and numbers of every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opinionlm.config.chosen_metric import direction
from opinionlm.experiments.cells import EPOCH, Cell
from opinionlm.experiments.costs import Cost
from opinionlm.experiments.dashboard.collect import read_history
from opinionlm.experiments.grid import Table
from opinionlm.experiments.run_numbers import measured_text, number
from opinionlm.experiments.ways import CLAIMED
from opinionlm.runs.seeds import mean_and_interval
from opinionlm.utils.files import write_csv
from opinionlm.utils.markdown import pipe_table


@dataclass(frozen=True)
class Result:
    """What came of one cell.

    Attributes:
        cell: the cell.
        seeds: how many of its runs are finished.
        measured: measure → mean, std and interval over the finished seeds; missing where a run has no such number.
        epochs: epoch → column → the same of what the runs' histories say.
        cost: what its runs and trials took; None without a score, or where they do not tell.
    """

    cell: Cell
    seeds: int
    measured: Mapping[str, Mapping[str, Any]]
    epochs: Mapping[int, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    cost: Cost | None = None

    def difference(self, measure: str) -> float | None:
        """Measured mean minus published value, where there are both."""
        if measure not in self.measured or measure not in self.cell.published:
            return None
        return self.measured[measure]["mean"] - self.cell.published[measure]


@dataclass(frozen=True)
class MeanRow:
    """The mean of the cells that differ in one axis alone.

    Attributes:
        labels: other axis → label.
        measured: measure → mean, std and interval over the axis' labels; missing where a cell has none.
        published: measure → mean of the published values; missing where a cell has none.
        gains: measure → relative change from the row with the first label of the axis of gains.
    """

    labels: Mapping[str, str]
    measured: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, float]
    gains: Mapping[str, float] = field(default_factory=dict)


def mean_rows(table: Table, results: Sequence[Result]) -> list[MeanRow]:
    """One row per combination of the other axes' labels, in the order of the cells; none where no mean is asked for.

    A mean is of all labels or none: over some of them it would stand beside that of all.
    """
    if table.mean_over is None:
        return []
    groups: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        key = tuple((axis, label) for axis, label in result.cell.labels.items() if axis != table.mean_over.axis)
        groups.setdefault(key, []).append(result)
    rows = {
        key: MeanRow(
            dict(key),
            {
                name: mean_and_interval([result.measured[name]["mean"] for result in found], place)
                for name, place in table.measures.items()
                if all(name in result.measured for result in found)
            },
            {
                name: sum(result.cell.published[name] for result in found) / len(found)
                for name in table.measures
                if table.comparable and all(name in result.cell.published for result in found)
            },
        )
        for key, found in groups.items()
    }
    return [MeanRow(row.labels, row.measured, row.published, gains_of(row, rows, table)) for row in rows.values()]


def gains_of(row: MeanRow, rows: Mapping[tuple[tuple[str, str], ...], MeanRow], table: Table) -> dict[str, float]:
    """Relative changes of a row's means from those of the row with the first label of the axis of gains."""
    axis = table.mean_over.gain if table.mean_over is not None else None
    if axis is None:
        return {}
    first = next(iter(rows.values())).labels[axis]
    base = rows[tuple((name, first if name == axis else label) for name, label in row.labels.items())]
    return {
        name: row.measured[name]["mean"] / base.measured[name]["mean"] - 1
        for name in row.measured
        if row is not base and name in base.measured and base.measured[name]["mean"]
    }


def mean_lines(table: Table, results: Sequence[Result]) -> list[str]:
    """Markdown of the means, changes behind them; nothing where no mean is asked for."""
    rows = mean_rows(table, results)
    if not rows or table.mean_over is None:
        return []
    columns = [axis for axis in table.axes if axis != table.mean_over.axis]
    published = [name for name in table.measures if any(name in row.published for row in rows)]
    lines = [
        [
            *row.labels.values(),
            *(text for name in table.measures for text in mean_texts(row, name, name in published)),
        ]
        for row in rows
    ]
    names = [n for name in table.measures for n in ([name, f"{name}, published"] if name in published else [name])]
    gain = f"; in brackets the change from the first label of {table.mean_over.gain}" if table.mean_over.gain else ""
    title = f"**Mean over {table.mean_over.axis}** ± standard deviation{gain}"
    return ["", title, "", *pipe_table([*columns, *names], lines)]


def mean_texts(row: MeanRow, measure: str, has_published: bool) -> list[str]:
    """A mean with its change, and the published mean where the table has some."""
    text = measured_text(row.measured.get(measure))
    if measure in row.gains:
        text += f" ({row.gains[measure]:+.1%})"
    return [text, number(row.published.get(measure))] if has_published else [text]


def write_means(folder: Path, table: Table, results: Sequence[Result]) -> list[Path]:
    """Write ``means.csv``, one line per row and measure; nothing where no mean is asked for."""
    rows = mean_rows(table, results)
    if not rows:
        return []
    lines = [
        [*row.labels.values(), name, entry["mean"], entry["std"], row.published.get(name), row.gains.get(name)]
        for row in rows
        for name, entry in row.measured.items()
    ]
    path = folder / "means.csv"
    write_csv(
        path,
        [*rows[0].labels, "measure", "mean", "std", "published", "change", "comparable"],
        [[*line, table.comparable] for line in lines],
    )
    return [path]


def epochs_of(folders: Sequence[Path], columns: Mapping[str, str]) -> dict[int, dict[str, dict[str, Any]]]:
    """What the histories of runs say at the last evaluation of every epoch: epoch → column → mean over the runs.

    Args:
        folders: of runs that differ in their seed alone.
        columns: column → name of an entry, such as ``eval_loss``.
    """
    histories = [
        {
            math.ceil(entry["epoch"] - 1e-9): entry
            for entry in read_history(folder / "history.json")
            if "eval_loss" in entry
        }
        for folder in folders
    ]
    common = [epoch for epoch in (histories[0] if histories else ()) if all(epoch in one for one in histories)]
    return {
        epoch: {
            column: mean_and_interval([float(one[epoch][name]) for one in histories], name)
            for column, name in columns.items()
            if all(name in one[epoch] for one in histories)
        }
        for epoch in common
    }


def epoch_rows(table: Table, results: Sequence[Result]) -> list[tuple[Result, int]]:
    """The epochs that a cell has run or, but in a smoke test, the paper tells of."""
    return [
        (result, epoch)
        for result in results
        for epoch in sorted({*result.epochs, *(result.cell.published_epochs if table.comparable else ())})
    ]


def published_at(table: Table, result: Result, epoch: int) -> Mapping[str, float]:
    """What the paper tells of an epoch; nothing in a smoke test, whose numbers mean nothing beside it."""
    return result.cell.published_epochs.get(epoch, {}) if table.comparable else {}


def epoch_lines(table: Table, results: Sequence[Result]) -> list[str]:
    """Markdown of every epoch's numbers, the published ones beside them; nothing where there are none."""
    rows = epoch_rows(table, results)
    if not rows:
        return []
    names = [title for column in table.epochs for title in (column, f"{column}, published")]
    lines = []
    for result, epoch in rows:
        found, old = result.epochs.get(epoch, {}), published_at(table, result, epoch)
        texts = [text for name in table.epochs for text in (measured_text(found.get(name)), number(old.get(name)))]
        lines.append([*result.cell.labels.values(), str(epoch), *texts])
    return ["", "**By epoch**", "", *pipe_table([*table.axes, EPOCH, *names], lines)]


def write_epochs(folder: Path, table: Table, results: Sequence[Result]) -> list[Path]:
    """Write ``epochs.csv``, one line per cell, epoch and column; nothing where there are none."""
    lines = [
        [*result.cell.labels.values(), epoch, name, *([entry["mean"], entry["std"]] if entry else ["", ""]), old]
        for result, epoch in epoch_rows(table, results)
        for name in table.epochs
        for entry in [result.epochs.get(epoch, {}).get(name)]
        for old in [published_at(table, result, epoch).get(name)]
    ]
    if not lines:
        return []
    path = folder / "epochs.csv"
    write_csv(
        path,
        [*table.axes, EPOCH, "measure", "mean", "std", "published", "comparable"],
        [[*line, table.comparable] for line in lines],
    )
    return [path]


def score_beside_cost(table: Table) -> str | None:
    """The measure by which ways are told apart, else the first test score of which more is better; None for none."""
    places = {name: place.removeprefix("test.") for name, place in table.measures.items() if place.startswith("test.")}
    scores = [name for name, place in places.items() if direction(place) != "lower"]
    return next((name for name in scores if places[name] in CLAIMED), next(iter(scores), None))
