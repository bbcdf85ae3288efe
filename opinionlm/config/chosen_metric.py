"""Which validation score chooses the checkpoint, and which way it is better, by its name alone."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from opinionlm.config.conditions import Script
from opinionlm.errors import UserError
from opinionlm.utils.names import nearest

if TYPE_CHECKING:
    from opinionlm.config.training_options import EvaluationConfig, TrainingConfig

# Of a label or an entity type, whatever its name says.
OF_LABEL = re.compile(r"^(f1|precision|recall)_.")
OF_LEVEL = re.compile(r"^level\d+_(macro_f1|accuracy)$")
LOWER_IS_BETTER = re.compile(
    r"(^|_)(loss|ece|nll|perplexity|brier|severity|invalid|error|mse|rmse|mae|seconds|memory_mb|flops)(_|$)|"
    r"^trainable_parameters$"
)
HIGHER_IS_BETTER = re.compile(
    r"(^|_)(f1|accuracy|precision|recall|pearson|spearman|match|rouge\w*|bleu|kappa|mcc|auc|second)(_|$)"
)

# Between 0 and 1, between -1 and 1, and never below 0.
SHARE = re.compile(r"(^|_)(f1|accuracy|precision|recall|match|rouge\w*|ece|hamming|invalid|rate|coverage)(_|$)")
CORRELATION = re.compile(r"^(pearson|spearman)$")
NOT_NEGATIVE = re.compile(
    r"(^|_)(loss|nll|perplexity|brier|severity|error|mse|rmse|mae|seconds|second|mb|flops|parameters|size|C)(_|$)"
)
# What stands before the dot of a metric's place in metrics.json.
PLACE = re.compile(r"^(validation|test|train|cost|model|decision)\.")

LABELS = (
    *("macro_f1", "accuracy", "weighted_f1", "hierarchical_precision", "hierarchical_recall", "hierarchical_f1"),
    *("macro_f1_sklearn", "macro_precision", "macro_recall", "mistake_severity", "ece", "brier", "loss"),
)
MULTI_LABEL = (
    *("macro_f1", "micro_f1", "weighted_f1", "samples_f1", "subset_accuracy", "hamming_loss"),
    *("label_ranking_average_precision", "hierarchical_precision", "hierarchical_recall", "hierarchical_f1"),
    *("ece", "brier", "loss"),
)
# The scores of a validation split by task, those of single labels and levels aside; the first chooses by default.
SCORES = {
    "sequence": LABELS,
    "multi_label": MULTI_LABEL,
    "token": ("entity_f1", "entity_precision", "entity_recall", "macro_f1", "accuracy", "loss"),
    "similarity": ("pearson", "spearman", "mse", "mae", "loss"),
    "question_answering": ("f1", "exact_match", "perplexity", "loss"),
    "summarization": ("rougeL", "rouge1", "rouge2", "rougeLsum", "perplexity", "loss"),
    "instruction": ("perplexity", "loss"),
}
TASKS_OF = {
    "train_classifier": ("sequence", "multi_label", "token", "similarity"),
    "train_instruct": ("sequence", "multi_label", "question_answering", "summarization", "instruction"),
}


@dataclass(frozen=True)
class ChosenMetric:
    """What the best checkpoint is the best by; the first of equals wins.

    Attributes:
        name: of a score of the validation split, without ``eval_``.
        greater_is_better: whether its largest or its smallest value is the best.
    """

    name: str
    greater_is_better: bool


def direction(metric: str) -> Literal["lower", "higher", ""]:
    """Whether a metric is better when ``lower`` or ``higher``; blank where nobody can tell from its name."""
    if OF_LABEL.match(metric):
        return "higher"
    if LOWER_IS_BETTER.search(metric):
        return "lower"
    return "higher" if HIGHER_IS_BETTER.search(metric) else ""


def range_of(place: str) -> tuple[float, float] | None:
    """The least and the largest value that a metric can have; None where its name does not tell.

    Args:
        place: the metric's name, or where it stands: ``test.macro_f1``, ``recall.<label>``.
    """
    metric = PLACE.sub("", place)
    if OF_LABEL.match(metric) or SHARE.search(metric) or metric.startswith(("recall.", "precision.")):
        return 0.0, 1.0
    if CORRELATION.match(metric):
        return -1.0, 1.0
    return (0.0, float("inf")) if NOT_NEGATIVE.search(metric) else None


def asked_metric(options: EvaluationConfig) -> str | None:
    """The name that ``metric_for_best_model`` gives, without the prefix that Trainer's logs put before it."""
    name = options.metric_for_best_model
    return None if name is None else name.removeprefix("eval_")


def metric_problems(training: TrainingConfig, script: Script, task: str) -> list[str]:
    """What is wrong with the choice of the checkpoint, as far as no data have to be known for it.

    Args:
        training: the options.
        script: whose run it is.
        task: that the options state, ``auto`` where the data tell it.
    """
    name = asked_metric(training)
    if script not in TASKS_OF:
        return []
    problems = []
    if name is not None and training.engine in ("sklearn", "tfidf"):
        problems.append(
            f"metric_for_best_model: {name!r} chooses among checkpoints, of which engine: {training.engine} has none; "
            "leave it out"
        )
    tasks = TASKS_OF[script] if task == "auto" or script == "train_instruct" else (task,)
    known = list(dict.fromkeys(score for each in tasks for score in SCORES.get(each, ())))
    if script == "train_instruct":
        known.append("invalid_rate")
    if name is not None and name not in known and not OF_LABEL.match(name) and not OF_LEVEL.match(name):
        problems.append(unknown_metric(name, known) + "; and f1_<label>, level1_macro_f1, level1_accuracy, …")
    elif training.greater_is_better is not None and name is not None:
        problems += contradiction(name, training.greater_is_better)
    return problems


def unknown_metric(name: str, known: Collection[str]) -> str:
    """One line about a score that a validation split has not."""
    return f"metric_for_best_model: {name!r} is no score of the validation split{nearest(name, known)}"


def contradiction(name: str, greater_is_better: bool) -> list[str]:
    """A direction that would keep the worst checkpoint."""
    if greater_is_better == (direction(name) == "higher"):
        return []
    way = "larger" if direction(name) == "higher" else "smaller"
    return [
        f"greater_is_better: {str(greater_is_better).lower()} would keep the worst checkpoint: {name} is better when "
        f"{way}; leave it out"
    ]


def chosen_metric(options: EvaluationConfig, primary: str, available: Collection[str], source: str) -> ChosenMetric:
    """The score that chooses the checkpoint of a run: what the options ask for, else the task's ``primary`` one.

    Raises:
        UserError: the data have no such score, or it is asked for the worst one.
    """
    name = asked_metric(options) or primary
    if name not in available:
        raise UserError(f"{source}: {unknown_metric(name, available)}")
    if options.greater_is_better is not None and (found := contradiction(name, options.greater_is_better)):
        raise UserError(f"{source}: {found[0]}")
    return ChosenMetric(name, direction(name) == "higher")


def score_title(name: str) -> str:
    """A score's name as figures and sentences write it: ``macro_f1`` → ``macro-F1``."""
    if OF_LABEL.match(name):
        kind, label = name.split("_", 1)
        return f"{'F1' if kind == 'f1' else kind} of {label}"
    return name.replace("_f1", "-F1").replace("_", " ")
