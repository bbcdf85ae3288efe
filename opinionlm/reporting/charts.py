"""Draw the charts of a split's predictions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from opinionlm.evaluation.charts import (
    Chart,
    ConfusionChart,
    F1Chart,
    PrecisionRecallChart,
    ReliabilityChart,
    ScoreChart,
)
from opinionlm.evaluation.similarity import similarity_scores
from opinionlm.reporting.confusion_figure import confusion_figure
from opinionlm.reporting.figures import BLUE, GREY, ORANGE, f1_figure, reliability_figure, styled


def draw(chart: Chart) -> Figure:
    """A chart as a figure."""
    match chart:
        case ConfusionChart():
            return confusion_figure(chart)
        case F1Chart():
            return f1_figure(chart)
        case PrecisionRecallChart():
            return precision_recall_figure(chart)
        case ReliabilityChart():
            return reliability_figure(chart)
        case ScoreChart():
            return score_figure(chart)


@styled
def precision_recall_figure(chart: PrecisionRecallChart) -> Figure:
    """A small panel for every label: its curve over all thresholds, and the point that was decided for."""
    columns = 4
    lines = -(-len(chart.labels) // columns)
    figure = Figure(figsize=(9.0, 0.5 + 1.9 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for label, (name, axes) in enumerate(zip(chart.labels, panels, strict=False)):
        gold, predicted = chart.gold[:, label].astype(bool), chart.predicted[:, label].astype(bool)
        ranked = gold[np.argsort(-chart.probabilities[:, label], kind="stable")]
        hits, support = np.cumsum(ranked), max(int(gold.sum()), 1)
        axes.plot(hits / support, hits / np.arange(1, len(gold) + 1), color=BLUE, linewidth=1.2)
        right = int((gold & predicted).sum())
        axes.plot(right / support, right / max(int(predicted.sum()), 1), "o", color=ORANGE, zorder=3)
        axes.set_title(f"{name} ({int(gold.sum()):,})", fontsize=9, pad=4)
        axes.set_xlim(0.0, 1.02)
        axes.set_ylim(0.0, 1.05)
        axes.grid(True)
    for axes in panels[len(chart.labels) :]:
        axes.set_visible(False)
    figure.supxlabel("recall (dot: at the fitted threshold; gold texts in brackets)", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    return figure


@styled
def score_figure(chart: ScoreChart) -> Figure:
    """Predicted against gold scores; on the line the two agree."""
    gold, predicted = chart.gold, chart.predicted
    scores = similarity_scores(gold, predicted)
    figure = Figure(figsize=(5.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    low, high = (float(bound(np.concatenate([gold, predicted]))) for bound in (np.min, np.max))
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1.2, label="gold = predicted")
    # Many points lie over each other: the more of them, the fainter each one.
    alpha = float(np.clip(60 / max(len(gold), 1), 0.15, 0.8))
    axes.plot(gold, predicted, ".", color=BLUE, alpha=alpha, markeredgewidth=0)
    axes.set_title(f"Pearson {scores['pearson']:.3f}, Spearman {scores['spearman']:.3f}", color=ORANGE)
    axes.set_xlabel("gold score")
    axes.set_ylabel("predicted score")
    axes.legend(loc="upper left")
    axes.grid(True)
    return figure
