"""From probabilities to one leaf per text. The leaf decides and its ancestors follow, so levels always agree.

Everything that a rule has to learn is fitted on validation by `fit_answers`; test is never seen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from opinionlm.config.method_options import DecisionConfig, DecisionKind
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.calibration import calibrated, fit_calibration
from opinionlm.evaluation.conformal import LabelSets, fit_label_sets
from opinionlm.evaluation.hierarchical import lca_heights
from opinionlm.evaluation.metrics import f1_from_confusion, gold_classes, softmax

# Strengths of the adjustment that are tried on validation, and offsets in nats; both hold 0, which changes nothing.
TAUS = tuple(round(0.1 * step, 1) for step in range(26))
OFFSETS = np.linspace(-3.0, 3.0, 61)
# Macro-F1 that a nat of mean offset has to earn on validation: rare classes have few rows there to be fitted to.
OFFSET_PENALTY = 0.01
SWEEPS = 20


@dataclass(frozen=True)
class AnswerRule:
    """How a model's logits become answers; without any fit, the likeliest leaf with its plain probability.

    Attributes:
        temperature: divides the logits.
        kind: how the leaf is decided.
        offsets: added to the leaves' log-probabilities by every kind but ``expected_cost``; empty for none. They hold
            the biases with the opposite sign, so that calibration changes no answer.
        tau: the chosen strength of ``logit_adjusted``, else None.
        label_sets: None for a model that has none.
        biases: added to the divided logits, one per leaf; empty for none.
    """

    temperature: float = 1.0
    kind: DecisionKind = "argmax"
    offsets: tuple[float, ...] = field(default=())
    tau: float | None = None
    label_sets: LabelSets | None = None
    biases: tuple[float, ...] = field(default=())

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities ``(rows, leaves)`` from raw logits."""
        return calibrated(logits, self.temperature, self.biases)

    def decide(self, probabilities: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
        """Leaf ids ``(rows,)``; the first leaf wins a tie.

        Args:
            probabilities: calibrated, ``(rows, leaves)``.
            taxonomy: the label tree.
        """
        match self.kind:
            case "argmax" if not self.offsets:
                return probabilities.argmax(axis=1)
            case "argmax" | "logit_adjusted" | "thresholds":
                # Rounded, so that logits that are equal before calibration are equal again.
                return (log(probabilities) + np.array(self.offsets)).round(9).argmax(axis=1)
            case "expected_cost":
                # Rounded, so that equal costs are equal whatever order they were summed in.
                return (probabilities @ lca_heights(taxonomy)).round(12).argmin(axis=1)


def log(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms, finite where a probability is too small for a float."""
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))


def fit_answers(
    gold: np.ndarray,
    logits: np.ndarray,
    counts: Sequence[int],
    taxonomy: Taxonomy,
    options: DecisionConfig,
    initial_offsets: Sequence[float] = (),
) -> AnswerRule:
    """Calibration, decision and label sets from the validation split.

    All decisions but ``expected_cost`` start from the likeliest leaf before calibration's biases, as the loss and its
    class weights made the model prefer it: macro-F1 wants rare leaves more often than their frequency would.

    Args:
        gold: leaf ids ``(rows,)`` of validation.
        logits: the model's, ``(rows, leaves)``.
        counts: training examples per leaf.
        taxonomy: the label tree.
        options: which decision, which label sets.
        initial_offsets: what is added to the divided logits before anything is decided, one per leaf: logits that
            come of calibrated probabilities have lost what the loss preferred. Empty for none.
    """
    temperature, biases = fit_calibration(gold, logits)
    probabilities = calibrated(logits, temperature, biases)
    preferred = (np.asarray(initial_offsets) if len(initial_offsets) else 0.0) - biases
    shifted = softmax(log(probabilities) + preferred)
    offsets, tau = preferred, None
    match options.decision:
        case "logit_adjusted":
            tau, adjustment = fit_adjustment(gold, shifted, counts)
            offsets = preferred + adjustment
        case "thresholds":
            offsets = preferred + fit_offsets(gold, shifted)
        case "argmax":
            pass
        case "expected_cost":
            offsets = np.zeros(0)
    sets = fit_label_sets(gold, probabilities, options.label_set_score)
    return AnswerRule(temperature, options.decision, tuple(offsets.tolist()), tau, sets, tuple(biases.tolist()))


def macro_f1(gold: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """The macro-F1 of `opinionlm.evaluation.metrics.classification_scores`."""
    confusion = np.bincount(gold * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return float(f1_from_confusion(confusion)[gold_classes(confusion)].mean())


def fit_adjustment(gold: np.ndarray, probabilities: np.ndarray, counts: Sequence[int]) -> tuple[float, np.ndarray]:
    """Post-hoc logit adjustment (Menon et al. 2021, section 4.1) with τ by macro-F1; the smaller τ wins a tie.

    Args:
        gold: leaf ids ``(rows,)`` of validation.
        probabilities: calibrated, ``(rows, leaves)``.
        counts: training examples per leaf; an absent leaf counts as one.

    Returns:
        τ and the offsets −τ · log prior ``(leaves,)``.
    """
    present = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    log_prior, scores = np.log(present / present.sum()), log(probabilities)

    def score(tau: float) -> float:
        return macro_f1(gold, (scores - tau * log_prior).argmax(axis=1), len(counts))

    tau = max(TAUS, key=score)
    return tau, -tau * log_prior


def fit_offsets(gold: np.ndarray, probabilities: np.ndarray, penalty: float = OFFSET_PENALTY) -> np.ndarray:
    """One offset per leaf by coordinate ascent on macro-F1 minus a penalty on the mean absolute offset.

    A class's threshold on its probability and an offset of its log-probability are the same thing; offsets leave one
    answer per text whatever their values. The search is deterministic: leaves in their order, from zero, until a sweep
    changes nothing; of equal candidates the smallest wins.

    Args:
        gold: leaf ids ``(rows,)`` of validation.
        probabilities: calibrated, ``(rows, leaves)``.
        penalty: macro-F1 that a nat of mean absolute offset has to earn.

    Returns:
        ``(leaves,)`` in nats.
    """
    scores = log(probabilities)
    classes = scores.shape[1]
    offsets = np.zeros(classes)
    candidates = OFFSETS[np.argsort(np.abs(OFFSETS), kind="stable")]

    def value(predicted: np.ndarray, shifts: np.ndarray) -> float:
        return macro_f1(gold, predicted, classes) - penalty * float(np.abs(shifts).mean())

    best = value(scores.argmax(axis=1), offsets)
    for _ in range(SWEEPS):
        before = best
        for leaf in range(classes):
            shifted = scores + offsets
            shifted[:, leaf] = -np.inf
            rival, rival_score = shifted.argmax(axis=1), shifted.max(axis=1)
            for candidate in candidates:
                trial = offsets.copy()
                trial[leaf] = candidate
                own = scores[:, leaf] + candidate
                wins = (own > rival_score) | ((own == rival_score) & (leaf < rival))
                found = value(np.where(wins, leaf, rival), trial)
                if found > best + 1e-9:
                    best, offsets = found, trial
        if best == before:
            break
    return offsets
