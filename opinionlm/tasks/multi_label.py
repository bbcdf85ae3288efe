"""Any number of labels per text or pair of texts, perhaps none: leaves of a label tree, each decided by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from opinionlm.data.encoding.columns import flat_lists, multi_hot
from opinionlm.errors import UserError
from opinionlm.evaluation.drift import period_scores
from opinionlm.evaluation.ensembles import averaged_log_odds
from opinionlm.evaluation.metrics import platform_scores
from opinionlm.evaluation.multi_label import (
    f1_per_label,
    multi_label_scores,
    probability_scores,
    sigmoid,
)
from opinionlm.evaluation.multi_label_predictions import MultiLabelPredictions, label_table
from opinionlm.evaluation.multi_label_rules import (
    UNFITTED,
    MultiLabelRule,
    fit_multi_label_rule,
    fit_thresholds,
    set_scores,
)
from opinionlm.tasks.base import Decision, SplitResult
from opinionlm.tasks.head import ANNOTATORS, RARE, CardText
from opinionlm.tasks.labels import LabelTask
from opinionlm.training.losses.base import ExampleLoss, split_loss
from opinionlm.training.losses.multi_label import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    TreeBinaryCrossEntropy,
    positive_weights,
)
from opinionlm.training.splits import Split
from opinionlm.utils.markdown import cell

# Also scored with the thresholds of a half, which need no fit.
AT_HALF = ("macro_f1", "micro_f1", "subset_accuracy")


class MultiLabelTask(LabelTask[MultiLabelPredictions]):
    """One yes or no per leaf. Thresholds are fitted on validation, whenever a checkpoint is evaluated there too."""

    item = "label"
    column = "labels"
    problem_type = "multi_label_classification"
    # R-Drop compares distributions over classes, which these outputs are not; the option is refused.
    rdrop_alpha = 0.0

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """See `Task.shown_metrics`."""
        depth = self.taxonomy.depth
        levels = [f"level{level}_macro_f1" for level in range(1, depth)] + ["hierarchical_f1"] * (depth > 1)
        ranking = "label_ranking_average_precision"
        return ("macro_f1", "micro_f1", "weighted_f1", "samples_f1", "subset_accuracy", *levels, ranking, "ece")

    def metric_names(self) -> tuple[str, ...]:
        """See `Task.metric_names`."""
        levels = [f"level{level}_macro_f1" for level in range(1, self.taxonomy.depth + 1)]
        return super().metric_names() + tuple(levels) + tuple(f"f1_{leaf}" for leaf in self.taxonomy.leaves)

    # Data and loss

    def gold(self, texts: Dataset) -> np.ndarray:
        """See `LabelTask.gold`."""
        return multi_hot(texts["labels"], len(self.taxonomy.leaves))

    def labels(self, split: Split) -> np.ndarray:
        """Zeros and ones ``(rows, leaves)``."""
        return flat_lists(split.encoded, "labels")[0].reshape(-1, len(self.taxonomy.leaves))

    def loss(self, train: Split) -> ExampleLoss:
        """Binary cross entropy over the leaves or all nodes, or the asymmetric loss; with the weights of the leaves.

        Raises:
            UserError: a loss over a label tree where there is none, or ``class_counts`` that do not name every leaf
                or exceed the number of training texts.
        """
        self.check_tree_loss()
        method, weights = self.config.method, self._positive_weights(self.labels(train))
        match method.loss:
            case "cross_entropy":
                return BinaryCrossEntropy(weights)
            case "asymmetric":
                gammas = (method.asymmetric_gamma_positive, method.asymmetric_gamma_negative)
                return AsymmetricLoss(weights, *gammas, method.asymmetric_margin)
            case "tree_marginal":
                return TreeBinaryCrossEntropy(weights, self.taxonomy)
            case other:
                raise ValueError(f"the loss {other!r} has no form for several labels of a text")

    def first_bias(self, train: Split) -> torch.Tensor:
        """Log-odds of the labels among the training texts, as their weights see them, float32 ``(leaves,)``.

        Lin et al. 2017 (section 3.3). From a bias of zero the first steps do nothing but teach rare labels to be
        absent, through every weight of the backbone, which loses by it what it knew: MiniLM on GoEmotions then stays
        at the entropy of the label frequencies (.149) for hundreds of steps.
        """
        labels = self.labels(train)
        # Half a text more on both sides keeps a label that all texts have, or none, from an infinite bias.
        present = torch.tensor(labels.sum(axis=0)) + 0.5
        return torch.log(self._positive_weights(labels) * present / (len(labels) + 1 - present))

    def class_counts(self, labels: np.ndarray, names: Sequence[str]) -> list[int]:
        """See `ClassTask.class_counts`.

        Raises:
            UserError: as there, or ``class_counts`` above the number of training texts, none of which would lack the
                label.
        """
        counts = super().class_counts(labels, names)
        for name, count in zip(names, counts, strict=True):
            if count > len(labels):
                raise UserError(
                    f"{self.config.source}: class_counts: {count:,} for {name}, and training reads {len(labels):,} "
                    "texts, each of which counts once for a label; give counts among these texts, or leave it out"
                )
        return counts

    def _positive_weights(self, labels: np.ndarray) -> torch.Tensor:
        counts = self.class_counts(labels, self.taxonomy.leaves)
        return positive_weights(self.weight_kind, counts, len(labels), self.config.method)

    # Evaluation

    def mean_loss(self, split: Split, logits: np.ndarray, loss: ExampleLoss) -> float:
        """See `LabelTask.mean_loss`."""
        gold = torch.from_numpy(self.gold(split.texts))
        return split_loss(loss, torch.from_numpy(logits.astype(np.float32)), gold)

    def plain_loss(self, gold: np.ndarray, logits: np.ndarray) -> float:
        """See `LabelTask.plain_loss`."""
        return float((np.logaddexp(0.0, logits) - gold * logits).mean())

    def score(self, split: Split, outputs: np.ndarray, loss: ExampleLoss) -> SplitResult[MultiLabelPredictions]:
        """See `HeadTask.score`, but for the thresholds: they are fitted on the split itself.

        Early in training no rare label reaches a half, and every checkpoint would have the same score.
        """
        logits, gold = split.in_text_order(outputs), self.gold(split.texts)
        rule = MultiLabelRule(thresholds=tuple(self._thresholds(gold, sigmoid(logits)).tolist()))
        return self.score_logits(split.texts, logits, rule, self.mean_loss(split, logits, loss))

    def _thresholds(self, gold: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return fit_thresholds(gold, probabilities, self.config.decision.label_thresholds == "per_label")

    def primary_score(self, gold: np.ndarray, logits: np.ndarray) -> float:
        """Macro-F1 with fitted thresholds, from zeros and ones and logits, both ``(rows, leaves)``."""
        probabilities = sigmoid(logits)
        return float(f1_per_label(gold, probabilities >= self._thresholds(gold, probabilities)).mean())

    def fit_rule(
        self, gold: np.ndarray, logits: np.ndarray, train_labels: np.ndarray, initial_offsets: Sequence[float] = ()
    ) -> MultiLabelRule:
        """See `LabelTask.fit_rule`; thresholds are fitted to whatever the probabilities are, offsets or not."""
        return fit_multi_label_rule(gold, logits, self.config.decision)

    def pooled(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """See `LabelTask.pooled`."""
        return averaged_log_odds(members)

    def score_logits(
        self, texts: Dataset, logits: np.ndarray, rule: MultiLabelRule, loss: float
    ) -> SplitResult[MultiLabelPredictions]:
        """Predictions and scores of a split, without intervals; arguments as in `evaluate_logits`."""
        taxonomy, gold, probabilities = self.taxonomy, self.gold(texts), rule.probabilities(logits)
        pairs = texts["text_pair"] if "text_pair" in texts.column_names else None
        predicted = rule.decide(probabilities)
        thresholds = rule.thresholds or (UNFITTED,) * len(taxonomy.leaves)
        predictions = MultiLabelPredictions(
            taxonomy.leaves, texts["text"], gold, probabilities, predicted, thresholds, pairs
        )
        scores = multi_label_scores(gold, predicted, taxonomy) | probability_scores(gold, probabilities)
        return SplitResult(predictions, {"loss": loss} | scores)

    def evaluate_logits(
        self, texts: Dataset, logits: np.ndarray, rule: MultiLabelRule, loss: float
    ) -> SplitResult[MultiLabelPredictions]:
        """See `LabelTask.evaluate_logits`; also what thresholds and calibration changed, and label sets."""
        if rule.label_sets is None:
            raise ValueError("the rule was not fitted on validation")
        result, taxonomy = self.score_logits(texts, logits, rule, loss), self.taxonomy
        predictions = result.predictions
        gold, plain = predictions.gold, sigmoid(logits)
        at_half = multi_label_scores(gold, MultiLabelRule().decide(plain), taxonomy)
        uncalibrated = probability_scores(gold, plain)
        members = rule.label_sets.members(predictions.probabilities, self.config.decision.label_set_coverage)
        platforms = platform_scores(gold, predictions.predicted, texts["platform"], taxonomy, multi_label_scores)
        scores = {
            **result.scores,
            **predictions.intervals(),
            **{f"{name}_at_half": at_half[name] for name in AT_HALF},
            **{f"{name}_uncalibrated": uncalibrated[name] for name in ("ece", "brier")},
            **set_scores(gold, members),
            "platforms": platforms,
        }
        if "time" in texts.column_names:
            scores["periods"] = period_scores(gold, predictions.predicted, list(texts["time"]), taxonomy)
        return SplitResult(predictions, scores)

    def decision_facts(self, decision: Decision) -> dict[str, Any]:
        """What was fitted on validation, and the coverage that label sets were asked for."""
        rule, leaves = decision.rule, self.taxonomy.leaves
        assert isinstance(rule, MultiLabelRule)
        return {
            "temperature": rule.temperature,
            "calibration_biases": list(rule.biases),
            "thresholds": dict(zip(leaves, rule.thresholds, strict=True)),
            "label_set_coverage_asked": self.config.decision.label_set_coverage,
        }

    # What people read

    def prediction_table(
        self, texts: Dataset, predictions: MultiLabelPredictions
    ) -> tuple[list[str], Iterator[list[str]]]:
        """See `Task.prediction_table`."""
        table = label_table(texts["id"], texts["platform"], predictions, self.taxonomy)
        return self.with_feature_columns(texts, *table)

    def card_text(self, folder: Path) -> CardText:
        """See `HeadTask.card_text`."""
        taxonomy, pairs = self.taxonomy, self.reads_pairs
        example = '{"text": "Gains.", "text_pair": "Why?"}' if pairs else '"Is this coin still worth holding?"'
        return CardText(
            pipeline="text-classification",
            tag="multi-label-classification",
            purpose=f"give {'pairs of texts' if pairs else 'texts'} any number of the {len(taxonomy.leaves)} leaves "
            "of a label tree",
            usage=f'classify = pipeline("text-classification", model="{folder}", top_k=None)\n'
            f"classify({example}, truncation=True)  # probabilities before calibration; opinionlm gives labels",
            options=f"{'--pair_column text_pair ' if pairs else ''}--input posts.csv --output labels.csv",
            outputs_title="Labels",
            outputs="\n".join(f"- {cell(' › '.join(path))}" for path in taxonomy.paths),
            labels=taxonomy.leaves,
            limits="A text may get several labels or none. The labels are those of the training data and "
            f"{ANNOTATORS} {RARE}",
        )
