"""From logits to sets of labels: calibration, thresholds and sets that miss few labels, all fitted on validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from opinionlm.config.method_options import DecisionConfig
from opinionlm.evaluation.calibration import COLDEST, HOTTEST, POSSIBLE
from opinionlm.evaluation.conformal import COVERAGES, EVERY_LABEL, LabelSets
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.evaluation.multi_label import f1_of_counts, sigmoid

UNFITTED = 0.5
# Tried as the threshold of all labels.
COMMON = np.linspace(0.02, 0.9, 89)


@dataclass(frozen=True)
class MultiLabelRule:
    """How a model's logits become sets of labels; without any fit, every label whose probability is at least a half.

    Attributes:
        temperature: divides the logits.
        biases: added to the divided logits, one per label; empty for none.
        thresholds: a label is given where its calibrated probability is not below, one per label; empty for a half.
        label_sets: sets that miss no more labels than asked for; None for a model that has none.
    """

    temperature: float = 1.0
    biases: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    label_sets: LabelSets | None = None

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities ``(rows, labels)`` from raw logits, every label by itself."""
        scores = logits.astype(np.float64) / self.temperature
        return sigmoid(scores + np.asarray(self.biases) if self.biases else scores)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Which labels every row gets, perhaps none: bool ``(rows, labels)``.

        Args:
            probabilities: calibrated, ``(rows, labels)``.
        """
        return probabilities >= (np.asarray(self.thresholds) if self.thresholds else UNFITTED)


# How labels follow from logits: one of them, or any number.
Rule = AnswerRule | MultiLabelRule


def fit_multi_label_rule(gold: np.ndarray, logits: np.ndarray, options: DecisionConfig) -> MultiLabelRule:
    """Calibration, thresholds and label sets from the validation split.

    Args:
        gold: zeros and ones ``(rows, labels)`` of validation.
        logits: the model's, ``(rows, labels)``.
        options: how many thresholds there are.
    """
    temperature, biases = fit_label_calibration(gold, logits)
    calibrated = MultiLabelRule(temperature, tuple(biases.tolist()))
    probabilities = calibrated.probabilities(logits)
    thresholds = fit_thresholds(gold, probabilities, options.label_thresholds == "per_label")
    sets = fit_false_negative_control(gold, probabilities)
    return MultiLabelRule(temperature, calibrated.biases, tuple(thresholds.tolist()), sets)


def fit_label_calibration(gold: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature and a bias per label that make a split likeliest: sigmoid(logits / temperature + biases).

    Bias-corrected temperature scaling (Alexandari et al. 2020), with the sigmoid of every label in the place of a
    softmax: the biases take back what positive weights or an asymmetric loss moved. They have a normal prior with a
    standard deviation of one nat, so that a label with few rows is moved little. One more decision counts as wrong,
    the mean of all with gold turned round, so that a faultless split makes none certain (`fit_calibration`); the
    penalised likelihood is concave.

    Args:
        gold: zeros and ones ``(rows, labels)`` of validation.
        logits: the model's, ``(rows, labels)``.

    Returns:
        The temperature and the biases ``(labels,)`` in nats.
    """
    logits, gold = logits.astype(np.float64), gold.astype(np.float64)
    rows, labels = gold.shape
    # A label that no training text had is impossible, whatever is gold: it says nothing about the others.
    possible = np.abs(logits) < POSSIBLE
    one_wrong = 1 / max(possible.sum(), 1)
    weight, positive = (1 + one_wrong) * possible, (gold + one_wrong * (1 - gold)) * possible

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        biases = parameters[1:]
        scores = logits * parameters[0] + biases
        value = (weight * np.logaddexp(0.0, scores) - positive * scores).sum() + (biases**2).sum() / 2
        residual = weight * sigmoid(scores) - positive
        return value / rows, np.append((residual * logits).sum(), residual.sum(axis=0) + biases) / rows

    found = minimize(
        loss,
        np.append(1.0, np.zeros(labels)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1 / HOTTEST, 1 / COLDEST)] + [(None, None)] * labels,
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8},
    )
    return 1 / float(found.x[0]), found.x[1:]


