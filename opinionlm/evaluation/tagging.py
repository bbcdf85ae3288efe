"""Scores of a tagger: entities must match exactly, in type, first word and last word.

Entities are read off the tags by seqeval, strictly: an ``I-x`` that continues nothing is no entity. The scores are
those of seqeval's ``classification_report(mode="strict", scheme=IOB2)``, from counts per sentence, out of which
intervals over sentences follow without tagging anything again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from seqeval.scheme import IOB2, Entities

from opinionlm.evaluation.charts import Chart, ConfusionChart, F1Chart
from opinionlm.evaluation.class_predictions import SHOWN_CHARACTERS
from opinionlm.evaluation.metrics import corrected_interval
from opinionlm.evaluation.predictions import Predictions
from opinionlm.utils.markdown import Table

# Replicates of the bootstrap that are drawn at once: bounds its memory.
CHUNK = 100


def token_summary(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What is kept of a batch's logits until the whole split is predicted.

    Args:
        logits: ``(batch, length, tags)``.
        labels: ``(batch, length)``, -100 where none counts.

    Returns:
        float32 ``(batch, length, 3)``: the likeliest tag's id, its probability, and the loss of the label (0 where
        none counts).
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    best, ids = log_probabilities.max(dim=-1)
    losses = -log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    losses = torch.where(labels >= 0, losses, 0.0)
    return torch.stack([ids.float(), best.exp(), losses], dim=-1)


@dataclass(frozen=True)
class TagPredictions(Predictions):
    """Gold and predicted tags of one split, word by word.

    Attributes:
        tags: tag names in IOB2, ``O`` first.
        sentences: the words.
        gold: tag ids per sentence.
        predicted: tag ids per sentence; ``O`` for words without a token.
        confidence: probability of the predicted tag; 0 for words without a token.
        unread: words without a token (cut off by max_length) per sentence, as a mask.
    """

    tags: Sequence[str]
    sentences: Sequence[Sequence[str]]
    gold: Sequence[np.ndarray]
    predicted: Sequence[np.ndarray]
    confidence: Sequence[np.ndarray]
    unread: Sequence[np.ndarray]

    @property
    def types(self) -> list[str]:
        """Entity types, in the order of the tags."""
        return [tag.removeprefix("B-") for tag in self.tags if tag.startswith("B-")]

    def names(self, ids: Sequence[np.ndarray]) -> list[list[str]]:
        """Tag names per sentence."""
        return [[self.tags[tag] for tag in row] for row in ids]

    @cached_property
    def counts(self) -> np.ndarray:
        """See `entity_counts`."""
        return entity_counts(self.names(self.gold), self.names(self.predicted), self.types)

    @cached_property
    def gold_types(self) -> np.ndarray:
        """Which types the gold entities have ``(types,)``: macro-F1 runs over these, whatever a model predicts."""
        return self.counts[:, 2].sum(axis=0) > 0

    @cached_property
    def words_right(self) -> np.ndarray:
        """Words per sentence that the model saw and tagged right, and all words: int ``(sentences, 2)``."""
        rows = zip(self.gold, self.predicted, self.unread, strict=True)
        right = [[int(((gold == predicted) & ~unread).sum()), len(gold)] for gold, predicted, unread in rows]
        return np.array(right).reshape(-1, 2)

    @property
    def confusion(self) -> np.ndarray:
        """Words by gold and predicted type ``(1 + types, 1 + types)``, ``O`` first."""
        to_type = np.array([0 if tag == "O" else 1 + self.types.index(tag[2:]) for tag in self.tags])
        confusion = np.zeros((len(self.types) + 1,) * 2, dtype=np.int64)
        for gold, predicted in zip(self.gold, self.predicted, strict=True):
            np.add.at(confusion, (to_type[gold], to_type[predicted]), 1)
        return confusion

    def intervals(self) -> dict[str, list[float]]:
        """See `Predictions.intervals`."""
        return tag_intervals(self)

    def charts(self) -> dict[str, Chart]:
        """Which type of word is taken for which, words outside of entities (``O``) among them; F1 per entity type."""
        counts = self.counts.sum(axis=0)
        overall = float(precision_recall_f1(counts.sum(axis=1))[2])
        f1 = precision_recall_f1(counts.T)[2]
        intervals = self.intervals()
        bounds = np.array([intervals[f"f1_{name}_ci95"] for name in self.types]).reshape(-1, 2)
        return {
            "confusion": ConfusionChart(self.confusion, ["O", *self.types], unit="words"),
            "per_type": F1Chart(f1, bounds, counts[2], self.types, overall, f"entity F1 {overall:.3f}", "entities"),
        }

    def tables(self) -> dict[str, Table]:
        """See `Predictions.tables`."""
        return {"per_type": per_type_table(self), "confident_mistakes": confident_tag_mistakes(self)}


def tag_predictions(
    tags: Sequence[str],
    sentences: Sequence[Sequence[str]],
    gold: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    summaries: np.ndarray,
) -> TagPredictions:
    """Predictions per word from predictions per token: a word's tag is that of its first token.

    Args:
        tags: tag names, ``O`` first.
        sentences: the words.
        gold: tag ids per word.
        positions: where each word's first token stands, -1 for none.
        summaries: from `token_summary`, ``(sentences, tokens, 3)``, rows as ``sentences``.
    """
    places = [np.asarray(row) for row in positions]
    rows = list(zip(places, summaries, strict=True))
    return TagPredictions(
        tags=tags,
        sentences=sentences,
        gold=[np.asarray(row, dtype=np.int64) for row in gold],
        predicted=[np.where(place >= 0, values[place, 0], 0).astype(np.int64) for place, values in rows],
        confidence=[np.where(place >= 0, values[place, 1], 0.0) for place, values in rows],
        unread=[place < 0 for place in places],
    )


def entity_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], types: Sequence[str]
) -> np.ndarray:
    """Entities per sentence and type: int ``(sentences, 3, types)``, right ones, predicted ones and gold ones.

    Args:
        gold: tags in IOB2, one per word.
        predicted: the same.
        types: of all entities.
    """
    column = {name: at for at, name in enumerate(types)}
    counts = np.zeros((len(gold), 3, len(column)), dtype=np.int64)
    both = (Entities([list(row) for row in tags], scheme=IOB2).entities for tags in (gold, predicted))
    for row, (gold_entities, predicted_entities) in enumerate(zip(*both, strict=True)):
        found = {entity.to_tuple()[1:] for entity in gold_entities}
        for entity in predicted_entities:
            counts[row, 0, column[entity.tag]] += entity.to_tuple()[1:] in found
            counts[row, 1, column[entity.tag]] += 1
        for entity in gold_entities:
            counts[row, 2, column[entity.tag]] += 1
    return counts


def precision_recall_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 ``(...)`` from counts ``(..., 3)`` of right, predicted and gold entities; 0 for 0/0."""
    right, predicted, gold = (counts[..., index].astype(np.float64) for index in range(3))

    def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)

    return ratio(right, predicted), ratio(right, gold), ratio(2 * right, predicted + gold)


