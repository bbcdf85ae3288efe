"""Rules for the options of losses and decisions, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opinionlm.config import Config

TREE_LOSSES = ("tree_conditional", "tree_marginal", "tree_soft")


def loss_problems(config: Config) -> list[str]:
    """What is wrong with the options of loss and decision, as far as no data have to be known for it."""
    method, decision, engine = config.method, config.decision, config.training.engine
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    beta = method.effective_number_beta
    require(0 <= beta < 1, "effective_number_beta", beta, "must be at least 0 and below 1")
    require(0 <= method.label_smoothing < 1, "label_smoothing", method.label_smoothing, "must be in [0, 1)")
    require(method.focal_gamma >= 0, "focal_gamma", method.focal_gamma, "must not be negative")
    require(method.ldam_margin >= 0, "ldam_margin", method.ldam_margin, "must not be negative")
    require(method.ldam_scale > 0, "ldam_scale", method.ldam_scale, "must be above 0; 30 is the paper's")
    require(method.tree_beta > 0, "tree_beta", method.tree_beta, "must be positive")
    require(
        method.logit_adjustment_tau >= 0, "logit_adjustment_tau", method.logit_adjustment_tau, "must not be negative"
    )
    start = method.ldam_reweight_from
    require(0 <= start <= 1, "ldam_reweight_from", start, "is a share of training, from 0 to 1")
    if method.loss == "ldam":
        weighted = method.class_weights in ("inverse_frequency", "effective_number")
        require(
            start == 1 or method.class_weights != "none",
            "class_weights",
            "none",
            "leaves nothing to count by from ldam_reweight_from on; set that to 1, or give class_weights",
        )
        require(
            start < 1 or not weighted,
            "class_weights",
            method.class_weights,
            "never count with ldam_reweight_from: 1; set class_weights: none, or an earlier start",
        )
    if engine in ("sklearn", "tfidf"):
        require(
            method.class_weights != "effective_number",
            "class_weights",
            method.class_weights,
            f"is nothing that engine: {engine} knows; use inverse_frequency",
        )
    coverage = decision.label_set_coverage
    require(0.5 <= coverage <= 0.99, "label_set_coverage", coverage, "must be from 0.5 to 0.99")
    return problems
