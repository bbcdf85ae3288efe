"""Sets of labels that hold the right one as often as asked for: split conformal prediction.

Of every validation row one number is kept, how badly its gold label fits the model's probabilities. A set takes in all
labels that fit no worse than the asked-for share of the validation rows did. Where new texts are like validation, the
right label is in the set at least that often on average, whatever the model is worth; a worse model has larger sets.

Where no label fits well enough, the set of ``lac`` is empty: every label is too unlikely. By ``aps`` the likeliest
label would be missing where it alone is likelier than the threshold, which are the easiest texts; so its sets always
take in the likeliest label, as those of Romano et al. 2020 do. That can only make them right more often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opinionlm.config.method_options import SetScore

# Thresholds are kept for these, so that the coverage can be chosen at prediction.
COVERAGES = tuple(percent / 100 for percent in range(50, 100))
# No score exceeds it: a set with this threshold takes in every label.
EVERY_LABEL = 1.0


def nonconformity_scores(probabilities: np.ndarray, score: SetScore) -> np.ndarray:
    """Nonconformity score of every label for every row ``(rows, labels)``, from 0 to 1: how badly it fits.

    ``lac``: one minus the label's probability (Sadinle et al. 2019); gives the smallest sets on average. ``aps``: the
    probability of the label and of all likelier ones together (Romano et al. 2020, without their randomisation); hard
    texts get larger sets, so that their coverage is nearer to that of easy ones.

    Args:
        probabilities: ``(rows, labels)``.
        score: which of the two.
    """
    match score:
        case "lac":
            return 1.0 - probabilities
        case "aps":
            order = np.argsort(-probabilities, axis=1, kind="stable")
            summed = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
            scores = np.empty(probabilities.shape)
            np.put_along_axis(scores, order, np.minimum(summed, 1.0), axis=1)
            return scores


@dataclass(frozen=True)
class LabelSets:
    """A fitted rule for label sets.

    Attributes:
        score: which nonconformity score.
        thresholds: the largest nonconformity score that a set takes in, for each of `COVERAGES`.
    """

    score: SetScore
    thresholds: tuple[float, ...]

    def members(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Which labels are in the set of every row: bool ``(rows, labels)``.

        Args:
            probabilities: calibrated as those of validation were, ``(rows, labels)``.
            coverage: one of `COVERAGES`, or the next one above it is taken.
        """
        threshold = self.thresholds[next(at for at, value in enumerate(COVERAGES) if value >= coverage - 1e-9)]
        members = nonconformity_scores(probabilities, self.score) <= threshold
        if self.score == "aps":
            members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
        return members


def fit_label_sets(gold: np.ndarray, probabilities: np.ndarray, score: SetScore) -> LabelSets:
    """Thresholds from validation.

    Args:
        gold: leaf ids ``(rows,)``.
        probabilities: calibrated, ``(rows, labels)``.
        score: which nonconformity score.
    """
    scores = np.sort(nonconformity_scores(probabilities, score)[np.arange(len(gold)), gold])
    return LabelSets(score, tuple(threshold(scores, coverage) for coverage in COVERAGES))


def threshold(scores: Sequence[float] | np.ndarray, coverage: float) -> float:
    """The ⌈(n + 1) · coverage⌉-th smallest of n scores: the one more row is the new text itself.

    Args:
        scores: nonconformity scores of the gold labels, ascending.
        coverage: the wanted share of right sets.
    """
    # Rounded first: (n + 1) · 0.9 is often a whole number that floating point puts a hair above itself.
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(scores[rank - 1]) if rank <= len(scores) else EVERY_LABEL


def set_scores(gold: np.ndarray, members: np.ndarray) -> dict[str, float]:
    """How often sets hold the gold label, and how many labels they hold on average.

    Args:
        gold: leaf ids ``(rows,)``.
        members: ``(rows, labels)``.
    """
    return {
        "label_set_coverage": float(members[np.arange(len(gold)), gold].mean()),
        "label_set_size": float(members.sum(axis=1).mean()),
    }
