"""Rules for the options that make training steadier, checked before a model or data are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opinionlm.config import Config


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
