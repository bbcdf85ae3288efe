"""Rules for the options that make training steadier, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opinionlm.options import RobustConfig

if TYPE_CHECKING:
    from opinionlm.config import Config

SOFT_LABELS_ELSEWHERE = "soft_labels: are for labels of texts, and this is task {task}; leave them out"


def robust_problems(config: Config) -> list[str]:
    """What is wrong with these options, as far as no data have to be known for it."""
    robust, engine = config.robust, config.training.engine
    problems: list[str] = []

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    if robust.ema_decay is not None:
        decay = robust.ema_decay
        require(0 < decay < 1, "ema_decay", decay, "must be above 0 and below 1, or left out")
        require(
            engine in ("trainer", "loop"),
            "ema_decay",
            decay,
            f"averages the steps of an optimizer, and engine: {engine} makes none; leave it out",
        )
        require(
            config.method.adaptation != "adalora",
            "ema_decay",
            decay,
            "would bring back the ranks that adaptation: adalora prunes; leave it out, or use lora",
        )
    alpha = robust.rdrop_alpha
    require(alpha >= 0, "rdrop_alpha", alpha, "must not be negative")
    require(
        alpha <= 0 or engine in ("trainer", "loop"),
        "rdrop_alpha",
        alpha,
        f"needs dropout in training, and engine: {engine} has none; leave it out",
    )
    share = robust.augment_rare
    require(0 <= share <= 1, "augment_rare", share, "must be from 0 (none) to 1 (up to the median count)")
    require(
        share <= 0 or engine != "tfidf",
        "augment_rare",
        share,
        "is for texts that a model reads, and engine: tfidf counts words; leave it out",
    )
    require(
        not robust.blend_words or engine != "tfidf",
        "blend_words",
        True,
        "puts words beside a model, and engine: tfidf has nothing but words; leave it out",
    )
    weight = robust.soft_label_share
    if robust.soft_labels is None:
        is_default = weight == RobustConfig().soft_label_share
        require(is_default, "soft_label_share", weight, "is not read without soft_labels; leave it out")
    else:
        method = config.method
        require(0 < weight <= 1, "soft_label_share", weight, "must be above 0 and at most 1")
        require(
            method.loss == "cross_entropy" and method.label_smoothing == 0,
            "soft_labels",
            robust.soft_labels,
            "are targets of plain cross entropy; leave out loss and label_smoothing",
        )
        require(
            engine in ("trainer", "loop"),
            "soft_labels",
            robust.soft_labels,
            f"are targets of gradient steps, and engine: {engine} makes none; leave them out",
        )
        require(
            share <= 0, "augment_rare", share, "makes copies that soft_labels say nothing of; leave one of the two out"
        )
    return problems + unfit_for_task(config, config.data.task)


def unfit_for_task(config: Config, task: str) -> list[str]:
    """Options that a task has no use for; ``auto`` is decided by the data, which are read later."""
    robust = config.robust
    problems = []
    if config.data.platform_prefix and task not in ("auto", "sequence"):
        problems.append(f"platform_prefix: True is for labels of texts, and this is task {task}; leave it out")
    if robust.augment_rare > 0 and task not in ("auto", "sequence"):
        problems.append(
            f"augment_rare: {robust.augment_rare!r} copies texts by their label, and this is task {task}; leave it out"
        )
    if robust.blend_words and task not in ("auto", "sequence"):
        problems.append(f"blend_words: True is for labels of texts, and this is task {task}; leave it out")
    if robust.soft_labels is not None and task not in ("auto", "sequence"):
        problems.append(SOFT_LABELS_ELSEWHERE.format(task=task))
    if robust.rdrop_alpha > 0 and task == "similarity":
        problems.append(
            f"rdrop_alpha: {robust.rdrop_alpha!r} compares probabilities of classes, and task similarity has scores; "
            "leave it out"
        )
    return problems
