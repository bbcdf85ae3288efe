"""Closed sequences with gaps: BIDE (Wang and Han 2004), one length at a time.

A sequence's *ends* are the places where an occurrence of it may end; they alone decide how it can grow, so a level of
the search is the set of frequent sequences of one length with their ends. Three checks, as in BIDE:

- forward extension: a longer sequence with the same support begins with it;
- BackScan pruning: a one-token longer sequence has exactly the same ends. Whatever is appended to both of them occurs
  in the same texts then, so nothing that begins with the shorter one is closed;
- backward extension: a token before the first or between two of its tokens, with the same texts. Most such longer
  sequences are in the next level; those that pruning kept from it are looked for in the texts themselves
  (`opinionlm.adaptation.adapt.extensions`), so that nothing is missed.

Without a gap limit an occurrence that ends earlier can do whatever a later one can, so the first end in every text is
all that is kept, as in BIDE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from opinionlm.adaptation.adapt.contiguous import Sequences
from opinionlm.adaptation.adapt.corpus import BLANK, Corpus, pieces, ragged_ranges, run_starts
from opinionlm.adaptation.adapt.extensions import extended_backward

# Places looked at together for the next token: bounds what a step needs beside the level itself.
PLACES_AT_A_TIME = 1_000_000


class SearchExplodedError(Exception):
    """The frequent sequences of one length need more memory than allowed; carries that length."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length


@dataclass(frozen=True)
class Level:
    """Frequent sequences of one length.

    Attributes:
        items: ``(n, length)``.
        offsets: ``(n + 1,)``, where the ends of each begin.
        ends: places where occurrences end, ascending within each sequence.
        support: ``(n,)`` number of texts.
        parent: ``(n,)`` row of the sequence without its last token in the level before.
    """

    items: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    support: np.ndarray
    parent: np.ndarray

    def rows(self, chosen: np.ndarray) -> Level:
        """Some of the sequences, in ascending order."""
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[chosen])])
        _, places = ragged_ranges(self.offsets[chosen], self.offsets[chosen + 1])
        return Level(self.items[chosen], offsets, self.ends[places], self.support[chosen], self.parent[chosen])

    def nodes(self) -> np.ndarray:
        """Row of the sequence that each end belongs to."""
        return np.repeat(np.arange(len(self.support)), np.diff(self.offsets))

    def by_text(self, corpus: Corpus) -> Level:
        """The same sequences with the texts that they occur in instead of their ends."""
        node, document = self.nodes(), corpus.document[self.ends]
        starts = run_starts(node, document)
        offsets = np.concatenate([[0], np.cumsum(self.support)])
        return Level(self.items, offsets, document[starts], self.support, self.parent)

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(part.nbytes for part in (self.items, self.offsets, self.ends, self.support, self.parent))


def closed_gapped(
    corpus: Corpus,
    min_length: int,
    max_length: int,
    min_support: int,
    max_bytes: int,
    progress: Callable[[int, int], None],
) -> list[Sequences]:
    """Mine closed sequences with gaps.

    Args:
        corpus: built with the gap limit and the same support.
        min_length: shorter ones are searched but not returned.
        max_length: longest ones returned.
        min_support: number of texts.
        max_bytes: memory that the tables of the search may take.
        progress: told of every length and its number of frequent sequences.

    Returns:
        One ``(sequences (n, length), supports (n,))`` for every length that has any.

    Raises:
        SearchExplodedError: a level did not fit into ``max_bytes``.
    """
    fingerprints = Fingerprints(corpus, max_length + 1)
    level = single_items(corpus)
    closed_sequences: list[Sequences] = []
    for length in range(1, max_length + 1):
        progress(length, len(level.support))
        longer = grow(corpus, level, min_support, max_bytes - level.nbytes)
        closed = np.ones(len(level.support), bool)
        closed[longer.parent[longer.support == level.support[longer.parent]]] = False
        pruned = coincident(fingerprints, level, longer)
        if length >= min_length:
            closed &= ~pruned
            level_texts, longer_texts = level.by_text(corpus), longer.by_text(corpus)
            closed &= ~coincident(fingerprints, level_texts, longer_texts)
            candidates = level_texts.rows(np.flatnonzero(closed))
            compare = fingerprints.comparison(candidates, longer_texts)
            extended = extended_backward(corpus, candidates.items, candidates.nodes(), candidates.ends, compare)
            if not extended.all():
                closed_sequences.append((candidates.items[~extended], candidates.support[~extended]))
        level = longer.rows(np.flatnonzero(~pruned[longer.parent]))
        if len(level.support) == 0:
            break
    return closed_sequences


