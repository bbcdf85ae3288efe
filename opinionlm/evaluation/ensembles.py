"""Several models as one: their probabilities averaged (Lakshminarayanan et al. 2017, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Prediction files keep six digits: what they show as zero is on average this much.
SMALLEST = 2.5e-7


def averaged_logits(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithms of the members' mean probabilities, float64 ``(rows, leaves)``: what an ensemble has for logits.

    Each member's probabilities are calibrated already. Their mean is less sure of itself than they are, so a decision
    rule for it, with a temperature of its own, is fitted anew (Rahaman and Thiery 2021: pool, then calibrate). What
    the members' losses preferred is no longer in it: `mean_offsets`.

    Args:
        probabilities: ``(rows, leaves)`` of every member.
    """
    return np.log(np.maximum(np.mean(np.stack(probabilities), axis=0, dtype=np.float64), SMALLEST))


def averaged_log_odds(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Log-odds of the members' mean probabilities where every label is decided by itself, float64 ``(rows, leaves)``.

    Args:
        probabilities: ``(rows, leaves)`` of every member, calibrated.
    """
    mean = np.mean(np.stack(probabilities), axis=0, dtype=np.float64).clip(SMALLEST, 1 - SMALLEST)
    return np.log(mean) - np.log1p(-mean)


def mean_offsets(biases: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """What the mean of calibrated probabilities needs to prefer rare leaves as its members do, ``(leaves,)`` in nats.

    A member decides by its logits before its calibration added biases, so their mean is taken off again.

    Args:
        biases: of every member's calibration; an empty one counts as zeros. Empty where no member has any.
    """
    leaves = max(map(len, biases))
    return tuple(-np.mean([list(own) or [0.0] * leaves for own in biases], axis=0)) if leaves else ()
