"""How answers follow from logits, kept in the configuration of a saved classifier."""

from __future__ import annotations

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