def single_items(corpus: Corpus) -> Level:
    """The level of sequences of one token."""
    ends = np.flatnonzero(corpus.items != BLANK)
    ends = ends[np.argsort(corpus.items[ends], kind="stable")]
    if corpus.window is None:
        ends = ends[run_starts(corpus.items[ends], corpus.document[ends])]
    count = len(corpus.token_ids)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(corpus.items[ends], minlength=count))])
    items = np.arange(count, dtype=np.int32)[:, None]
    return Level(items, offsets, ends.astype(np.int32), corpus.supports, np.zeros(count, np.int64))


def grow(corpus: Corpus, level: Level, min_support: int, max_bytes: int) -> Level:
    """All frequent sequences of one more token.

    Raises:
        SearchExplodedError: it takes more.
    """
    length = level.items.shape[1] + 1
    bits = max(len(corpus.items).bit_length(), 1)
    parts, used = [], 0
    places_before = np.concatenate([[0], np.cumsum(corpus.room_behind(level.ends))])[level.offsets]
    most_rows = 2 ** (62 - bits) // max(len(corpus.token_ids), 1)
    for begin, stop in pieces(places_before, PLACES_AT_A_TIME, most_rows):
        ends = level.ends[level.offsets[begin] : level.offsets[stop]]
        node = np.repeat(np.arange(stop - begin), np.diff(level.offsets[begin : stop + 1]))
        source, places = corpus.after(ends)
        # One number for sequence, appended token and place: sorting it sorts by all three.
        keys = ((node[source] * len(corpus.token_ids) + corpus.items[places]) << bits) | places
        keys.sort()
        keys = keys[run_starts(keys)]
        group, offsets, new_ends, support = _frequent(corpus, keys >> bits, keys & (2**bits - 1), min_support)
        parent, item = group // len(corpus.token_ids) + begin, group % len(corpus.token_ids)
        items = np.concatenate([level.items[parent], item[:, None].astype(np.int32)], axis=1)
        parts.append(Level(items, offsets, new_ends, support, parent))
        used += parts[-1].nbytes
        # Putting the parts together takes their memory a second time.
        if 2 * used > max_bytes:
            raise SearchExplodedError(length)
    if not parts:
        empty = np.empty(0, np.int64)
        return Level(np.empty((0, length), np.int32), np.zeros(1, np.int64), empty, empty, empty)
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return Level(
        np.concatenate([part.items for part in parts]),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.support for part in parts]),
        np.concatenate([part.parent for part in parts]),
    )


