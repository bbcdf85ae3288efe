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
        Soft labels: {teacher: LoRA}     # learns what that row's runs say of the texts that they were not shown
    scales:                              # what paper, small and smoke change; seeds are five unless given
      small: {seeds: 0..2, minutes: 4, options: {…}, axes: {…}}
    published:
      - {Strategy: LoRA, Accuracy: 0.922}
    differs: [no such row in the paper]  # ends the table; what a scale changes of the paper's is added by itself
    figures: [bars]                      # bars, heatmap, means, pareto, curves (over the last axis, of numbers)
    compare: Strategy                    # axis along which predictions are compared post by post
    mean_over: {axis: Model, gain: Task tokens}  # means over an axis, their change from the first label of another
    epochs: {Validation loss: eval_loss} # column → entry of history.json, at each epoch's last evaluation
    learning_curve: {size: Texts, more: 500}  # crossings, and what so many more training texts would bring
    tune: {trials: 12, space: auto}      # every row chooses options on validation (`opinionlm.runs.tuning_spaces`)

A label with ``without: <axis>`` has one cell for all labels of that axis, such as prompting beside numbers of
training texts. Options may name an axis in braces and get its label there: ``dataset: …/rows{Samples}.yaml``. A
published row that leaves an axis out counts for all of its labels; one with ``Epoch`` has columns of ``epochs``.
``minutes`` is what one run takes, for the estimate of ``--dry_run``. Measures that start with ``recall.`` or
``precision.`` are taken from the predictions (`experiments.run_numbers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from opinionlm.config.parser import read_yaml
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError
from opinionlm.experiments.cells import Cell, cells_of, check_all_read, check_cells
from opinionlm.experiments.differences import scale_differences, stated_differences
from opinionlm.runs.tuning_report import Tuned
from opinionlm.runs.tuning_spaces import Tuning, read_tuning
from opinionlm.utils.names import nearest
from opinionlm.utils.typed_values import check_keys

Scale = Literal["smoke", "small", "paper"]
FigureKind = Literal["bars", "heatmap", "curves", "means", "pareto"]
KEYS = {"title", "source", "script", "measures", "options", "axes", "scales", "published", "layout", "note"}
KEYS |= {"figures", "compare", "differs", "mean_over", "epochs", "tune", "learning_curve"}


@dataclass(frozen=True)
class MeanOver:
    """Means of a table over the labels of one axis.

    Attributes:
        axis: that axis.
        gain: another one: every mean is also given as a relative change from that of the first label there.
        reference: a line that the figure draws: what it is.
        reference_values: first axis' label → its height.
    """

    axis: str
    gain: str | None = None
    reference: str = ""
    reference_values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LearningCurve:
    """An axis of training texts.

    Attributes:
        size: that axis, the last one; its labels are numbers, and rows that train on none go without it.
        more: training texts that a forecast adds to the most of them.
    """

    size: str
    more: int = 500


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
        mean_over: which means are given beside the cells.
        epochs: column → name of an entry in ``history.json``, shown for every epoch.
        tuning: what every row chooses on validation before its runs; None for the options that the YAML gives.
        tuned: what was chosen, by the cells' names.
        learning_curve: which axis holds numbers of training texts; None for a table of something else.
        price_per_hour: of the machine that runs it; None for no prices.
        kept: options of the command line that some cells have from an axis: option → names of these cells.
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
    mean_over: MeanOver | None = None
    epochs: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning | None = None
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    learning_curve: LearningCurve | None = None
    price_per_hour: float | None = None
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def comparable(self) -> bool:
        """Whether the numbers may stand beside the published ones: not those of a smoke test."""
        return self.scale != "smoke"

    @property
    def group(self) -> str:
        """What all its runs share at W&B."""
        return f"{self.name}-{self.scale}"


def marked_title(title: str, is_smoke: bool) -> str:
    """A title, and of a smoke test what must not be overlooked, wherever a table is shown."""
    return f"{title} (smoke test, not comparable)" if is_smoke else title


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
    chosen = require_parts(raw, KEYS, scale, path, ("measures", "axes"))
    axes, cells = cells_of(path, raw, scale, overrides)
    check_cells(path, cells, raw)
    check_all_read(path, raw, scale, overrides, cells)
    seeds = read_seeds(chosen.get("seeds", default_seeds(scale)), path)
    tune = chosen.get("tune", raw.get("tune"))
    differences = stated_differences(raw, scale)
    if scale != "paper" and "paper" in raw["scales"]:
        paper_seeds = read_seeds((raw["scales"]["paper"] or {}).get("seeds", default_seeds("paper")), path)
        paper_cells = cells_of(path, raw, "paper", {})[1]
        differences += scale_differences([cell.options for cell in cells], [cell.options for cell in paper_cells])
        if len(seeds) != len(paper_seeds):
            differences.append(f"seeds {len(seeds)} instead of {len(paper_seeds)}")
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
        mean_over=read_mean_over(raw, axes, path),
        epochs=raw.get("epochs") or {},
        learning_curve=read_learning_curve(raw, axes, path),
        tuning=None if tune is None else read_tuning(tune, f"{path}: tune"),
        kept=kept_by_cells(cells, overrides),
    )


def kept_by_cells(cells: Sequence[Cell], overrides: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Options of the command line that axes set otherwise: option → the cells that keep theirs."""
    found = {
        name: tuple(cell.name for cell in cells if cell.options.get(name, value) != value)
        for name, value in overrides.items()
    }
    return {name: kept for name, kept in found.items() if kept}


def require_parts(
    raw: Mapping[str, Any], keys: Set[str], scale: str, path: Path, parts: Sequence[str] = ()
) -> Mapping[str, Any]:
    """What a table YAML says of a scale.

    Raises:
        UserError: unknown keys, one of ``parts`` or of what every table has is missing, or no such scale.
    """
    check_keys(raw, keys, str(path))
    for key in ("title", "source", *parts, "scales"):
        if not raw.get(key):
            raise UserError(f"{path}: {key}: is missing; see another file in configs/tables/")
    if scale not in raw["scales"]:
        raise UserError(f"{path}: has no scale {scale!r}, only {', '.join(raw['scales'])}")
    return raw["scales"][scale] or {}


def default_seeds(scale: str) -> str:
    """Five, so that a winner can be told from luck; of a smoke test, which compares nothing, one."""
    return "42" if scale == "smoke" else "0..4"


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
    if "means" in kinds and not raw.get("mean_over"):
        raise UserError(f"{path}: figures: means need mean_over")
    return kinds


def read_mean_over(raw: Mapping[str, Any], axes: Mapping[str, Any], path: Path) -> MeanOver | None:
    """Which means a table gives.

    Raises:
        UserError: unknown keys or axes.
    """
    if not raw.get("mean_over"):
        return None
    check_keys(raw["mean_over"], {item.name for item in fields(MeanOver)}, f"{path}: mean_over", {"axis"})
    found = MeanOver(**raw["mean_over"])
    for axis in (found.axis, found.gain):
        if axis not in (None, *axes):
            raise UserError(f"{path}: mean_over: unknown axis {axis!r}{nearest(str(axis), axes)}")
    return found


def read_learning_curve(raw: Mapping[str, Any], axes: Mapping[str, Any], path: Path) -> LearningCurve | None:
    """Which axis holds numbers of training texts.

    Raises:
        UserError: unknown keys, no such axis at the end of the axes, or labels that are no whole numbers.
    """
    if not raw.get("learning_curve"):
        return None
    check_keys(raw["learning_curve"], {"size", "more"}, f"{path}: learning_curve", {"size"})
    found = LearningCurve(**raw["learning_curve"])
    if found.size != list(axes)[-1]:
        raise UserError(f"{path}: learning_curve.size: must be the last axis, {list(axes)[-1]!r}")
    if not all(str(label).isdigit() for label in axes[found.size]):
        raise UserError(f"{path}: learning_curve.size: the labels of {found.size!r} must be numbers of training texts")
    if not isinstance(found.more, int) or found.more < 1:
        raise UserError(f"{path}: learning_curve.more: {found.more!r} must be a whole number of texts above 0")
    return found


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
