"""Scores over time: does a model age, and do the labels that it gives drift from those that hold?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.metrics import bootstrap_intervals, classification_scores
from opinionlm.evaluation.multi_label import multi_label_intervals, multi_label_scores

Span = Literal["month", "quarter", "year"]
# The interval of a score of fewer rows is too narrow; periods that have fewer are left out.
MIN_ROWS = 200
# The shortest periods are taken that still leave in so many of the rows.
MIN_SHARE = 0.8


def period_of(time: str, span: Span) -> str:
    """The period that a time such as ``2021-03-04T05:06:07Z`` lies in; periods sort in the order of time."""
    match span:
        case "month":
            return time[:7]
        case "quarter":
            return f"{time[:4]}-Q{(int(time[5:7]) + 2) // 3}"
        case "year":
            return time[:4]


def periods(times: Sequence[str], min_rows: int = MIN_ROWS) -> dict[str, np.ndarray]:
    """Rows of every period that has enough of them, in the order of time.

    Months if they hold most of the rows, else quarters, else years; nothing where not even two years have enough rows.

    Args:
        times: one per row, as `opinionlm.data.readers.timestamps.iso_times` writes them.
        min_rows: how many rows are enough.
    """
    for span in ("month", "quarter", "year"):
        of_row = np.array([period_of(time, span) for time in times])
        names, counts = np.unique(of_row, return_counts=True)
        large = counts >= min_rows
        if large.sum() >= 2 and counts[large].sum() >= MIN_SHARE * len(of_row):
            return {str(name): np.flatnonzero(of_row == name) for name in names[large]}
    return {}


def period_scores(
    gold: np.ndarray, predicted: np.ndarray, times: Sequence[str], taxonomy: Taxonomy, min_rows: int = MIN_ROWS
) -> dict[str, dict[str, float | list[float]]]:
    """The main scores of every period by itself with 95 % intervals, and its number of ``rows``.

    Beside them ``share_<leaf>`` and ``gold_share_<leaf>``: the trend of what is predicted, which unlabelled texts show
    too, next to that of the truth.

    Args:
        gold: leaf ids ``(rows,)``, or zeros and ones ``(rows, leaves)``.
        predicted: the same.
        times: one per row.
        taxonomy: the label tree.
        min_rows: periods with fewer rows are left out.
    """
    leaves = taxonomy.leaves
    scores: dict[str, dict[str, float | list[float]]] = {}
    for period, rows in periods(times, min_rows).items():
        own, given = gold[rows], predicted[rows]
        sizes = {"rows": float(len(rows))}
        if gold.ndim == 2:
            names: tuple[str, ...] = ("macro_f1", "micro_f1", "subset_accuracy", "hierarchical_f1")
            found, bounds = multi_label_scores(own, given, taxonomy), multi_label_intervals(own, given)
        else:
            names = ("macro_f1", "accuracy", "hierarchical_f1")
            found, bounds = classification_scores(own, given, taxonomy), bootstrap_intervals(own, given, len(leaves))
            # Each period averages over the classes that it has.
            sizes["classes"] = float(len(np.unique(own)))
        scores[period] = sizes | {name: found[name] for name in names} | bounds
        for kind, labels in (("share", given), ("gold_share", own)):
            shares = (labels if labels.ndim == 2 else np.eye(len(leaves))[labels]).mean(axis=0).tolist()
            scores[period] |= {f"{kind}_{leaf}": share for leaf, share in zip(leaves, shares, strict=True)}
    return scores
