"""Figures of a run, all in one style: readable labels, few colours that the colour-blind can tell apart, no ornament.

Figures are built without pyplot, so nothing is global: no backend, no display, nothing to close.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from opinionlm.config.chosen_metric import score_title
from opinionlm.evaluation.charts import F1Chart, ReliabilityChart
from opinionlm.evaluation.metrics import (
    CALIBRATION_BINS,
    confidence_bin,
    expected_calibration_error,
    wilson_interval,
)
from opinionlm.utils.figure_text import make_readable

# Okabe and Ito (2008): colours that stay apart under every common colour-vision deficiency.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    # A label such as "$BTC or $ETH" is no formula.
    "text.parse_math": False,
    "figure.dpi": 100,
    "savefig.dpi": 150,
}
P = ParamSpec("P")
# Labels whose shares are drawn over time: more lines than colours cannot be told apart.
SHOWN_SHARES = 8


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function in the project's style, in letters that can be drawn; the caller's settings stay."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return make_readable(draw(*args, **kwargs))

    return wrapper


@styled
def headed(figure: Figure, run: str, details: str) -> Figure:
    """Say above a figure what it belongs to, so that it can be read away from its folder.

    Args:
        figure: drawn.
        run: its name, on a line of its own.
        details: data, split and number of texts.
    """
    figure.suptitle(f"{run}\n{details}", x=0.01, ha="left", fontsize=9, color="#333333")
    return figure


@styled
def learning_curves(
    history: Sequence[dict[str, Any]], score_name: str = "macro_f1", greater_is_better: bool = True
) -> Figure:
    """Training loss, validation loss and the validation score that picks checkpoints over epochs.

    Args:
        history: ``trainer.state.log_history``: entries with ``step``, ``epoch`` and ``loss``, or ``eval_loss`` and
            ``eval_<score_name>``.
        score_name: the score.
        greater_is_better: whether the largest or the smallest is the best.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    loss_axes, score_axes = figure.subplots(1, 2, sharex=True)
    train, validation = _curve(history, "loss"), _curve(history, "eval_loss")
    if train[0]:
        # Single batches scatter widely: dots show them, the line their moving mean.
        loss_axes.plot(*train, ".", color=BLUE, alpha=0.3, markeredgewidth=0)
        few = len(train[0]) < 4
        loss_axes.plot(train[0], _moving_mean(train[1]), "o-" if few else "-", color=BLUE, label="training")
    if validation[0]:
        loss_axes.plot(*validation, "o-", color=ORANGE, label="validation")
    score = _curve(history, f"eval_{score_name}")
    if score[0]:
        best = int(np.argmax(score[1]) if greater_is_better else np.argmin(score[1]))
        _draw_score(score_axes, score, best)
        loss_axes.axvline(score[0][best], color=GREEN, linewidth=1, linestyle=":", label="kept checkpoint")
    loss_axes.set_title("Loss")
    loss_axes.set_ylim(0.0, 1.08 * max([*train[1], *validation[1]], default=1.0) or 1.0)
    if train[0] or validation[0]:
        loss_axes.legend()
    score_axes.set_title(f"Validation {score_title(score_name)}")
    score_axes.margins(y=0.2)
    for axes in (loss_axes, score_axes):
        axes.grid(True)
        axes.margins(x=0.06)
        axes.set_xlabel("epoch")
        whole = max([*train[0], *validation[0]], default=0.0) >= 2
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
        axes.set_xlim(left=0.0)
    if score[1] and min(score[1]) >= 0 and max(score[1]) <= 1:
        # A single point has no range of its own, and no share lies above 1.
        score_axes.set_ylim(score_axes.get_ylim() if len(score[1]) > 1 else (0.0, 1.05))
        bottom, top = score_axes.get_ylim()
        score_axes.set_yticks([tick for tick in score_axes.get_yticks() if bottom <= tick <= min(top, 1.0)])
    return figure


