"""What the page shows of ``predictions/<split>.csv``: confusions, the surest mistakes, a sample of all rows.

The file of any task will do: it needs the columns ``gold`` and ``predicted`` (``answer``, where texts are written);
``id``, ``platform``, ``confidence`` and a text make it better. Labels are compared as text, scores (similarity) as
numbers.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label_predictions import label_sets

# More labels than this give a matrix that nobody can read and that fills the page.
MOST_LABELS = 64
# Kept per run and split; the page may keep fewer where there are many runs.
MISTAKES, SAMPLE = 60, 20
SHOWN_CHARACTERS = 400
TEXT_COLUMNS = ("text", "tokens", "text_pair", "context")
LONGEST_FIELD = 10_000_000
NO_LABEL, NO_LIST = "no label", "an answer that is no list"


@dataclass(frozen=True)
class PredictedRow:
    """One text and what a run made of it.

    Attributes:
        key: the id, or the row's number where the file has none; unique in a file.
        platform: blank where there is none.
        text: cut to `SHOWN_CHARACTERS`.
        gold: what it should be.
        predicted: what the run says.
        confidence: probability of the predicted label, None where the run gives none.
        wrong: whether the two differ; for scores whether they differ at all.
    """

    key: str
    platform: str
    text: str
    gold: str
    predicted: str
    confidence: float | None
    wrong: bool


@dataclass(frozen=True)
class PredictionSummary:
    """One prediction file.

    Attributes:
        fingerprint: of ids and gold labels; equal for runs that were evaluated on the same texts.
        rows: number of texts.
        labels: in the order of the label tree; empty where the task has none.
        confusion: counts ``[gold][predicted]``, one more column for answers that are no label; None without labels.
        support: where texts have any number of labels, how many have each; the confusions then say which labels are
            predicted for texts that have a gold label, in the last column how many get none at all. Else None.
        kind: "labels", "scores" (numbers) or "texts" (anything else).
        mistakes: most confident first (scores: furthest off first).
        sample: rows spread evenly over the file.
        wrong: keys of all wrong rows.
        keys: of all rows, sorted.
        gold: label ids in the order of the keys; empty where the task has none.
        predicted: the same of the answers; the number of labels for one that is no label.
    """

    fingerprint: str
    rows: int
    labels: tuple[str, ...]
    confusion: list[list[int]] | None
    support: list[int] | None
    kind: str
    mistakes: list[PredictedRow]
    sample: list[PredictedRow]
    wrong: frozenset[str]
    keys: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()


def read_predictions(path: Path, labels: Sequence[str]) -> PredictionSummary:
    """Read a prediction file.

    Args:
        path: of the CSV file.
        labels: leaf names in order; where empty, the ``probability_<label>`` columns name them.

    Raises:
        UserError: the file cannot be read or is no prediction file; the message is the reason alone.
    """
    rows, probability_labels = _read_rows(path)
    names = tuple(labels) or probability_labels
    gold_sets = label_sets([row.gold for row in rows]) if names else None
    predicted_sets = None if gold_sets is None else label_sets([row.predicted for row in rows])
    if gold_sets is not None and predicted_sets is not None:
        has_sets, gold, predicted = True, gold_sets, predicted_sets
        rows = [
            replace(
                row,
                gold=", ".join(own) or NO_LABEL,
                predicted=", ".join(given) or (NO_LABEL if row.predicted else NO_LIST),
            )
            for row, own, given in zip(rows, gold, predicted, strict=True)
        ]
    else:
        has_sets, gold, predicted = False, [[row.gold] for row in rows], [[row.predicted] for row in rows]
    confusion, support = _co_occurrence(gold, predicted, names) if names else (None, None)
    distances = None if names else _distances(rows)
    wrong = sorted((row for row in rows if row.wrong), key=lambda row: _rank(row, distances))
    digest = hashlib.sha256("\n".join(sorted(f"{row.key}\t{row.gold}" for row in rows)).encode())
    count = min(SAMPLE, len(rows))
    number = {label: index for index, label in enumerate(names)}
    by_key = sorted(rows, key=lambda row: row.key)
    has_ids = bool(names) and not has_sets
    return PredictionSummary(
        fingerprint=digest.hexdigest()[:16],
        rows=len(rows),
        labels=names,
        confusion=confusion if len(names) <= MOST_LABELS else None,
        support=support if has_sets else None,
        kind="labels" if names else "texts" if distances is None else "scores",
        mistakes=wrong[:MISTAKES],
        sample=[rows[index * len(rows) // count] for index in range(count)],
        wrong=frozenset(row.key for row in wrong),
        keys=tuple(row.key for row in by_key),
        gold=tuple(number[row.gold] for row in by_key) if has_ids else (),
        predicted=tuple(number.get(row.predicted, len(names)) for row in by_key) if has_ids else (),
    )


def _read_rows(path: Path) -> tuple[list[PredictedRow], tuple[str, ...]]:
    """The rows of a file, with keys that are unique in it, and the labels that its probabilities are of."""
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            said = "predicted" if "predicted" in columns else "answer"
            if not {"gold", said} <= set(columns):
                raise UserError("the columns gold and predicted are missing")
            rows = [_row(record, number, said) for number, record in enumerate(reader)]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot be read ({error})") from None
    if not rows:
        raise UserError("holds no rows")
    if len({row.key for row in rows}) < len(rows):
        rows = [replace(row, key=f"{row.key} (row {number + 1})") for number, row in enumerate(rows)]
    prefix = "probability_"
    return rows, tuple(name.removeprefix(prefix) for name in columns if name.startswith(prefix))


def _row(record: dict[str, str | None], number: int, said: str) -> PredictedRow:
    """A record of the file, `said` being the column of the prediction; a short line has None where fields are missing.

    Raises:
        ValueError: the line is cut off, or the confidence is no number.
    """
    gold, predicted = record["gold"], record[said]
    if gold is None or predicted is None:
        raise ValueError(f"row {number + 1} is cut off")
    text = "\n\n".join(value for name in TEXT_COLUMNS if (value := record.get(name)))
    confidence = record.get("confidence")
    return PredictedRow(
        key=record.get("id") or str(number),
        platform=record.get("platform") or "",
        text=shortened(text),
        gold=gold,
        predicted=predicted,
        confidence=float(confidence) if confidence else None,
        wrong=gold != predicted,
    )


def shortened(text: str) -> str:
    """A text as the page shows it."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1].rstrip() + "…"