def _frequent(
    corpus: Corpus, group: np.ndarray, places: np.ndarray, min_support: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Keep the groups of places that lie in enough texts: group, offsets, places and number of texts."""
    texts = run_starts(group, corpus.document[places])
    if corpus.window is None:
        group, places = group[texts], places[texts]
        texts = np.arange(len(group))
    starts = run_starts(group)
    sizes = np.diff(np.append(starts, len(group)))
    support = np.bincount(np.repeat(np.arange(len(starts)), sizes)[texts], minlength=len(starts))
    kept = support >= min_support
    offsets = np.concatenate([[0], np.cumsum(sizes[kept])])
    return group[starts[kept]], offsets, places[np.repeat(kept, sizes)].astype(np.int32), support[kept]


class Fingerprints:
    """Random 64-bit sums by which equal sequences with equal ends are found; what they find is verified."""

    def __init__(self, corpus: Corpus, max_length: int) -> None:
        generator = np.random.default_rng(0)
        self.places = generator.integers(0, 2**64, len(corpus.items), np.uint64)
        self.tokens = generator.integers(0, 2**64, len(corpus.token_ids), np.uint64)
        # Odd factors, one per slot of a sequence, tell orders apart.
        self.slots = generator.integers(0, 2**63, max_length, np.uint64) * np.uint64(2) + np.uint64(1)

    def of(self, level: Level) -> np.ndarray:
        """Of every sequence with its ends."""
        return self.of_items(level.items) + self.of_ends(level)

    def of_items(self, sequences: np.ndarray) -> np.ndarray:
        """Of sequences alone: ``(n,)`` from ``(n, length)``."""
        return (self.tokens[sequences] * self.slots[: sequences.shape[1]]).sum(axis=1)

    def comparison(self, level: Level, longer: Level) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """A function that compares rows of ``level`` with sequences of one token more by their ends.

        It takes rows and ``(m, length + 1)`` items and returns 1 for equal and 0 for different ends, -1 where the
        longer sequence is not in ``longer``.
        """
        keys = self.of_items(longer.items)
        order = np.argsort(keys)
        keys = keys[order]

        def compare(rows: np.ndarray, sequences: np.ndarray) -> np.ndarray:
            result = np.full(len(rows), -1)
            if len(keys):
                wanted = self.of_items(sequences)
                place = order[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)]
                there = np.flatnonzero((longer.items[place] == sequences).all(axis=1))
                result[there] = _equal_ends(longer, place[there], level, rows[there])
            return result

        return compare

    def of_ends(self, level: Level) -> np.ndarray:
        """Of every sequence's ends."""
        return np.add.reduceat(self.places[level.ends], level.offsets[:-1]) if len(level.ends) else np.empty(0, "u8")

    def without_one(self, level: Level) -> np.ndarray:
        """Of every sequence less the token in each slot, with the whole sequence's ends: ``(n, length)``."""
        length = level.items.shape[1]
        tokens = self.tokens[level.items]
        kept, moved = tokens * self.slots[:length], tokens[:, 1:] * self.slots[: length - 1]
        before = np.cumsum(kept, axis=1) - kept
        behind = np.zeros_like(kept)
        behind[:, :-1] = np.cumsum(moved[:, ::-1], axis=1)[:, ::-1]
        return before + behind + self.of_ends(level)[:, None]


def coincident(fingerprints: Fingerprints, level: Level, longer: Level) -> np.ndarray:
    """Which sequences have the same ends (or texts) as one of ``longer`` that has one token more, before its last.

    Returns:
        ``(n,)`` truth values for the sequences of ``level``.
    """
    coincide = np.zeros(len(level.support), bool)
    if len(longer.support) == 0:
        return coincide
    keys = fingerprints.of(level)
    order = np.argsort(keys)
    keys = keys[order]
    # The last slot is left out: a sequence less its last token is its parent, and has other ends.
    for slot, wanted in enumerate(fingerprints.without_one(longer).T[:-1]):
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        rows = np.flatnonzero(keys[place] == wanted)
        shorter = order[place[rows]]
        new = ~coincide[shorter]
        rows, shorter = rows[new], shorter[new]
        same = (np.delete(longer.items[rows], slot, axis=1) == level.items[shorter]).all(axis=1)
        same &= _equal_ends(longer, rows, level, shorter)
        coincide[shorter[same]] = True
    return coincide


def _equal_ends(one: Level, rows: np.ndarray, other: Level, other_rows: np.ndarray) -> np.ndarray:
    """Whether pairs of sequences have the same ends."""
    sizes = np.diff(one.offsets)[rows]
    same = sizes == np.diff(other.offsets)[other_rows]
    pair, place = ragged_ranges(one.offsets[rows[same]], one.offsets[rows[same] + 1])
    _, other_place = ragged_ranges(other.offsets[other_rows[same]], other.offsets[other_rows[same] + 1])
    different = pair[one.ends[place] != other.ends[other_place]]
    same[np.flatnonzero(same)[different]] = False
    return same