def fit_thresholds(gold: np.ndarray, probabilities: np.ndarray, per_label: bool) -> np.ndarray:
    """Thresholds that macro-F1 likes best on a split ``(labels,)``.

    First one for all labels. Then, where asked for, every label moves its own from there as far as the F1 that it
    gains pays for the distance in log-odds: macro-F1 is the mean of the labels' own F1, so that each can be searched
    alone, over all thresholds between two neighbouring probabilities. A label that the split never shows keeps the
    common one.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        probabilities: calibrated, ``(rows, labels)``.
        per_label: whether labels have thresholds of their own.
    """
    curves = [threshold_curve(*column) for column in zip(gold.T, probabilities.T, strict=True)]
    common = np.mean([f1[np.searchsorted(cuts, COMMON)] for cuts, f1 in curves], axis=0)
    # Of equally good ones the middle of the first stretch: the least likely to be crossed by chance.
    best = np.flatnonzero(common >= common.max() - 1e-12)
    stretch = best[: int(np.argmax(np.append(np.diff(best) != 1, True))) + 1]
    shared = float(COMMON[stretch[len(stretch) // 2]])
    thresholds = np.full(gold.shape[1], shared)
    if per_label:
        for label in np.flatnonzero(gold.any(axis=0)):
            cuts, f1 = curves[label]
            # A threshold between two probabilities; behind the last one nobody has the label.
            middles = np.append((np.append(0.0, cuts[:-1]) + cuts) / 2, shared)
            gains = np.append(f1[: len(cuts)], f1[np.searchsorted(cuts, shared)])
            distance = np.abs(log_odds(middles) - log_odds(np.array(shared)))
            penalty = threshold_penalty(float(gold[:, label].sum()))
            thresholds[label] = middles[np.argmax(gains - penalty * distance)]
    return thresholds


def threshold_penalty(support: float) -> float:
    """F1 of a label that a nat of log-odds between its threshold and the one of all labels has to earn.

    The fewer rows have the label, the less its F1 says. Chosen on GoEmotions with TF-IDF, fitted to parts of its
    validation split and scored on the rest: with 150 rows this is nearly as good as one threshold, with 1,500 and more
    as any penalty.
    """
    return max(0.03, 0.2 / math.sqrt(support))


def threshold_curve(gold: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of a label at every threshold.

    Args:
        gold: zeros and ones ``(rows,)``.
        probability: of the label ``(rows,)``.

    Returns:
        The distinct probabilities, ascending ``(cuts,)``, and the F1 of "at least the probability" at each, with that
        of giving the label to nobody behind them ``(cuts + 1,)``: a threshold ``t`` has the F1 at
        ``searchsorted(cuts, t)``.
    """
    order = np.argsort(probability, kind="stable")
    cuts, first = np.unique(probability[order], return_index=True)
    support = float(gold.sum())
    above = np.append(np.cumsum(gold[order][::-1])[::-1], 0.0)[np.append(first, len(gold))]
    predicted = len(gold) - np.append(first, len(gold))
    return cuts, f1_of_counts(above, predicted, np.full(len(predicted), support))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Logits of probabilities, finite at 0 and 1."""
    tiny = 1e-12
    clipped = np.clip(probabilities, tiny, 1 - tiny)
    return np.log(clipped) - np.log1p(-clipped)


def fit_false_negative_control(gold: np.ndarray, probabilities: np.ndarray) -> LabelSets:
    """Sets that miss at most a share of a text's labels on average (conformal risk control, Angelopoulos et al. 2022).

    A set takes in every label with 1 - p ≤ λ. Of the false-negative rate, the share of a text's labels outside of its
    set, λ is the smallest value with n / (n + 1) · (mean rate over n texts) + 1 / (n + 1) ≤ 1 - coverage (their eq. 4
    with a loss of at most 1), so that the expected rate of a new text is no more than that where it is like those of
    validation. Texts without labels cannot miss any, and are left out on both sides.

    Args:
        gold: zeros and ones ``(rows, labels)`` of validation.
        probabilities: calibrated, ``(rows, labels)``.

    Returns:
        The rule, whose coverage is one minus the rate.
    """
    held = gold.any(axis=1)
    gold, probabilities = gold[held].astype(bool), probabilities[held]
    rows = len(gold)
    nonconformity = (1.0 - probabilities)[gold]
    shares = np.repeat(1.0 / np.maximum(gold.sum(axis=1), 1), gold.sum(axis=1))
    order = np.argsort(nonconformity, kind="stable")
    nonconformity, rates = nonconformity[order], rows - np.cumsum(shares[order])
    # Equal scores enter together, so the last of them counts.
    thresholds = []
    for coverage in COVERAGES:
        allowed = (rows + 1) * (1 - coverage) - 1
        enough = np.flatnonzero(rates <= allowed + 1e-9)
        thresholds.append(float(nonconformity[enough[0]]) if len(enough) and allowed > -1e-9 else EVERY_LABEL)
    return LabelSets("lac", tuple(thresholds))


def set_scores(gold: np.ndarray, members: np.ndarray) -> dict[str, float]:
    """How many of a text's labels its set misses, over the texts that have labels, and how many labels sets hold.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        members: bool ``(rows, labels)``.
    """
    gold = gold.astype(bool)
    held = gold.any(axis=1)
    missed = (gold & ~members).sum(axis=1)[held] / gold.sum(axis=1)[held]
    return {
        "false_negative_rate": float(missed.mean()) if held.any() else 0.0,
        "label_set_size": float(members.sum(axis=1).mean()),
    }
