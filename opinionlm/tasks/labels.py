"""Tasks that give texts labels of a label tree, one each or any number: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.config.method_options import TREE_LOSSES
from opinionlm.config.options import HeadConfig
from opinionlm.data.encoding.features import (
    Feature,
    known_features,
    platforms_of,
    read_note,
    stored_features,
    with_features,
)
from opinionlm.data.encoding.texts import encode_texts, length_note
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label_rules import Rule
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.tasks.base import Decision, P, SplitResult
from opinionlm.tasks.head import ClassTask, count_classes
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.splits import Split, untrained_note


class LabelTask(ClassTask[P]):
    """Labels over the leaves of a label tree, compared by macro-F1, the opinion paper's measure.

    Rare labels count as much as frequent ones in it. A flat list of labels is a tree of one level.
    """

    primary_metric = "macro_f1"
    # Column of the prepared rows, and what transformers calls such a problem; None for its default.
    column: ClassVar[str]
    problem_type: ClassVar[str | None]

    @property
    def taxonomy(self) -> Taxonomy:
        """The label tree.

        Raises:
            ValueError: the data set has none.
        """
        if self.prepared.taxonomy is None:
            raise ValueError(f"{self.prepared.name} has no labels of texts")
        return self.prepared.taxonomy

    # Data

    @abstractmethod
    def gold(self, texts: Dataset) -> np.ndarray:
        """The labels of prepared rows: leaf ids ``(rows,)``, or zeros and ones ``(rows, leaves)``."""

    def encode_texts(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase, identity: str) -> Dataset:
        """See `HeadTask.encode_texts`."""
        data, read = self.config.data, with_features(texts, self.features)
        overlap = data.chunk_overlap if data.long_texts == "chunk" else None
        return encode_texts(
            read, tokenizer, data.max_length, self.column, identity, chunk_overlap=overlap, read_ends=self.reads_ends
        )

    @property
    def reads_ends(self) -> bool:
        """Whether both ends of long texts are read; of pairs the longer text is cut."""
        return self.config.data.long_texts == "ends" and not self.reads_pairs

    @cached_property
    def features(self) -> list[Feature]:
        """See `HeadTask.features`.

        Raises:
            UserError: see `known_features`.
        """
        data, prepared = self.config.data, self.prepared
        return known_features(prepared.dataset["train"], prepared.features, data.platform_prefix, data.dataset)

    def with_feature_columns(
        self, texts: Dataset, header: list[str], rows: Iterator[list[str]]
    ) -> tuple[list[str], Iterator[list[str]]]:
        """A table of predictions with the columns of `features` behind it, for who asks the model again."""
        names = [spec.name for spec in self.prepared.features if spec.name not in header]
        columns = [texts[name] for name in names]
        return [*header, *names], ([*row, *cells] for row, *cells in zip(rows, *columns, strict=True))

    # Model

    def add_head(self, backbone: PreTrainedModel, head: HeadConfig) -> OpinionClassifier:
        """A head with one output per leaf.

        Raises:
            UserError: ``platform_prefix`` without platforms.
        """
        model = OpinionClassifier.from_backbone(
            backbone,
            self.taxonomy.leaves,
            head,
            # Not as a mapping: config.json is written with sorted keys.
            label_tree=self.taxonomy.to_lists(),
            max_length=self.config.data.max_length,
            problem_type=self.problem_type,
        )
        model.config.text_pairs = self.reads_pairs
        if self.config.data.long_texts == "chunk":
            model.config.chunk_overlap = self.config.data.chunk_overlap
            model.config.chunk_pooling = self.config.data.chunk_pooling
        model.config.read_ends = self.reads_ends
        model.config.platforms = platforms_of(self.features) if self.config.data.platform_prefix else None
        model.config.features = stored_features(self.features)
        return model

    def check_tree_loss(self) -> None:
        """Refuse a loss over a label tree where there is none.

        Raises:
            UserError: the labels are flat.
        """
        loss = self.config.method.loss
        if loss in TREE_LOSSES and self.taxonomy.depth == 1:
            raise UserError(
                f"{self.config.source}: loss: {loss!r} needs a label tree, and the labels of {self.prepared.name} are "
                "flat; use cross_entropy"
            )

    # Evaluation: of logits, whoever made them

    @abstractmethod
    def plain_loss(self, gold: np.ndarray, logits: np.ndarray) -> float:
        """Mean loss without weights, of what was not trained by a loss of ours; arguments as in `fit_rule`."""

    @abstractmethod
    def fit_rule(
        self, gold: np.ndarray, logits: np.ndarray, train_labels: np.ndarray, initial_offsets: Sequence[float] = ()
    ) -> Rule:
        """How labels follow from logits, fitted on validation.

        Args:
            gold: of the validation texts, see `gold`.
            logits: of them, ``(rows, leaves)``.
            train_labels: of the training texts, which tell how frequent each leaf is.
            initial_offsets: see `mean_offsets`; they count only where a text has one label.
        """

    @abstractmethod
    def evaluate_logits(self, texts: Dataset, logits: np.ndarray, rule: Any, loss: float) -> SplitResult[P]:
        """Final predictions and all scores of a split, with intervals.

        Args:
            texts: the prepared rows.
            logits: ``(rows, leaves)``, raw.
            rule: from `fit_rule`.
            loss: of the split.
        """

    @abstractmethod
    def pooled(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Logits of the mean of several models' calibrated probabilities, each ``(rows, leaves)``."""

    # Evaluation: of a trained model

    def fit_decision(self, splits: dict[str, Split], outputs: np.ndarray) -> Decision:
        """See `HeadTask.fit_decision`."""
        validation = splits["validation"]
        logits = validation.in_text_order(outputs)
        return Decision(self.fit_rule(self.gold(validation.texts), logits, self.labels(splits["train"])))

    def evaluate(self, split: Split, outputs: np.ndarray, loss: ExampleLoss, decision: Decision) -> SplitResult[P]:
        """Final predictions of a split by what was fitted on validation; arguments as in `HeadTask.score`."""
        logits = split.in_text_order(outputs)
        return self.evaluate_logits(split.texts, logits, decision.rule, self.mean_loss(split, logits, loss))

    @abstractmethod
    def mean_loss(self, split: Split, logits: np.ndarray, loss: ExampleLoss) -> float:
        """Exact mean of the training's loss over a split, from logits ``(rows, leaves)`` in the order of its texts."""

    # What people read

    def describe(self, splits: Mapping[str, Split]) -> str:
        """See `Task.describe`."""
        return f"{'pairs' if self.reads_pairs else 'texts'}, {len(self.taxonomy.leaves)} labels"

    def notes(self, splits: Mapping[str, Split]) -> list[str]:
        """What is read in front of texts, how many are longer than ``max_length``, labels without a training text."""
        encoded = {name: split.encoded for name, split in splits.items()}
        lengths = length_note(encoded, self.config.data.max_length, self.reads_ends)
        untrained = self.untrained(splits["train"].texts)
        return [*([read_note(self.features)] if self.features else []), lengths, *untrained]

    def untrained(self, train: Dataset) -> list[str]:
        """A warning about labels that none of the training texts has; nothing where there are none."""
        leaves = self.taxonomy.leaves
        return untrained_note(leaves, count_classes(self.gold(train), len(leaves)))
