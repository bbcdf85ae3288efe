"""How answers follow from logits, kept with a saved classifier an ensemble of them, or beside a language model."""

from __future__ import annotations

from typing import Any

from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.label_sets import LabelSets
from opinionlm.models.classifier import OpinionClassifierConfig


def keep_rule(config: OpinionClassifierConfig, rule: AnswerRule) -> None:
    """Write a rule into a model's configuration."""
    config.update(rule_facts(rule))


def saved_rule(config: OpinionClassifierConfig) -> AnswerRule:
    """The rule of a saved model; of one without any, the likeliest leaf with its plain probability."""
    return rule_from({name: getattr(config, name) for name in rule_facts(AnswerRule())})


def rule_facts(rule: AnswerRule) -> dict[str, Any]:
    """A rule as JSON values, by the names that `OpinionClassifierConfig` has for them."""
    sets = rule.label_sets
    return {
        "temperature": rule.temperature,
        "calibration_biases": list(rule.biases) or None,
        "decision": rule.kind,
        "decision_offsets": list(rule.offsets) or None,
        "label_set_score": None if sets is None else sets.score,
        "label_set_thresholds": None if sets is None else list(sets.thresholds),
    }


def rule_from(facts: dict[str, Any]) -> AnswerRule:
    """The rule that `rule_facts` described.

    Raises:
        KeyError, TypeError: the description is damaged.
    """
    sets = None
    if facts["label_set_thresholds"] is not None:
        sets = LabelSets(facts["label_set_score"], tuple(facts["label_set_thresholds"]))
    offsets = tuple(facts["decision_offsets"] or ())
    # Models saved before there were biases do without.
    biases = tuple(facts.get("calibration_biases") or ())
    return AnswerRule(facts["temperature"], facts["decision"], offsets, label_sets=sets, biases=biases)
