"""Whether two models differ on the same posts, or might as well be equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

# Resamples that are counted at once: bounds the memory.
CHUNK = 200
# The scores of a model's runs ``(runs, samples)`` in samples that hold every row so many times ``(samples, rows)``.
Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Difference:
    """A difference between two models, second minus first.

    Attributes:
        value: the difference on the posts themselves, of means over seeds.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that there is none.
        effect: Cohen's d over seeds: the difference in standard deviations of a run of another seed; None where a
            model has one run.
    """

    value: float
    low: float
    high: float
    p_value: float
    effect: float | None = None


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
    gold: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int, replicates: int = 2_000, seed: int = 0
) -> Difference:
    """Difference in macro-F1 between two models or ways of training; see `score_difference`.

    Args:
        gold: label ids ``(rows,)``; where texts have any number of labels, zeros and ones ``(rows, labels)``.
        first: predictions of the first model, shaped as gold, or of its seeds ``(seeds, …)``; ids of ``classes`` and
            above mean "no valid answer".
        second: those of the second.
        classes: number of labels.
        replicates: resamples of the posts.
        seed: of the drawing.
    """
    one, other = (
        partial(macro_f1_of, gold=gold, runs=runs if runs.ndim > gold.ndim else runs[None], classes=classes)
        for runs in (first, second)
    )
    return score_difference(len(gold), one, other, replicates, seed)


def score_difference(rows: int, first: Score, second: Score, replicates: int = 2_000, seed: int = 0) -> Difference:
    """Difference in a score between two models, or between two ways of training with several seeds each.

    Two things vary: the posts, whose share is the variance over resamples of them, all runs on the same posts each
    time, and the seeds, whose share is the variance of the runs' scores divided by their number. Interval and test are
    Student's with the degrees of freedom of Welch and Satterthwaite; with one run each they are conditional on these
    runs. The share of resamples beyond zero, the usual test, rejects too often where classes are rare (8.3 % of 600
    pairs of equal models at nominal 5 %, against 3.7 % here, for macro-F1).

    Args:
        rows: number of posts.
        first: scores of the first model's runs.
        second: those of the second.
        replicates: resamples of the posts.
        seed: of the drawing.
    """
    from scipy import stats  # a second to import

    whole = [score(np.ones((1, rows)))[:, 0] for score in (first, second)]
    resampled = []
    draw = np.random.default_rng(seed)
    for start in range(0, replicates, CHUNK):
        counts = draw.multinomial(rows, np.full(rows, 1 / rows), size=min(CHUNK, replicates - start)).astype(float)
        one, other = (score(counts).mean(axis=0) for score in (first, second))
        resampled.append(other - one)
    value = float(whole[1].mean() - whole[0].mean())
    # The variance of each source, and its degrees of freedom.
    parts = [(float(np.concatenate(resampled).var(ddof=1)), rows - 1)]
    parts += [(float(scores.var(ddof=1)) / len(scores), len(scores) - 1) for scores in whole if len(scores) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0)
    freedom = variance**2 / sum(part**2 / max(own, 1) for part, own in parts)
    error = variance**0.5
    half = float(stats.t.ppf(0.975, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Difference(value, value - half, value + half, p_value, cohens_d(whole[0], whole[1]))


def reality_check(gold: np.ndarray, baseline: np.ndarray, options: np.ndarray, classes: int) -> float:
    """p-value of the hypothesis that the best of several options gains nothing in macro-F1 over a baseline.

    The best of many choices on a few hundred rows looks better than none by chance. White (2000, "A Reality Check for
    Data Snooping") compares the largest gain with the largest gains of resampled rows, each gain less its mean; gains
    are in standard errors (Hansen 2005, section 2), so that one option's noise does not hide another's gain.

    Args:
        gold: label ids ``(rows,)``.
        baseline: its predictions ``(rows,)``.
        options: those of every option that the choice was among ``(options, rows)``.
        classes: number of labels.
    """
    # Many options answer alike, and counting is what costs.
    runs = np.concatenate([baseline[None], np.unique(options, axis=0)])
    gains = macro_f1_of(np.ones((1, len(gold))), gold, runs, classes)[:, 0]
    gains -= gains[0]
    if gains.max() <= 0:
        return 1.0
    shares = np.full(len(gold), 1 / len(gold))
    counts = np.random.default_rng(0).multinomial(len(gold), shares, size=CHUNK).astype(float)
    resampled = macro_f1_of(counts, gold, runs, classes)
    resampled -= resampled[0]
    errors = resampled.std(axis=1, ddof=1)
    varies = errors > 0
    largest = (gains[varies] / errors[varies]).max()
    chance = (resampled[varies] - resampled[varies].mean(axis=1, keepdims=True)) / errors[varies][:, None]
    return float((chance.max(axis=0) >= largest).mean())


def cohens_d(first: np.ndarray, second: np.ndarray) -> float | None:
    """The difference of two means in pooled standard deviations (Cohen 1988); None where nothing varies."""
    if min(len(first), len(second)) < 2:
        return None
    freedom = len(first) + len(second) - 2
    pooled = ((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / freedom
    return None if pooled == 0 else float((second.mean() - first.mean()) / pooled**0.5)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are (Holm 1979): below 0.05, all of them hold together at 5 %.

    Args:
        p_values: of all comparisons that were made, in any order.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def macro_f1_of(counts: np.ndarray, gold: np.ndarray, runs: np.ndarray, classes: int) -> np.ndarray:
    """Macro-F1 ``(runs, samples)`` of samples that hold every row so many times.

    The average runs over the gold classes of all rows, or over all labels where texts have any number of them.

    Args:
        counts: ``(samples, rows)``.
        gold: label ids ``(rows,)``, or zeros and ones ``(rows, labels)``.
        runs: predictions ``(runs, rows)``, or ``(runs, rows, labels)``.
        classes: number of labels.
    """
    own = np.array([label for label in range(classes) if (gold == label).any()])

    def members(labels: np.ndarray) -> np.ndarray:
        return (labels if labels.ndim == 2 else labels[:, None] == own).astype(float)

    is_gold = members(gold)
    support = counts @ is_gold
    scores = []
    for predicted in runs:
        is_predicted = members(predicted)
        hits, total = counts @ (is_gold * is_predicted), support + counts @ is_predicted
        scores.append(np.divide(2 * hits, total, out=np.zeros(hits.shape), where=total > 0).mean(axis=1))
    return np.stack(scores)
