"""Find many token sequences in many texts at once: a trie walked by all places of all texts together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from opinionlm.adaptation.adapt.corpus import run_starts

FILTER_BITS = 18


class SequenceMatcher:
    """Finds occurrences of sequences: leftmost first, those of one sequence never overlapping.

    Like Aho and Corasick's automaton it reads each token a few times, however many sequences there are. In place of
    failure links every place starts at the root: nearly all of them have left the trie after the second token.

    Args:
        sequences: token ids of every sequence, all different.
        max_gap: most tokens skipped between neighbours of a sequence; None for any number.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], max_gap: int | None) -> None:
        self.max_gap = max_gap
        largest = max(chain.from_iterable(sequences), default=0)
        # Padding and larger ids share the last entry, which leads nowhere.
        self.outside = largest + 1
        children: dict[tuple[int, int], int] = {}
        ending = {0: -1}
        for number, sequence in enumerate(sequences):
            node = 0
            for token in sequence:
                node = children.setdefault((node, token), len(children) + 1)
                ending.setdefault(node, -1)
            ending[node] = number
        self.ending = np.array([ending[node] for node in range(len(ending))])
        self.root = np.full(self.outside + 1, -1)
        keys = []
        for (node, token), child in children.items():
            if node == 0:
                self.root[token] = child
            else:
                keys.append((node * (self.outside + 1) + token, child))
        keys.sort()
        self.edges, self.targets = np.array(keys, np.int64).reshape(-1, 2).T
        # Most pairs of a node and a token are no edge; a look into this small table rules them out.
        self.possible = np.zeros(2**FILTER_BITS, bool)
        self.possible[_hash(self.edges)] = True

    def find(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Occurrences in texts, which are given by their token ids.

        Returns:
            Row, index of the occurrence's first token in it, and number of the sequence; in that order of rows and
            tokens, sequences that begin at the same token in the order of their numbers.
        """
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        window = int(lengths.max(initial=0)) if self.max_gap is None else self.max_gap + 1
        total = int(lengths.sum())
        flat = np.fromiter(chain.from_iterable(rows), np.int64, total)
        begins = np.cumsum(lengths + window) - lengths - window
        # As many blanks behind each text as a window reaches: none gets into the next text.
        tokens = np.full(total + window * len(rows), self.outside)
        tokens[np.arange(total) + np.repeat(window * np.arange(len(rows)), lengths)] = np.minimum(flat, self.outside)

        node = self.root[tokens]
        start = end = np.flatnonzero(node >= 0)
        node = node[start]
        occurrences = []
        while len(node):
            number = self.ending[node]
            done = number >= 0
            occurrences.append((number[done], start[done], end[done]))
            node, start, end = self._step(tokens, node, start, end, window)
        if not occurrences:
            return (np.empty(0, np.int64),) * 3
        number, start, end = (np.concatenate(column) for column in zip(*occurrences, strict=True))
        number, start = _leftmost(number, start, end)
        order = np.lexsort((number, start))
        number, start = number[order], start[order]
        row = np.searchsorted(begins, start, side="right") - 1
        return row, start - begins[row], number

    def _step(
        self, tokens: np.ndarray, node: np.ndarray, start: np.ndarray, end: np.ndarray, window: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow every edge that a token within the window allows."""
        parts = []
        for distance in range(1, window + 1):
            places = end + distance
            keys = node * (self.outside + 1) + tokens[places]
            hits = np.flatnonzero(self.possible[_hash(keys)])
            at = np.minimum(np.searchsorted(self.edges, keys[hits]), len(self.edges) - 1)
            real = self.edges[at] == keys[hits] if len(self.edges) else np.zeros(len(hits), bool)
            hits = hits[real]
            parts.append((self.targets[at[real]], start[hits], places[hits]))
        node, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
        if window > 1:
            order = np.lexsort((end, node, start))
            node, start, end = node[order], start[order], end[order]
            keep = run_starts(node, start) if self.max_gap is None else run_starts(node, start, end)
            node, start, end = node[keep], start[keep], end[keep]
        return node, start, end


def _hash(keys: np.ndarray) -> np.ndarray:
    """Few bits of a number that depend on all of it (Fibonacci hashing)."""
    return (keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - FILTER_BITS)


def _leftmost(number: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each sequence's occurrences the first, then the first that begins behind its end, and so on."""
    order = np.lexsort((end, start, number))
    number, start, end = number[order], start[order], end[order]
    first = run_starts(number, start)
    number, start, end = number[first], start[first], end[first]
    overlapping = np.zeros(len(number), bool)
    overlapping[1:] = (number[1:] == number[:-1]) & (start[1:] <= end[:-1])
    if overlapping.any():
        kept = np.ones(len(number), bool)
        last = -1
        for index in np.flatnonzero(overlapping | np.append(overlapping[1:], False)).tolist():
            if overlapping[index] and start[index] <= last:
                kept[index] = False
            else:
                last = end[index]
        number, start = number[kept], start[kept]
    return number, start
