"""How answers follow from logits, kept in the configuration of a saved classifier or beside a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.label_sets import LabelSets
from opinionlm.models.classifier import OpinionClassifierConfig


def keep_rule(config: OpinionClassifierConfig, rule: AnswerRule) -> None:
    """Write a rule into a model's configuration."""
    config.temperature, config.decision = rule.temperature, rule.kind
    config.decision_offsets = list(rule.offsets) or None
    if rule.label_sets is not None:
        config.label_set_score = rule.label_sets.score
        config.label_set_thresholds = list(rule.label_sets.thresholds)


def saved_rule(config: OpinionClassifierConfig) -> AnswerRule:
    """The rule of a saved model; of one without any, the likeliest leaf with its plain probability."""
    sets = None
    if config.label_set_thresholds is not None:
        sets = LabelSets(config.label_set_score, tuple(config.label_set_thresholds))
    return AnswerRule(config.temperature, config.decision, tuple(config.decision_offsets or ()), label_sets=sets)


def rule_values(rule: AnswerRule) -> dict[str, Any]:
    """A rule as plain values for JSON; `rule_from` reads them."""
    values: dict[str, Any] = {"temperature": rule.temperature, "decision": rule.kind, "offsets": list(rule.offsets)}
    if rule.label_sets is not None:
        values |= {"label_set_score": rule.label_sets.score, "label_set_thresholds": list(rule.label_sets.thresholds)}
    return values


def rule_from(values: Mapping[str, Any]) -> AnswerRule:
    """The rule that `rule_values` wrote down.

    Raises:
        KeyError, TypeError: it is damaged.
    """
    sets = None
    if "label_set_score" in values:
        sets = LabelSets(values["label_set_score"], tuple(values["label_set_thresholds"]))
    return AnswerRule(values["temperature"], values["decision"], tuple(values["offsets"]), label_sets=sets)
