"""The figures of tagging and of similarity."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from opinionlm.evaluation.similarity import ScorePredictions, similarity_scores
from opinionlm.evaluation.tagging import TagPredictions, precision_recall_f1
from opinionlm.reporting.figures import BLUE, GREY, ORANGE, confusion_figure, f1_bars, styled


def type_f1_figure(predictions: TagPredictions) -> Figure:
    """F1 per entity type as bars, with the number of gold entities, and F1 over all entities as a line."""
    counts = predictions.counts.sum(axis=0)
    overall = float(precision_recall_f1(counts.sum(axis=1))[2])
    return f1_bars(
        precision_recall_f1(counts.T)[2], counts[2], predictions.types, overall, f"entity F1 {overall:.3f}", "entities"
    )


def type_confusion_figure(predictions: TagPredictions) -> Figure:
    """Which type of word is taken for which, words outside of entities (``O``) among them."""
    return confusion_figure(predictions.confusion, ["O", *predictions.types], unit="words")


@styled
def score_figure(predictions: ScorePredictions) -> Figure:
    """Predicted against gold scores; on the line the two agree."""
    gold, predicted = predictions.gold, predictions.predicted
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
