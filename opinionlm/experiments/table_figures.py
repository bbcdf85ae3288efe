"""Figures of tables: bars with intervals, a heatmap as in the GoEmotions grid, curves over the number of samples."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from opinionlm.experiments.costs import Cost, pareto_fronts
from opinionlm.experiments.grid import Table, marked_title
from opinionlm.experiments.run_numbers import number
from opinionlm.experiments.table_parts import MeanRow, Result, mean_rows, score_beside_cost
from opinionlm.reporting.figures import BLUE, GREEN, GREY, ORANGE, STYLE, save_figure, styled

# Okabe and Ito's other colours, for more than three lines; markers tell lines apart in print.
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#222222")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def write_figures(folder: Path, table: Table, results: Sequence[Result]) -> list[Path]:
    """Draw what the table asks for as PNG and SVG: one figure with bars; a heatmap and curves for every score.

    Measures that no run has yet are left out, and from heatmaps and curves also those that are no scores from 0 to 1.
    """
    means = {
        name: [result.measured[name]["mean"] for result in results if name in result.measured]
        for name in table.measures
    }
    measures = [name for name, values in means.items() if values]
    scores = [name for name in measures if max(means[name]) <= 1.0]
    paths: list[Path] = []
    for kind in table.figures if measures else ():
        match kind:
            case "bars":
                paths += save_both(bar_figure(table, results, measures), folder / "bars")
            case "heatmap":
                for name in scores:
                    paths += save_both(heatmap_figure(table, results, name), folder / f"heatmap_{slug(name)}")
            case "curves":
                for name in scores:
                    paths += save_both(curve_figure(table, results, name), folder / f"curves_{slug(name)}")
            case "means":
                rows = mean_rows(table, results)
                for name in (name for name in measures if any(name in row.measured for row in rows)):
                    paths += save_both(mean_figure(table, rows, name), folder / f"means_{slug(name)}")
            case "pareto":
                costs = [result.cost for result in results if result.cost is not None]
                if costs:
                    paths += save_both(pareto_figure(table, costs), folder / "pareto")
    return paths


def save_both(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``; equal figures give equal files."""
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    save_figure(figure, paths[0])
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "opinionlm"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    paths[1].write_bytes(buffer.getvalue())
    return paths


def slug(name: str) -> str:
    """A measure as part of a file name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


@styled
def bar_figure(table: Table, results: Sequence[Result], measures: Sequence[str]) -> Figure:
    """One panel per measure, one bar per cell, 95 % interval over seeds as a line, published value as a diamond."""
    names = [", ".join(result.cell.labels.values()) for result in results]
    size = (0.085 * max(map(len, names)) + 2.9 * len(measures) + 0.4, 0.42 * len(results) + 1.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for axes, measure in zip(panels, measures, strict=True):
        found = [result.measured.get(measure) for result in results]
        published = [result.cell.published.get(measure) if table.comparable else None for result in results]
        ends = [end for entry in found if entry is not None for end in (entry["mean"], *(entry["ci95"] or ()))]
        top = max([*ends, *(value for value in published if value is not None)])
        limit = 1.02 if top <= 1.0 else top * 1.05
        draw_means(axes, found, limit)
        draw_published(axes, published, limit)
        if len(ends) > sum(entry is not None for entry in found):
            handles["interval"] = line_handle("#222222", "-", "", "95 % interval over seeds")
        if any(value is not None for value in published):
            handles["published"] = line_handle(ORANGE, "", "D", "published")
        axes.set_title(measure)
        axes.set_xlim(min(0.0, 1.05 * min(ends)), limit)
        if top >= 1000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(3))
    lay_bars(panels, names)
    if handles:
        legend = [handles[name] for name in ("interval", "published") if name in handles]
        figure.legend(handles=legend, loc="outside lower right", ncols=2)
    figure.suptitle(title(table), x=0.01, ha="left", fontsize=11)
    return figure


def draw_means(axes: Axes, found: Sequence[Mapping[str, Any] | None], limit: float) -> None:
    """A bar per cell with its mean written into it, or behind it where it is short; its interval below the number."""
    for place, entry in enumerate(found):
        if entry is None:
            continue
        mean, inside = entry["mean"], entry["mean"] > 0.4 * limit
        axes.barh(place, mean, height=0.72, color=BLUE, alpha=0.85)
        start, colour = (0, "white") if inside else (max(mean, 0.0), "#222222")
        note(axes, number(mean), (start, place - 0.17), 4, color=colour, fontsize=8.5)
        if entry["ci95"] is not None:
            axes.plot(entry["ci95"], [place + 0.18] * 2, color="#222222", linewidth=1.6)


def draw_published(axes: Axes, published: Sequence[float | None], limit: float) -> None:
    """A diamond per published value, and the value at the panel's right edge."""
    for place, value in enumerate(published):
        if value is not None:
            axes.plot(value, place + 0.18, "D", color=ORANGE, markersize=6, markeredgecolor="white")
            note(axes, number(value), (limit, place - 0.17), 4, color=ORANGE, fontsize=8)


