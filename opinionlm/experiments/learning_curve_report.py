"""The learning curves of a table of runs: what they say below the table, and their figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from opinionlm.data.loading import load_rows
from opinionlm.errors import UserError
from opinionlm.evaluation.learning_curves import (
    FEWEST_SIZES,
    Curve,
    Estimate,
    crossings_of,
    forecast,
    interval_of,
    resampled_scores,
)
from opinionlm.experiments.answers import Answers, read_answers, require_same_posts, way_of
from opinionlm.experiments.cells import ANY
from opinionlm.experiments.grid import LearningCurve, Table
from opinionlm.experiments.grid_runner import Run, check_options
from opinionlm.experiments.table_figures import COLOURS, MARKERS, save_both, title
from opinionlm.reporting.figures import styled


def curves_of(table: Table, runs: Sequence[Run]) -> list[Curve]:
    """A curve per method from the finished runs, all evaluated on the same rows.

    Of sizes beyond the training split the smallest stands for the whole split, and the others are left out. Sizes of
    which a seed is missing are left out, too.

    Raises:
        UserError: runs were evaluated on other rows, or write texts.
    """
    if not (by_method := finished_runs(table, runs)):
        return []
    read = {
        name: {size: [answers_of(run) for run in own] for size, own in by_size.items()}
        for name, by_size in by_method.items()
    }
    require_same_posts([run for by_size in read.values() for own in by_size.values() for run in own])
    rows = training_rows(runs)
    curves = []
    for name, by_size in read.items():
        whole = min((size for size in by_size if size >= rows), default=rows)
        sizes = sorted(size for size in by_size if size <= whole)
        ways = [way_of(name, by_size[size]) for size in sizes]
        resampled = np.stack([resampled_scores(way.rows, way.scored) for way in ways], axis=1)
        trained = np.array([min(size, rows) for size in sizes if size > 0])
        scores = np.array([way.scores.mean() for way in ways])
        curves.append(Curve(name, trained, scores, resampled, ways[0].metric))
    return curves


def answers_of(run: Run) -> Answers:
    """What a run answered to the test rows.

    Raises:
        UserError: texts.
    """
    found = read_answers(run.folder, "test")
    if found is None:
        raise UserError(f"{run.folder}: its answers are no labels, tags or scores, of which curves are")
    return found


def training_rows(runs: Sequence[Run]) -> int:
    """Rows that the largest training split of some runs has, of the platforms that they train on."""
    chosen = (config.data for config in check_options(runs, Path("the table")).values())
    every = {
        (one.dataset, repr(one.train_platforms)): replace(one, eval_platforms=None, max_train_samples=None)
        for one in chosen
    }
    return max(len(load_rows(one).dataset["train"]) for one in every.values())


def finished_runs(table: Table, runs: Sequence[Run]) -> dict[str, dict[int, list[Run]]]:
    """Method → training texts, 0 for none → its runs, where all seeds are finished."""
    assert table.learning_curve is not None
    found: dict[str, dict[int, list[Run]]] = {}
    for cell in table.cells:
        own = [run for run in runs if run.cell is cell and run.metrics is not None]
        if len(own) == len(table.seeds):
            others = [label for axis, label in cell.labels.items() if axis != table.learning_curve.size]
            label = cell.labels[table.learning_curve.size]
            found.setdefault(", ".join(others), {})[0 if label == ANY else int(label)] = own
    return found


def curve_lines(curves: Sequence[Curve], settings: LearningCurve) -> list[str]:
    """The section about learning curves below a table, as Markdown; empty where nothing trains."""
    trained = [curve for curve in curves if len(curve.sizes)]
    if not trained:
        return []
    score = trained[0].metric[0].upper() + trained[0].metric[1:]
    lines = [
        "### Learning curves",
        "",
        f"{score} on test; intervals of 95 % over other seeds and test rows; larger training sets hold smaller ones.",
        "",
    ]
    lines += [f"- {forecast_text(curve, settings.more)}" for curve in trained]
    lines += [f"- {crossing_text(*found)}" for found in crossings_of(curves)]
    return [
        *lines,
        "",
        "Forecasts extrapolate a power law (score = a − b·n^−c; Hestness et al. 2017, Viering and Loog 2022) that was "
        "fitted to the sizes above: the interval knows nothing of curves that bend otherwise, nor of labels that were "
        "gathered otherwise.",
    ]


def beyond_lines(table: Table, runs: Sequence[Run], curves: Sequence[Curve]) -> list[str]:
    """Which rows of a table have fewer training texts than they are named for; empty where none has.

    Args:
        table: of learning curves.
        runs: of the table.
        curves: what `curves_of` made of them; the last size of a curve is at most the whole training split.
    """
    most = max((int(curve.sizes[-1]) for curve in curves if len(curve.sizes)), default=0)
    sizes = sorted({size for by_size in finished_runs(table, runs).values() for size in by_size if size > most})
    if not sizes:
        return []
    return ["", f"Rows with {' and '.join(f'{size:,}' for size in sizes)} learned from all {most:,} that there are."]


def forecast_text(curve: Curve, more: int) -> str:
    """What more labels would bring a method."""
    most = f"{curve.name}: {curve.scores[-1]:.3f} with {curve.sizes[-1]:,} texts"
    found = forecast(curve, more)
    if found is None:
        return f"{most}; no forecast from fewer than {FEWEST_SIZES} sizes"
    return f"{most}; {more:,} more would bring {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def crossing_text(one: Curve, other: Curve, found: Estimate) -> str:
    """From where on a method is ahead of another."""
    low = f"{found.low:,.0f}" if found.low > 0 else f"below {one.sizes[0]:,}"
    high = f"{found.high:,.0f}" if math.isfinite(found.high) else f"beyond {one.sizes[-1]:,}"
    return f"{one.name} is ahead of {other.name} from {found.value:,.0f} texts on (interval {low} to {high})"


def write_curves(folder: Path, table: Table, curves: Sequence[Curve]) -> list[Path]:
    """Draw the curves as PNG and SVG; nothing where nothing trains."""
    if not any(len(curve.sizes) for curve in curves):
        return []
    return save_both(learning_curve_figure(table, curves), folder / "learning_curve")


@styled
def learning_curve_figure(table: Table, curves: Sequence[Curve]) -> Figure:
    """Score over training texts on a logarithmic axis, a band of 95 %; methods that train on none as level lines."""
    figure = Figure(figsize=(6.8, 4.4), layout="constrained")
    axes = figure.subplots()
    ticks = sorted({int(size) for curve in curves for size in curve.sizes})
    ends = np.array([ticks[0], ticks[-1]])
    for number, curve in enumerate(curves):
        colour, trains = COLOURS[number % len(COLOURS)], bool(len(curve.sizes))
        sizes = curve.sizes if trains else ends
        scores, resampled = curve.at(sizes)
        style = f"{MARKERS[number % len(MARKERS)]}-" if trains else "--"
        axes.plot(sizes, scores, style, color=colour, label=curve.name, linewidth=1.6)
        axes.fill_between(sizes, *interval_of(scores, resampled), color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training texts")
    axes.set_ylabel(f"{curves[0].metric} (band: 95 % over seeds and test rows)")
    axes.grid(True)
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(title(table), x=0.01, ha="left", fontsize=11)
    return figure
