"""Tasks whose answers a language model writes, or chooses by their likelihood: prompts, answers and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from opinionlm.config.chosen_metric import SCORES, TASKS_OF, ChosenMetric, chosen_metric
from opinionlm.config.config import Config
from opinionlm.config.options import InstructConfig
from opinionlm.data.encoding.prompts import Example, PromptEncoder
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import log
from opinionlm.evaluation.generation import answer_scores, generate_answers, parsed_labels
from opinionlm.evaluation.generation_metrics import perplexity, rouge_scores, squad_scores
from opinionlm.evaluation.label_scoring import score_labels, scored_ids
from opinionlm.evaluation.metrics import all_scores
from opinionlm.evaluation.prompt_calibration import (
    CONTENT_FREE_TEXTS,
    batch_prior,
    calibrated_probabilities,
    contextual_prior,
)
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.training.instruct_trainer import Outcome


def answer_metric(prepared: PreparedDataset, config: Config) -> ChosenMetric:
    """The validation score that chooses the best checkpoint of a generative run.

    Raises:
        UserError: a task whose answers are no text, or a score that it has not.
    """
    task = prepared.task
    if task not in TASKS_OF["train_instruct"]:
        raise UserError(
            f"dataset: task {task!r} has no answers in words; train_classifier.py takes it, train_instruct.py "
            f"takes {', '.join(TASKS_OF['train_instruct'][:-1])} and {TASKS_OF['train_instruct'][-1]}"
        )
    names = list(SCORES[task])
    if task == "sequence":
        names = list(SequenceTask(prepared, config).metric_names())
        if config.instruct.decode == "generate":
            # Written answers have no probabilities, and need not be labels.
            names = [name for name in names if name not in ("ece", "brier")] + ["invalid_rate"]
    return chosen_metric(config, SCORES[task][0], names)


def shown_metrics(prepared: PreparedDataset) -> list[str]:
    """The scores of summaries and cards, whoever gave the answers."""
    match prepared.task:
        case "sequence":
            depth = prepared.taxonomy.depth
            return ["macro_f1", "accuracy", *[f"level{level}_macro_f1" for level in range(1, depth + 1)], "loss"]
        case "question_answering":
            return ["f1", "exact_match", "perplexity", "loss"]
        case "summarization":
            return ["rouge1", "rouge2", "rougeL", "rougeLsum", "perplexity", "loss"]
        case _:
            return ["perplexity", "loss"]


@dataclass(frozen=True)
class GenerationTask:
    """One task of text to text over one prepared data set: prompts, the model's answers, and their scores.

    Attributes:
        options: how answers are read.
        encoder: of the prompts.
        prepared: the data; its label tree closes the set of answers of task sequence.
        class_weights: ``(classes,)``, for task sequence.
        budget: tokens computed at once.
        examples: shown in every prompt.

    Raises:
        UserError: free answers cannot be scored as labels.
    """

    options: InstructConfig
    encoder: PromptEncoder
    prepared: PreparedDataset
    class_weights: np.ndarray
    budget: int = 8192
    examples: tuple[Example, ...] = ()

    def __post_init__(self) -> None:
        if not self.encoder.words and self.options.decode == "score":
            raise UserError(
                f"decode: 'score' needs a closed set of labels, and task {self.prepared.task} has free answers; set "
                "decode: generate"
            )

    @property
    def scores_labels(self) -> bool:
        """Whether predictions are label scores, and not texts."""
        return self.options.decode == "score"

    @property
    def shown_metrics(self) -> list[str]:
        """The scores of summaries and cards."""
        return shown_metrics(self.prepared)

    def prompts(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """A split's prompts, and behind them those without content that contextual calibration needs."""
        if self.options.calibration != "contextual":
            return list(prompts)
        return [*prompts, *(self.encoder.prompt_ids(text, examples=self.examples) for text in CONTENT_FREE_TEXTS)]

    def predict(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> Sequence[Any]:
        """What a checkpoint is chosen by: label scores, or answers; an instruction's answers are not looked at."""
        if self.prepared.task == "instruction":
            return [""] * len(prompts)
        return self.answer(model, prompts)

    def answer(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> Sequence[Any]:
        """Label log-probabilities ``(labels,)``, or the written answer, of every prompt."""
        padding, options = self.encoder.tokenizer.pad_token_id, self.options
        if self.scores_labels:
            labels = scored_ids(self.encoder)
            return list(score_labels(model, prompts, labels, padding, options.score_normalisation, self.budget))
        longest = max([options.max_answer_length, *map(len, self.encoder.label_ids())])
        return generate_answers(
            model, self.encoder.tokenizer, prompts, longest, options.num_beams, batch_size_tokens=self.budget
        )

    def probabilities(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Label probabilities ``(rows, labels)`` from label scores, those of `prompts` included; not tempered."""
        scores = np.stack(predictions)
        match self.options.calibration:
            case "none":
                return calibrated_probabilities(scores)
            case "batch":
                return calibrated_probabilities(scores, batch_prior(scores))
            case "contextual":
                extra = len(CONTENT_FREE_TEXTS)
                return calibrated_probabilities(scores[:-extra], contextual_prior(scores[-extra:]))

    def likelihoods(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Log-probabilities ``(rows, labels)`` of label scores: the logits that a temperature divides."""
        return log(self.probabilities(predictions))

    def labels(self, predictions: Sequence[Any]) -> np.ndarray:
        """Predicted leaf ids ``(rows,)``; an answer outside the label set is `INVALID`."""
        if self.scores_labels:
            return self.probabilities(predictions).argmax(axis=1)
        return parsed_labels(predictions, self.encoder.words)

    def numbers(self, texts: Dataset, outcome: Outcome) -> dict[str, float]:
        """The scores that are one number each, which is what can be logged at every evaluation."""
        return {name: value for name, value in self.scores(texts, outcome).items() if isinstance(value, float)}

    def scores(self, texts: Dataset, outcome: Outcome) -> dict[str, Any]:
        """Scores of a split as plain floats, and intervals as ``[low, high]``.

        Args:
            texts: its prepared rows.
            outcome: its predictions, and the loss on its answers.
        """
        loss = {"loss": outcome.loss}
        if self.scores_labels:
            gold, taxonomy = np.asarray(texts["label"]), self.prepared.taxonomy
            return all_scores(gold, self.likelihoods(outcome.predictions), taxonomy, self.class_weights) | loss
        scores = loss | self.text_scores(texts, outcome.predictions)
        if self.prepared.taxonomy is not None:
            return scores
        return scores | {"perplexity": perplexity(outcome.total_loss, round(outcome.total_weight))}

    def text_scores(self, texts: Dataset, answers: Sequence[str]) -> dict[str, Any]:
        """Scores of written answers.

        Args:
            texts: the prepared rows.
            answers: one per row.
        """
        match self.prepared.task:
            case "sequence":
                return answer_scores(np.asarray(texts["label"]), self.labels(answers), self.prepared.taxonomy)
            case "question_answering":
                return squad_scores(answers, texts["answers"])
            case "summarization":
                return rouge_scores(answers, texts["answers"])
            case _:
                return {}