def note(axes: Axes, text: str, at: tuple[float, float], right: float, **style: Any) -> None:
    """A text that begins some points right of a place."""
    axes.annotate(text, at, textcoords="offset points", xytext=(right, 0), va="center", **style)


def lay_bars(panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Panels of level bars: names on the left, the first on top, and no line between them and the bars."""
    for axes in panels:
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)


@styled
def heatmap_figure(table: Table, results: Sequence[Result], measure: str) -> Figure:
    """The first axis down, the others across, each cell coloured by and labelled with the mean."""
    rows = list(dict.fromkeys(result.cell.labels[table.axes[0]] for result in results))
    across = list(dict.fromkeys(tuple(result.cell.labels.values())[1:] for result in results))
    values = np.full((len(rows), len(across)), np.nan)
    for result in results:
        label, *others = result.cell.labels.values()
        if measure in result.measured:
            values[rows.index(label), across.index(tuple(others))] = result.measured[measure]["mean"]
    figure = Figure(figsize=(0.78 * len(across) + 0.08 * max(map(len, rows)) + 1.6, 0.5 * len(rows) + 1.9))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text, colour = (
            ("–", "#222222") if np.isnan(value) else (f"{value:.2f}", "white" if value > 0.55 else "#222222")
        )
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(across)), heatmap_ticks(across, table.axes[1:]))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(table.axes[-1].lower() if len(table.axes) > 1 else "")
    axes.set_xticks(np.arange(len(across) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    axes.set_title(f"{measure}: {title(table)}")
    return figure


def heatmap_ticks(across: Sequence[tuple[str, ...]], names: Sequence[str]) -> list[str]:
    """Labels of the columns: that of the last axis, and once per group, in its middle, those of the axes before it."""
    ticks = []
    for index, labels in enumerate(across):
        group = [place for place, other in enumerate(across) if other[:-1] == labels[:-1]]
        shared = ", ".join(f"{label} {name.lower()}" for name, label in zip(names, labels[:-1], strict=False))
        ticks.append("\n".join([*labels[-1:], shared if index == group[len(group) // 2] else ""]))
    return ticks


@styled
def curve_figure(table: Table, results: Sequence[Result], measure: str) -> Figure:
    """A measure over the last axis: a panel per label of the axis before it, a line per label of the first.

    The published values, where there are some, are hollow markers. The table has at least two axes, the last with
    numbers as labels.
    """
    lines = list(dict.fromkeys(result.cell.labels[table.axes[0]] for result in results))
    middle = list(dict.fromkeys(tuple(result.cell.labels.values())[1:-1] for result in results))
    figure = Figure(figsize=(2.5 * len(middle) + 1.2, 3.6), layout="constrained")
    panels = figure.subplots(1, len(middle), sharey=True, squeeze=False)[0]
    top = 0.0
    for axes, labels in zip(panels, middle, strict=True):
        ticks = set()
        for index, line in enumerate(lines):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            chosen = [r for r in results if tuple(r.cell.labels.values())[:-1] == (line, *labels)]
            places = {float(result.cell.labels[table.axes[-1]]): result for result in chosen}
            ticks |= set(places)
            found = {x: result.measured[measure] for x, result in places.items() if measure in result.measured}
            axes.plot(list(found), [entry["mean"] for entry in found.values()], f"{marker}-", color=colour, label=line)
            for x, entry in found.items():
                top = max(top, entry["mean"])
                if entry["ci95"] is not None:
                    axes.plot([x, x], entry["ci95"], color=colour, linewidth=1.2, alpha=0.7)
            if table.comparable:
                old = {x: r.cell.published[measure] for x, r in places.items() if measure in r.cell.published}
                axes.plot(list(old), list(old.values()), marker, color=colour, markerfacecolor="white", markersize=7)
        axes.set_title(
            " / ".join(f"{label} {name.lower()}" for name, label in zip(table.axes[1:-1], labels, strict=True))
        )
        axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
        axes.set_xlabel(table.axes[-1].lower())
        axes.margins(x=0.12)
        axes.grid(True)
    panels[0].set_ylabel(measure)
    panels[0].set_ylim(0.0, 1.02 if top <= 1.0 else None)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5))
    return figure


@styled
def mean_figure(table: Table, rows: Sequence[MeanRow], measure: str) -> Figure:
    """Means over an axis as bars: a panel per label of the first axis, a group per label of the next ones.

    The bars of a group are the labels of the axis of gains, their relative change written into them; a black line is
    the reference of the panel (Figure 3 of AdaPT: GPT-4 with ten examples).
    """
    assert table.mean_over is not None
    gain, others = table.mean_over.gain, [axis for axis in rows[0].labels if axis != table.mean_over.gain]
    first, rest = (others[0], others[1:]) if len(others) > 1 else (None, others)
    panels = list(dict.fromkeys("" if first is None else row.labels[first] for row in rows))
    groups = list(dict.fromkeys(" / ".join(row.labels[axis] for axis in rest) for row in rows))
    bars = list(dict.fromkeys("" if gain is None else row.labels[gain] for row in rows))
    size = (max(6.4, 1.6 + len(panels) * (0.6 + 0.36 * len(groups) * len(bars))), 3.8)
    figure = Figure(figsize=size, layout="constrained")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    width = 0.8 / len(bars)
    for row in (row for row in rows if measure in row.measured):
        axes = drawn[panels.index("" if first is None else row.labels[first])]
        bar = bars.index("" if gain is None else row.labels[gain])
        place = groups.index(" / ".join(row.labels[axis] for axis in rest)) + (bar - (len(bars) - 1) / 2) * width
        colour = COLOURS[bar % len(COLOURS)]
        axes.bar(place, row.measured[measure]["mean"], width=0.92 * width, color=colour)
        if measure in row.gains:
            # At the foot of the bar, where no line crosses it.
            style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "color": "white"}
            text = f"{row.gains[measure]:+.1%}"
            axes.annotate(text, (place, 0), xytext=(0, 4), textcoords="offset points", **style)
    for axes, panel in zip(drawn, panels, strict=True):
        axes.set_title(panel)
        axes.set_xticks(range(len(groups)), groups, rotation=35, ha="right")
        if table.comparable and panel in table.mean_over.reference_values and measure == next(iter(table.measures)):
            axes.axhline(table.mean_over.reference_values[panel], color="#222222", linewidth=1.4)
    drawn[0].set_ylabel(f"{measure}, mean over {table.mean_over.axis.lower()}")
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=6, label=bar) for i, bar in enumerate(bars)]
    handles = handles if gain is not None else []
    handles += [line_handle("#222222", "-", "", table.mean_over.reference)] * bool(table.mean_over.reference)
    if handles:
        heading = None if gain is None else gain.lower()
        figure.legend(handles=handles, title=heading, loc="outside lower right", ncols=min(len(handles), 4))
    figure.suptitle(title(table), x=0.01, ha="left", fontsize=11)
    return figure


@styled
def pareto_figure(table: Table, costs: Sequence[Cost]) -> Figure:
    """Score over seconds of a run and its tuning; a line joins the rows of one data that no other beats in both."""
    figure = Figure(figsize=(7.4, max(4.2, 0.2 * len(costs) + 1.4)), layout="constrained")
    axes, fronts = figure.subplots(), pareto_fronts(costs)
    axes.set_xscale("log")
    for front in fronts:
        axes.plot([one.spent for one in front], [one.score for one in front], color=ORANGE, linewidth=1.4)
    for cost in costs:
        is_best = any(cost in front for front in fronts)
        axes.plot(cost.spent, cost.score, "o", color=ORANGE if is_best else BLUE, markersize=6)
    axes.margins(x=0.08, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.12g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    name_on_the_right(axes, costs)
    axes.set_xlabel("seconds of a run, tuning included")
    axes.set_ylabel(score_beside_cost(table) or "score")
    axes.grid()
    figure.suptitle(title(table), x=0.01, ha="left", fontsize=11)
    return figure


def name_on_the_right(axes: Axes, costs: Sequence[Cost]) -> None:
    """Write the names of points beside the axes, in the order of their heights, each with a thin line to its point."""
    low, high = axes.get_ylim()
    ordered = sorted(costs, key=lambda cost: -cost.score)
    heights = spread([(cost.score - low) / (high - low) for cost in ordered], min(0.055, 1 / len(costs)))
    for cost, height in zip(ordered, heights, strict=True):
        axes.annotate(
            cost.name,
            (cost.spent, cost.score),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 2, "shrinkB": 4},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights that fall, moved so far apart that no two are nearer than a gap, and none is below 0."""
    found: list[float] = []
    for height in heights:
        found.append(min(height, found[-1] - gap) if found else height)
    least = 0.0
    for place in range(len(found) - 1, -1, -1):
        found[place] = max(found[place], least)
        least = found[place] + gap
    return found


@styled
def class_count_figure(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Posts per class (platform → label → posts), a panel per platform: shares as bars and counts as labels."""
    labels = list(next(iter(counts.values())))
    figure = Figure(figsize=(2.6 * len(counts) + 0.085 * max(map(len, labels)), 0.36 * len(labels) + 1.2))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(counts), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (platform, found) in zip(panels, counts.items(), strict=True):
        total = max(sum(found.values()), 1)
        shares = [found[label] / total for label in labels]
        axes.barh(range(len(labels)), shares, height=0.62, color=GREY if platform == "all" else BLUE)
        for place, label in enumerate(labels):
            note(axes, f"{found[label]:,}", (shares[place], place), 3, fontsize=8.5)
        axes.set_title(f"{platform} ({total:,})")
        axes.set_xlabel("share of posts")
        axes.margins(x=0.22)
    lay_bars(panels, labels)
    return figure


def line_handle(colour: str, style: str, marker: str, label: str) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], color=colour, linestyle=style or "none", marker=marker, label=label)


def title(table: Table) -> str:
    """Title, and what must not be overlooked."""
    return marked_title(table.title, not table.comparable)
