"""Dropping copies and contradictions from the rows of a `Ledger`: inside every split, then across splits."""

from __future__ import annotations

import numpy as np

from opinionlm.data.deduplication import CONFLICT, DUPLICATE, leaked_rows, resolve_copies
from opinionlm.data.report import Ledger


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