def _draw_score(axes: Axes, score: tuple[list[float], list[float]], best: int) -> None:
    """Values of a score over epochs, and which of them was the best."""
    axes.plot(*score, "o-", color=ORANGE)
    epoch, value = score[0][best], score[1][best]
    axes.plot(epoch, value, "o", color=GREEN, markersize=9)
    # Above the point, and towards the middle of the panel.
    late = best >= (len(score[0]) - 1) / 2
    axes.annotate(
        f"best {value:.3f}",
        (epoch, value),
        textcoords="offset points",
        xytext=(4 if late else -4, 9),
        ha="right" if late else "left",
        color=GREEN,
    )


def _curve(history: Sequence[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one logged quantity; a step that was logged twice after a resume counts once."""
    entries = [entry for entry in history if name in entry and "step" in entry and "epoch" in entry]
    values = {int(entry["step"]): (float(entry["epoch"]), float(entry[name])) for entry in entries}
    finite = [point for _, point in sorted(values.items()) if np.isfinite(point[1])]
    return [epoch for epoch, _ in finite], [value for _, value in finite]


def _moving_mean(values: Sequence[float]) -> np.ndarray:
    """Centred moving mean over a tenth of the curve, of the same length; the ends average over what there is."""
    width = max(1, len(values) // 10)
    kernel = np.ones(2 * (width // 2) + 1)
    return np.convolve(values, kernel, mode="same") / np.convolve(np.ones(len(values)), kernel, mode="same")


@styled
def f1_figure(chart: F1Chart) -> Figure:
    """One bar per label, the best on top, with its 95 % interval, and a line for the score of all of them."""
    f1, labels = chart.f1, chart.labels
    figure = Figure(figsize=(7.0, 1.4 + 0.36 * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(-f1, kind="stable")
    for place, index in enumerate(order):
        low, high = chart.bounds[index]
        axes.barh(place, f1[index], height=0.66, color=BLUE)
        axes.plot([low, high], [place, place], color="#222222", linewidth=1.3, marker="|", markersize=6)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        end = max(high, f1[index]) + 0.016
        axes.text(end, place, f"{f1[index]:.2f}", va="center", fontsize=9, bbox=box, zorder=3)
    axes.axvline(chart.overall, color=ORANGE, linestyle="--", linewidth=1.4)
    axes.set_title(chart.title, color=ORANGE)
    axes.set_yticks(range(len(labels)), [f"{labels[index]} ({chart.support[index]:,})" for index in order])
    axes.set_ylim(len(labels) - 0.4, -0.7)
    axes.set_xlim(0.0, 1.08)
    axes.set_xticks(np.linspace(0.0, 1.0, 6))
    axes.set_xlabel(f"F1 with 95 % interval (gold {chart.unit} in brackets)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


@styled
def reliability_figure(chart: ReliabilityChart, bins: int = CALIBRATION_BINS) -> Figure:
    """Reliability diagram (Guo et al. 2017): accuracy against confidence, and how many texts stand behind each point.

    A point's area grows with its number of texts (of any number of labels: of texts and labels, the answers being that
    a text has the label and that it has not), and its line is the 95 % interval of its accuracy (Wilson 1927): a
    bin of one text says nothing.
    """
    gold, probabilities = chart.gold, chart.probabilities
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    index = confidence_bin(confidence, bins)
    size = np.bincount(index, minlength=bins)
    filled = size > 0
    mean_confidence = np.bincount(index, weights=confidence, minlength=bins)[filled] / size[filled]
    right = np.bincount(index, weights=correct, minlength=bins)[filled]
    error = expected_calibration_error(gold, probabilities, bins)

    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect calibration")
    low, high = wilson_interval(right, size[filled])
    upper.vlines(
        mean_confidence, low, high, color=BLUE, linewidth=1.2, alpha=0.7, label="95 % interval", clip_on=False
    )
    area = 8 + 110 * size[filled] / size.max()
    upper.scatter(
        mean_confidence, right / size[filled], s=area, color=BLUE, zorder=3, label="this model", clip_on=False
    )
    upper.legend(loc="upper left", fontsize=9)
    upper.set_title(f"Calibration: ECE {error:.3f} ({bins} bins)")
    upper.set_ylabel("accuracy")
    upper.set_ylim(-0.02, 1.02)
    upper.grid(True)
    middles = (np.arange(bins) + 0.5) / bins
    lower.bar(middles, size, width=0.9 / bins, color=BLUE)
    for middle, count in zip(middles[filled], size[filled], strict=True):
        turned = 90 if size.max() >= 1000 else 0
        lower.annotate(
            f"{count:,}", (middle, count), (0, 2), textcoords="offset points", ha="center", fontsize=7, rotation=turned
        )
    lower.margins(y=0.5 if size.max() >= 1000 else 0.25)
    lower.set_ylabel("texts × labels" if chart.per_label else "texts")
    lower.set_xlabel("probability of the likelier answer" if chart.per_label else "probability of the likeliest label")
    lower.set_xlim(0.0, 1.0)
    lower.grid(axis="y")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG (150 dpi); equal figures give equal bytes, since neither date nor version is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure))


def png_bytes(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None, "Creation Time": None})
    return buffer.getvalue()


@styled
def drift_figure(periods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Macro-F1 and accuracy of every period with 95 % intervals, and beside them the shares of the labels.

    The number of texts stands below a period's name; of many labels those with the largest shares are drawn.

    Args:
        periods: what `opinionlm.evaluation.drift.period_scores` returns, in the order of time; at least one.
    """
    names, places = list(periods), np.arange(len(periods))
    figure = Figure(figsize=(max(9.2, 2.4 + 1.6 * len(names)), 3.6), layout="constrained")
    axes, beside = figure.subplots(1, 2)
    # Side by side, so that the two intervals of a period do not hide each other.
    second = "accuracy" if "accuracy" in periods[names[0]] else "subset_accuracy"
    for score, colour, shift in (("macro_f1", BLUE, -0.06), (second, ORANGE, 0.06)):
        values = np.array([periods[name][score] for name in names])
        bounds = np.array([periods[name][f"{score}_ci95"] for name in names])
        # A percentile interval may lie beside the score itself where rows are few.
        errors = np.abs(np.clip(bounds.T, [[0.0], [0.0]], [[1.0], [1.0]]) - values)
        axes.errorbar(places + shift, values, yerr=errors, fmt="o-", color=colour, label=score_title(score), capsize=3)
    draw_shares(beside, periods)
    counts = [f"{name}\n({periods[name]['rows']:,.0f})" for name in names]
    for panel in (axes, beside):
        panel.set_xticks(places, counts, rotation=0 if len(names) <= 12 else 60)
        panel.set_xlabel("period (texts in brackets)")
        panel.grid(axis="y")
        panel.legend()
    axes.set_ylim(0.0, 1.0)
    axes.set_title("Scores over time")
    return figure


def draw_shares(axes: Axes, periods: Mapping[str, Mapping[str, Any]]) -> None:
    """Shares of the labels over time: predicted as lines, those of the gold labels dashed."""
    leaves = [name.removeprefix("share_") for name in next(iter(periods.values())) if name.startswith("share_")]
    largest = sorted(leaves, key=lambda leaf: -max(one[f"share_{leaf}"] for one in periods.values()))[:SHOWN_SHARES]
    for number, leaf in enumerate(largest):
        for kind, style in (("share", "o-"), ("gold_share", "--")):
            values = [one[f"{kind}_{leaf}"] for one in periods.values()]
            label = leaf if kind == "share" else None
            axes.plot(range(len(periods)), values, style, color=f"C{number}", label=label, markersize=4)
    axes.set_ylim(bottom=0.0)
    axes.set_title("Share of the labels, predicted (dashed: gold)")