def _distances(rows: Sequence[PredictedRow]) -> dict[str, float] | None:
    """How far every predicted score is off, or None where gold and predicted are no numbers."""
    try:
        return {row.key: abs(float(row.gold) - float(row.predicted)) for row in rows}
    except ValueError:
        return None


def _rank(row: PredictedRow, distances: dict[str, float] | None) -> float:
    """Mistakes that a model was surest of come first; of scores those that are furthest off."""
    if distances is not None:
        return -distances[row.key]
    return -1.0 if row.confidence is None else -row.confidence


def _co_occurrence(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> tuple[list[list[int]], list[int]]:
    """Texts by gold and predicted label, with one more column for those that get none, and texts by gold label.

    Raises:
        UserError: a gold label is not in the tree.
    """
    if unknown := {label for own in gold for label in own} - set(labels):
        raise UserError(f"the gold label {min(unknown)!r} is not in the label tree")
    number = {label: index for index, label in enumerate(labels)}
    counts = [[0] * (len(labels) + 1) for _ in labels]
    support = [0] * len(labels)
    for own, given in zip(gold, predicted, strict=True):
        for label in own:
            support[number[label]] += 1
            for place in [number[name] for name in given if name in number] or [len(labels)]:
                counts[number[label]][place] += 1
    return counts, support
