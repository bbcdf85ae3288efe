"""A table of a paper as a grid of runs: a base config × axes × seeds, its measures and the published values.

A table YAML holds::

    title: what the table shows
    source: which table of which paper
    script: train_classifier.py          # an axis may name another one
    measures: {Accuracy: test.accuracy}  # column → place in metrics.json
    options: {…}                         # of every run
    axes:
      Strategy:                          # rows: label → options
        Full fine-tuning: {adaptation: full}
        LoRA: {adaptation: lora}
    scales:                              # what paper, small and smoke change
      small: {seeds: 0..2, minutes: 4, options: {…}, axes: {…}}
    published:
      - {Strategy: LoRA, Accuracy: 0.922}
    differs: [no such row in the paper]  # ends the table; what a scale changes of the paper's is added by itself
    figures: [bars]                      # bars, heatmap, curves (over the last axis, whose labels are numbers)
    compare: Strategy                    # axis along which predictions are compared post by post
    tune: {trials: 12, space: auto}      # every row chooses options on validation (`opinionlm.runs.tuning_spaces`)

Options may name an axis in braces and get its label there: ``dataset: …/rows{Samples}.yaml``. A published row that
leaves an axis out counts for all of its labels. ``minutes`` is what one run takes, for the estimate of ``--dry_run``.
Measures that start with ``recall.`` or ``precision.`` are taken from the predictions (`experiments.run_numbers`).

An option that one cell reads and another does not is left out of the latter; one that no cell reads is an error, and
so is one that stands in the same mapping of an axis as the choice that does not read it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from opinionlm.config.parser import Layer, combine, read_yaml
from opinionlm.config.training_options import TrainingConfig
from opinionlm.config.unread import unread_options
from opinionlm.errors import UserError
from opinionlm.experiments.differences import scale_differences, seed_difference, stated_differences
from opinionlm.runs.tuning_report import Tuned
from opinionlm.runs.tuning_spaces import Tuning, read_tuning
from opinionlm.utils.names import nearest
from opinionlm.utils.typed_values import check_keys

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
SCRIPTS = ("train_classifier.py", "train_instruct.py", "prompt.py")
FigureKind = Literal["bars", "heatmap", "curves"]
KEYS = {"title", "source", "script", "measures", "options", "axes", "scales", "published", "layout", "note"}
KEYS |= {"figures", "compare", "differs", "tune"}
SCALE_KEYS = {"options", "seeds", "axes", "note", "minutes", "differs", "tune"}
# A grid decides these itself.
RESERVED = {"output_dir", "run_name", "seed", "seeds", "overwrite", "tune"}


@dataclass(frozen=True)
class Cell:
    """One row of a table: a label per axis, and the options they stand for.

    Attributes:
        labels: axis → label.
        script: what runs it.
        options: every option that differs from the defaults.
        published: measure → value in the paper, where it gives one.
        left_out: options that its choices do not read → that choice.
    """

    labels: Mapping[str, str]
    script: str
    options: Mapping[str, Any]
    published: Mapping[str, float]
    left_out: Mapping[str, str]

    @property
    def name(self) -> str:
        """A folder name made of the labels."""
        parts = [re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") for label in self.labels.values()]
        return "-".join(parts) or "run"


@dataclass(frozen=True)
class Table:
    """A whole table at one scale.

    Attributes:
        name: of the file.
        title: heading.
        source: where it was published.
        scale: which scale.
        note: what a reader must know of this scale.
        measures: column → place in ``metrics.json``, such as ``test.accuracy``.
        axes: names of the axes.
        cells: in the order of the axes.
        seeds: each cell runs once per seed.
        layout: one row per cell, or a matrix of the first axis against the second.
        figures: what is drawn of it.
        compare: the axis along which runs are compared post by post.
        minutes: what one run takes by experience, None where nobody knows.
        differences: what its numbers differ from the paper's in.
        tuning: what every row chooses on validation before its runs; None for the options that the YAML gives.
        tuned: what was chosen, by the cells' names.
    """

    name: str
    title: str
    source: str
    scale: Scale
    note: str
    measures: Mapping[str, str]
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    layout: Literal["rows", "matrix"]
    figures: tuple[FigureKind, ...] = ("bars",)
    compare: str | None = None
    minutes: float | None = None
    differences: tuple[str, ...] = ()
    tuning: Tuning | None = None
    tuned: Mapping[str, Tuned] = field(default_factory=dict)

    @property
    def comparable(self) -> bool:
        """Whether the numbers may stand beside the published ones: not those of a smoke test."""
        return self.scale != "smoke"

    @property
    def group(self) -> str:
        """What all its runs share at W&B."""
        return f"{self.name}-{self.scale}"


def load_table(path: Path, scale: Scale, overrides: Mapping[str, Any]) -> Table:
    """Read a table YAML at a scale.

    Args:
        path: the YAML.
        scale: which of its scales.
        overrides: options from the command line; they win over the table's and the scale's, an axis over them.

    Raises:
        UserError: unknown keys or axes, missing parts, cells that are the same, published rows that no cell has.
    """
    raw = read_yaml(path)
    check_keys(raw, KEYS, str(path))
    for key in ("title", "source", "measures", "axes", "scales"):
        if not raw.get(key):
            raise UserError(f"{path}: {key}: is missing; see another file in configs/tables/")
    if scale not in raw["scales"]:
        raise UserError(f"{path}: has no scale {scale!r}, only {', '.join(raw['scales'])}")
    chosen = raw["scales"][scale] or {}
    axes, cells = cells_of(path, raw, scale, overrides)
    check_cells(path, cells, raw)
    check_all_read(path, raw, scale, overrides, cells)
    seeds = read_seeds(chosen.get("seeds", 42), path)
    tune = chosen.get("tune", raw.get("tune"))
    differences = stated_differences(raw, scale)
    if scale != "paper" and "paper" in raw["scales"]:
        paper_seeds = read_seeds((raw["scales"]["paper"] or {}).get("seeds", 42), path)
        paper_cells = cells_of(path, raw, "paper", {})[1]
        differences += scale_differences([cell.options for cell in cells], [cell.options for cell in paper_cells])
        differences += seed_difference(seeds, paper_seeds)
    return Table(
        name=path.stem,
        title=str(raw["title"]),
        source=str(raw["source"]),
        scale=scale,
        note=str(chosen.get("note") or raw.get("note") or ""),
        measures=raw["measures"],
        axes=tuple(axes),
        cells=cells,
        seeds=seeds,
        layout=raw.get("layout", "rows"),
        figures=read_figures(raw, axes, path),
        compare=raw.get("compare"),
        minutes=chosen.get("minutes"),
        differences=tuple(differences),
        tuning=None if tune is None else read_tuning(tune, f"{path}: tune"),
    )


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
    script = raw.get("script", "train_classifier.py")
    return axes, tuple(
        new_cell(path, axes, combination, shared, script, raw["measures"], raw.get("published") or [])
        for combination in itertools.product(*(values for values in axes.values()))
    )


def new_cell(
    path: Path,
    axes: Mapping[str, Mapping[str, Any]],
    combination: tuple[str, ...],
    shared: list[Layer],
    script: str,
    measures: Mapping[str, str],
    published: list[Mapping[str, Any]],
) -> Cell:
    """The cell of one label per axis."""
    labels = {axis: str(label) for axis, label in zip(axes, combination, strict=True)}
    layers = list(shared)
    for axis, label in zip(axes, combination, strict=True):
        chosen = axes[axis][label]
        if not isinstance(chosen, Mapping):
            raise UserError(f"{path}: axes.{axis}.{label}: expected options, found {chosen!r}")
        layers.append(Layer(f"axes.{axis}.{label}", chosen))
    layers = [
        Layer(layer.place, {name: filled(value, labels, path) for name, value in layer.values.items()})
        for layer in layers
    ]
    options = {name: value for layer in layers for name, value in layer.values.items()}
    script = options.pop("script", script)
    if script not in SCRIPTS:
        raise UserError(f"{path}: script: {script!r} is not one of {', '.join(SCRIPTS)}")
    for name in sorted(options.keys() & RESERVED):
        raise UserError(f"{path}: {name}: is set by the grid itself; leave it out (seeds belong to a scale)")
    found = [row for row in published if all(str(row.get(axis, label)) == label for axis, label in labels.items())]
    values = {name: float(row[name]) for row in found for name in measures if row.get(name) is not None}
    cell = Cell(labels, script, options, values, {})
    left_out = left_out_of(path, cell, layers, len(shared))
    return replace(
        cell, options={name: value for name, value in options.items() if name not in left_out}, left_out=left_out
    )


def left_out_of(path: Path, cell: Cell, layers: list[Layer], shared: int) -> dict[str, str]:
    """Options of a cell that its choices do not read and that others of the table may: option → choice.

    Raises:
        UserError: an option that the script does not know, or a value of a wrong type.
    """
    known = [Layer(one.place, {k: v for k, v in one.values.items() if k != "script"}) for one in layers]
    try:
        config, stated = combine(known, cell.script.removesuffix(".py"))
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
        if not any(name in cell.options for other in others for cell in cells_of(path, raw, other, overrides)[1]):
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


def read_figures(raw: Mapping[str, Any], axes: Mapping[str, Mapping[Any, Any]], path: Path) -> tuple[FigureKind, ...]:
    """Which figures a table asks for.

    Raises:
        UserError: an unknown kind, curves over an axis whose labels are no numbers, or an unknown axis to compare.
    """
    kinds = tuple(raw.get("figures") or ("bars",))
    for kind in kinds:
        if kind not in get_args(FigureKind):
            raise UserError(f"{path}: figures: {kind!r} is not one of {', '.join(get_args(FigureKind))}")
    last = list(axes)[-1]
    if "curves" in kinds and not all(str(label).replace(".", "", 1).isdigit() for label in axes[last]):
        raise UserError(f"{path}: figures: curves need numbers as labels of the last axis, {last!r}")
    if raw.get("compare") not in (None, *axes):
        raise UserError(f"{path}: compare: unknown axis {raw['compare']!r}{nearest(raw['compare'], axes)}")
    return kinds


def check_cells(path: Path, cells: tuple[Cell, ...], raw: Mapping[str, Any]) -> None:
    """Cells must differ, and every published row must name known axes and measures.

    Raises:
        UserError: they do not.
    """
    seen: dict[str, Cell] = {}
    for cell in cells:
        key = repr((cell.script, sorted(cell.options.items(), key=str)))
        if key in seen or any(cell.name == other.name for other in seen.values()):
            twin = seen.get(key, cell)
            raise UserError(
                f"{path}: the cells {twin.name!r} and {cell.name!r} are the same run; give every cell its own options"
            )
        seen[key] = cell
    known = {*raw["axes"], *raw["measures"]}
    for row in raw.get("published") or []:
        for name in row:
            if name not in known:
                raise UserError(f"{path}: published: unknown axis or measure {name!r}{nearest(name, sorted(known))}")


def read_seeds(value: Any, path: Path) -> tuple[int, ...]:
    """Seeds as train_classifier.py writes them: ``42``, ``0..2`` or a list.

    Raises:
        UserError: no whole numbers.
    """
    entries = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    try:
        return tuple(TrainingConfig(seeds=entries).seed_list())
    except ValueError:
        raise UserError(f"{path}: seeds: {value!r} must name different whole numbers, as in 0..2") from None
