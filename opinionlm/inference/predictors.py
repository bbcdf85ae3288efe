"""Answers of a saved model for any number of texts: longest first, under a token budget, equal texts only once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from seqeval.scheme import IOB2, Entities
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.features import Feature, saved_features
from opinionlm.data.encoding.texts import token_columns
from opinionlm.data.encoding.word_alignment import align, word_values
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.ensembles import averaged_log_odds, averaged_logits
from opinionlm.evaluation.metrics import softmax
from opinionlm.evaluation.multi_label_predictions import label_header, label_rows
from opinionlm.evaluation.multi_label_rules import MultiLabelRule
from opinionlm.evaluation.prediction_tables import prediction_header, prediction_rows
from opinionlm.models.linear.interpolation import TfidfInterpolation

# A text; the two texts of a pair; a text and its context; the words of a sentence.
Item = str | tuple[str, ...]

# A batch of so many tokens computes nearly as fast per token as a larger one (MiniLM's matrices, one thread: 50
# billion operations a second, 55 with 4,096). A text that would then be padded by more than a tenth begins the next.
ENOUGH_TOKENS, PADDING = 256, 0.1


def no_progress(rows: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Predictor(ABC):
    """A loaded model with all that prediction needs.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: pads on the right.
        max_length: longer texts are cut to this many tokens, or read in chunks or by both ends of them, as in
            training.
        batch_size: at most so many texts at once.
        max_tokens_per_batch: at most so many tokens at once, padding included; one text is always let through.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_size: int = 64
    max_tokens_per_batch: int = 4096

    @property
    def reads(self) -> Literal["text", "pair", "context", "words"]:
        """What an item is."""
        return "pair" if self.model.config.text_pairs else "text"

    @property
    def cleaning(self) -> dict[str, Any] | None:
        """What was done to the training texts, see `opinionlm.data.cleaning.text_options`; None for nothing."""
        return self.model.config.cleaning

    @property
    def platforms(self) -> list[str] | None:
        """Platforms of the training texts, where the model reads one in front of every text; else None."""
        return None

    @property
    def features(self) -> Sequence[Feature]:
        """What the model reads in front of every text, the platform first."""
        return ()

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Columns of an answer."""

    @abstractmethod
    def answers(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> list[list[str]]:
        """One list of cells per item, in the order of the items and of `columns`.

        Args:
            items: any number; all of them and their tokens are held in memory.
            progress: called after every batch with the number of rows that it settled.
        """

    @abstractmethod
    def json_value(self, column: str, cell: str) -> Any:
        """A cell of an answer as a JSON value."""

    def encode(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """What the collator takes of every item. A text without any token is read as the padding token alone."""
        if not items:
            return []
        texts: list[Any] = list(items) if self.reads == "text" else [item[0] for item in items]
        pairs = None if self.reads == "text" else [item[1] for item in items]
        config = self.model.config
        columns = token_columns(texts, pairs, self.tokenizer, self.max_length, config.chunk_overlap, config.read_ends)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        empty = {"input_ids": [self.tokenizer.pad_token_id], "token_type_ids": [0], "chunks": [1]}
        return [row if row["input_ids"] else {name: empty[name] for name in row} for row in rows]

    def outputs(
        self, items: Sequence[Item], progress: Callable[[int], object]
    ) -> Iterator[tuple[list[int], dict[str, Any], np.ndarray]]:
        """For every distinct item, in any order: the rows that it stands in, its encoding and its logits."""
        # Equal texts have equal answers, and posts are copied a lot.
        places: dict[Item, list[int]] = {}
        for row, item in enumerate(items):
            places.setdefault(item, []).append(row)
        rows_of = list(places.values())
        encoded = self.encode(list(places))
        lengths = [len(row["input_ids"]) for row in encoded]
        # Longest first: batches without padding, and a lack of memory shows at once and not after hours.
        order = sorted(range(len(encoded)), key=lambda index: lengths[index], reverse=True)
        for batch in self.batches(order, lengths):
            for index, logits in zip(batch, self.logits([encoded[index] for index in batch]), strict=True):
                yield rows_of[index], encoded[index], logits
            progress(sum(len(rows_of[index]) for index in batch))

    def batches(self, order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Cut an order of falling lengths into batches that keep both limits and hold little padding."""
        start = 0
        while start < len(order):
            width = max(1, lengths[order[start]])
            most = max(1, min(self.batch_size, self.max_tokens_per_batch // width, len(order) - start))
            size = min(most, -(-ENOUGH_TOKENS // width))
            while size < most and lengths[order[start + size]] >= (1 - PADDING) * width:
                size += 1
            yield list(order[start : start + size])
            start += size

    @torch.inference_mode()
    def logits(self, rows: list[dict[str, Any]]) -> np.ndarray:
        """Logits of one batch, ``(texts, labels)`` or ``(texts, length, tags)``."""
        batch = PadCollator(self.tokenizer.pad_token_id)(rows)
        batch = {name: tensor.to(self.model.device, non_blocking=True) for name, tensor in batch.items()}
        return self.model(**batch).logits.float().cpu().numpy()


@dataclass(frozen=True)
class LabelAnswers:
    """How calibrated probabilities become the cells of an answer, whatever model they come from.

    Attributes:
        taxonomy: its leaves are the classes, in the order of the ids.
        rule: how labels follow from logits.
        coverage: also give sets of labels that hold the right one so often; None for no sets.
        abstain_below: give no label where its probability is lower; None always gives one.
    """

    taxonomy: Taxonomy
    rule: AnswerRule = AnswerRule()
    coverage: float | None = None
    abstain_below: float | None = None

    @property
    def columns(self) -> list[str]:
        """Leaf, confidence, levels, probabilities, and the set of labels where there is one."""
        return [*prediction_header(self.taxonomy), *([] if self.coverage is None else ["label_set"])]

    def cells(self, probabilities: np.ndarray) -> list[list[str]]:
        """One list of cells per row of calibrated probabilities ``(rows, leaves)``.

        Where the model abstains, leaf and levels are blank, and the probabilities still there.
        """
        decided = self.rule.decide(probabilities, self.taxonomy)
        cells = list(prediction_rows(probabilities, self.taxonomy, decided))
        if self.abstain_below is not None:
            for row in np.flatnonzero(probabilities[np.arange(len(decided)), decided] < self.abstain_below):
                cells[row][0] = ""
                cells[row][2 : 2 + self.taxonomy.depth] = [""] * self.taxonomy.depth
        if self.coverage is not None:
            assert self.rule.label_sets is not None
            members = self.rule.label_sets.members(probabilities, self.coverage)
            for answer, chosen in zip(cells, members, strict=True):
                leaves = [self.taxonomy.leaves[leaf] for leaf in np.flatnonzero(chosen)]
                answer.append(json.dumps(leaves, ensure_ascii=False))
        return cells

    def json_value(self, column: str, cell: str) -> Any:
        """Confidence and probabilities are numbers, a set of labels is a list, an abstention is null."""
        if column == "label_set":
            return json.loads(cell)
        if column == "confidence" or column.startswith("probability_"):
            return float(cell)
        return None if column == "predicted" and not cell else cell

    def pooled(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Logits of the mean of several models' calibrated probabilities, each ``(rows, leaves)``."""
        return averaged_logits(members)


@dataclass(frozen=True)
class MultiLabelAnswers:
    """How calibrated probabilities become the cells of an answer with any number of labels.

    Attributes:
        taxonomy: as in `LabelAnswers`.
        rule: how labels follow from logits.
        coverage: also give sets of labels that miss no more than the rest of them; None for no sets.
    """

    taxonomy: Taxonomy
    rule: MultiLabelRule = MultiLabelRule()
    coverage: float | None = None

    @property
    def columns(self) -> list[str]:
        """Leaves, levels of a tree, probabilities, and the set of labels where there is one."""
        return [*label_header(self.taxonomy), *([] if self.coverage is None else ["label_set"])]

    def cells(self, probabilities: np.ndarray) -> list[list[str]]:
        """One list of cells per row of calibrated probabilities ``(rows, leaves)``; labels are JSON lists."""
        cells = list(label_rows(probabilities, self.rule.decide(probabilities), self.taxonomy))
        if self.coverage is not None:
            assert self.rule.label_sets is not None
            for row, members in zip(cells, self.rule.label_sets.members(probabilities, self.coverage), strict=True):
                names = [self.taxonomy.leaves[leaf] for leaf in np.flatnonzero(members)]
                row.append(json.dumps(names, ensure_ascii=False))
        return cells

    def json_value(self, column: str, cell: str) -> Any:
        """Probabilities are numbers, everything else lists."""
        return float(cell) if column.startswith("probability_") else json.loads(cell)

    def pooled(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Logits of the mean of several models' calibrated probabilities, each ``(rows, leaves)``."""
        return averaged_log_odds(members)


@dataclass(frozen=True, kw_only=True)
class ClassPredictor(Predictor):
    """Gives texts or pairs a label or several, as was decided in training, with calibrated probabilities.

    Attributes:
        labels: how probabilities become answers.
        words: TF-IDF interpolation of the model's logits, where it was trained with one.
    """

    labels: LabelAnswers | MultiLabelAnswers
    words: TfidfInterpolation | None = None

    @property
    def platforms(self) -> list[str] | None:
        """See `Predictor`."""
        return self.model.config.platforms

    @property
    def features(self) -> list[Feature]:
        """See `Predictor`."""
        return saved_features(self.model.config.platforms, self.model.config.features)

    @property
    def columns(self) -> list[str]:
        """See `LabelAnswers`."""
        return self.labels.columns

    def answers(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> list[list[str]]:
        """See `Predictor` and `LabelAnswers`."""
        return self.labels.cells(self.probabilities(items, progress))

    def json_value(self, column: str, cell: str) -> Any:
        """See `LabelAnswers`."""
        return self.labels.json_value(column, cell)

    def probabilities(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> np.ndarray:
        """Calibrated probabilities ``(rows, leaves)`` in the order of the items."""
        logits = np.empty((len(items), len(self.labels.taxonomy.leaves)))
        for rows, _, row_logits in self.outputs(items, progress):
            logits[rows] = row_logits
        if self.words is not None and len(items):
            logits = self.words.logits(logits, [item if isinstance(item, str) else " ".join(item) for item in items])
        return self.labels.rule.probabilities(logits) if len(items) else logits


@dataclass(frozen=True)
class ScorePredictor(Predictor):
    """Gives pairs of texts a score."""

    @property
    def columns(self) -> list[str]:
        """The score."""
        return ["score"]

    def answers(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> list[list[str]]:
        """See `Predictor`."""
        cells: list[list[str]] = [[] for _ in items]
        for rows, _, logits in self.outputs(items, progress):
            for row in rows:
                cells[row] = [f"{logits[0]:.6f}"]
        return cells

    def json_value(self, column: str, cell: str) -> Any:
        """A number."""
        return float(cell)


@dataclass(frozen=True)
class TagPredictor(Predictor):
    """Tags the words of sentences; a word's tag is that of its first token."""

    @property
    def reads(self) -> Literal["text", "pair", "context", "words"]:
        """Words."""
        return "words"

    @property
    def columns(self) -> list[str]:
        """Tags separated by blanks, the entities as JSON, and how many words lie beyond ``max_length``."""
        return ["tags", "entities", "unread_words"]

    def encode(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Also where each word's first token stands."""
        all_ids, positions, _ = align(items, self.tokenizer, self.max_length)
        return [
            {"input_ids": ids, "positions": places, "words": words}
            for ids, places, words in zip(all_ids, positions, items, strict=True)
        ]

    def answers(self, items: Sequence[Item], progress: Callable[[int], object] = no_progress) -> list[list[str]]:
        """See `Predictor`."""
        cells: list[list[str]] = [[] for _ in items]
        for rows, encoded, logits in self.outputs(items, progress):
            probabilities = softmax(logits)
            # A word that the model never saw is no part of any entity.
            ids = word_values(probabilities.argmax(axis=1), encoded["positions"], missing=0).astype(int)
            confidence = word_values(probabilities.max(axis=1), encoded["positions"], missing=0.0)
            tags = [self.model.config.id2label[tag] for tag in ids.tolist()]
            entities = json.dumps(tagged_entities(encoded["words"], tags, confidence), ensure_ascii=False)
            unread = int((encoded["positions"] < 0).sum())
            for row in rows:
                cells[row] = [" ".join(tags), entities, str(unread)]
        return cells

    def json_value(self, column: str, cell: str) -> Any:
        """A list of tags, a list of entities, a number."""
        return cell.split() if column == "tags" else json.loads(cell)


def tagged_entities(words: Sequence[str], tags: list[str], confidence: np.ndarray) -> list[dict[str, Any]]:
    """The entities of one sentence, read off its tags as strictly as the scores are.

    Args:
        words: the sentence.
        tags: in IOB2, one per word.
        confidence: probability of each tag ``(words,)``.

    Returns:
        Type, text, first word, the word behind the last one, and the mean confidence of every entity.
    """
    found = Entities([tags], scheme=IOB2).entities[0] if tags else []
    return [
        {
            "type": entity.tag,
            "text": " ".join(words[entity.start : entity.end]),
            "start": entity.start,
            "end": entity.end,
            "confidence": round(float(confidence[entity.start : entity.end].mean()), 6),
        }
        for entity in found
    ]
