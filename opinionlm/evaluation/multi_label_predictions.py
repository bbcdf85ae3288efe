"""What a person reads of answers with any number of labels: labels beside labels, every label's score and curve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.charts import Chart, ConfusionChart, F1Chart, PrecisionRecallChart, ReliabilityChart
from opinionlm.evaluation.class_predictions import SHOWN_CHARACTERS
from opinionlm.evaluation.multi_label import (
    MAIN_SCORES,
    f1_bounds,
    f1_per_label,
    multi_label_intervals,
    multi_label_scores,
)
from opinionlm.evaluation.predictions import Predictions
from opinionlm.utils.markdown import Table


@dataclass(frozen=True)
class MultiLabelPredictions(Predictions):
    """Gold labels and predictions of one split.

    Attributes:
        labels: leaf names in the order of the ids.
        texts: the texts, one per row.
        gold: zeros and ones ``(rows, leaves)``.
        probabilities: ``(rows, leaves)``.
        predicted: bool ``(rows, leaves)``.
        thresholds: of the labels, for the curves.
        text_pairs: the second texts, where the task is about pairs.
    """

    labels: Sequence[str]
    texts: Sequence[str]
    gold: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    thresholds: Sequence[float]
    text_pairs: Sequence[str] | None = None

    of_texts: ClassVar[bool] = True

    def intervals(self) -> dict[str, Any]:
        """See `Predictions.intervals`."""
        return multi_label_intervals(self.gold, self.predicted)

    def scores_of(self, rows: np.ndarray) -> dict[str, Any]:
        """``macro_f1`` (over all labels), ``micro_f1`` and ``subset_accuracy``; see `Predictions.scores_of`."""
        gold, predicted = self.gold[rows], self.predicted[rows]
        found = multi_label_scores(gold, predicted, Taxonomy.from_tree(list(self.labels)))
        return {name: found[name] for name in MAIN_SCORES} | multi_label_intervals(gold, predicted)

    def charts(self) -> dict[str, Chart]:
        """See `Predictions.charts`."""
        gold, absent = self.gold.astype(int), 1 - self.probabilities
        return set_charts(gold, self.predicted, self.labels) | {
            "precision_recall": PrecisionRecallChart(gold, self.probabilities, self.predicted, self.labels),
            # Of every text and label the surer of "has it" and "has it not".
            "reliability": ReliabilityChart(
                gold.ravel(), np.stack([absent.ravel(), self.probabilities.ravel()], 1), per_label=True
            ),
        }

    def tables(self) -> dict[str, Table]:
        """See `Predictions.tables`."""
        return {"per_label": per_label_table(self), "confident_mistakes": confident_label_mistakes(self)}


def set_charts(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, Chart]:
    """Charts of sets of labels, whoever gave them.

    Args:
        gold: zeros and ones ``(rows, leaves)``.
        predicted: bool ``(rows, leaves)``.
        labels: leaf names.
    """
    f1, support = f1_per_label(gold, predicted), gold.sum(axis=0)
    macro = float(f1.mean())
    return {
        "co_occurrence": ConfusionChart(gold.T @ predicted, labels, support=support),
        "per_label": F1Chart(f1, f1_bounds(gold, predicted), support, labels, macro, f"macro-F1 {macro:.3f}", "texts"),
    }


def per_label_table(split: MultiLabelPredictions) -> Table:
    """Precision, recall, F1, threshold, predicted and gold texts of every label; a score without any row is 0."""
    gold = split.gold.astype(bool)
    hits, predicted, support = (gold & split.predicted).sum(axis=0), split.predicted.sum(axis=0), gold.sum(axis=0)
    columns = (hits / np.maximum(predicted, 1), hits / np.maximum(support, 1), f1_per_label(gold, split.predicted))
    rows: list[list[str | int | float]] = [
        [
            label,
            *(float(column[index]) for column in columns),
            float(split.thresholds[index]),
            int(predicted[index]),
            int(support[index]),
        ]
        for index, label in enumerate(split.labels)
    ]
    return Table(["label", "precision", "recall", "f1", "threshold", "predicted", "support"], rows)


def confident_label_mistakes(split: MultiLabelPredictions, limit: int = 50) -> Table:
    """The labels that were given or withheld wrongly and most surely, surest first."""
    gold = split.gold.astype(bool)
    sureness = np.where(split.predicted, split.probabilities, 1 - split.probabilities)
    rows, labels = np.nonzero(split.predicted != gold)
    worst = np.argsort(-sureness[rows, labels], kind="stable")[:limit]
    listed: list[list[str | int | float]] = [
        [
            split.texts[int(rows[at])][:SHOWN_CHARACTERS],
            json.dumps([split.labels[label] for label in np.flatnonzero(gold[rows[at]]).tolist()], ensure_ascii=False),
            split.labels[int(labels[at])],
            "given" if split.predicted[rows[at], labels[at]] else "withheld",
            float(sureness[rows[at], labels[at]]),
        ]
        for at in worst
    ]
    return Table(["text", "gold", "label", "mistake", "confidence"], listed)


def label_header(taxonomy: Taxonomy) -> list[str]:
    """Columns that describe a prediction: the leaves, the labels per level of a tree, the probability per leaf."""
    return [*list_columns(taxonomy), *[f"probability_{label}" for label in taxonomy.leaves]]


def label_rows(probabilities: np.ndarray, members: np.ndarray, taxonomy: Taxonomy) -> Iterator[list[str]]:
    """One list of cells per row, in the order of `label_header`; lists are JSON, and a leaf's ancestors follow.

    Args:
        probabilities: ``(rows, leaves)``.
        members: which leaves rows have, bool ``(rows, leaves)``.
        taxonomy: the label tree.
    """
    for row, own in zip(probabilities, members, strict=True):
        leaves = np.flatnonzero(own).tolist()
        yield [*label_lists(leaves, taxonomy), *[f"{value:.6f}" for value in row]]


def list_columns(taxonomy: Taxonomy) -> list[str]:
    """Columns of the lists that `label_lists` writes."""
    return ["predicted", *[f"level{level}" for level in range(1, taxonomy.depth + 1) if taxonomy.depth > 1]]


def label_lists(leaves: Sequence[int], taxonomy: Taxonomy) -> list[str]:
    """Leaves as a JSON list of names, and of a tree the same for every level."""
    lists = [[taxonomy.leaves[leaf] for leaf in leaves]]
    if taxonomy.depth > 1:
        levels = range(1, taxonomy.depth + 1)
        named = ([taxonomy.label_at(leaf, level) for leaf in leaves] for level in levels)
        lists += [list(dict.fromkeys(filter(None, names))) for names in named]
    return [json.dumps(names, ensure_ascii=False) for names in lists]


def label_sets(cells: Sequence[str]) -> list[list[str]] | None:
    """The lists that `label_lists` wrote into a column, none for a blank cell; None for a column of single labels."""
    if not all(cell.startswith("[") or not cell for cell in cells):
        return None
    try:
        found = [json.loads(cell or "[]") for cell in cells]
    except ValueError:
        return None
    return found if all(isinstance(names, list) for names in found) else None


def label_table(
    ids: Sequence[str], platforms: Sequence[str], predictions: MultiLabelPredictions, taxonomy: Taxonomy
) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows of ``predictions/<split>.csv``, one row per text or pair of texts."""
    texts = {"text": predictions.texts}
    texts |= {} if predictions.text_pairs is None else {"text_pair": predictions.text_pairs}
    gold = (label_lists(np.flatnonzero(row).tolist(), taxonomy)[0] for row in predictions.gold)
    cells = label_rows(predictions.probabilities, predictions.predicted, taxonomy)
    rows = (
        [identity, platform, *read, labels, *predicted]
        for identity, platform, labels, predicted, *read in zip(
            ids, platforms, gold, cells, *texts.values(), strict=True
        )
    )
    return ["id", "platform", *texts, "gold", *label_header(taxonomy)], rows
