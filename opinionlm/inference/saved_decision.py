"""How answers follow from logits, kept with a saved classifier, an ensemble of them, or beside a language model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opinionlm.errors import UserError
from opinionlm.evaluation.conformal import LabelSets
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.multi_label_rules import MultiLabelRule, Rule
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.utils.files import write_json
from opinionlm.utils.typed_values import build


def keep_rule(config: OpinionClassifierConfig, rule: Rule) -> None:
    """Write a rule into a model's configuration."""
    config.update(rule_facts(rule))


def saved_rule(config: OpinionClassifierConfig) -> Rule:
    """The rule of a saved model; of one without any, what is likeliest by its plain probability."""
    plain: Rule = MultiLabelRule() if config.problem_type == "multi_label_classification" else AnswerRule()
    return rule_from({name: getattr(config, name) for name in rule_facts(plain)}, "--model: config.json")


def rule_facts(rule: Rule) -> dict[str, Any]:
    """A rule as JSON values, by the names that `OpinionClassifierConfig` has for them."""
    sets = rule.label_sets
    facts = {
        "temperature": rule.temperature,
        "calibration_biases": list(rule.biases) or None,
        "label_set_score": None if sets is None else sets.score,
        "label_set_thresholds": None if sets is None else list(sets.thresholds),
    }
    if isinstance(rule, MultiLabelRule):
        return facts | {"label_thresholds": list(rule.thresholds) or None}
    return facts | {"decision": rule.kind, "decision_offsets": list(rule.offsets) or None}


def rule_from(facts: dict[str, Any], place: str) -> Rule:
    """The rule that `rule_facts` described.

    Args:
        facts: what it gave.
        place: that they were read from, for errors.

    Raises:
        KeyError, TypeError: a value is missing.
        UserError: a value is of another kind than its own.
    """
    sets = None
    if facts["label_set_thresholds"] is not None:
        kept = {"score": facts["label_set_score"], "thresholds": facts["label_set_thresholds"]}
        sets = build(LabelSets, kept, f"{place}: label_set")
    # Models saved before there were biases do without.
    parts = {"temperature": facts["temperature"], "biases": facts.get("calibration_biases") or []}
    if "label_thresholds" in facts:
        thresholds = {"thresholds": facts["label_thresholds"] or []}
        return replace(build(MultiLabelRule, parts | thresholds, f"{place}: rule"), label_sets=sets)
    decision = {"kind": facts["decision"], "offsets": facts["decision_offsets"] or []}
    return replace(build(AnswerRule, parts | decision, f"{place}: rule"), label_sets=sets)


ENSEMBLE = "ensemble.json"


def keep_members(folder: Path, members: Sequence[Path], rule: Rule) -> None:
    """Write where the members lie, as seen from the folder, and the rule that was fitted to their average."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [os.path.relpath(member, folder) for member in members]
    write_json(folder / ENSEMBLE, {"members": paths, "rule": rule_facts(rule)})


def kept_members(folder: Path) -> tuple[list[Path], Rule]:
    """Read them back.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / ENSEMBLE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return [(folder / name).resolve() for name in facts["members"]], rule_from(facts["rule"], f"--model: {path}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--model: {path} cannot be read ({error}); run the seeds again") from error
