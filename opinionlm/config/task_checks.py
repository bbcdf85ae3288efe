"""Rules for the options of losses and decisions, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opinionlm.config.config import Config

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


def robust_problems(config: Config) -> list[str]:
    """What is wrong with these options, as far as no data have to be known for it."""
    robust = config.robust
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    if robust.ema_decay is not None:
        decay = robust.ema_decay
        require(0 < decay < 1, "ema_decay", decay, "must be above 0 and below 1, or left out")
        require(
            config.method.adaptation != "adalora",
            "ema_decay",
            decay,
            "would bring back the ranks that adaptation: adalora prunes; leave it out, or use lora",
        )
    alpha = robust.rdrop_alpha
    require(alpha >= 0, "rdrop_alpha", alpha, "must not be negative")
    least = robust.oversample_to
    require(least is None or least >= 1, "oversample_to", least, "must be at least 1, or null for no oversampling")
    share = robust.augment_rare
    require(0 <= share <= 1, "augment_rare", share, "must be from 0 (none) to 1 (up to the median count)")
    weight = robust.soft_label_share
    if robust.soft_labels is not None:
        method = config.method
        require(0 < weight <= 1, "soft_label_share", weight, "must be above 0 and at most 1")
        require(
            method.loss == "cross_entropy" and method.label_smoothing == 0,
            "soft_labels",
            robust.soft_labels,
            "are targets of plain cross entropy; leave out loss and label_smoothing",
        )
        require(
            share <= 0, "augment_rare", share, "makes copies that soft_labels say nothing of; leave one of the two out"
        )
    return problems
