"""A saved classifier, tagger or scorer made ready to leave: adapters merged, its decision rule in its last layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from opinionlm.adaptation.merging import MERGEABLE, merge_adapters, with_plain_weights
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.multi_label_rules import MultiLabelRule, Rule, log_odds
from opinionlm.inference.arguments import best_of
from opinionlm.inference.generative import is_generative
from opinionlm.inference.loading import check_model_folder, load_predictor, require_weights
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.predictors import ClassPredictor, Predictor, TagPredictor
from opinionlm.inference.saved_decision import ENSEMBLE
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.utils.command_line import command

# Texts that every export is tried on: of a word, of several sentences, beyond most limits, in other scripts.
PROBES = (
    "Buy now!",
    "The price of this coin fell again today, and nobody knows why.",
    "I love it :) https://example.org/a?b=1 #moon @someone 100%",
    "Это хорошая новость. 价格上涨了。 🚀🚀",
    "It is good. It is bad. " * 40,
)


@dataclass(frozen=True)
class Source:
    """A model that is to be exported.

    Attributes:
        folder: where it was saved.
        predictor: loaded in float32 on the CPU, as predict.py reads and answers.
    """

    folder: Path
    predictor: Predictor

    @property
    def is_tagger(self) -> bool:
        """Whether it labels words."""
        return isinstance(self.predictor, TagPredictor)

    @property
    def rule(self) -> Rule:
        """How labels follow from its logits; the plain one where it gives no labels of texts."""
        return self.predictor.labels.rule if isinstance(self.predictor, ClassPredictor) else AnswerRule()

    @property
    def shift(self) -> np.ndarray:
        """What is added to the divided logits ``(outputs,)``: the largest is then the decided label.

        Of a model that gives any number of labels, those above zero are, whose sigmoid is at least a half.
        """
        rule = self.rule
        parts = [np.asarray(rule.biases)] if rule.biases else []
        if isinstance(rule, MultiLabelRule):
            parts += [-log_odds(np.asarray(rule.thresholds))] if rule.thresholds else []
        elif rule.offsets:
            parts.append(np.asarray(rule.offsets))
        return sum(parts, np.zeros(self.predictor.model.config.num_labels))

    @property
    def tolerance(self) -> float:
        """The largest difference of logits that counts as none, as a share of the largest logit."""
        return 1e-5 if self.predictor.model.config.adapter is None else 1e-4

    def probes(self) -> list[Any]:
        """Items that the export is tried on: texts, or pairs of them."""
        pairs = self.predictor.reads == "pair"
        return list(zip(PROBES, reversed(PROBES), strict=True)) if pairs else list(PROBES)

    def expected(self) -> list[np.ndarray]:
        """What an export has to answer for every probe: ``(outputs,)``, of a tagger ``(tokens, tags)``.

        The logits divided by the temperature, with `shift` added.
        """
        answers = []
        for item in self.probes():
            rows = self.encoded(item)
            logits = self.predictor.logits(rows)[0].astype(np.float64)
            answers.append(logits / self.rule.temperature + self.shift)
        return answers

    def encoded(self, item: Any) -> list[dict[str, Any]]:
        """One item as predict.py encodes it; a tagger's words are encoded as the text that a pipeline is given."""
        if not self.is_tagger:
            return self.predictor.encode([item])
        cut = {"truncation": True, "max_length": self.predictor.max_length}
        return [{"input_ids": self.predictor.tokenizer(item, **cut)["input_ids"]}]


def load_source(folder: Path) -> Source:
    """Load what is to be exported, in float32.

    Args:
        folder: of a run, or of a saved model.

    Raises:
        UserError: it holds no such model, or one that only predict.py can answer with.
    """
    folder = best_of(folder)
    if (folder / ENSEMBLE).is_file():
        raise UserError(f"export: {folder} is an ensemble, which no single model stands for; export its members")
    check_model_folder(folder)
    if is_generative(folder):
        raise UserError(
            f"export: {folder} is a language model that writes its answers, and loads where opinionlm is absent as it "
            f"is; {command('predict')} --merge merges its adapter"
        )
    require_weights(folder, "export the model that the graph was made of")
    # The weights as they were trained, whatever precision predict.py computes in.
    return Source(folder, load_predictor(folder, PredictionOptions("cpu", "float32")))


def require_folding(source: Source, output: str) -> None:
    """Refuse what no logits of a model alone can answer.

    Args:
        source: the model.
        output: the format, for the message.

    Raises:
        UserError: with the option that a model is to be trained with instead.
    """
    config = source.predictor.model.config
    if config.word_share:
        raise UserError(
            f"export: TF-IDF has a share of {config.word_share:g} in this model's answers, which {output} cannot "
            "hold; train with blend_words: false, or use --format onnx"
        )
    if isinstance(source.rule, AnswerRule) and source.rule.kind == "expected_cost":
        raise UserError(
            f"export: this model decides by expected_cost, which no bias in {output} stands for; train with decision: "
            "thresholds or argmax, or use --format onnx"
        )
    if config.task_tokens:
        raise UserError(
            f"export: the model's {config.task_tokens:,} task tokens need a tokenizer of opinionlm; train with "
            "task_tokens: off"
        )


def merged_model(source: Source) -> OpinionClassifier:
    """The model in float32, with its adapters merged where they can be and without 4-bit weights.

    Args:
        source: its model is used up.
    """
    model = source.predictor.model
    adapter = model.config.adapter
    merges = adapter is not None and adapter["method"] in MERGEABLE
    model = merge_adapters(model) if merges else with_plain_weights(model)
    return model.float().eval()


@torch.no_grad()
def ready_model(source: Source, may_add_bias: bool) -> OpinionClassifier:
    """The model in float32 with adapters merged and its decision rule folded into the last layer.

    Args:
        source: its model is used up.
        may_add_bias: give the last layer a bias where it has none and the rule needs one.

    Raises:
        UserError: it needs one and must not have it.
    """
    model, shift = merged_model(source), source.shift
    output = model.head.output
    if output.bias is None and np.any(shift):
        if not may_add_bias:
            kind, remedy = "label_thresholds", ""
            if isinstance(source.rule, AnswerRule):
                kind, remedy = source.rule.kind, "train with decision: argmax, or "
            raise UserError(
                f"export: this model decides by {kind}, whose offsets need a bias, and the last layer of the family's "
                f"own class has none; {remedy}use --format remote_code"
            )
        output.bias = nn.Parameter(torch.zeros(output.out_features))
    # In float64, so that folding rounds once.
    output.weight.copy_(output.weight.double() / source.rule.temperature)
    if output.bias is not None:
        output.bias.copy_(output.bias.double() / source.rule.temperature + torch.from_numpy(shift))
    return model
