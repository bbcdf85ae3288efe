"""Rules for the options of losses and decisions, checked before a model or data are loaded."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from opinionlm.options import DecisionConfig, MethodConfig

if TYPE_CHECKING:
    from opinionlm.config import Config

# The losses that read how often each class occurs, beside those that are given class weights.
COUNTING_LOSSES = ("logit_adjusted", "ldam", "tree_conditional")
TREE_LOSSES = ("tree_conditional", "tree_marginal", "tree_soft")


def loss_problems(config: Config) -> list[str]:
    """What is wrong with the options of loss and decision, as far as no data have to be known for it."""
    method, decision, engine = config.method, config.decision, config.training.engine
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    problems += unread_parameters(method)
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
        for name, plain in (("loss", "cross_entropy"), ("label_smoothing", 0.0)):
            value = getattr(method, name)
            require(value == plain, name, value, f"is not what engine: {engine} minimises; leave it out")
        require(
            method.class_weights != "effective_number",
            "class_weights",
            method.class_weights,
            f"is nothing that engine: {engine} knows; use inverse_frequency",
        )
    coverage = decision.label_set_coverage
    require(0.5 <= coverage <= 0.99, "label_set_coverage", coverage, "must be from 0.5 to 0.99")
    if config.data.task in ("token", "similarity"):
        problems += sequence_only(method, decision, config.data.task)
    if config.script == "train_instruct" and config.instruct.decode == "generate":
        problems += [
            f"{name}: {value!r} is for label scores, of which decode: generate has none; leave it out, or set "
            "decode: score"
            for name, value in changed_decisions(decision)
        ]
    return problems


def changed_decisions(decision: DecisionConfig) -> list[tuple[str, object]]:
    """Names and values of the options of decision that are not at their default."""
    default = DecisionConfig()
    names = [item.name for item in fields(DecisionConfig)]
    return [(name, getattr(decision, name)) for name in names if getattr(decision, name) != getattr(default, name)]


def unread_parameters(method: MethodConfig) -> list[str]:
    """Parameters that differ from their default although the chosen loss does not read them."""
    read_by = {
        "label_smoothing": ("cross_entropy",),
        "logit_adjustment_tau": ("logit_adjusted", "tree_conditional"),
        "focal_gamma": ("focal",),
        "ldam_margin": ("ldam",),
        "ldam_scale": ("ldam",),
        "ldam_reweight_from": ("ldam",),
        "tree_beta": ("tree_soft",),
    }
    default = MethodConfig()
    problems = [
        f"{name}: {getattr(method, name)!r} is not read by loss: {method.loss}; leave it out, or use {losses[0]}"
        for name, losses in read_by.items()
        if method.loss not in losses and getattr(method, name) != getattr(default, name)
    ]
    beta = method.effective_number_beta
    if method.class_weights != "effective_number" and beta != default.effective_number_beta:
        problems.append(
            f"effective_number_beta: {beta!r} is not read by class_weights: {method.class_weights}; leave it out, or "
            "use effective_number"
        )
    return problems


def sequence_only(method: MethodConfig, decision: DecisionConfig, task: str) -> list[str]:
    """Options that only labels of texts have, set for another task."""
    default = MethodConfig()
    names = ("loss", "label_smoothing")
    values = [(name, getattr(method, name)) for name in names if getattr(method, name) != getattr(default, name)]
    return [
        f"{name}: {value!r} is for labels of texts, and this is task {task}; leave it out"
        for name, value in [*values, *changed_decisions(decision)]
    ]
