"""Tasks that a head on a backbone solves: how texts are encoded, learned and evaluated, as methods of one object."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.adaptation.build import load_checked_backbone
from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.config.unread import choice
from opinionlm.data.encoding.columns import longest_first
from opinionlm.data.encoding.features import Feature
from opinionlm.data.encoding.fingerprints import tokenizer_digest
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError
from opinionlm.models.backbones import read_model_config
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.native_heads import with_native_pooling
from opinionlm.tasks.base import Decision, P, SplitResult, Task
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.losses.imbalance import WeightKind
from opinionlm.training.splits import Split, refuse_weightless, split_texts

ANNOTATORS = "carry the judgement of its annotators, its platforms, languages and time."
RARE = "Rare labels rest on few examples: look at their own F1 and at the intervals above before trusting them."


@dataclass(frozen=True)
class CardText:
    """The parts of a model card that depend on the task.

    Attributes:
        pipeline: the pipeline of transformers that serves the model, as the hub names it.
        tag: a hub tag.
        purpose: what the model was fine-tuned to do.
        usage: Python lines that use it.
        options: of predict.py, behind ``--model``.
        outputs_title: heading of what it answers with.
        outputs: a Markdown list of that.
        labels: names whose F1 is listed.
        limits: what to be careful about.
    """

    pipeline: str
    tag: str
    purpose: str
    usage: str
    options: str
    outputs_title: str
    outputs: str
    labels: Sequence[str]
    limits: str


class HeadTask(Task[P]):
    """A task of `train_classifier.py`, which a head on a backbone solves; `opinionlm.tasks.task_for` picks it."""

    # What a model tells apart, for messages.
    item: ClassVar[str]

    # Data

    @abstractmethod
    def encode_texts(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase, identity: str) -> Dataset:
        """Token ids and labels of one split.

        Args:
            texts: the prepared rows.
            tokenizer: of the model.
            identity: its `tokenizer_digest`.
        """

    @abstractmethod
    def labels(self, split: Split) -> np.ndarray:
        """The label of every labelled item of a split, ``(items,)``."""

    def training_texts(self) -> Dataset:
        """The rows that training reads."""
        return split_texts(self.prepared, "train", self.config.data, self.config.training.seed)

    def soft_targets(self, texts: Dataset) -> np.ndarray | None:
        """Targets of training texts ``(rows, outputs)`` that stand for their labels; None where labels are all."""
        return None

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Split]:
        """The splits, cut to the sizes asked for, as token ids.

        Training texts are read in an order of their `BatchPlan`; validation and test longest first.

        Raises:
            UserError: nothing to tell apart among the training texts: a single class, tag or score.
        """
        identity, seed = tokenizer_digest(tokenizer), self.config.training.seed
        splits = {}
        for name in SPLITS:
            is_train = name == "train"
            texts = self.training_texts() if is_train else split_texts(self.prepared, name, self.config.data, seed)
            encoded = self.encode_texts(texts, tokenizer, identity)
            order = np.arange(len(encoded)) if is_train else longest_first(encoded)
            splits[name] = Split(texts, encoded, order, self.soft_targets(texts) if is_train else None)
        if len(np.unique(self.labels(splits["train"]))) < 2:
            raise UserError(
                f"{self.config.data.dataset}: the training split holds a single {self.item}; a model needs at least "
                "two to tell apart (check the columns of the dataset YAML, or raise max_train_samples)"
            )
        return splits

    # Model and loss

    # Whether the head reads one vector per text, or every token.
    pools: ClassVar[bool] = True

    def model_options(self, model_config: PreTrainedConfig) -> ModelConfig:
        """How the backbone is loaded and what head it gets; of ``head: native`` the pooling is the family's own.

        Raises:
            UserError: the family has no class of its own for such labels.
        """
        return with_native_pooling(self.config.model, model_config, self.pools)

    @abstractmethod
    def add_head(self, backbone: PreTrainedModel, head: HeadConfig) -> OpinionClassifier:
        """The model with a new head, whose weights come from torch's global generator: seed it first.

        Args:
            backbone: with its weights.
            head: from `model_options`.
        """

    def build_model(self, vocabulary: int, total_steps: int | None = None, task_tokens: int = 0) -> OpinionClassifier:
        """Load the backbone, put a new head on it and freeze what the adaptation leaves alone.

        Args:
            vocabulary: entries of the tokenizer, which the embedding must have rows for.
            total_steps: optimizer steps of the run; only AdaLoRA needs them.
            task_tokens: embedding rows to add.

        Raises:
            UserError: the model cannot be loaded, has fewer blocks than are to train, or belongs to another tokenizer.
        """
        method, max_length = self.config.method, self.config.data.max_length
        model_config = read_model_config(self.config.model)
        options = self.model_options(model_config)
        model = self.add_head(load_checked_backbone(options, method, max_length, model_config, vocabulary), options)
        if task_tokens:
            model.add_task_tokens(task_tokens)
        apply_adaptation(model, self.config.method, total_steps)
        return model

    def first_bias(self, train: Split) -> torch.Tensor | None:
        """What the bias of the head's last layer starts from, ``(outputs,)``; None leaves it as drawn."""
        return None

    @property
    def rdrop_alpha(self) -> float:
        """Weight of the divergence between two passes (Liang et al. 2021), which are distributions over classes."""
        return 0.0

    @abstractmethod
    def loss(self, train: Split) -> ExampleLoss:
        """The loss that the config asks for, with its class weights.

        Raises:
            UserError: it does not fit the labels.
        """

    def checked_loss(self, splits: Mapping[str, Split]) -> ExampleLoss:
        """`loss`, by which validation and test have a mean as well.

        Raises:
            UserError: see `loss` and `refuse_weightless`.
        """
        loss = self.loss(splits["train"])
        last = loss.for_evaluation()
        evaluated = {name: torch.tensor(self.labels(splits[name])) for name in SPLITS if name != "train"}
        refuse_weightless(
            {name: last.example_weights(labels).numpy() for name, labels in evaluated.items()}, self.config.source
        )
        return loss

    # Evaluation

    @property
    def summarise_outputs(self) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
        """What is kept of a batch's logits (``preprocess_logits_for_metrics``); None keeps them."""
        return None

    @abstractmethod
    def score(self, split: Split, outputs: np.ndarray, loss: ExampleLoss) -> SplitResult[P]:
        """Predictions and scores as checkpoints are compared by: without intervals, nothing fitted on validation.

        Args:
            split: the split.
            outputs: logits, or what `summarise_outputs` makes of them, rows in the reading order of the split.
            loss: of the training; the score ``loss`` is its exact mean over the split.
        """

    def validation_scores(self, split: Split, loss: ExampleLoss) -> Callable[[EvalPrediction], dict[str, float]]:
        """``compute_metrics`` for the engines: every score of the validation split."""
        return lambda prediction: self.score(split, prediction.predictions, loss).scores

    def primary_score(self, gold: np.ndarray, logits: np.ndarray) -> float:
        """``primary_metric`` of logits ``(rows, outputs)``, which linear models choose their strength by.

        Raises:
            ValueError: a task without linear models.
        """
        raise ValueError(f"no linear model is made for task {self.prepared.task}")

    def fit_decision(self, splits: dict[str, Split], outputs: np.ndarray) -> Decision:
        """Fit on validation how answers follow from what the model puts out.

        Args:
            splits: their training and validation texts are read.
            outputs: of the model for validation, rows in its reading order.
        """
        return Decision()

    def evaluate(self, split: Split, outputs: np.ndarray, loss: ExampleLoss, decision: Decision) -> SplitResult[P]:
        """Final predictions of a split, and their scores with intervals; arguments as in `score`."""
        result = self.score(split, outputs, loss)
        return SplitResult(result.predictions, result.scores | result.predictions.intervals())

    # What people read

    def copies(self, split: Split) -> dict[str, int]:
        """Perturbed copies among the texts, by label; empty without ``augment_rare``."""
        return {}

    @property
    def reads_pairs(self) -> bool:
        """Whether an input is a pair of texts."""
        return "text_pair" in self.prepared.dataset["train"].column_names

    @property
    def features(self) -> Sequence[Feature]:
        """What the model reads in front of every text."""
        return ()

    def in_words(self, test: Mapping[str, Any]) -> str:
        """What the test scores mean, in plain sentences between blank lines; empty where none is needed."""
        return ""

    @abstractmethod
    def card_text(self, folder: Path) -> CardText:
        """The task's parts of the model card; the model lies in the folder."""


class ClassTask(HeadTask[P]):
    """A task whose items belong to classes of unequal frequency."""

    @property
    def rdrop_alpha(self) -> float:
        """See `HeadTask.rdrop_alpha`."""
        return self.config.robust.rdrop_alpha

    @property
    def weight_kind(self) -> WeightKind:
        """How classes are weighed, with ``class_weights: auto`` decided."""
        return choice(self.config, "class_weights", {"task": self.prepared.task})

    def class_counts(self, labels: np.ndarray, names: Sequence[str]) -> list[int]:
        """Training examples per class: those of the config, or else those that are there.

        Args:
            labels: of the training examples, ids ``(rows,)`` or zeros and ones ``(rows, classes)``.
            names: of the classes.

        Raises:
            UserError: ``class_counts`` does not name every class.
        """
        given = self.config.method.class_counts
        if given is None:
            return count_classes(labels, len(names)).tolist()
        if len(given) != len(names):
            raise UserError(
                f"{self.config.source}: class_counts: {len(given)} numbers for {len(names)} labels; give one per "
                f"label in the order {', '.join(names)}"
            )
        return given


def count_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Examples per class ``(classes,)``, from ids ``(rows,)`` or zeros and ones ``(rows, classes)``."""
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    return counts.astype(int)
