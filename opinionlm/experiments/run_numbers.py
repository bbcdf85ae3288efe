"""Numbers of a finished run that tables show: from ``metrics.json``, or per class from the predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opinionlm.errors import UserError
from opinionlm.utils.files import read_csv


def number_at(folder: Path, metrics: Mapping[str, Any], place: str) -> float | None:
    """The number at a place.

    Args:
        folder: the run folder.
        metrics: content of its ``metrics.json``.
        place: a dotted place in the metrics, such as ``test.accuracy``; or ``recall.<label>``, ``recall.macro``,
            ``precision.<label>``, ``precision.macro`` of the test predictions.

    Returns:
        The number, None where the run has none there, be it that its data have no such label.

    Raises:
        UserError: the predictions cannot be read.
    """
    kind, _, label = place.partition(".")
    return class_score(folder, kind, label) if kind in ("recall", "precision") else look_up(metrics, place)


def number(value: float | None) -> str:
    """A number to read: counts whole, seconds short, scores with three digits."""
    if value is None or math.isnan(value):
        return ""
    if abs(value) >= 1000 or (abs(value) >= 10 and value == int(value)):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def signed(value: float) -> str:
    """A number with its sign."""
    return ("+" if value >= 0 else "−") + number(abs(value))


def measured_text(entry: Mapping[str, Any] | None) -> str:
    """Mean ± standard deviation."""
    if entry is None:
        return ""
    spread = "" if not entry["std"] else f" ± {number(entry['std'])}"
    return number(entry["mean"]) + spread


def look_up(metrics: Mapping[str, Any], place: str) -> float | None:
    """The number at a dotted place, None where a run has none there."""
    value: Any = metrics
    for part in place.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return float(value) if isinstance(value, int | float) else None


def class_score(folder: Path, kind: str, label: str) -> float | None:
    """Recall ("accuracy for positive reviews" in the IMDB report) or precision; answers that are no label are wrong.

    Args:
        folder: the run folder, whose ``predictions/test.csv`` is read.
        kind: recall or precision.
        label: of one class, or ``macro``: the mean over the gold classes.

    Returns:
        The score, None where no gold label is of that name.

    Raises:
        UserError: no such file, or not one of labels.
    """
    path = folder / "predictions" / "test.csv"
    try:
        pairs = [(row["gold"], row["predicted"]) for row in read_csv(path)]
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: {kind} needs the columns gold and predicted of a finished run ({error})") from None
    labels = sorted({gold for gold, _ in pairs})
    if label not in ("macro", *labels):
        return None
    gold, predicted = zip(*pairs, strict=True)
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, _, _ = precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=0.0)
    values = recall if kind == "recall" else precision
    return float(values.mean() if label == "macro" else values[labels.index(label)])
