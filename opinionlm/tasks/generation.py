"""Tasks whose answers a language model writes, or chooses by their likelihood: prompts, answers and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from opinionlm.config.chosen_metric import SCORES
from opinionlm.config.config import Config
from opinionlm.config.options import InstructConfig
from opinionlm.data.encoding.data_templates import template_warning, unread_features
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import Example
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.generation import INVALID, answer_scores, generate_answers, parsed_labels, require_readable
from opinionlm.evaluation.generation_metrics import perplexity, rouge_scores, rouge_warning, squad_scores
from opinionlm.evaluation.label_logits import label_logits, label_scores
from opinionlm.evaluation.metrics import all_scores
from opinionlm.evaluation.multi_label_predictions import MultiLabelPredictions, label_lists, list_columns
from opinionlm.evaluation.predictions import Predictions
from opinionlm.evaluation.prompt_calibration import CONTENT_FREE_TEXTS, label_prior
from opinionlm.evaluation.written_predictions import FreeAnswers, WrittenLabels, WrittenLists, list_cells
from opinionlm.tasks.base import Decision, SplitResult, Task
from opinionlm.tasks.labels import LabelTask
from opinionlm.tasks.multi_label import MultiLabelTask
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.training.instruct_data import (
    AnswerSplit,
    answer_weights,
    encode_answer_splits,
    shortened_note,
    supervised_tokens,
)
from opinionlm.training.instruct_trainer import InstructSplit, Outcome
from opinionlm.training.splits import refuse_weightless

TOKEN_BUDGET = 8192
# Longer texts are cut in the file of predictions, ids tell which they are.
SHOWN_CHARACTERS = 2_000
# Scores of probabilities, which written answers have none of.
PROBABILITY_SCORES = ("ece", "brier", "label_ranking_average_precision")


def check_decode(prepared: PreparedDataset, options: InstructConfig) -> None:
    """Whether there are labels to score.

    Raises:
        UserError: free answers cannot be scored as labels.
    """
    if prepared.taxonomy is None and options.decode == "score":
        raise UserError(
            f"decode: 'score' needs a closed set of labels, and task {prepared.task} has free answers; set "
            "decode: generate"
        )


def answer_metric_names(prepared: PreparedDataset, config: Config) -> tuple[str, ...]:
    """Every score of a validation split while a language model learns to answer."""
    match prepared.task:
        case "sequence":
            names = SequenceTask(prepared, config).metric_names()
        case "multi_label":
            names = MultiLabelTask(prepared, config).metric_names()
        case _:
            return SCORES[prepared.task]
    if config.instruct.decode == "score":
        return names
    # Written answers need not be labels.
    return (*(name for name in names if name not in PROBABILITY_SCORES), "invalid_rate")


class GenerationTask(Task[Predictions]):
    """One task of text to text over one prepared data set: prompts, the model's answers, and their scores.

    Args:
        prepared: the data; its label tree closes the set of answers of task sequence.
        config: of the run.
        encoder: of the prompts.
        examples: shown in every prompt.
        budget: tokens computed at once.

    Attributes:
        class_weights: of the labels, ``(classes,)``; equal until `encode` knows the training texts.

    Raises:
        UserError: free answers cannot be scored as labels, or a label cannot be written (see `require_readable`).
    """

    answers: ClassVar[str] = "answers"
    # Evaluates label scores as the logits of a head.
    labels_by: ClassVar[type[LabelTask[Any]]] = SequenceTask

    def __init__(
        self,
        prepared: PreparedDataset,
        config: Config,
        encoder: PromptEncoder,
        examples: tuple[Example, ...] = (),
        budget: int = TOKEN_BUDGET,
    ) -> None:
        super().__init__(prepared, config)
        check_decode(prepared, config.instruct)
        if config.instruct.decode == "generate":
            require_readable(encoder)
        self.options = config.instruct
        self.encoder = encoder
        self.examples = examples
        self.budget = budget
        self.class_weights = torch.ones(max(len(encoder.words), 1))
        self.labels_task = self.labels_by(prepared, config)

    @property
    def taxonomy(self) -> Taxonomy:
        """The label tree.

        Raises:
            ValueError: the data set has none.
        """
        return self.labels_task.taxonomy

    @property
    def scores_labels(self) -> bool:
        """Whether predictions are label scores, and not texts."""
        return self.options.decode == "score"

    @property
    def primary_metric(self) -> str:
        """See `Task.primary_metric`."""
        return SCORES[self.prepared.task][0]

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """See `Task.shown_metrics`."""
        match self.prepared.task:
            case "sequence":
                depth = self.taxonomy.depth
                levels = [f"level{level}_macro_f1" for level in range(1, depth + 1)] if depth > 1 else []
                return ("macro_f1", "accuracy", *levels, "loss")
            case "question_answering":
                return ("f1", "exact_match", "perplexity", "loss")
            case "summarization":
                return ("rouge1", "rouge2", "rougeL", "rougeLsum", "perplexity", "loss")
            case _:
                return ("perplexity", "loss")

    def metric_names(self) -> tuple[str, ...]:
        """See `Task.metric_names`."""
        return answer_metric_names(self.prepared, self.config)

    # Prompts and answers

    def encode(self) -> dict[str, AnswerSplit]:
        """The splits, cut to the sizes asked for, as token ids; their labels give the class weights.

        Raises:
            UserError: an answer longer than ``max_length``, a split without a single usable answer, or
                ``class_counts`` that do not name every label.
        """
        splits = encode_answer_splits(self.prepared, self.encoder, self.config.data, self.config.training.seed)
        self.class_weights = answer_weights(self.prepared, splits["train"], self.config.method, self.config.source)
        return splits

    def readers(self, splits: dict[str, AnswerSplit]) -> dict[str, InstructSplit]:
        """The splits as the trainer reads them: prompts to answer, and what can be learned from.

        Raises:
            UserError: see `refuse_weightless`.
        """
        learned = {name: split.learned(self.class_weights) for name, split in splits.items()}
        refuse_weightless(
            {name: texts.weights[texts.rows[texts.learned]] for name, texts in learned.items()}, self.config.source
        )
        return {
            name: InstructSplit(self.prompts(split.encoded["prompt_ids"]), learned[name])
            for name, split in splits.items()
        }

    def prompts(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """A split's prompts, and behind them those without content that contextual calibration needs."""
        if not self.scores_labels or self.options.calibration != "contextual":
            return list(prompts)
        return [*prompts, *(self.encoder.prompt_ids(text, examples=self.examples) for text in CONTENT_FREE_TEXTS)]

    def predict(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> Sequence[Any]:
        """What a checkpoint is chosen by: label scores, or answers; an instruction's answers are not looked at."""
        if self.prepared.task == "instruction":
            return [""] * len(prompts)
        return self.answer(model, prompts)

    def answer(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> Sequence[Any]:
        """Label scores ``(labels,)`` as `label_scores` gives them, or the written answer, of every prompt."""
        options = self.options
        if self.scores_labels:
            return list(label_scores(model, prompts, self.encoder, options.score_normalisation, self.budget))
        longest = max(options.max_answer_length, self.encoder.room)
        return generate_answers(model, self.encoder, prompts, longest, options.num_beams, self.budget)

    def logits(self, predictions: Sequence[np.ndarray], prior: Sequence[float] = ()) -> np.ndarray:
        """What a temperature divides ``(rows, labels)``, from label scores, those of `prompts` included.

        Args:
            predictions: as `answer` returns them.
            prior: see `Decision.label_prior`; empty for that of these rows.
        """
        scores = np.stack(predictions)
        rows = len(scores) - (len(CONTENT_FREE_TEXTS) if self.options.calibration == "contextual" else 0)
        return label_logits(scores[:rows], self.encoder, self.options.calibration, lambda: scores[rows:], prior)

    def numbers(self, texts: Dataset, outcome: Outcome) -> dict[str, float]:
        """The scores that are one number each, which is what can be logged at every evaluation."""
        return {name: value for name, value in self.scores(texts, outcome).items() if isinstance(value, float)}

    def scores(self, texts: Dataset, outcome: Outcome) -> dict[str, Any]:
        """Scores of a split as plain floats, and intervals as ``[low, high]``."""
        loss = {"loss": outcome.loss}
        if self.scores_labels:
            logits, weights = self.logits(outcome.predictions), self.class_weights.numpy()
            return all_scores(np.asarray(texts["label"]), logits, self.taxonomy, weights) | loss
        scores = loss | self.text_scores(texts, outcome.predictions)
        if self.prepared.taxonomy is not None:
            return scores
        return scores | {"perplexity": perplexity(outcome.total_loss, round(outcome.total_weight))}

    def text_scores(self, texts: Dataset, answers: Sequence[str]) -> dict[str, Any]:
        """Scores of written answers."""
        match self.prepared.task:
            case "sequence":
                return answer_scores(
                    np.asarray(texts["label"]), parsed_labels(answers, self.encoder.words), self.taxonomy
                )
            case "question_answering":
                return squad_scores(answers, texts["answers"])
            case "summarization":
                return rouge_scores(answers, texts["answers"])
            case _:
                return {}

    # Evaluation

    def predictions(self, texts: Dataset, answers: Sequence[Any]) -> Predictions:
        """What was answered, beside what is right.

        Args:
            texts: the prepared rows of a split.
            answers: as `answer` returns them, to `prompts` of these texts.
        """
        if self.prepared.taxonomy is None:
            return FreeAnswers(answers)
        gold, leaves, parents = np.asarray(texts["label"]), self.taxonomy.leaves, self.taxonomy.parents
        if self.scores_labels:
            pairs = texts["text_pair"] if "text_pair" in texts.column_names else None
            found = np.exp(self.logits(answers))
            return SplitPredictions(leaves, texts["text"], gold, found, pairs, parents=parents)
        return WrittenLabels(leaves, gold, parsed_labels(answers, self.encoder.words), answers, parents)

    def fit_decision(self, splits: dict[str, AnswerSplit], outcome: Outcome) -> Decision:
        """Fit on validation how labels follow from their scores; written answers need nothing of the kind."""
        if not self.scores_labels:
            return Decision()
        gold, train_labels = (self.labels_task.gold(splits[name].texts) for name in ("validation", "train"))
        rule = self.labels_task.fit_rule(gold, self.logits(outcome.predictions), train_labels)
        # Test is read by the prior of validation, as the saved model reads single texts.
        is_batch = self.options.calibration == "batch"
        prior = label_prior(np.stack(outcome.predictions)).tolist() if is_batch else ()
        return Decision(rule, label_prior=tuple(prior))

    def evaluate(self, texts: Dataset, outcome: Outcome, decision: Decision) -> SplitResult[Any]:
        """Final predictions of a split, and their scores with intervals.

        Args:
            texts: the prepared rows.
            outcome: its answers, and the loss on those that are right.
            decision: fitted on validation.
        """
        if self.scores_labels:
            logits = self.logits(outcome.predictions, decision.label_prior)
            return self.labels_task.evaluate_logits(texts, logits, decision.rule, outcome.loss)
        predictions = self.predictions(texts, outcome.predictions)
        return SplitResult(predictions, self.scores(texts, outcome) | predictions.intervals())

    def decision_facts(self, decision: Decision) -> dict[str, Any]:
        """See `Task.decision_facts`."""
        return self.labels_task.decision_facts(decision) if self.scores_labels else {}

    # What people read

    def describe(self, splits: Mapping[str, AnswerSplit]) -> str:
        """What is answered, in a few words for the terminal."""
        return f"texts of task {self.prepared.task}"

    def notes(self, splits: Mapping[str, AnswerSplit]) -> list[str]:
        """Lines about what a loss is counted on, and labels without a training text."""
        left_out = sum(len(split.texts) - split.encoded["reason"].count("") for split in splits.values())
        where = " (rejects.csv says why)" if left_out else ""
        return [
            *unread_features(self.prepared),
            shortened_note(splits, self.config.data.max_length),
            f"answers {supervised_tokens(splits)['train']:,} supervised tokens in training; {left_out} texts left out "
            f"of the loss{where}",
            *template_warning(self.encoder.template, self.prepared),
            *(self.labels_task.untrained(splits["train"].texts) if self.prepared.taxonomy is not None else []),
            *self.score_warning(splits["test"].texts),
        ]

    def score_warning(self, texts: Dataset) -> list[str]:
        """A line where the scores cannot tell how good the answers to these texts are."""
        return rouge_warning(texts["answers"]) if self.prepared.task == "summarization" else []

    def prediction_table(self, texts: Dataset, predictions: Predictions) -> tuple[list[str], Iterator[list[str]]]:
        """See `Task.prediction_table`."""
        match predictions:
            case SplitPredictions() | MultiLabelPredictions():
                return self.labels_task.prediction_table(texts, predictions)
            case WrittenLabels():
                levels = [f"level{level}" for level in range(1, self.taxonomy.depth + 1)]
                header = ["id", "platform", "text", "gold", "predicted", *levels, "answer"]
                return header, written_labels(self.taxonomy, texts, predictions)
            case WrittenLists():
                return written_table(texts, predictions, self.taxonomy)
            case FreeAnswers():
                return ["id", "platform", "text", "context", "gold", "answer"], free_answers(texts, predictions)
        raise ValueError(f"no predictions of task {self.prepared.task}: {type(predictions).__name__}")


def written_table(
    texts: Dataset, predictions: WrittenLists, taxonomy: Taxonomy
) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows of ``predictions/<split>.csv`` where lists of labels were written."""
    gold = (label_lists(np.flatnonzero(own).tolist(), taxonomy)[0] for own in predictions.gold)
    answered = list_cells(predictions.predicted, predictions.is_list, predictions.answers, taxonomy)
    rows = (
        [row["id"], row["platform"], row["text"], labels, *cells]
        for row, labels, cells in zip(texts, gold, answered, strict=True)
    )
    return ["id", "platform", "text", "gold", *list_columns(taxonomy), "answer"], rows


def free_answers(texts: Dataset, predictions: FreeAnswers) -> Iterator[list[str]]:
    """One row per text with a free answer; several gold answers stand one per line."""
    for row, answer in zip(texts, predictions.answers, strict=True):
        text, context = row["text"][:SHOWN_CHARACTERS], (row["context"] or "")[:SHOWN_CHARACTERS]
        yield [row["id"], row["platform"], text, context, "\n".join(row["answers"]), answer]


def written_labels(taxonomy: Taxonomy, texts: Dataset, predictions: WrittenLabels) -> Iterator[list[str]]:
    """One row per text whose label was written; without a valid one label and levels are blank."""
    for row, leaf, answer in zip(texts, predictions.predicted.tolist(), predictions.answers, strict=True):
        names = [""] * (1 + taxonomy.depth) if leaf == INVALID else taxonomy.names_of(leaf)
        yield [row["id"], row["platform"], row["text"], taxonomy.leaves[row["label"]], *names, answer]
