"""Copies among the rows of a ledger: each given split by itself, then what is in a split that matters more."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from opinionlm.data.cleaning import Cleaning
from opinionlm.data.preparation.deduplication import drop_copies, drop_leaks


class Ledger:
    """What `drop_copies` and `drop_leaks` need of a ledger; notes (step, {reason: {row: partner}})."""

    def __init__(self, labels: list[int], gone: tuple[int, ...] = (), **cleaning: str) -> None:
        self.label, self.kept = np.array(labels), np.ones(len(labels), dtype=bool)
        self.kept[list(gone)] = False
        self.spec = SimpleNamespace(cleaning=Cleaning(**cleaning))
        self.dropped: list[tuple[str, dict[str, dict[int, int]]]] = []

    def drop(self, step: str, reasons: list[tuple[np.ndarray, str, np.ndarray]]) -> None:
        found = {}
        for mask, reason, partners in reasons:
            assert len(mask) == len(partners) == len(self.label)
            # What is not dropped has nothing to be compared with.
            found[reason] = {int(row): int(partners[row]) for row in np.flatnonzero(mask)}
        everywhere = np.any([mask for mask, _, _ in reasons], axis=0)
        assert all((partners[~everywhere] == -1).all() for _, _, partners in reasons)
        self.dropped.append((step, found))


def digests(text: str) -> np.ndarray:
    return np.array([letter.encode() for letter in text], dtype="S16")


def copies(ledger: Ledger, text: str, given: list[int], witnesses: tuple[int, ...] = ()) -> dict[str, dict[int, int]]:
    mask = np.zeros(len(text), dtype=bool)
    mask[list(witnesses)] = True
    drop_copies(ledger, digests(text), np.array(given), mask, "raw posts", ("contradiction", "copy"))
    ((step, found),) = ledger.dropped
    assert step == "copies of raw posts"
    return found


def test_partners_are_rows_of_the_whole_file() -> None:
    # Rows 2 and 5 are equal and agree, 3 and 6 contradict each other; 0, 1 and 4 stand alone.
    found = copies(Ledger([0, 0, 0, 0, 0, 0, 1]), "xyabzab", [0] * 7)
    assert found == {"contradiction": {3: 6, 6: 3}, "copy": {5: 2}}


def test_given_splits_are_looked_at_one_by_one() -> None:
    # The same text in three splits, twice in the last one, where it is labelled another way in the first.
    found = copies(Ledger([1, 0, 0, 0]), "aaaa", [0, 1, 2, 2])
    assert found == {"contradiction": {}, "copy": {3: 2}}


def test_rows_that_are_gone_count_only_as_witnesses() -> None:
    # Row 0 is gone. Without being a witness it is nothing, as one it contradicts row 1 and is not dropped again.
    assert copies(Ledger([1, 0], gone=(0,)), "aa", [0, 0]) == {"contradiction": {}, "copy": {}}
    found = copies(Ledger([1, 0], gone=(0,)), "aa", [0, 0], witnesses=(0,))
    assert found["contradiction"][1] == 0 and found["copy"] == {}


def test_the_options_of_the_data_set_decide() -> None:
    assert copies(Ledger([0, 0, 1], duplicates="keep", conflicts="keep"), "aaa", [0] * 3) == {
        "contradiction": {},
        "copy": {},
    }
    assert copies(Ledger([0, 1, 0], conflicts="keep_first"), "aaa", [0] * 3) == {
        "contradiction": {1: 0},
        "copy": {2: 0},
    }


def test_leaks_go_from_the_split_that_matters_less() -> None:
    ledger = Ledger([0] * 7, gone=(0,))
    # Row 0 would be the test copy of 1, but is gone; 2 (train) is in validation as 4, 3 (validation) in test as 6.
    drop_leaks(ledger, digests("aabcbdc"), np.array([2, 0, 0, 1, 1, 0, 2]), "across splits", "leak")
    assert ledger.dropped == [("across splits", {"leak": {2: 4, 3: 6}})]
