"""Texts with any number of labels, which a language model is asked about one by one, or writes as a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from opinionlm.evaluation.generation import parsed_lists
from opinionlm.evaluation.multi_label import written_list_scores
from opinionlm.evaluation.multi_label_predictions import MultiLabelPredictions
from opinionlm.evaluation.multi_label_rules import MultiLabelRule
from opinionlm.evaluation.predictions import Predictions
from opinionlm.evaluation.written_predictions import WrittenLists
from opinionlm.tasks.base import Decision, SplitResult
from opinionlm.tasks.generation import PROBABILITY_SCORES, GenerationTask
from opinionlm.tasks.multi_label import MultiLabelTask
from opinionlm.training.instruct_trainer import Outcome


class LabelListTask(GenerationTask):
    """Task multi_label by a language model: its log-odds of yes are the logits that `MultiLabelTask` evaluates."""

    labels_by = MultiLabelTask
    labels_task: MultiLabelTask

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """See `Task.shown_metrics`."""
        names = (*self.labels_task.shown_metrics, "loss")
        return names if self.scores_labels else tuple(name for name in names if name not in PROBABILITY_SCORES)

    def scores(self, texts: Dataset, outcome: Outcome) -> dict[str, Any]:
        """See `GenerationTask.scores`; label scores with calibration and thresholds fitted on the split itself.

        A head's logits begin near 0; what a model makes of yes and no does not, out of reach of thresholds alone.
        """
        if not self.scores_labels:
            return {"loss": outcome.loss} | self.text_scores(texts, outcome.predictions)
        rule = self.fitted(texts, outcome.predictions).rule
        assert isinstance(rule, MultiLabelRule)
        return self.labels_task.score_logits(texts, self.logits(outcome.predictions), rule, outcome.loss).scores

    def text_scores(self, texts: Dataset, answers: Sequence[str]) -> dict[str, Any]:
        """See `GenerationTask.text_scores`."""
        predicted, is_list = parsed_lists(answers, self.encoder.words)
        return written_list_scores(self.labels_task.gold(texts), predicted, is_list, self.taxonomy)

    def predictions(self, texts: Dataset, answers: Sequence[Any]) -> Predictions:
        """See `GenerationTask.predictions`; of label scores see `evaluate`, which knows the thresholds.

        Raises:
            ValueError: the answers are label scores.
        """
        if self.scores_labels:
            raise ValueError("label scores give labels by thresholds only")
        predicted, is_list = parsed_lists(answers, self.encoder.words)
        return WrittenLists(self.taxonomy.leaves, self.labels_task.gold(texts), predicted, is_list, answers)

    def fitted(self, texts: Dataset, answers: Sequence[Any]) -> Decision:
        """Calibration and thresholds, fitted on the texts that were answered."""
        gold = self.labels_task.gold(texts)
        return Decision(self.labels_task.fit_rule(gold, self.logits(answers), gold))

    def decided(
        self, texts: Dataset, answers: Sequence[Any], decision: Decision
    ) -> SplitResult[MultiLabelPredictions]:
        """Predictions and scores of a model that was not trained, by `fitted` thresholds."""
        logits = self.logits(answers)
        loss = self.labels_task.plain_loss(self.labels_task.gold(texts), logits)
        assert isinstance(decision.rule, MultiLabelRule)
        return self.labels_task.evaluate_logits(texts, logits, decision.rule, loss)
