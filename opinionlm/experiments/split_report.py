"""The predictions of one split as a person looks at them: figures and small tables, for every task."""

from __future__ import annotations

from matplotlib.figure import Figure

from opinionlm.evaluation.reports import SplitPredictions, Table, confident_mistakes, per_class_table
from opinionlm.evaluation.similarity import ScorePredictions, largest_errors
from opinionlm.evaluation.tagging import TagPredictions, confident_tag_mistakes, per_type_table
from opinionlm.experiments.figures import confusion_figure, per_class_figure, reliability_figure
from opinionlm.experiments.task_figures import score_figure, type_confusion_figure, type_f1_figure

Predictions = SplitPredictions | TagPredictions | ScorePredictions


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


def tables_of(predictions: Predictions) -> dict[str, Table]:
    """The tables of one split by name."""
    match predictions:
        case SplitPredictions():
            return {
                "per_class": per_class_table(predictions),
                "confident_mistakes": confident_mistakes(predictions),
            }
        case TagPredictions():
            return {
                "per_type": per_type_table(predictions),
                "confident_mistakes": confident_tag_mistakes(predictions),
            }
        case ScorePredictions():
            return {"largest_errors": largest_errors(predictions)}
