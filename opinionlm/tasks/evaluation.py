"""From what the model puts out for a split to predictions and their scores, for every task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import EvalPrediction

from opinionlm.config.config import Config
from opinionlm.data.encoding.columns import IGNORED, flat_lists
from opinionlm.data.encoding.platform_prefix import platforms_of
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.decisions import AnswerRule, fit_answers
from opinionlm.evaluation.metrics import bootstrap_intervals, classification_scores
from opinionlm.evaluation.prediction_tables import Predictions
from opinionlm.evaluation.similarity import ScorePredictions, similarity_intervals, similarity_scores
from opinionlm.evaluation.tagging import TagPredictions, tag_intervals, tag_predictions, tag_scores, token_summary
from opinionlm.models.linear.interpolation import fit_word_blend
from opinionlm.models.linear.tfidf import word_texts
from opinionlm.tasks.base import headline_of
from opinionlm.tasks.label_evaluation import Fitted, SplitResult, judge_classes, trust_scores
from opinionlm.tasks.losses import class_counts, is_balanced
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.engines import Engine
from opinionlm.training.losses.base import ExampleLoss, split_loss
from opinionlm.training.splits import Split


def kept_outputs(prepared: PreparedDataset) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """What is kept of a batch's logits (``preprocess_logits_for_metrics``): of tags a summary, else everything."""
    return token_summary if prepared.task == "token" else None


def judge(
    prepared: PreparedDataset, split: Split, outputs: np.ndarray, loss: ExampleLoss, rule: AnswerRule
) -> SplitResult:
    """Predictions and scores of a split, without intervals.

    Args:
        prepared: the data set, for its task and the names of its labels.
        split: the split.
        outputs: logits, or what `kept_outputs` makes of them, rows in the reading order of the split.
        loss: the loss of the training; the score ``loss`` is its exact mean over the split.
        rule: how labels of texts are decided; other tasks do not read it.
    """
    rows = split.in_text_order(outputs)
    texts = split.texts
    match prepared.task:
        case "sequence":
            return judge_labels(prepared, split, rows, loss, rule)
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


def judge_labels(
    prepared: PreparedDataset, split: Split, logits: np.ndarray, loss: ExampleLoss, rule: AnswerRule
) -> SplitResult:
    """Predictions and scores of labels of texts, from logits ``(texts, leaves)`` in the order of the texts."""
    texts = split.texts
    mean_loss = split_loss(loss, torch.from_numpy(logits.astype(np.float32)), torch.tensor(texts["label"]))
    return judge_classes(texts, logits, prepared.taxonomy, rule, mean_loss)


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
    """``compute_metrics`` for the trainer: every score of the validation split, without intervals.

    Checkpoints are chosen by the likeliest leaf: what is fitted on validation is fitted to the best of them, later.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        return judge(prepared, split, prediction.predictions, loss, AnswerRule()).scores

    return compute


def chosen_score(prepared: PreparedDataset) -> Callable[[np.ndarray, np.ndarray], float]:
    """The score that models are chosen by, from gold leaf ids ``(rows,)`` and logits ``(rows, leaves)``."""

    def score(gold: np.ndarray, logits: np.ndarray) -> float:
        return classification_scores(gold, logits.argmax(axis=1), prepared.taxonomy)[headline_of(prepared).chosen_by]

    return score


def fit_labels(splits: dict[str, Split], logits: np.ndarray, prepared: PreparedDataset, config: Config) -> Fitted:
    """Fit the words beside a model, where they are asked for, and how labels follow.

    Args:
        splits: their training and validation texts are read.
        logits: of the model on the validation texts, in their order.
        prepared: the data set.
        config: the run's options.
    """
    gold, blend = np.asarray(splits["validation"].texts["label"]), None
    if config.robust.blend_words:
        train, validation = (
            (word_texts(splits[name].texts, config.data.platform_prefix), np.asarray(splits[name].texts["label"]))
            for name in ("train", "validation")
        )
        known = prepared.dataset["train"]
        platforms = platforms_of(known, config.data.dataset) if config.data.platform_prefix else ()
        blend = fit_word_blend(
            train, validation, logits, is_balanced(prepared, config), chosen_score(prepared), platforms
        )
        logits = blend.logits(logits, validation[0])
    counts = class_counts(splits["train"], prepared, prepared.taxonomy.leaves, config)
    return Fitted(fit_answers(gold, logits, counts, prepared.taxonomy, config.decision), blend)


def evaluate_splits(
    engine: Engine,
    splits: dict[str, Split],
    readers: dict[str, EncodedTexts],
    prepared: PreparedDataset,
    config: Config,
) -> tuple[dict[str, SplitResult], Fitted]:
    """Predict validation and test with the engine's model (every process takes part) and score them.

    Returns:
        The results, and what is fitted for labels of texts, before test is read.
    """
    fitted, results = Fitted(), {}
    for name in ("validation", "test"):
        split, outputs = splits[name], engine.outputs(readers[name])
        if prepared.task != "sequence":
            result = judge(prepared, split, outputs, engine.loss, fitted.rule)
            results[name] = SplitResult(result.predictions, result.scores | intervals_of(result.predictions))
            continue
        logits = split.in_text_order(outputs)
        if name == "validation":
            fitted = fit_labels(splits, logits, prepared, config)
        alone = {}
        if fitted.blend is not None:
            alone = {"macro_f1_without_words": chosen_score(prepared)(np.asarray(split.texts["label"]), logits)}
            logits = fitted.blend.logits(logits, word_texts(split.texts, config.data.platform_prefix))
        result = judge_labels(prepared, split, logits, engine.loss, fitted.rule)
        trust = trust_scores(split.texts, result.predictions, logits, fitted.rule, prepared.taxonomy, config)
        scores = result.scores | intervals_of(result.predictions) | trust | alone
        results[name] = SplitResult(result.predictions, scores)
    return results, fitted
