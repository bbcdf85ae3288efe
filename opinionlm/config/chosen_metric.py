"""Which validation score chooses the checkpoint, and which way it is better, by its name alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from opinionlm.errors import UserError

if TYPE_CHECKING:
    from opinionlm.config.config import Config
    from opinionlm.config.training_options import TrainingConfig

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

LABELS = (
    *("macro_f1", "accuracy", "weighted_f1", "hierarchical_precision", "hierarchical_recall", "hierarchical_f1"),
    *("mistake_severity", "ece", "brier", "loss"),
)
# The scores of a validation split by task, those of single labels and levels aside; the first chooses by default.
SCORES = {
    "sequence": LABELS,
    "token": ("entity_f1", "entity_precision", "entity_recall", "macro_f1", "accuracy", "loss"),
    "similarity": ("pearson", "spearman", "mse", "mae", "loss"),
    "question_answering": ("f1", "exact_match", "perplexity", "loss"),
    "summarization": ("rougeL", "rouge1", "rouge2", "rougeLsum", "perplexity", "loss"),
    "instruction": ("perplexity", "loss"),
}
TASKS_OF = {
    "train_classifier": ("sequence", "token", "similarity"),
    "train_instruct": ("sequence", "question_answering", "summarization", "instruction"),
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


def asked_metric(training: TrainingConfig) -> str | None:
    """The name that ``metric_for_best_model`` gives, without the prefix that Trainer's logs put before it."""
    name = training.metric_for_best_model
    return None if name is None else name.removeprefix("eval_")


def metric_problems(config: Config) -> list[str]:
    """What is wrong with the choice of the checkpoint, as far as no data have to be known for it."""
    training, name = config.training, asked_metric(config.training)
    if config.script not in TASKS_OF:
        return []
    problems = []
    if name is not None and training.engine in ("sklearn", "tfidf"):
        problems.append(
            f"metric_for_best_model: {name!r} chooses among checkpoints, of which engine: {training.engine} has none; "
            "leave it out"
        )
    task = config.data.task
    tasks = TASKS_OF[config.script] if task == "auto" or config.script == "train_instruct" else (task,)
    known = list(dict.fromkeys(score for each in tasks for score in SCORES.get(each, ())))
    if config.script == "train_instruct":
        known.append("invalid_rate")
    if name is not None and name not in known and not OF_LABEL.match(name) and not OF_LEVEL.match(name):
        problems.append(unknown_metric(name, known) + "; and f1_<label>, level1_macro_f1, level1_accuracy, …")
    elif training.greater_is_better is not None and name is not None:
        problems += contradiction(name, training.greater_is_better)
    return problems


def unknown_metric(name: str, known: Collection[str]) -> str:
    """One line about a score that a validation split has not."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}? One of" if near else "; one of"
    return f"metric_for_best_model: {name!r} is no score of the validation split{hint} {', '.join(known)}"


def contradiction(name: str, greater_is_better: bool) -> list[str]:
    """A direction that would keep the worst checkpoint."""
    if greater_is_better == (direction(name) == "higher"):
        return []
    way = "larger" if direction(name) == "higher" else "smaller"
    return [
        f"greater_is_better: {str(greater_is_better).lower()} would keep the worst checkpoint: {name} is better when "
        f"{way}; leave it out"
    ]


def chosen_metric(config: Config, primary: str, available: Collection[str]) -> ChosenMetric:
    """The score that chooses the checkpoint of a run.

    Args:
        config: the run's options.
        primary: the score of the task that chooses by default.
        available: the scores of this data's validation split.

    Raises:
        UserError: the data have no such score, or it is asked for the worst one.
    """
    training = config.training
    name = asked_metric(training) or primary
    if name not in available:
        raise UserError(f"{config.source}: {unknown_metric(name, available)}")
    if training.greater_is_better is not None and (found := contradiction(name, training.greater_is_better)):
        raise UserError(f"{config.source}: {found[0]}")
    return ChosenMetric(name, direction(name) == "higher")


def score_title(name: str) -> str:
    """A score's name as figures and sentences write it: ``macro_f1`` → ``macro-F1``."""
    if OF_LABEL.match(name):
        kind, label = name.split("_", 1)
        return f"{'F1' if kind == 'f1' else kind} of {label}"
    return name.replace("_f1", "-F1").replace("_", " ")
