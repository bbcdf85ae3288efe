"""The cells of a table: a label per axis, the options that they stand for, and what was published of them.

An option that one cell reads and another does not is left out of the latter; one that no cell reads is an error, and
so is one that stands in the same mapping of an axis as the choice that does not read it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opinionlm.config.conditions import Script
from opinionlm.config.parser import Layer, combine
from opinionlm.config.unread import unread_options
from opinionlm.errors import UserError
from opinionlm.utils.names import nearest
from opinionlm.utils.typed_values import check_keys

SCRIPTS: dict[str, Script] = {
    "train_classifier.py": "train_classifier",
    "train_instruct.py": "train_instruct",
    "prompt.py": "prompt",
}
SCALE_KEYS = {"options", "seeds", "axes", "note", "minutes", "differs", "tune"}
# A grid decides these itself.
RESERVED = {"output_dir", "run_name", "seed", "seeds", "overwrite", "tune", "push_to_hub"}
# What an axis may say of its cells that is no option of their scripts.
OF_CELLS = {"script", "teacher", "without"}
# The label of a cell on an axis that it goes without.
ANY = "any"
EPOCH = "Epoch"


@dataclass(frozen=True)
class Cell:
    """One row of a table: a label per axis, and the options they stand for.

    Attributes:
        labels: axis → label.
        script: what runs it.
        options: every option that differs from the defaults.
        published: measure → value in the paper, where it gives one.
        published_epochs: epoch → column of the table's epochs → value in the paper.
        teacher: name of the cell whose runs label the texts that they did not learn from, for this one to learn from.
        left_out: options that its choices do not read → that choice.
    """

    labels: Mapping[str, str]
    script: str
    options: Mapping[str, Any]
    published: Mapping[str, float]
    published_epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    teacher: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A folder name made of the labels."""
        return folder_name(self.labels)


def folder_name(labels: Mapping[str, str]) -> str:
    """A folder name made of a cell's labels."""
    parts = [re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") for label in labels.values()]
    return "-".join(parts) or "run"


def cells_of(
    path: Path, raw: Mapping[str, Any], scale: str, overrides: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], tuple[Cell, ...]]:
    """The axes of a scale, and a cell for every combination of their labels."""
    chosen = raw["scales"][scale] or {}
    check_keys(chosen, SCALE_KEYS, f"{path}: scales.{scale}")
    axes = dict(raw["axes"])
    for name, values in (chosen.get("axes") or {}).items():
        if name not in axes:
            raise UserError(f"{path}: scales.{scale}.axes: unknown axis {name!r}{nearest(name, axes)}")
        axes[name] = values
    shared = [
        Layer("options", raw.get("options") or {}),
        Layer(f"scales.{scale}.options", chosen.get("options") or {}),
        Layer("the command line", overrides),
    ]
    return axes, tuple(new_cell(path, axes, one, shared, raw) for one in combinations(path, axes))


def combinations(path: Path, axes: Mapping[str, Mapping[Any, Any]]) -> list[tuple[Any, ...]]:
    """Every combination of the axes' labels; one for all labels of an axis that a label of another goes without.

    Raises:
        UserError: ``without`` names no other axis.
    """
    found: dict[tuple[Any, ...], None] = {}
    for combination in itertools.product(*axes.values()):
        labels = dict(zip(axes, combination, strict=True))
        for axis, label in list(labels.items()):
            chosen = axes[axis][label]
            if not isinstance(chosen, Mapping) or "without" not in chosen:
                continue
            if chosen["without"] not in axes.keys() - {axis}:
                others = ", ".join(other for other in axes if other != axis)
                raise UserError(f"{path}: axes.{axis}.{label}.without: must name another axis: {others}")
            labels[chosen["without"]] = ANY
        found[tuple(labels.values())] = None
    return list(found)


def new_cell(
    path: Path,
    axes: Mapping[str, Mapping[str, Any]],
    combination: tuple[str, ...],
    shared: list[Layer],
    raw: Mapping[str, Any],
) -> Cell:
    """The cell of one label per axis."""
    labels = {axis: str(label) for axis, label in zip(axes, combination, strict=True)}
    layers = list(shared)
    for axis, label in zip(axes, combination, strict=True):
        chosen = axes[axis].get(label, {})
        if not isinstance(chosen, Mapping):
            raise UserError(f"{path}: axes.{axis}.{label}: expected options, found {chosen!r}")
        layers.append(Layer(f"axes.{axis}.{label}", chosen))
    layers = [
        Layer(layer.place, {name: filled(value, labels, path) for name, value in layer.values.items()})
        for layer in layers
    ]
    options = {name: value for layer in layers for name, value in layer.values.items() if name != "without"}
    script = options.pop("script", raw.get("script", "train_classifier.py"))
    teacher = None
    for axis, label in zip(axes, combination, strict=True):
        if "teacher" in axes[axis].get(label, {}):
            teacher = folder_name(labels | {axis: str(options.pop("teacher"))})
            # The run's own file takes its place, see `grid_runner.Run.options`.
            options["soft_labels"] = teacher
    if script not in tuple(SCRIPTS):
        raise UserError(f"{path}: script: {script!r} is not one of {', '.join(SCRIPTS)}")
    for name in sorted(options.keys() & RESERVED):
        raise UserError(f"{path}: {name}: is set by the grid itself; leave it out (seeds belong to a scale)")
    cell = Cell(labels, script, options, *published_of(raw, labels), teacher)
    left_out = left_out_of(path, cell, layers, len(shared))
    read = {name: value for name, value in options.items() if name not in left_out}
    return replace(cell, options=read, left_out=left_out)


