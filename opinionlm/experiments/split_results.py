"""From what the model puts out for a split to predictions and their scores, for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from opinionlm.data.encoding import IGNORED, flat_lists
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.metrics import all_scores, bootstrap_intervals, softmax
from opinionlm.evaluation.reports import SplitPredictions
from opinionlm.evaluation.similarity import ScorePredictions, similarity_intervals, similarity_scores
from opinionlm.evaluation.tagging import TagPredictions, tag_intervals, tag_predictions, tag_scores, token_summary
from opinionlm.experiments.split_report import Predictions
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.losses import ExampleLoss
from opinionlm.training.splits import Split
from opinionlm.training.trainer import OpinionTrainer


@dataclass(frozen=True)
class SplitResult:
    """Predictions of one split, rows in the order of its texts, and their scores.

    Attributes:
        predictions: gold labels and what was predicted.
        scores: plain floats, and intervals as ``[low, high]``.
    """

    predictions: Predictions
    scores: dict[str, Any]


def kept_outputs(prepared: PreparedDataset) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """What is kept of a batch's logits (``preprocess_logits_for_metrics``): of tags a summary, else everything."""
    return token_summary if prepared.task == "token" else None


def judge(prepared: PreparedDataset, split: Split, outputs: np.ndarray, loss: ExampleLoss) -> SplitResult:
    """Predictions and scores of a split, without intervals.

    Args:
        prepared: the data set, for its task and the names of its labels.
        split: the split.
        outputs: logits, or what `kept_outputs` makes of them, rows in the reading order of the split.
        loss: the loss of the training; the score ``loss`` is its exact mean over the split.
    """
    rows = split.in_text_order(outputs)
    texts = split.texts
    match prepared.task:
        case "sequence":
            gold = np.asarray(texts["label"])
            pairs = texts["text_pair"] if "text_pair" in texts.column_names else None
            predictions = SplitPredictions(prepared.taxonomy.leaves, texts["text"], gold, softmax(rows), pairs)
            return SplitResult(predictions, all_scores(gold, rows, prepared.taxonomy, loss.class_weights.numpy()))
        case "token":
            positions = split.encoded["word_positions"]
            tagged = tag_predictions(prepared.tags, texts["tokens"], texts["tags"], positions, rows)
            return SplitResult(tagged, {"loss": tag_loss(split, rows, loss)} | tag_scores(tagged))
        case "similarity":
            scored = ScorePredictions(
                texts["text"], texts["text_pair"], np.asarray(texts["score"]), rows[:, 0].astype(np.float64)
            )
            scores = similarity_scores(scored.gold, scored.predicted)
            return SplitResult(scored, {"loss": scores["mse"]} | scores)
        case task:
            raise ValueError(f"no classifier is scored on task {task!r}")


def tag_loss(split: Split, summaries: np.ndarray, loss: ExampleLoss) -> float:
    """Exact weighted mean loss over the labelled tokens of a split (nats), the quantity that training minimises.

    Args:
        split: the split.
        summaries: from `token_summary`, ``(sentences, tokens, 3)``, rows in the order of the texts.
        loss: gives the weights.
    """
    labels, offsets = flat_lists(split.encoded, "labels")
    losses = np.concatenate([summaries[row, : end - start, 2] for row, (start, end) in enumerate(_spans(offsets))])
    weights = loss.example_weights(torch.from_numpy(np.array(labels))).numpy().astype(np.float64)
    counted = labels != IGNORED
    return float((weights[counted] * losses[counted]).sum() / weights[counted].sum())


def _spans(offsets: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))


def intervals_of(predictions: Predictions) -> dict[str, list[float]]:
    """95 % bootstrap intervals of the main scores, as ``<name>_ci95``."""
    match predictions:
        case SplitPredictions():
            return bootstrap_intervals(predictions.gold, predictions.predicted, len(predictions.labels))
        case TagPredictions():
            return tag_intervals(predictions)
        case ScorePredictions():
            return similarity_intervals(predictions.gold, predictions.predicted)


def validation_scores(
    prepared: PreparedDataset, split: Split, loss: ExampleLoss
) -> Callable[[EvalPrediction], dict[str, float]]:
    """``compute_metrics`` for the trainer: every score of the validation split, without intervals."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        return judge(prepared, split, prediction.predictions, loss).scores

    return compute


def evaluate_splits(
    trainer: OpinionTrainer, splits: dict[str, Split], readers: dict[str, EncodedTexts], prepared: PreparedDataset
) -> dict[str, SplitResult]:
    """Predict validation and test with the trainer's model (every process takes part) and score them."""
    results = {}
    for name in ("validation", "test"):
        result = judge(prepared, splits[name], trainer.outputs(readers[name]), trainer.loss)
        results[name] = SplitResult(result.predictions, result.scores | intervals_of(result.predictions))
    return results
