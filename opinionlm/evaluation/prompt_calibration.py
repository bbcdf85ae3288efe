"""Take out of label scores what a language model prefers whatever the text says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from opinionlm.evaluation.metrics import softmax

# Texts that say nothing: Zhao et al. 2021, "Calibrate Before Use" (section 5).
CONTENT_FREE_TEXTS = ("N/A", "", "[MASK]")
CALIBRATIONS = ("none", "contextual", "batch")


def label_prior(scores: np.ndarray) -> np.ndarray:
    """The labels' log prior ``(labels,)``: log of the mean probability over texts, from scores ``(texts, labels)``."""
    return np.log(softmax(scores).mean(axis=0))


def calibrated(
    scores: np.ndarray,
    calibration: str,
    content_free_scores: Callable[[], np.ndarray],
    batch_prior: Sequence[float] = (),
) -> np.ndarray:
    """Probabilities over the labels ``(texts, labels)``, divided by a prior and normalised again.

    Dividing probabilities is the diagonal matrix with zero bias of Zhao et al. 2021, whose prior (``contextual``) is
    what texts that say nothing get. That of Zhou et al. 2023 (``batch``, equation 3) is what the evaluated texts get:
    it needs no gold labels, but is right only where the classes are about equally frequent; in an imbalanced set the
    frequent class is held against itself. A text by itself would be held against itself altogether and say nothing,
    so that whoever answers single texts gives the prior of others.

    Args:
        scores: log-probabilities of the labels ``(texts, labels)``, up to a constant per text.
        calibration: one of `CALIBRATIONS`.
        content_free_scores: those of prompts that hold `CONTENT_FREE_TEXTS`, asked for where they are needed.
        batch_prior: `label_prior` of other texts than these, for ``batch``; empty for that of these.
    """
    match calibration:
        case "batch":
            return softmax(scores - (np.asarray(batch_prior) if len(batch_prior) else label_prior(scores)))
        case "contextual":
            return softmax(scores - label_prior(content_free_scores()))
        case _:
            return softmax(scores)
