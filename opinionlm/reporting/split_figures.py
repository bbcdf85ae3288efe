"""The figures of the predictions of one split, for every task."""

from __future__ import annotations

from matplotlib.figure import Figure

from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.prediction_tables import Predictions
from opinionlm.evaluation.similarity import ScorePredictions
from opinionlm.evaluation.tagging import TagPredictions
from opinionlm.reporting.figures import confusion_figure, per_class_figure, reliability_figure
from opinionlm.reporting.task_figures import score_figure, type_confusion_figure, type_f1_figure


def figures_of(predictions: Predictions) -> dict[str, Figure]:
    """The figures of one split by name."""
    match predictions:
        case SplitPredictions():
            return {
                "confusion": confusion_figure(predictions.confusion, predictions.labels),
                "per_class": per_class_figure(predictions.confusion, predictions.labels),
                "reliability": reliability_figure(predictions.gold, predictions.probabilities),
            }
        case TagPredictions():
            return {"confusion": type_confusion_figure(predictions), "per_type": type_f1_figure(predictions)}
        case ScorePredictions():
            return {"scores": score_figure(predictions)}
