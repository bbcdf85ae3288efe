"""A part of a table: the cells that a command line names by their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from opinionlm.errors import UserError
from opinionlm.experiments.cells import ANY, Cell
from opinionlm.utils.names import nearest


def selected_cells(given: Sequence[str], axes: Sequence[str], cells: Sequence[Cell], source: str) -> Set[str]:
    """The cells that are to run.

    Args:
        given: ``AXIS=LABEL`` each. A cell needs one of the labels of every axis that is named; one that goes without
            an axis (`without`) has all of its labels. Nothing given names every cell.
        axes: names of the table's axes.
        cells: of the table.
        source: the table's YAML, for messages.

    Returns:
        Their names, with those of the cells that label texts for them.

    Raises:
        UserError: no ``=``, an unknown axis or label, or labels that no cell has together.
    """
    wanted: dict[str, set[str]] = {}
    for text in given:
        axis, equals, label = text.partition("=")
        if not equals:
            raise UserError(f"--only {text}: must be AXIS=LABEL, as in --only {quoted(cells[0].labels)}")
        if axis not in axes:
            raise UserError(f"--only {text}: {source} has no axis {axis!r}{nearest(axis, axes)}")
        labels = list(dict.fromkeys(cell.labels[axis] for cell in cells))
        if label not in labels:
            raise UserError(f"--only {text}: {axis!r} of {source} has no label {label!r}{nearest(label, labels)}")
        wanted.setdefault(axis, set()).add(label)
    chosen = [cell for cell in cells if all(cell.labels[axis] in {*names, ANY} for axis, names in wanted.items())]
    if not chosen:
        raise UserError(f"--only {' '.join(given)}: no cell of {source} has these labels together")
    return {cell.name for cell in chosen} | {cell.teacher for cell in chosen if cell.teacher is not None}


def quoted(labels: Mapping[str, str]) -> str:
    """The first label of a cell as one would type it."""
    axis, label = next(iter(labels.items()))
    return f"'{axis}={label}'"
