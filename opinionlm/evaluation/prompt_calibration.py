"""Take out of label scores what a language model prefers whatever the text says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opinionlm.evaluation.metrics import softmax

# Texts that say nothing: Zhao et al. 2021, "Calibrate Before Use" (section 5).
CONTENT_FREE_TEXTS = ("N/A", "", "[MASK]")
CALIBRATIONS = ("none", "contextual", "batch")


def contextual_prior(content_free_scores: np.ndarray) -> np.ndarray:
    """The labels' log prior ``(labels,)``: log of the mean probability given to texts that say nothing.

    Args:
        content_free_scores: label scores ``(texts, labels)`` of prompts that hold `CONTENT_FREE_TEXTS`.
    """
    return np.log(softmax(content_free_scores).mean(axis=0))


def batch_prior(scores: np.ndarray) -> np.ndarray:
    """The labels' log prior ``(labels,)``: log of the mean probability over the evaluated texts (Zhou et al. 2023).

    It needs no gold labels, but it is right only where the classes are about equally frequent: in an imbalanced set
    the frequent class is held against itself. The paper's equation 3 takes the mean over the batch of probabilities.

    Args:
        scores: label scores ``(texts, labels)``.
    """
    return np.log(softmax(scores).mean(axis=0))


def calibrated_probabilities(scores: np.ndarray, log_prior: np.ndarray | None = None) -> np.ndarray:
    """Probabilities over the labels ``(texts, labels)``, divided by the prior and normalised again.

    Dividing probabilities is the diagonal matrix with zero bias of Zhao et al. 2021. The leaf with the largest
    probability decides; the labels of all levels follow from it.

    Args:
        scores: log-probabilities of the labels ``(texts, labels)``, up to a constant per text.
        log_prior: from `contextual_prior` or `batch_prior`; None leaves the scores as they are.
    """
    return softmax(scores if log_prior is None else scores - log_prior)


def calibrated(scores: np.ndarray, calibration: str, content_free_scores: Callable[[], np.ndarray]) -> np.ndarray:
    """Probabilities over the labels ``(texts, labels)`` by one of `CALIBRATIONS`.

    Args:
        scores: as for `calibrated_probabilities`.
        calibration: which prior is taken out.
        content_free_scores: those of `contextual_prior`, asked for where they are needed.
    """
    match calibration:
        case "batch":
            return calibrated_probabilities(scores, batch_prior(scores))
        case "contextual":
            return calibrated_probabilities(scores, contextual_prior(content_free_scores()))
        case _:
            return calibrated_probabilities(scores)
