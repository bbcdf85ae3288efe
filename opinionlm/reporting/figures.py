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
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from opinionlm.config.chosen_metric import score_title
from opinionlm.evaluation.metrics import (
    CALIBRATION_BINS,
    confidence_bin,
    expected_calibration_error,
    f1_from_confusion,
    present_classes,
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


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function in the project's style, in letters that can be drawn; the caller's settings stay."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return make_readable(draw(*args, **kwargs))

    return wrapper


@styled
def confusion_figure(
    confusion: np.ndarray, labels: Sequence[str], unit: str = "texts", support: np.ndarray | None = None
) -> Figure:
    """Confusion matrix: counts in the cells, colours by the share of the gold class.

    Colours follow the rows' shares and not the counts, else a rare class would look right whatever happens to it.

    Args:
        confusion: counts ``(gold, predicted)``; a column behind those of the labels holds answers that are no label.
        labels: names in the order of the ids.
        unit: what is counted.
        support: texts per gold label ``(labels,)``, where these may get several labels; else the rows' sums.
    """
    classes, columns = len(labels), list(labels)
    if confusion.shape[1] > classes:
        invalid = bool(confusion[:, classes].any())
        confusion, columns = confusion[:, : classes + invalid], columns + ["no valid label"] * invalid
    support = confusion.sum(axis=1, keepdims=True) if support is None else support[:, None]
    shares = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    longest = max(len(label) for label in labels)
    side = max(3.2, 0.58 * classes)
    figure = Figure(figsize=(side + 1.6 + 0.075 * longest, side + 0.9 + 0.055 * longest), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if classes <= 40:
        for row, column in np.ndindex(confusion.shape):
            if confusion[row, column]:
                colour = "white" if shares[row, column] > 0.55 else "#222222"
                axes.text(
                    column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=colour, fontsize=8.5
                )
    names = [f"{label} ({count:,})" for label, count in zip(labels, support[:, 0], strict=True)]
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel(f"gold ({unit})")
    # White lines between the cells instead of a frame around them.
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
    bar.set_label("share of the gold class")
    bar.outline.set_visible(False)
    return figure


@styled
def learning_curves(
    history: Sequence[dict[str, Any]], score_name: str = "macro_f1", greater_is_better: bool = True
) -> Figure:
    """Training loss, validation loss and the validation score that picks checkpoints over optimizer steps.

    Args:
        history: ``trainer.state.log_history``: entries with ``step``, ``epoch`` and ``loss``, or ``eval_loss`` and
            ``eval_<score_name>``.
        score_name: the score.
        greater_is_better: whether the largest or the smallest is the best.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    loss_axes, score_axes = figure.subplots(1, 2, sharex=True)
    train = _curve(history, "loss")
    if train[0]:
        # Single batches scatter widely: dots show them, the line their moving mean.
        smooth = _moving_mean(train[1])
        loss_axes.plot(*train, ".", color=BLUE, alpha=0.3, markeredgewidth=0)
        loss_axes.plot(train[0], smooth, color=BLUE, label="training")
    validation = _curve(history, "eval_loss")
    if validation[0]:
        loss_axes.plot(*validation, "o-", color=ORANGE, label="validation")
    score = _curve(history, f"eval_{score_name}")
    if score[0]:
        score_axes.plot(*score, "o-", color=ORANGE)
        best = int(np.argmax(score[1]) if greater_is_better else np.argmin(score[1]))
        score_axes.plot(score[0][best], score[1][best], "o", color=GREEN, markersize=9)
        score_axes.annotate(
            f"best {score[1][best]:.3f}",
            (score[0][best], score[1][best]),
            textcoords="offset points",
            xytext=(0, 9),
            ha="center",
            color=GREEN,
        )
    loss_axes.set_title("Loss")
    loss_axes.set_ylim(bottom=0.0)
    if train[0] or validation[0]:
        loss_axes.legend()
    score_axes.set_title(f"Validation {score_title(score_name)}")
    score_axes.margins(y=0.2)
    for axes in (loss_axes, score_axes):
        axes.grid(True)
        axes.margins(x=0.06)
        axes.set_xlabel("optimizer steps")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def _curve(history: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one logged quantity; a step that was logged twice after a resume counts once."""
    values = {int(entry["step"]): float(entry[name]) for entry in history if name in entry and "step" in entry}
    finite = {step: value for step, value in sorted(values.items()) if np.isfinite(value)}
    return list(finite), list(finite.values())


def _moving_mean(values: Sequence[float]) -> np.ndarray:
    """Centred moving mean over a tenth of the curve, of the same length; the ends average over what there is."""
    width = max(1, len(values) // 10)
    kernel = np.ones(2 * (width // 2) + 1)
    return np.convolve(values, kernel, mode="same") / np.convolve(np.ones(len(values)), kernel, mode="same")


def per_class_figure(confusion: np.ndarray, labels: Sequence[str]) -> Figure:
    """F1 per class as bars, with the number of gold texts beside the name and macro-F1 as a line.

    Args:
        confusion: counts ``(gold, predicted)``; a column behind those of the labels holds answers that are no label.
        labels: names in the order of the ids.
    """
    classes = len(labels)
    square = np.zeros((confusion.shape[1], confusion.shape[1]), dtype=int)
    square[: len(confusion)] = confusion
    f1, present, support = f1_from_confusion(square)[:classes], present_classes(square)[:classes], square.sum(axis=1)
    support = support[:classes]
    macro = float(f1[present].mean()) if present.any() else 0.0
    return f1_bars(f1, support, labels, macro, f"macro-F1 {macro:.3f}", "texts")


@styled
def f1_bars(
    f1: np.ndarray, support: np.ndarray, labels: Sequence[str], overall: float, title: str, unit: str
) -> Figure:
    """One bar per label, and a line for the score of all of them.

    Args:
        f1: ``(labels,)``.
        support: gold texts (or whatever ``unit`` says) per label ``(labels,)``.
        labels: names.
        overall: where the line stands.
        title: names the line.
        unit: what ``support`` counts.
    """
    figure = Figure(figsize=(7.0, 1.3 + 0.36 * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(labels))
    axes.barh(places, f1, height=0.66, color=BLUE)
    for place, value in zip(places, f1, strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(value + 0.012, place, f"{value:.2f}", va="center", fontsize=9, bbox=box, zorder=3)
    axes.axvline(overall, color=ORANGE, linestyle="--", linewidth=1.4)
    axes.set_title(title, color=ORANGE)
    axes.set_yticks(places, [f"{label} ({count:,})" for label, count in zip(labels, support, strict=True)])
    axes.set_ylim(len(labels) - 0.4, -0.7)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel(f"F1 (gold {unit} in brackets)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


@styled
def reliability_figure(gold: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> Figure:
    """Reliability diagram (Guo et al. 2017): accuracy against confidence, and how often each confidence occurs.

    Args:
        gold: leaf ids ``(rows,)``.
        probabilities: ``(rows, classes)``.
        bins: equal-width bins of (0, 1].
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    index = confidence_bin(confidence, bins)
    size = np.bincount(index, minlength=bins)
    filled = size > 0
    mean_confidence = np.bincount(index, weights=confidence, minlength=bins)[filled] / size[filled]
    accuracy = np.bincount(index, weights=correct, minlength=bins)[filled] / size[filled]
    error = expected_calibration_error(gold, probabilities, bins)

    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect calibration")
    # Vertical lines are the gaps that the calibration error averages.
    upper.vlines(mean_confidence, mean_confidence, accuracy, color=ORANGE, linewidth=1.4, alpha=0.7)
    upper.plot(mean_confidence, accuracy, "o-", color=BLUE, label="this model")
    upper.legend(loc="upper left")
    upper.set_title(f"Calibration: error {error:.3f} over {bins} bins")
    upper.set_ylabel("accuracy")
    upper.set_ylim(0.0, 1.02)
    upper.grid(True)
    lower.bar((np.arange(bins) + 0.5) / bins, size / len(gold), width=0.9 / bins, color=BLUE)
    lower.set_ylabel("share of texts")
    lower.set_xlabel("confidence")
    lower.set_xlim(0.0, 1.0)
    lower.grid(axis="y")
    lower.yaxis.set_major_locator(MaxNLocator(3))
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


def save_drift(scores: Mapping[str, Any], path: Path) -> None:
    """Draw the scores over time of a split, if it has any.

    Args:
        scores: of the split.
        path: of the figure.
    """
    if scores.get("periods"):
        save_figure(drift_figure(scores["periods"]), path)


@styled
def drift_figure(periods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Macro-F1 and accuracy of every period with 95 % intervals, the number of texts below the name.

    Args:
        periods: what `opinionlm.evaluation.drift.period_scores` returns, in the order of time; at least one.
    """
    names, places = list(periods), np.arange(len(periods))
    figure = Figure(figsize=(max(4.6, 1.2 + 0.8 * len(names)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    # Side by side, so that the two intervals of a period do not hide each other.
    for score, colour, shift in (("macro_f1", BLUE, -0.06), ("accuracy", ORANGE, 0.06)):
        values = np.array([periods[name][score] for name in names])
        bounds = np.array([periods[name][f"{score}_ci95"] for name in names])
        # A percentile interval may lie beside the score itself where rows are few.
        errors = np.abs(np.clip(bounds.T, [[0.0], [0.0]], [[1.0], [1.0]]) - values)
        axes.errorbar(places + shift, values, yerr=errors, fmt="o-", color=colour, label=score_title(score), capsize=3)
    counts = [f"{name}\n({periods[name]['rows']:,.0f})" for name in names]
    axes.set_xticks(places, counts, rotation=0 if len(names) <= 12 else 60)
    axes.set_ylim(0.0, 1.0)
    axes.set_title("Scores over time")
    axes.set_xlabel("period (texts in brackets)")
    axes.grid(axis="y")
    axes.legend()
    return figure
