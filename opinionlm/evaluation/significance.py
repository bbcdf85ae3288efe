"""Whether two models differ on the same posts, or might as well be equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opinionlm.evaluation.metrics import f1_from_confusion, present_classes
from opinionlm.evaluation.multi_label import f1_per_label, resampled_scores


@dataclass(frozen=True)
class Difference:
    """A difference between two models, second minus first.

    Attributes:
        value: the difference on the posts themselves.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that there is none.
    """

    value: float
    low: float
    high: float
    p_value: float


def mcnemar(gold: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Exact McNemar test on accuracy (McNemar 1947): do the posts that only one model gets right divide evenly?

    Args:
        gold: label ids ``(rows,)``.
        first: predictions of the first model ``(rows,)``.
        second: those of the second.

    Returns:
        Posts that only the first gets right, posts that only the second gets right, two-sided p-value.
    """
    only_first = int(((first == gold) & (second != gold)).sum())
    only_second = int(((second == gold) & (first != gold)).sum())
    if only_first + only_second == 0:
        return 0, 0, 1.0
    from scipy import stats  # a second to import, for one number

    return only_first, only_second, float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_bootstrap(
    gold: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int, replicates: int = 10_000, seed: int = 0
) -> Difference:
    """Difference in macro-F1 under resampling of the posts, both models on the same posts each time.

    A model may be several runs, of other seeds say: then macro-F1 is their mean.

    Posts that agree in gold label and all predictions are interchangeable, so a resample is one multinomial draw
    over what is distinct. The p-value is twice the share of resamples on the other side of zero (Efron and
    Tibshirani 1993, section 13), ties counted to both sides.

    Args:
        gold: label ids ``(rows,)``.
        first: predictions of the first model ``(rows,)`` or ``(runs, rows)``; ``classes`` and above mean "no valid
            answer".
        second: those of the second.
        classes: number of labels.
        replicates: resamples.
        seed: of the drawing.
    """
    width = int(max(classes - 1, first.max(), second.max())) + 1
    runs = len(np.atleast_2d(first))
    cells, counts = np.unique(np.vstack([gold, first, second]), axis=1, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(gold), counts / len(gold), size=replicates)
    values = []
    for sample in (counts[None], draws):
        scores = np.array([macro_f1_of(sample, cells[0], predicted, classes, width) for predicted in cells[1:]])
        values.append(scores[runs:].mean(axis=0) - scores[:runs].mean(axis=0))
    return difference(float(values[0][0]), values[1])


def paired_set_bootstrap(
    gold: np.ndarray, first: np.ndarray, second: np.ndarray, replicates: int = 2_000, seed: int = 0
) -> Difference:
    """The same where texts have any number of labels, and the average runs over all of them.

    Args:
        gold: zeros and ones ``(rows, labels)``.
        first: predictions of the first model.
        second: those of the second.
        replicates: resamples.
        seed: of the drawing.
    """
    one, other = resampled_scores(gold, [first, second], replicates, seed)["macro_f1"]
    observed = f1_per_label(gold, second).mean() - f1_per_label(gold, first).mean()
    return difference(float(observed), other - one)


def difference(observed: float, resampled: np.ndarray) -> Difference:
    """A difference with its interval and p-value.

    Args:
        observed: on the posts themselves.
        resampled: under resampling ``(replicates,)``.
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    side = min(float((resampled <= 0).mean()), float((resampled >= 0).mean()))
    return Difference(observed, float(low), float(high), min(1.0, 2 * max(side, 1 / len(resampled))))


def macro_f1_of(counts: np.ndarray, gold: np.ndarray, predicted: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Macro-F1 per sample ``(samples,)`` from counts ``(samples, cells)`` of (gold, predicted) cells ``(cells,)``.

    The average runs over the classes that occur in the sample, as `opinionlm.evaluation.metrics` does.
    """
    confusion = np.zeros((len(counts), width, width))
    for cell, (row, column) in enumerate(zip(gold, predicted, strict=True)):
        confusion[:, row, column] += counts[:, cell]
    f1 = f1_from_confusion(confusion)[:, :classes]
    present = present_classes(confusion)[:, :classes]
    return (f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
