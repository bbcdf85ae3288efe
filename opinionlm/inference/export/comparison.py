"""What a graph's answers to the validation texts of a run lose against those of the model that it was made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.encoding.features import in_words
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import macro_f1
from opinionlm.evaluation.metrics import expected_calibration_error
from opinionlm.evaluation.multi_label import f1_per_label, probability_scores
from opinionlm.evaluation.multi_label_rules import MultiLabelRule
from opinionlm.evaluation.similarity import pearson
from opinionlm.evaluation.tagging import TagPredictions, tag_scores
from opinionlm.inference.predictors import ClassPredictor, Item, Predictor, TagPredictor
from opinionlm.utils.files import read_csv


@dataclass(frozen=True)
class Comparison:
    """A model and its graph on the validation texts.

    Attributes:
        rows: number of texts.
        metric: the score that must not be lost: macro_f1, of taggers entity_f1, of scorers pearson.
        scores: of the model and of the graph.
        agreement: share of texts with equal labels, of words with equal tags; None for scores.
        ece: calibration error of the model and of the graph, None where there are no labels of texts.
        largest_difference: of a probability, or of a score; None for tags.
    """

    rows: int
    metric: str
    scores: tuple[float, float]
    agreement: float | None = None
    ece: tuple[float, float] | None = None
    largest_difference: float | None = None

    @property
    def loss(self) -> float:
        """What the graph loses of the score."""
        return self.scores[0] - self.scores[1]

    def describe(self) -> str:
        """One line for a person."""
        name = {"macro_f1": "macro-F1", "entity_f1": "entity F1", "pearson": "Pearson"}[self.metric]
        parts = [] if self.agreement is None else [f"{self.agreement:.2%} equal labels"]
        parts.append("{} {:.4f} → {:.4f}".format(name, *self.scores))
        parts += [] if self.ece is None else ["ECE {:.4f} → {:.4f}".format(*self.ece)]
        return f"{self.rows:,} validation texts: {'; '.join(parts)}"

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rows": self.rows,
            "label_agreement": self.agreement,
            self.metric: self.scores,
            "ece": self.ece,
            "largest_difference": self.largest_difference,
        }


def validation_of(folder: Path, predictor: Predictor) -> tuple[list[Item], list[str]]:
    """What a model read of the validation split of its run, from ``predictions/validation.csv``.

    Args:
        folder: of the run.
        predictor: its model.

    Returns:
        Items as the predictor takes them, and the cells of the column ``gold``.

    Raises:
        UserError: the run's predictions are not beside the model, hold no text, lack a column that it reads, or their
            right answers are none of the model's.
    """
    path = folder / "predictions" / "validation.csv"
    if not path.is_file():
        raise UserError(
            f"export: {path} is missing, by which a graph is compared with the model; give the folder of the whole run"
        )
    rows = read_csv(path)
    if not rows:
        raise UserError(f"export: {path} holds no text to compare a graph with the model by; give the whole run")
    texts_of = {"words": ["tokens"], "pair": ["text", "text_pair"]}.get(predictor.reads, ["text"])
    read = [*(feature.name for feature in predictor.features), *texts_of, "gold"]
    if absent := [name for name in read if name not in rows[0]]:
        raise UserError(
            f"export: a graph is compared by the columns {', '.join(absent)}, and {path} does not hold them"
        )
    gold = [row["gold"] for row in rows]
    check_gold(predictor, gold, path)
    if isinstance(predictor, TagPredictor):
        sentences: list[Item] = [tuple(row["tokens"].split(" ")) for row in rows]
        if any(len(words) != len(tags.split(" ")) for words, tags in zip(sentences, gold, strict=True)):
            raise UserError(f"export: {path}: words that hold blanks are not told apart; evaluate the run anew")
        return sentences, gold
    texts = [in_words(predictor.features, row, row["text"]) for row in rows]
    if predictor.reads != "pair":
        return list(texts), gold
    return list(zip(texts, [row["text_pair"] for row in rows], strict=True)), gold


def check_gold(predictor: Predictor, gold: Sequence[str], path: Path) -> None:
    """Refuse right answers that the model never gives.

    Raises:
        UserError: there is one; ``path`` says where.
    """
    for cell in gold:
        try:
            right_answer(predictor, cell)
        except (ValueError, TypeError):
            raise UserError(
                f"export: {path}: the model never answers the {cell!r} of column gold; give the folder of its own run"
            ) from None


def right_answer(predictor: Predictor, cell: str) -> Any:
    """What a cell of ``gold`` stands for: label ids, one or zeros and ones ``(leaves,)``; a score; the ids of tags.

    Raises:
        ValueError, TypeError: the model never answers so.
    """
    if isinstance(predictor, TagPredictor):
        return np.array([tags_of(predictor).index(tag) for tag in cell.split()])
    if not isinstance(predictor, ClassPredictor):
        return float(cell)
    leaves = predictor.labels.taxonomy.leaves
    if not isinstance(predictor.labels.rule, MultiLabelRule):
        return leaves.index(cell)
    ids = [leaves.index(label) for label in json.loads(cell)]
    return np.isin(np.arange(len(leaves)), ids)


def tags_of(predictor: TagPredictor) -> list[str]:
    """The tags of a tagger in the order of their ids."""
    return [predictor.model.config.id2label[tag] for tag in range(predictor.model.config.num_labels)]


def measured(predictor: Predictor, items: Sequence[Item]) -> Any:
    """What is answered: probabilities ``(rows, leaves)``, scores ``(rows,)``, or the tags of every sentence."""
    if isinstance(predictor, ClassPredictor):
        return predictor.probabilities(items)
    answers = predictor.answers(items)
    if isinstance(predictor, TagPredictor):
        return [row[0].split() for row in answers]
    return np.array([float(row[0]) for row in answers])


def compare_answers(predictor: Predictor, before: Any, after: Any, gold: Sequence[str]) -> Comparison:
    """Compare what `measured` found of a model and of its graph.

    Args:
        predictor: of the model.
        before: of the model.
        after: of the graph.
        gold: see `validation_of`.
    """
    if isinstance(predictor, ClassPredictor):
        return compare_probabilities(predictor, before, after, gold)
    if isinstance(predictor, TagPredictor):
        return compare_tags(predictor, before, after, [row.split() for row in gold])
    right = np.array(list(map(float, gold)))
    scores = (float(pearson(right, before)), float(pearson(right, after)))
    return Comparison(len(gold), "pearson", scores, largest_difference=float(np.abs(before - after).max()))


def compare_probabilities(
    predictor: ClassPredictor, before: np.ndarray, after: np.ndarray, gold: Sequence[str]
) -> Comparison:
    """Compare calibrated probabilities ``(rows, leaves)``, one label per text or any number."""
    taxonomy, rule = predictor.labels.taxonomy, predictor.labels.rule
    if isinstance(rule, MultiLabelRule):
        right = np.array([right_answer(predictor, row) for row in gold])
        sets = [rule.decide(found) for found in (before, after)]
        scores = [float(f1_per_label(right, found).mean()) for found in sets]
        errors = [probability_scores(right.astype(float), found)["ece"] for found in (before, after)]
        equal = (sets[0] == sets[1]).all(axis=1)
    else:
        ids = np.array([right_answer(predictor, row) for row in gold])
        labels = [rule.decide(found, taxonomy) for found in (before, after)]
        scores = [macro_f1(ids, found, len(taxonomy.leaves)) for found in labels]
        errors = [expected_calibration_error(ids, found) for found in (before, after)]
        equal = labels[0] == labels[1]
    return Comparison(
        rows=len(gold),
        metric="macro_f1",
        scores=(scores[0], scores[1]),
        agreement=float(equal.mean()),
        ece=(errors[0], errors[1]),
        largest_difference=float(np.abs(before - after).max()),
    )


def compare_tags(
    predictor: TagPredictor, before: list[list[str]], after: list[list[str]], gold: list[list[str]]
) -> Comparison:
    """Compare the tags of sentences, word by word, and by the entities that they make."""
    tags = tags_of(predictor)

    def entity_f1(found: list[list[str]]) -> float:
        right, predicted = ([np.array([tags.index(tag) for tag in row]) for row in rows] for rows in (gold, found))
        sure, unread = [np.ones(len(row)) for row in gold], [np.zeros(len(row), dtype=bool) for row in gold]
        return tag_scores(TagPredictions(tags, gold, right, predicted, sure, unread))["entity_f1"]

    equal = [one == other for rows in zip(before, after, strict=True) for one, other in zip(*rows, strict=True)]
    return Comparison(len(gold), "entity_f1", (entity_f1(before), entity_f1(after)), float(np.mean(equal)))
