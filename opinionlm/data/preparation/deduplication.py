"""Copies and contradictions among posts, found from digests: a few bytes per post, whatever its length.

Section 4, steps 1.2.2 and 1.2.3. Runs twice, on raw and on cleaned text, because cleaning makes more posts equal; the
second run is what guarantees that no text is in two splits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from opinionlm.data.preparation.ledger import Ledger

# Why a row goes; 0 keeps it.
KEPT, DUPLICATE, CONFLICT = 0, 1, 2


def resolve_copies(
    digests: np.ndarray,
    labels: np.ndarray,
    present: np.ndarray,
    duplicates: Literal["tokens", "text", "keep"],
    conflicts: Literal["drop", "keep_first", "majority", "keep"],
) -> tuple[np.ndarray, np.ndarray]:
    """Decide which of several equal posts stay.

    First the conflict rule: among copies with different labels it drops all, or all but the first copy's label, or all
    but the most frequent label (a tie drops all). Then, unless duplicates are kept, the first remaining copy stays.

    Args:
        digests: (rows,) of ``S16``; equal digests mean equal posts.
        labels: (rows,) class ids.
        present: (rows,) of bool; the others are gone already, but their labels still bear witness: a text that was
            dropped for its contradictory labels contradicts the copies that only cleaning reveals, too.
        duplicates: ``keep`` lets copies with the same label stay.
        conflicts: see above; ``keep`` lets contradictions stay.

    Returns:
        ``verdicts`` (rows,) of `KEPT`, `DUPLICATE` or `CONFLICT`, and ``partners`` (rows,): for a row that goes, the
        copy to compare it with (the one that stays, or one with another label), else -1.
    """
    rows = len(digests)
    verdicts = np.full(rows, KEPT, dtype=np.int8)
    partners = np.full(rows, -1, dtype=np.int64)
    if duplicates == "keep" and conflicts == "keep":
        return verdicts, partners
    # A stable sort puts copies side by side and leaves them in file order.
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], digests[order][1:] != digests[order][:-1]]))
    ends = np.concatenate([starts[1:], [rows]])
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        group = order[start:end]
        winner = _surviving_label(labels[group], conflicts)
        losers = group[labels[group] != winner] if winner is not None else group[:0]
        verdicts[losers] = CONFLICT
        for row in losers:
            partners[row] = group[np.argmax(labels[group] != labels[row])]
        stay = group[(verdicts[group] == KEPT) & present[group]]
        if duplicates != "keep" and len(stay) > 1:
            verdicts[stay[1:]] = DUPLICATE
            partners[stay[1:]] = stay[0]
    return verdicts, partners


def _surviving_label(labels: np.ndarray, conflicts: str) -> int | None:
    """The label whose copies stay: None for all of them, -1 for none."""
    values, counts = np.unique(labels, return_counts=True)
    if len(values) == 1:
        return None
    match conflicts:
        case "keep":
            return None
        case "drop":
            return -1
        case "keep_first":
            return int(labels[0])
        case _:
            best = values[counts == counts.max()]
            return int(best[0]) if len(best) == 1 else -1


def leaked_rows(digests: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose post is also in a split that matters more.

    Test rows stay in any case, validation rows go before test rows, training rows before both: an evaluation set is
    never changed to suit the training set.

    Args:
        digests: (rows,) of ``S16``.
        splits: (rows,) 0 for train, 1 for validation, 2 for test.

    Returns:
        ``leaked`` (rows,) of bool and ``partners`` (rows,): the copy in the other split, else -1.
    """
    leaked = np.zeros(len(digests), dtype=bool)
    partners = np.full(len(digests), -1, dtype=np.int64)
    if not len(digests):
        return leaked, partners
    order = np.lexsort((-splits, digests))
    sorted_digests = digests[order]
    first = np.concatenate([[True], sorted_digests[1:] != sorted_digests[:-1]])
    head = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    lower = splits[order] < splits[head]
    leaked[order[lower]] = True
    partners[order[lower]] = head[lower]
    return leaked, partners


def drop_copies(
    ledger: Ledger, digests: np.ndarray, given: np.ndarray, witnesses: np.ndarray, which: str, reasons: tuple[str, str]
) -> None:
    """Drop copies and contradictions among the kept rows; where the splits are given, in each of them by itself.

    Args:
        ledger: its ``label`` says what contradicts what.
        digests: (rows,) of ``S16``; equal digests mean equal rows.
        given: (rows,) the split each row comes with.
        witnesses: (rows,) of bool: rows that are gone, but whose labels still count.
        which: of the rows, for the report.
        reasons: codes of a contradiction and of a copy.
    """
    verdicts = np.zeros(len(digests), dtype=np.int8)
    partners = np.full(len(digests), -1, dtype=np.int64)
    cleaning = ledger.spec.cleaning
    for split in np.unique(given):
        rows = np.flatnonzero((ledger.kept | witnesses) & (given == split))
        verdicts[rows], beside = resolve_copies(
            digests[rows], ledger.label[rows], ledger.kept[rows], cleaning.duplicates, cleaning.conflicts
        )
        partners[rows] = np.where(beside >= 0, rows[beside], -1)
    conflict, duplicate = reasons
    ledger.drop(
        f"copies of {which}",
        [(verdicts == CONFLICT, conflict, partners), (verdicts == DUPLICATE, duplicate, partners)],
    )


def drop_leaks(ledger: Ledger, digests: np.ndarray, given: np.ndarray, step: str, reason: str) -> None:
    """Drop what is also in a given split that matters more: test before validation before train."""
    rows = np.flatnonzero(ledger.kept)
    found, beside = leaked_rows(digests[rows], given[rows])
    leaked, partners = np.zeros(len(digests), dtype=bool), np.full(len(digests), -1, dtype=np.int64)
    leaked[rows], partners[rows] = found, np.where(beside >= 0, rows[beside], -1)
    ledger.drop(step, [(leaked, reason, partners)])
