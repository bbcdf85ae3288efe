"""How predictable a sequence is in the texts it was mined from (AdaPT, function ComputePPLX)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opinionlm.adaptation.adapt.corpus import BLANK, Corpus, pieces, run_starts

# Places whose windows are looked at together: bounds the memory.
PLACES_AT_A_TIME = 1_000_000


def perplexities(
    corpus: Corpus, groups: Sequence[np.ndarray], smoothing: float, unigram_normalised: bool = False
) -> list[np.ndarray]:
    """Perplexity of sequences under the bigrams of their own texts.

    ``p = P(x1) · Π P(x[j+1] | x[j])`` and the perplexity is ``p ** (-1/k)``, with ``P(x)`` the share of x among all
    tokens and ``P(y | x) = (count(x, y) + smoothing · P(y)) / (count(x) + smoothing)``; without smoothing that is the
    paper's formula. ``count(x, y)`` is the number of places of x with a y at most a gap away: for contiguous
    sequences, adjacent pairs.

    Args:
        corpus: what the sequences were mined from, with the same gap limit.
        groups: ``(n, length)`` items of the corpus, an array for every length.
        smoothing: observations that the prior P(y) is worth (Dirichlet prior; MacKay and Peto 1995).
        unigram_normalised: divide every probability by that of the token alone (Roh et al. 2020).

    Returns:
        ``(n,)`` float64 for every array.
    """
    counts = np.bincount(corpus.items[corpus.items != BLANK], minlength=len(corpus.token_ids))
    share = counts / max(corpus.tokens, 1)
    keys = [group[:, :-1].astype(np.int64) * len(counts) + group[:, 1:] for group in groups]
    pairs = np.unique(np.concatenate([np.empty(0, np.int64), *(key.ravel() for key in keys)]))
    together = pair_counts(corpus, pairs)
    result = []
    for group, key in zip(groups, keys, strict=True):
        count = together[np.searchsorted(pairs, key)]
        conditional = (count + smoothing * share[group[:, 1:]]) / (counts[group[:, :-1]] + smoothing)
        log_probability = np.log(share[group[:, 0]]) + np.log(conditional).sum(axis=1)
        if unigram_normalised:
            log_probability -= np.log(share[group]).sum(axis=1)
        result.append(np.exp(-log_probability / group.shape[1]))
    return result


def pair_counts(corpus: Corpus, pairs: np.ndarray) -> np.ndarray:
    """For pairs ``first * items + second`` in ascending order: places of the first with the second within the gap."""
    items = len(corpus.token_ids)
    counts = np.zeros(len(pairs), np.int64)
    if len(pairs) == 0:
        return counts
    places = np.flatnonzero(corpus.items != BLANK)
    places = places[np.isin(corpus.items[places], pairs // items)]
    reached = np.concatenate([[0], np.cumsum(corpus.room_behind(places))])
    for begin, stop in pieces(reached, PLACES_AT_A_TIME):
        source, following = corpus.after(places[begin:stop])
        # A place of the first token counts once for every different token near it.
        seen = np.sort(source * items + corpus.items[following])
        source, second = np.divmod(seen[run_starts(seen)], items)
        first = corpus.items[places[begin:stop]][source].astype(np.int64)
        pairs_seen, number = np.unique(first * items + second, return_counts=True)
        at = np.minimum(np.searchsorted(pairs, pairs_seen), len(pairs) - 1)
        wanted = pairs[at] == pairs_seen
        counts[at[wanted]] += number[wanted]
    return counts
