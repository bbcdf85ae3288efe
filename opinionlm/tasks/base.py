"""Which scores stand for a task: the one that picks checkpoints, and those that a person is shown first."""

from __future__ import annotations

from dataclasses import dataclass

from opinionlm.config.chosen_metric import SCORES, ChosenMetric, chosen_metric
from opinionlm.config.config import Config
from opinionlm.data.prepared import PreparedDataset


@dataclass(frozen=True)
class Headline:
    """The scores of a task by importance.

    Attributes:
        chosen_by: the validation score that picks the checkpoint by default; the higher the better.
        shown: the scores of summaries, ``chosen_by`` first.
    """

    chosen_by: str
    shown: tuple[str, ...]


def headline_of(prepared: PreparedDataset) -> Headline:
    """The headline scores of a prepared data set.

    Rare labels count as much as frequent ones in macro-F1, the opinion paper's measure. Tagging is compared by micro
    F1 over entities and similarity by Pearson's correlation, as the methods paper and everybody else report them.

    Raises:
        ValueError: a task of text to text, which has other scores.
    """
    match prepared.task:
        case "sequence":
            levels = [f"level{level}_macro_f1" for level in range(1, prepared.taxonomy.depth + 1)]
            return Headline("macro_f1", ("macro_f1", "accuracy", "weighted_f1", *levels, "hierarchical_f1", "ece"))
        case "token":
            return Headline("entity_f1", ("entity_f1", "entity_precision", "entity_recall", "macro_f1", "accuracy"))
        case "similarity":
            return Headline("pearson", ("pearson", "spearman", "mse", "mae"))
        case task:
            raise ValueError(f"no classifier is scored on task {task!r}")


def score_names(prepared: PreparedDataset) -> tuple[str, ...]:
    """Every score of a validation split while a classifier trains."""
    names = list(SCORES[prepared.task])
    match prepared.task:
        case "sequence":
            for level in range(1, prepared.taxonomy.depth + 1):
                names += [f"level{level}_macro_f1", f"level{level}_accuracy"]
            names += [f"f1_{leaf}" for leaf in prepared.taxonomy.leaves]
        case "token":
            types = dict.fromkeys(tag[2:] for tag in prepared.tags if tag != "O")
            names += [f"{kind}_{name}" for kind in ("precision", "recall", "f1") for name in types]
    return tuple(names)


def choice_of(prepared: PreparedDataset, config: Config) -> ChosenMetric:
    """The score that chooses the checkpoint of a run.

    Raises:
        UserError: ``metric_for_best_model`` is no score of these data.
    """
    return chosen_metric(config, headline_of(prepared).chosen_by, score_names(prepared))
