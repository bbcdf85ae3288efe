"""Similarity: one score per pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.config.options import HeadConfig
from opinionlm.data.encoding.columns import numbers_of
from opinionlm.data.encoding.texts import encode_texts, length_note
from opinionlm.evaluation.prediction_tables import score_table
from opinionlm.evaluation.similarity import ScorePredictions, similarity_scores
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.tasks.base import SplitResult
from opinionlm.tasks.head import ANNOTATORS, CardText, HeadTask
from opinionlm.training.losses.base import ExampleLoss, MeanSquaredError
from opinionlm.training.splits import Split


class SimilarityTask(HeadTask[ScorePredictions]):
    """Regression of a score, compared by Pearson's correlation."""

    item = "score"
    primary_metric = "pearson"

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """See `Task.shown_metrics`."""
        return ("pearson", "spearman", "mse", "mae")

    @property
    def score_range(self) -> tuple[float, float]:
        """The lowest and the highest score.

        Raises:
            ValueError: the data set has no scores.
        """
        if self.prepared.score_range is None:
            raise ValueError(f"{self.prepared.name} has no scores")
        return self.prepared.score_range

    def encode_texts(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase, identity: str) -> Dataset:
        """See `HeadTask.encode_texts`."""
        return encode_texts(texts, tokenizer, self.config.data.max_length, target="score", identity=identity)

    def labels(self, split: Split) -> np.ndarray:
        """The score of every pair."""
        return numbers_of(split.encoded, "labels")

    def add_head(self, backbone: PreTrainedModel, head: HeadConfig) -> OpinionClassifier:
        """A head with a single output."""
        model = OpinionClassifier.from_backbone(
            backbone,
            ["score"],
            head,
            max_length=self.config.data.max_length,
            problem_type="regression",
        )
        model.config.text_pairs = True
        return model

    def loss(self, train: Split) -> ExampleLoss:
        """The mean squared error."""
        return MeanSquaredError()

    def score(self, split: Split, outputs: np.ndarray, loss: ExampleLoss) -> SplitResult[ScorePredictions]:
        """See `HeadTask.score`."""
        texts = split.texts
        predicted = split.in_text_order(outputs)[:, 0].astype(np.float64)
        predictions = ScorePredictions(texts["text"], texts["text_pair"], np.asarray(texts["score"]), predicted)
        scores = similarity_scores(predictions.gold, predictions.predicted)
        return SplitResult(predictions, {"loss": scores["mse"]} | scores)

    def prediction_table(self, texts: Dataset, predictions: ScorePredictions) -> tuple[list[str], Iterator[list[str]]]:
        """See `Task.prediction_table`."""
        return score_table(texts["id"], texts["platform"], predictions)

    def describe(self, splits: Mapping[str, Split]) -> str:
        """See `Task.describe`."""
        low, high = self.score_range
        return f"pairs, scores from {low:g} to {high:g}"

    def notes(self, splits: Mapping[str, Split]) -> list[str]:
        """How many pairs are longer than ``max_length``."""
        return [length_note({name: split.encoded for name, split in splits.items()}, self.config.data.max_length)]

    def card_text(self, folder: Path) -> CardText:
        """See `HeadTask.card_text`."""
        low, high = self.score_range
        return CardText(
            pipeline="text-classification",
            tag="sentence-similarity",
            purpose="give pairs of texts a score",
            usage=f'score = pipeline("text-classification", model="{folder}")\n'
            'score({"text": "Prices fall.", "text_pair": "It gets cheaper."}, truncation=True)',
            options="--pair_column text_pair --input pairs.csv --output scores.csv",
            outputs_title="Answers",
            outputs=f"- from {low:g} to {high:g} in the training data; answers may lie slightly outside",
            labels=(),
            limits=f"The scores are those of the training data and {ANNOTATORS}",
        )
