"""Labels of texts: one leaf of a label tree per text or pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from opinionlm.config.unread import ADJUSTING_LOSSES
from opinionlm.data.encoding.augmentation import copies_per_label, oversampled, with_copies
from opinionlm.data.encoding.columns import numbers_of
from opinionlm.data.encoding.features import platforms_of
from opinionlm.data.encoding.soft_labels import mixed_targets, read_soft_labels
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.conformal import set_scores
from opinionlm.evaluation.decisions import AnswerRule, fit_answers
from opinionlm.evaluation.drift import period_scores
from opinionlm.evaluation.ensembles import averaged_logits
from opinionlm.evaluation.metrics import (
    calibration_scores,
    classification_scores,
    ece_if_calibrated,
    platform_scores,
    softmax,
    weighted_log_loss,
)
from opinionlm.evaluation.prediction_tables import split_table
from opinionlm.evaluation.significance import reality_check
from opinionlm.models.linear.interpolation import check_words, fit_interpolation
from opinionlm.models.linear.tfidf import word_texts
from opinionlm.tasks.base import Decision, SplitResult
from opinionlm.tasks.head import ANNOTATORS, RARE, CardText
from opinionlm.tasks.labels import LabelTask
from opinionlm.training.losses.base import ExampleLoss, SoftTargetCrossEntropy, WeightedCrossEntropy, split_loss
from opinionlm.training.losses.hierarchical import (
    ConditionalTreeCrossEntropy,
    MarginalTreeCrossEntropy,
    SoftTreeCrossEntropy,
)
from opinionlm.training.losses.imbalance import (
    FocalLoss,
    LogitAdjustedCrossEntropy,
    MarginLoss,
    SmoothedCrossEntropy,
    class_weights_of,
)
from opinionlm.training.splits import Split
from opinionlm.utils.markdown import cell


class SequenceTask(LabelTask[SplitPredictions]):
    """Classification over the leaves of a label tree: one of them for every text."""

    item = "class"
    column = "label"
    problem_type = None

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """See `Task.shown_metrics`."""
        depth = self.taxonomy.depth
        # Of a flat label set they say what macro-F1 and accuracy say.
        of_tree = (
            (*(f"level{level}_macro_f1" for level in range(1, depth + 1)), "hierarchical_f1") if depth > 1 else ()
        )
        return ("macro_f1", "accuracy", "weighted_f1", *of_tree, "ece")

    def metric_names(self) -> tuple[str, ...]:
        """See `Task.metric_names`."""
        taxonomy = self.taxonomy
        levels = [f"level{n}_{score}" for n in range(1, taxonomy.depth + 1) for score in ("macro_f1", "accuracy")]
        return super().metric_names() + tuple(levels) + tuple(f"f1_{leaf}" for leaf in taxonomy.leaves)

    # Data

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Split]:
        """See `HeadTask.encode`.

        Raises:
            UserError: as there; or ``blend_words`` is set and no two training texts share a word.
        """
        if self.config.robust.blend_words:
            check_words(self.prepared, self.config.data, self.config.training.seed, self.config.source)
        return super().encode(tokenizer)

    def training_texts(self) -> Dataset:
        """The rows that training reads; those of rare labels again, and perturbed copies, where they are asked for."""
        texts, robust, seed = super().training_texts(), self.config.robust, self.config.training.seed
        if robust.oversample_to is not None:
            texts = oversampled(texts, robust.oversample_to, seed)
        return with_copies(texts, robust.augment_rare, seed) if robust.augment_rare > 0 else texts

    def gold(self, texts: Dataset) -> np.ndarray:
        """See `LabelTask.gold`."""
        return np.asarray(texts["label"])

    def labels(self, split: Split) -> np.ndarray:
        """The leaf of every text."""
        return numbers_of(split.encoded, "labels")

    def soft_targets(self, texts: Dataset) -> np.ndarray | None:
        """Targets from labels and ``soft_labels``, ``(rows, leaves)``; None without those.

        Raises:
            UserError: see `read_soft_labels`.
        """
        robust = self.config.robust
        if robust.soft_labels is None:
            return None
        soft = read_soft_labels(Path(robust.soft_labels), list(texts["id"]), self.taxonomy)
        return mixed_targets(np.asarray(texts["label"]), soft, robust.soft_label_share)

    # Model and loss

    def loss(self, train: Split) -> ExampleLoss:
        """The loss over the leaves.

        Raises:
            UserError: a loss over a label tree where there is none, or ``class_counts`` that do not name every leaf.
        """
        method, taxonomy = self.config.method, self.taxonomy
        self.check_tree_loss()
        counts = self.class_counts(self.labels(train), taxonomy.leaves)
        weights = class_weights_of(self.weight_kind, counts, method)
        match method.loss:
            case "cross_entropy" if self.config.robust.soft_labels is not None:
                return SoftTargetCrossEntropy(weights)
            case "cross_entropy" if method.label_smoothing > 0:
                return SmoothedCrossEntropy(weights, method.label_smoothing)
            case "cross_entropy":
                return WeightedCrossEntropy(weights)
            case "logit_adjusted":
                return LogitAdjustedCrossEntropy(weights, counts, method.logit_adjustment_tau)
            case "focal":
                return FocalLoss(weights, method.focal_gamma)
            case "ldam":
                never = method.ldam_reweight_from == 1
                last = torch.ones_like(weights) if never else weights
                return MarginLoss(last, counts, method.ldam_margin, method.ldam_scale)
            case "tree_conditional":
                return ConditionalTreeCrossEntropy(weights, taxonomy, counts, method.logit_adjustment_tau)
            case "tree_marginal":
                return MarginalTreeCrossEntropy(weights, taxonomy)
            case "tree_soft":
                return SoftTreeCrossEntropy(weights, taxonomy, method.tree_beta)
            case "asymmetric":
                raise ValueError("asymmetric is a loss of several labels; `other_task_problems` refuses it")

    @property
    def is_balanced(self) -> bool:
        """Whether a model is trained to treat rare classes as frequent ones, by weights or by its loss."""
        return self.weight_kind != "none" or self.config.method.loss in ADJUSTING_LOSSES

    # Evaluation: of a trained model

    def score(self, split: Split, outputs: np.ndarray, loss: ExampleLoss) -> SplitResult[SplitPredictions]:
        """See `HeadTask.score`."""
        logits = split.in_text_order(outputs)
        return self.score_logits(split.texts, logits, AnswerRule(), self.mean_loss(split, logits, loss))

    def fit_decision(self, splits: dict[str, Split], outputs: np.ndarray) -> Decision:
        """Fit TF-IDF beside the model, where it is asked for, and the rule by which labels follow from logits."""
        validation = splits["validation"]
        gold, logits = np.asarray(validation.texts["label"]), validation.in_text_order(outputs)
        interpolation = None
        if self.config.robust.blend_words:
            train = splits["train"].texts
            words = self._words(validation.texts)
            interpolation = fit_interpolation(
                (self._words(train), np.asarray(train["label"])),
                (words, gold),
                logits,
                self.is_balanced,
                self.primary_score,
                partial(reality_check, classes=len(self.taxonomy.leaves)),
                platforms_of(self.features),
            )
            logits = interpolation.logits(logits, words)
        return Decision(self.fit_rule(gold, logits, self.labels(splits["train"])), interpolation)

    def evaluate(
        self, split: Split, outputs: np.ndarray, loss: ExampleLoss, decision: Decision
    ) -> SplitResult[SplitPredictions]:
        """Final predictions of a split by what was fitted on validation; arguments as in `HeadTask.score`."""
        logits, model_alone = split.in_text_order(outputs), {}
        if decision.interpolation is not None:
            gold = np.asarray(split.texts["label"])
            model_alone = {"macro_f1_without_words": self.primary_score(gold, logits)}
            logits = decision.interpolation.logits(logits, self._words(split.texts))
        assert isinstance(decision.rule, AnswerRule)
        result = self.evaluate_logits(split.texts, logits, decision.rule, self.mean_loss(split, logits, loss))
        return SplitResult(result.predictions, result.scores | model_alone)

    def mean_loss(self, split: Split, logits: np.ndarray, loss: ExampleLoss) -> float:
        """See `LabelTask.mean_loss`."""
        return split_loss(loss, torch.from_numpy(logits.astype(np.float32)), torch.tensor(split.texts["label"]))

    def _words(self, texts: Dataset) -> list[str]:
        return word_texts(texts, self.features)

    # Evaluation: of logits, whoever made them

    def primary_score(self, gold: np.ndarray, logits: np.ndarray) -> float:
        """Macro-F1 of the likeliest leaves, from gold ids ``(rows,)`` and logits ``(rows, leaves)``."""
        return classification_scores(gold, logits.argmax(axis=1), self.taxonomy)[self.primary_metric]

    def plain_loss(self, gold: np.ndarray, logits: np.ndarray) -> float:
        """See `LabelTask.plain_loss`."""
        return weighted_log_loss(gold, logits, np.ones(logits.shape[1]))

    def pooled(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """See `LabelTask.pooled`."""
        return averaged_logits(members)

    def fit_rule(
        self, gold: np.ndarray, logits: np.ndarray, train_labels: np.ndarray, initial_offsets: Sequence[float] = ()
    ) -> AnswerRule:
        """See `LabelTask.fit_rule`."""
        taxonomy = self.taxonomy
        counts = self.class_counts(train_labels, taxonomy.leaves)
        return fit_answers(gold, logits, counts, taxonomy, self.config.decision, initial_offsets)

    def score_logits(
        self, texts: Dataset, logits: np.ndarray, rule: AnswerRule, loss: float
    ) -> SplitResult[SplitPredictions]:
        """Predictions and scores of a split, without intervals.

        Args:
            texts: the prepared rows.
            logits: ``(rows, leaves)``, raw.
            rule: how labels follow.
            loss: of the split.
        """
        taxonomy, gold, probabilities = self.taxonomy, np.asarray(texts["label"]), rule.probabilities(logits)
        pairs = texts["text_pair"] if "text_pair" in texts.column_names else None
        decided = rule.decide(probabilities, taxonomy)
        leaves, parents = taxonomy.leaves, taxonomy.parents
        predictions = SplitPredictions(leaves, texts["text"], gold, probabilities, pairs, decided, parents)
        scores = classification_scores(gold, decided, taxonomy) | calibration_scores(gold, probabilities)
        return SplitResult(predictions, {"loss": loss} | scores)

    def evaluate_logits(
        self, texts: Dataset, logits: np.ndarray, rule: AnswerRule, loss: float
    ) -> SplitResult[SplitPredictions]:
        """The same with intervals, what calibration changed, label sets, and the scores of platforms and periods."""
        if rule.label_sets is None:
            raise ValueError("the rule was not fitted on validation")
        taxonomy, result = self.taxonomy, self.score_logits(texts, logits, rule, loss)
        predictions = result.predictions
        gold, predicted, platforms = predictions.gold, predictions.predicted, texts["platform"]
        uncalibrated = calibration_scores(gold, softmax(logits))
        members = rule.label_sets.members(predictions.probabilities, self.config.decision.label_set_coverage)
        scores = {
            **result.scores,
            **predictions.intervals(),
            **{f"{name}_uncalibrated": value for name, value in uncalibrated.items()},
            "ece_if_calibrated": ece_if_calibrated(predictions.probabilities),
            **set_scores(gold, members),
            "platforms": platform_scores(gold, predicted, platforms, taxonomy),
        }
        if "time" in texts.column_names:
            scores["periods"] = period_scores(gold, predicted, list(texts["time"]), taxonomy)
        return SplitResult(predictions, scores)

    def decision_facts(self, decision: Decision) -> dict[str, Any]:
        """What was fitted on validation, and the coverage that label sets were asked for."""
        rule, interpolation = decision.rule, decision.interpolation
        assert isinstance(rule, AnswerRule)
        coverage = self.config.decision.label_set_coverage
        facts: dict[str, Any] = {"temperature": rule.temperature, "label_set_coverage_asked": coverage}
        if rule.biases:
            facts["calibration_biases"] = list(rule.biases)
        if rule.tau is not None:
            facts["tau"] = rule.tau
        if interpolation is not None:
            facts |= {"word_share": interpolation.share, "macro_f1_without_words": interpolation.scores[0.0]}
            facts["word_gain_p"] = interpolation.p_value
        return facts

    # What people read

    def copies(self, split: Split) -> dict[str, int]:
        """See `HeadTask.copies`."""
        counts = copies_per_label(split.texts["id"], split.texts["label"])
        return {self.taxonomy.leaves[label]: count for label, count in sorted(counts.items())}

    def prediction_table(self, texts: Dataset, predictions: SplitPredictions) -> tuple[list[str], Iterator[list[str]]]:
        """See `Task.prediction_table`."""
        table = split_table(texts["id"], texts["platform"], predictions, self.taxonomy)
        return self.with_feature_columns(texts, *table)

    def describe(self, splits: Mapping[str, Split]) -> str:
        """Also which labels have copies among the training texts."""
        copies = self.copies(splits["train"])
        made = f"; {sum(copies.values()):,} of train are copies, of {', '.join(copies)}" if copies else ""
        if self.config.robust.augment_rare > 0 and not copies:
            made = "; no label is rare enough for augment_rare to copy"
        return f"{super().describe(splits)}{made}"

    def in_words(self, test: Mapping[str, Any]) -> str:
        """See `HeadTask.in_words`."""
        f1 = {leaf: test[f"f1_{leaf}"] for leaf in self.taxonomy.leaves}
        best, worst = max(f1, key=f1.__getitem__), min(f1, key=f1.__getitem__)
        low, high = test["accuracy_ci95"]
        return (
            f"\nOf 100 texts like those of the test split about {100 * test['accuracy']:.0f} get the right label "
            f"({100 * low:.0f} to {100 * high:.0f} with 95 % confidence). Labels differ: {cell(best)} is told best "
            f"(F1 {f1[best]:.2f}), {cell(worst)} worst ({f1[worst]:.2f}). Macro-F1 counts every label alike, however "
            "rare.\n"
        )

    def card_text(self, folder: Path) -> CardText:
        """See `HeadTask.card_text`."""
        taxonomy, pairs = self.taxonomy, self.reads_pairs
        example = '{"text": "Gains.", "text_pair": "Why?"}' if pairs else '"Is this coin still worth holding?"'
        return CardText(
            pipeline="text-classification",
            tag="hierarchical-text-classification" if taxonomy.depth > 1 else "text-classification",
            purpose=f"label {'pairs of texts' if pairs else 'texts'} with "
            + (f"the {len(taxonomy.leaves)} leaves of a label tree" if taxonomy.depth > 1 else "")
            + (f"one of {len(taxonomy.leaves)} labels" if taxonomy.depth == 1 else ""),
            usage=f'classify = pipeline("text-classification", model="{folder}")\n'
            f"classify({example}, truncation=True)",
            options=f"{'--pair_column text_pair ' if pairs else ''}--input posts.csv --output labels.csv",
            outputs_title="Labels",
            outputs="\n".join(f"- {cell(' › '.join(path))}" for path in taxonomy.paths),
            labels=taxonomy.leaves,
            limits=f"The labels are those of the training data and {ANNOTATORS} {RARE}",
        )