def published_of(
    raw: Mapping[str, Any], labels: Mapping[str, str]
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """What the paper tells of a cell: measure → value, and the same of every epoch that it tells of."""
    rows = [
        row
        for row in raw.get("published") or []
        if all(str(row.get(axis, label)) == label for axis, label in labels.items())
    ]
    whole = [row for row in rows if EPOCH not in row]
    values = {name: float(row[name]) for row in whole for name in raw["measures"] if row.get(name) is not None}
    epochs = {
        int(row[EPOCH]): {name: float(value) for name, value in row.items() if name not in {EPOCH, *labels}}
        for row in rows
        if EPOCH in row
    }
    return values, epochs


def left_out_of(path: Path, cell: Cell, layers: list[Layer], shared: int) -> dict[str, str]:
    """Options of a cell that its choices do not read and that others of the table may: option → choice.

    Raises:
        UserError: an option that the script does not know, or a value of a wrong type.
    """
    known = [Layer(one.place, {k: v for k, v in one.values.items() if k not in OF_CELLS}) for one in layers]
    if cell.teacher is not None:
        known[-1] = Layer(known[-1].place, {**known[-1].values, "soft_labels": cell.teacher})
    try:
        config, stated = combine(known, SCRIPTS[cell.script])
    except UserError as error:
        raise UserError(f"{path}: cell {cell.name!r}: {error}") from None
    return {
        one.name: one.reason
        for one in unread_options(config)
        if one.name in stated
        and (one.is_decided or stated[one.name] < shared or not one.follows_from(stated, stated[one.name]))
    }


def check_all_read(
    path: Path, raw: Mapping[str, Any], scale: str, overrides: Mapping[str, Any], cells: tuple[Cell, ...]
) -> None:
    """Every option has to be read by a cell; one that the scales share, by a cell of any of them.

    One of the YAML that only the command line leaves idle is no mistake: ``--max_steps`` beside its epochs.

    Raises:
        UserError: an option that is read by none.
    """
    unread = {name: reason for cell in cells for name, reason in cell.left_out.items()}
    unread = {name: reason for name, reason in unread.items() if not any(name in cell.options for cell in cells)}
    own = raw["scales"][scale] or {}
    special = {*(own.get("options") or {}), *overrides}
    for labels in (own.get("axes") or {}).values():
        special |= {name for chosen in labels.values() for name in chosen}
    for name, reason in unread.items():
        others = [] if name in special else [other for other in raw["scales"] if other != scale]
        tables = [(other, overrides) for other in others] + ([] if name in overrides else [(scale, {})])
        if not any(name in cell.options for one, given in tables for cell in cells_of(path, raw, one, given)[1]):
            raise UserError(f"{path}: {name}: no cell reads it ({reason}); leave it out")


def filled(value: Any, labels: Mapping[str, str], path: Path) -> Any:
    """An option with the cell's labels in place of the axes' names in braces.

    Raises:
        UserError: braces around something that is no axis.
    """
    if not isinstance(value, str) or "{" not in value:
        return value
    try:
        return value.format_map(labels)
    except (KeyError, ValueError, IndexError):
        raise UserError(f"{path}: {value!r}: braces must hold the name of an axis: {', '.join(labels)}") from None


def check_cells(path: Path, cells: tuple[Cell, ...], raw: Mapping[str, Any]) -> None:
    """Cells must differ, and every published row must name known axes and measures.

    Raises:
        UserError: they do not.
    """
    seen: dict[str, str] = {}
    names: set[str] = set()
    for cell in cells:
        key, name = repr((cell.script, sorted(cell.options.items(), key=str))), cell.name
        if key in seen or name in names:
            raise UserError(
                f"{path}: the cells {seen.get(key, name)!r} and {name!r} are the same run; give every cell its own "
                "options"
            )
        seen[key] = name
        names.add(name)
    pupils = [cell for cell in cells if cell.teacher is not None]
    teachers = names - {cell.name for cell in pupils}
    for cell in pupils:
        if cell.teacher not in teachers:
            raise UserError(
                f"{path}: cell {cell.name!r}: teacher: {cell.teacher!r} is no cell, or has a teacher itself"
            )
    known = {*raw["axes"], *raw["measures"], *([EPOCH, *raw["epochs"]] if raw.get("epochs") else [])}
    for row in raw.get("published") or []:
        for name in row:
            if name not in known:
                raise UserError(f"{path}: published: unknown axis or measure {name!r}{nearest(name, sorted(known))}")
