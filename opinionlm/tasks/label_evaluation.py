"""Scores of labels of texts: of the answers, of the probabilities, of label sets, on every platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from opinionlm.config.config import Config
from opinionlm.config.method_options import DecisionConfig
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.conformal import set_scores
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.drift import period_scores
from opinionlm.evaluation.metrics import (
    calibration_scores,
    classification_scores,
    ece_if_calibrated,
    platform_scores,
    softmax,
)
from opinionlm.evaluation.prediction_tables import Predictions
from opinionlm.models.linear.interpolation import WordBlend


@dataclass(frozen=True)
class SplitResult:
    """Predictions of one split, rows in the order of its texts, and their scores.

    Attributes:
        predictions: gold labels and what was predicted.
        scores: plain floats, intervals as ``[low, high]``, ``platforms``: the scores of every platform, and, where the
            data say when texts were written, ``periods``: the scores over time.
    """

    predictions: Predictions
    scores: dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """What is fitted on validation once a model is trained.

    Attributes:
        rule: how labels follow from logits.
        blend: the words beside the model; None where it stands alone.
    """

    rule: AnswerRule = AnswerRule()
    blend: WordBlend | None = None


def judge_classes(
    texts: Dataset, logits: np.ndarray, taxonomy: Taxonomy, rule: AnswerRule, loss: float
) -> SplitResult:
    """Predictions and scores of a split, without intervals.

    Args:
        texts: the prepared rows.
        logits: ``(rows, leaves)``, raw.
        taxonomy: the label tree.
        rule: how labels are decided.
        loss: of the split, as the model was trained.
    """
    gold, probabilities = np.asarray(texts["label"]), rule.probabilities(logits)
    pairs = texts["text_pair"] if "text_pair" in texts.column_names else None
    decided = rule.decide(probabilities, taxonomy)
    predictions = SplitPredictions(taxonomy.leaves, texts["text"], gold, probabilities, pairs, decided)
    scores = {"loss": loss} | classification_scores(gold, decided, taxonomy) | calibration_scores(gold, probabilities)
    return SplitResult(predictions, scores)


def trust_scores(
    texts: Dataset,
    predictions: SplitPredictions,
    logits: np.ndarray,
    rule: AnswerRule,
    taxonomy: Taxonomy,
    config: Config,
) -> dict[str, Any]:
    """What calibration changed, what the label sets are worth, and the scores of every platform.

    Args:
        texts: the prepared rows.
        predictions: by the rule.
        logits: ``(rows, leaves)``, raw.
        rule: fitted on validation.
        taxonomy: the label tree.
        config: the run's options.
    """
    before = calibration_scores(predictions.gold, softmax(logits))
    members = rule.label_sets.members(predictions.probabilities, config.decision.label_set_coverage)
    return {
        **{f"{name}_uncalibrated": value for name, value in before.items()},
        "ece_if_calibrated": ece_if_calibrated(predictions.probabilities),
        **set_scores(predictions.gold, members),
        **group_scores(texts, predictions.gold, predictions.predicted, taxonomy),
    }


def group_scores(texts: Dataset, gold: np.ndarray, predicted: np.ndarray, taxonomy: Taxonomy) -> dict[str, Any]:
    """Scores of every platform and, where the data have times, of every period.

    Args:
        texts: the prepared rows.
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``.
        taxonomy: the label tree.
    """
    scores = {"platforms": platform_scores(gold, predicted, texts["platform"], taxonomy)}
    if "time" not in texts.column_names:
        return scores
    return scores | {"periods": period_scores(gold, predicted, list(texts["time"]), taxonomy)}


def decision_facts(fitted: Fitted, options: DecisionConfig) -> dict[str, Any]:
    """What was fitted on validation, for ``metrics.json``, and the coverage that label sets were asked for."""
    rule, blend = fitted.rule, fitted.blend
    facts = {"temperature": rule.temperature, "label_set_coverage_asked": options.label_set_coverage}
    if rule.biases:
        facts["calibration_biases"] = list(rule.biases)
    if rule.tau is not None:
        facts["tau"] = rule.tau
    if blend is not None:
        facts |= {"word_share": blend.share, "macro_f1_without_words": blend.scores[0.0]}
    return facts
