"""Token ids of many texts in one array, as the miners read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

BLANK = -1


@dataclass(frozen=True)
class Corpus:
    """Texts one after another; infrequent tokens are blanked out but keep their place, since gaps count them.

    Every text is followed by ``padding`` blanks, so that no window of that width reaches into the next text.

    Attributes:
        items: ``(positions,)`` int32, tokens renumbered in the order of their ids; `BLANK` where nothing can match.
        document: ``(positions,)`` int32, the text that a position belongs to.
        last: ``(documents,)`` int64, position of every text's last token.
        token_ids: ``(items,)`` the token id that an item stands for.
        supports: ``(items,)`` number of texts that hold an item.
        tokens: number of tokens, infrequent ones included.
        window: positions after a token at which its successor may stand; None for all of the text.
    """

    items: np.ndarray
    document: np.ndarray
    last: np.ndarray
    token_ids: np.ndarray
    supports: np.ndarray
    tokens: int
    window: int | None

    @property
    def documents(self) -> int:
        """Number of texts."""
        return len(self.last)

    @cached_property
    def postings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the items stand: keys ``item * documents + document``, offsets, and positions grouped by key."""
        positions = np.flatnonzero(self.items != BLANK)
        keys = self.items[positions].astype(np.int64) * self.documents + self.document[positions]
        order = np.argsort(keys, kind="stable")
        keys, positions = keys[order], positions[order]
        starts = run_starts(keys)
        return keys[starts], np.append(starts, len(keys)), positions

    def room_behind(self, positions: np.ndarray) -> np.ndarray:
        """Number of places behind each position where a successor may stand."""
        if self.window is None:
            return self.last[self.document[positions]] - positions
        return np.full(len(positions), self.window)

    def after(self, positions: np.ndarray, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Places where a successor may stand.

        Args:
            positions: places to look behind.
            wanted: the item that each successor has to be; by default any but a blank.

        Returns:
            Index into ``positions``, and place.
        """
        if self.window is None:
            source, places = ragged_ranges(positions + 1, self.last[self.document[positions]] + 1)
            items = self.items[places]
            chosen = items != BLANK if wanted is None else items == wanted[source]
            return source[chosen], places[chosen]
        return self._shifted(positions, range(1, self.window + 1), wanted)

    def before(self, positions: np.ndarray, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Places where a predecessor may stand, as `after`.

        Raises:
            ValueError: there is no gap limit.
        """
        if self.window is None:
            raise ValueError("places before need a gap limit")
        return self._shifted(positions, range(-self.window, 0), wanted)

    @cached_property
    def first(self) -> np.ndarray:
        """``(documents,)`` position of every text's first token (or blank)."""
        padding = 1 if self.window is None else self.window
        return np.concatenate([[0], self.last[:-1] + padding + 1])

    @cached_property
    def by_item(self) -> np.ndarray:
        """Ascending ``item * positions + position`` of everything that is not blank."""
        positions = np.flatnonzero(self.items != BLANK)
        return np.sort(self.items[positions].astype(np.int64) * len(self.items) + positions)

    def next_place(self, items: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Where items stand next after positions; they have to stand there."""
        base = items.astype(np.int64) * len(self.items)
        return self.by_item[np.searchsorted(self.by_item, base + positions, side="right")] - base

    def previous_place(self, items: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Where items stood last before positions; they have to stand there."""
        base = items.astype(np.int64) * len(self.items)
        return self.by_item[np.searchsorted(self.by_item, base + positions) - 1] - base

    def _shifted(
        self, positions: np.ndarray, distances: range, wanted: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        sources, targets = [], []
        for distance in distances:
            # A negative place of the first text is read from the blanks behind the last one.
            places = positions + distance
            items = self.items[places]
            sources.append(np.flatnonzero(items != BLANK if wanted is None else items == wanted))
            targets.append(places[sources[-1]])
        return np.concatenate(sources), np.concatenate(targets)


def build_corpus(rows: Sequence[Sequence[int]], max_gap: int | None, min_support: int) -> Corpus:
    """Lay token ids out for mining.

    Args:
        rows: token ids of every text.
        max_gap: most tokens that may be skipped between neighbours of a sequence; None for any number.
        min_support: tokens of fewer texts are blanked out.
    """
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    flat = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    owner = np.repeat(np.arange(len(rows)), lengths)
    tokens, items = np.unique(flat, return_inverse=True)
    pairs = np.unique(items * len(rows) + owner) // max(len(rows), 1)
    supports = np.bincount(pairs, minlength=len(tokens))
    frequent = supports >= min_support
    renumbered = np.where(frequent, np.cumsum(frequent) - 1, BLANK).astype(np.int32)

    padding = 1 if max_gap is None else max_gap + 1
    ends = np.cumsum(lengths + padding)
    places = np.arange(len(flat)) + owner * padding
    size = int(ends[-1]) if len(rows) else 0
    laid_out = np.full(size, BLANK, np.int32)
    laid_out[places] = renumbered[items]
    document = np.repeat(np.arange(len(rows), dtype=np.int32), lengths + padding)
    window = None if max_gap is None else max_gap + 1
    return Corpus(laid_out, document, ends - padding - 1, tokens[frequent], supports[frequent], len(flat), window)


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal rows begin in sorted arrays of one length."""
    if len(keys[0]) == 0:
        return np.empty(0, np.int64)
    changes = np.zeros(len(keys[0]) - 1, bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def pieces(total: np.ndarray, limit: int, most_rows: int | None = None) -> list[tuple[int, int]]:
    """Ranges of rows that together hold about ``limit`` of what is counted: bounds the memory of a step.

    Args:
        total: ``(rows + 1,)`` what all rows before each hold.
        limit: a single row may hold more.
        most_rows: of a range; None for any number.
    """
    ranges, begin, rows = [], 0, len(total) - 1
    while begin < rows:
        stop = max(int(np.searchsorted(total, total[begin] + limit, side="right")) - 1, begin + 1)
        stop = min(stop, begin + (most_rows or rows))
        ranges.append((begin, stop))
        begin = stop
    return ranges


def ragged_ranges(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of many ranges: index of the range, and number."""
    sizes = np.maximum(stop - first, 0)
    source = np.repeat(np.arange(len(first)), sizes)
    begins = np.cumsum(sizes) - sizes
    return source, np.arange(len(source)) - (begins - first)[source]
