"""Closed contiguous sequences: all n-grams of one length at a time.

The one-token extensions of a contiguous sequence are those at its two ends. Every text that holds an extension holds
the sequence, so equal support means the same texts, and a sequence is closed when no extension has its support. The
number of places never grows from one length to the next, so nothing has to be pruned for the search to stay small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opinionlm.adaptation.adapt.corpus import BLANK, Corpus, run_starts

Sequences = tuple[np.ndarray, np.ndarray]


def closed_contiguous(
    corpus: Corpus, min_length: int, max_length: int, min_support: int, progress: Callable[[int, int], None]
) -> list[Sequences]:
    """Mine closed sequences without gaps.

    Args:
        corpus: built with ``max_gap=0`` and the same support.
        min_length: shorter ones are searched but not returned.
        max_length: longest ones returned.
        min_support: number of texts.
        progress: told of every length and its number of frequent sequences.

    Returns:
        One ``(sequences (n, length), supports (n,))`` for every length that has any.
    """
    size = len(corpus.items)
    # Node of the n-gram that begins at each place, BLANK where it is infrequent.
    node = corpus.items.astype(np.int64)
    first = np.zeros(len(corpus.token_ids), np.int64)
    places = np.flatnonzero(node != BLANK)
    first[node[places[::-1]]] = places[::-1]
    support = corpus.supports
    closed_sequences: list[Sequences] = []
    for length in range(1, max_length + 1):
        progress(length, len(support))
        # A frequent (n+1)-gram is made of two frequent n-grams; n-grams never reach over the blank between texts.
        places = places[(node[places] != BLANK) & (node[places + 1] != BLANK)]
        keys = node[places] * len(support) + node[places + 1]
        order = np.argsort(keys, kind="stable")
        keys, ordered = keys[order], places[order]
        starts = run_starts(keys)
        group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(keys))))
        texts = run_starts(keys, corpus.document[ordered])
        longer_support = np.bincount(group[texts], minlength=len(starts))
        kept = longer_support >= min_support
        longer_first, longer_support = ordered[starts[kept]], longer_support[kept]

        closed = np.ones(len(support), bool)
        for part in (node[longer_first], node[longer_first + 1]):
            closed[part[longer_support == support[part]]] = False
        if length >= min_length and closed.any():
            begin = first[closed]
            closed_sequences.append((corpus.items[begin[:, None] + np.arange(length)], support[closed]))

        node = np.full(size, BLANK, np.int64)
        node[ordered] = np.where(kept, np.cumsum(kept) - 1, BLANK)[group]
        first, support = longer_first, longer_support
        if len(support) == 0:
            break
    return closed_sequences