def overall_scores(counts: np.ndarray, words: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """Overall scores from summed counts, for one split or for many replicates of it at once.

    Args:
        counts: ``(..., 3, types)``.
        words: ``(..., 2)``: words tagged right, and all words.
        present: which types the macro average runs over ``(types,)``.
    """
    precision, recall, f1 = precision_recall_f1(counts.sum(axis=-1))
    macro = precision_recall_f1(np.moveaxis(counts[..., present], -2, -1))[2]
    return {
        "entity_f1": f1,
        "entity_precision": precision,
        "entity_recall": recall,
        "macro_f1": macro.mean(axis=-1) if present.any() else np.zeros(f1.shape),
        "accuracy": words[..., 0] / words[..., 1],
    }


def tag_scores(predictions: TagPredictions) -> dict[str, float]:
    """All scores of one split.

    Returns:
        ``entity_precision/recall/f1`` over all entities (micro), ``macro_f1`` over the types of the gold ones,
        ``accuracy`` over words, and ``precision_<type>``, ``recall_<type>``, ``f1_<type>``.
    """
    counts = predictions.counts.sum(axis=0)
    overall = overall_scores(counts, predictions.words_right.sum(axis=0), predictions.gold_types)
    scores = {name: float(value) for name, value in overall.items()}
    each = precision_recall_f1(counts.T)
    for kind, values in zip(("precision", "recall", "f1"), each, strict=True):
        scores |= {f"{kind}_{name}": float(value) for name, value in zip(predictions.types, values, strict=True)}
    return scores


def tag_intervals(predictions: TagPredictions, replicates: int = 2000, seed: int = 0) -> dict[str, list[float]]:
    """95 % bootstrap intervals of the overall scores and of every type's F1, drawing sentences; corrected for bias."""
    counts, words = predictions.counts, predictions.words_right
    size = len(counts)
    generator = np.random.default_rng(seed)
    draws: list[dict[str, np.ndarray]] = []
    for start in range(0, replicates, CHUNK):
        times = generator.multinomial(size, np.full(size, 1 / size), size=min(CHUNK, replicates - start))
        summed = (times @ counts.reshape(size, -1)).reshape(len(times), *counts.shape[1:])
        each = precision_recall_f1(np.moveaxis(summed, -2, -1))[2]
        types = {f"f1_{name}": each[..., at] for at, name in enumerate(predictions.types)}
        draws.append(overall_scores(summed, times @ words, predictions.gold_types) | types)
    observed = tag_scores(predictions)
    return {
        f"{name}_ci95": corrected_interval(np.concatenate([draw[name] for draw in draws]), observed[name])
        for name in draws[0]
    }


def per_type_table(predictions: TagPredictions) -> Table:
    """Precision, recall, F1 and number of gold entities of every type."""
    counts = predictions.counts.sum(axis=0)
    precision, recall, f1 = precision_recall_f1(counts.T)
    rows: list[list[str | int | float]] = [
        [name, float(precision[at]), float(recall[at]), float(f1[at]), int(counts[2, at])]
        for at, name in enumerate(predictions.types)
    ]
    return Table(["type", "precision", "recall", "f1", "support"], rows)


def confident_tag_mistakes(predictions: TagPredictions, limit: int = 50) -> Table:
    """The words that were tagged wrong with the highest confidence, surest first."""
    wrong = [
        (-float(predictions.confidence[row][at]), row, int(at))
        for row, (gold, predicted) in enumerate(zip(predictions.gold, predictions.predicted, strict=True))
        for at in np.flatnonzero(gold != predicted)
    ]
    rows = [
        [
            predictions.sentences[row][at],
            predictions.tags[predictions.gold[row][at]],
            predictions.tags[predictions.predicted[row][at]],
            -confidence,
            " ".join(predictions.sentences[row])[:SHOWN_CHARACTERS],
        ]
        for confidence, row, at in sorted(wrong)[:limit]
    ]
    return Table(["word", "gold", "predicted", "confidence", "sentence"], rows)
