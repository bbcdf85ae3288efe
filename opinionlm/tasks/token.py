"""Tagging: a tag in IOB2 for every word of a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.config.options import HeadConfig
from opinionlm.data.encoding.columns import IGNORED, flat_lists
from opinionlm.data.encoding.word_alignment import encode_words
from opinionlm.evaluation.prediction_tables import tag_table
from opinionlm.evaluation.tagging import TagPredictions, tag_predictions, tag_scores, token_summary
from opinionlm.models.tagger import OpinionTagger
from opinionlm.tasks.base import SplitResult
from opinionlm.tasks.head import ANNOTATORS, RARE, CardText, ClassTask
from opinionlm.training.losses.base import ExampleLoss, WeightedCrossEntropy
from opinionlm.training.losses.imbalance import class_weights_of
from opinionlm.training.splits import Split
from opinionlm.utils.markdown import cell


class TokenTask(ClassTask[TagPredictions]):
    """Named entities, compared by micro F1 over entities."""

    item = "tag"
    primary_metric = "entity_f1"
    pools = False

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """See `Task.shown_metrics`."""
        return ("entity_f1", "entity_precision", "entity_recall", "macro_f1", "accuracy")

    @property
    def entity_types(self) -> list[str]:
        """The types of entities, in the order of the tags."""
        return [tag.removeprefix("B-") for tag in self.prepared.tags if tag.startswith("B-")]

    def metric_names(self) -> tuple[str, ...]:
        """See `Task.metric_names`."""
        types = dict.fromkeys(tag[2:] for tag in self.prepared.tags if tag != "O")
        return super().metric_names() + tuple(f"{s}_{name}" for s in ("precision", "recall", "f1") for name in types)

    def encode_texts(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase, identity: str) -> Dataset:
        """See `HeadTask.encode_texts`."""
        data = self.config.data
        return encode_words(texts, tokenizer, data.max_length, self.prepared.tags, data.label_all_subwords, identity)

    def labels(self, split: Split) -> np.ndarray:
        """The tag of every labelled token."""
        labels = flat_lists(split.encoded, "labels")[0]
        return labels[labels != IGNORED]

    def add_head(self, backbone: PreTrainedModel, head: HeadConfig) -> OpinionTagger:
        """A head with one output per tag for every token."""
        return OpinionTagger.from_backbone(backbone, self.prepared.tags, head, max_length=self.config.data.max_length)

    def loss(self, train: Split) -> ExampleLoss:
        """Weighted cross entropy over the labelled tokens."""
        counts = self.class_counts(self.labels(train), self.prepared.tags)
        return WeightedCrossEntropy(class_weights_of(self.weight_kind, counts, self.config.method))

    @property
    def summarise_outputs(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Tag, confidence and loss of every token, instead of all logits."""
        return token_summary

    def score(self, split: Split, outputs: np.ndarray, loss: ExampleLoss) -> SplitResult[TagPredictions]:
        """See `HeadTask.score`."""
        rows, texts = split.in_text_order(outputs), split.texts
        positions = split.encoded["word_positions"]
        predictions = tag_predictions(self.prepared.tags, texts["tokens"], texts["tags"], positions, rows)
        return SplitResult(predictions, {"loss": tag_loss(split, rows, loss)} | tag_scores(predictions))

    def prediction_table(self, texts: Dataset, predictions: TagPredictions) -> tuple[list[str], Iterator[list[str]]]:
        """See `Task.prediction_table`."""
        return tag_table(texts["id"], texts["platform"], predictions)

    def describe(self, splits: Mapping[str, Split]) -> str:
        """Also how many words max_length keeps from the model."""
        positions = [place for split in splits.values() for row in split.encoded["word_positions"] for place in row]
        unread = sum(place < 0 for place in positions)
        cut = f"; {unread:,} of {len(positions):,} words lie beyond max_length: {self.config.data.max_length}"
        return f"sentences, {len(self.prepared.tags) // 2} entity types{cut if unread else ''}"

    def in_words(self, test: Mapping[str, Any]) -> str:
        """See `HeadTask.in_words`."""
        return (
            f"\nOf 100 entities about {100 * test['entity_recall']:.0f} are found, and of 100 that the model marks "
            f"about {100 * test['entity_precision']:.0f} are right.\n"
        )

    def card_text(self, folder: Path) -> CardText:
        """See `HeadTask.card_text`."""
        types = self.entity_types
        return CardText(
            pipeline="token-classification",
            tag="named-entity-recognition",
            purpose=f"tag words with {len(types)} types of entities (IOB2)",
            usage=f'tag = pipeline("token-classification", model="{folder}", aggregation_strategy="first")\n'
            'tag("Satoshi moved to Osaka .")',
            options="--input sentences.txt --output entities.csv",
            outputs_title="Entity types",
            outputs="\n".join(f"- {cell(name)}" for name in types),
            labels=types,
            limits=f"The entities are those of the training data and {ANNOTATORS} {RARE} An entity counts as found "
            "when its type, its first and its last word are right.",
        )


def tag_loss(split: Split, summaries: np.ndarray, loss: ExampleLoss) -> float:
    """Exact weighted mean loss over the labelled tokens of a split (nats), the quantity that training minimises.

    Args:
        split: the split.
        summaries: from `token_summary`, ``(sentences, tokens, 3)``, rows in the order of the texts.
        loss: gives the weights.
    """
    labels, offsets = flat_lists(split.encoded, "labels")
    lengths = np.diff(offsets).tolist()
    losses = np.concatenate([summaries[row, :length, 2] for row, length in enumerate(lengths)])
    weights = loss.example_weights(torch.from_numpy(np.array(labels))).numpy().astype(np.float64)
    counted = labels != IGNORED
    return float((weights[counted] * losses[counted]).sum() / weights[counted].sum())
