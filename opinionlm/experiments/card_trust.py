"""The part of a model card that says how labels are decided and how far they can be believed."""

from __future__ import annotations

from typing import Any

from opinionlm.config import Config
from opinionlm.evaluation.decisions import AnswerRule


def trust_section(config: Config, rule: AnswerRule, test: dict[str, Any]) -> str:
    """Markdown with a blank line behind.

    Args:
        config: options of the run.
        rule: fitted on validation.
        test: scores of the test split, with those of its platforms.
    """
    score, coverage = config.decision.label_set_score, config.decision.label_set_coverage
    strength = "" if rule.tau is None else f", τ {rule.tau:g}"
    lines = [
        "## Trust",
        "",
        "What is fitted here was fitted on validation; the numbers are of test.",
        "",
        "| what | value |",
        "| --- | --- |",
        f"| decision | {rule.kind}{strength} |",
        f"| temperature | {rule.temperature:.3f} |",
        f"| largest bias of a class | {max(rule.biases, key=abs, default=0.0):+.3f} nats |",
        f"| calibration error (ECE) | {test['ece_uncalibrated']:.4f} before it, {test['ece']:.4f} after it; "
        f"{test['ece_if_calibrated']:.4f} is what chance gives perfect probabilities |",
        f"| label sets ({score}) for {coverage:.0%} | right in {test['label_set_coverage']:.1%}, "
        f"{test['label_set_size']:.2f} labels on average |",
        "",
    ]
    if test["platforms"]:
        lines += ["| platform | texts | macro-F1 | accuracy | hierarchical F1 |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {name} | {own['rows']:,.0f} | {own['macro_f1']:.4f} | {own['accuracy']:.4f} | "
            f"{own['hierarchical_f1']:.4f} |"
            for name, own in test["platforms"].items()
        ]
        lines.append("")
    return "\n".join(lines) + "\n"
