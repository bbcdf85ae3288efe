"""BIDE's backward-extension check: does a token before or inside a sequence come with it wherever it occurs?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from opinionlm.adaptation.adapt.corpus import BLANK, Corpus, pieces, ragged_ranges, run_starts

# Pairs of a sequence and a text that are looked at together: bounds the memory.
PAIRS_AT_A_TIME = 50_000
# Texts of each sequence that are looked at, in turn: nearly every token is ruled out by the first few.
FIRST_TEXTS = (2, 4)


def extended_backward(
    corpus: Corpus,
    sequences: np.ndarray,
    owner: np.ndarray,
    texts: np.ndarray,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Which sequences have an extension, other than behind their last token, that occurs in the very same texts.

    Args:
        corpus: the texts.
        sequences: ``(n, length)`` items.
        owner: which sequence occurs, ascending.
        texts: and in which text, ascending within a sequence.
        compare: takes rows of ``sequences`` and ``(m, length + 1)`` items; returns 1 where both occur in the same
            texts, 0 where not, and -1 for a longer sequence whose texts are not known.

    Returns:
        ``(n,)`` truth values.
    """
    support = np.bincount(owner, minlength=len(sequences))
    rank = np.arange(len(owner)) - (np.cumsum(support) - support)[owner]
    likely = np.ones(len(owner), bool)
    extended = np.zeros(len(sequences), bool)
    for number in (*FIRST_TEXTS, len(owner)):
        some = likely & (rank < number)
        candidate, slot, item = _in_pieces(corpus, sequences, owner[some], texts[some])
        same = compare(candidate, _inserted(sequences[candidate], slot, item))
        extended[candidate[same == 1]] = True
        unknown = (same < 0) & ~extended[candidate]
        candidate, slot, item = candidate[unknown], slot[unknown], item[unknown]
        likely = np.isin(owner, candidate)

    # With a gap limit, a token between two others bridges a gap that they alone may not leave: the extension may
    # occur in more texts than the sequence itself, and is none then. Else it occurs in no others.
    unsure = (slot > 0) & (corpus.window is not None)
    extended[candidate[~unsure]] = True
    unsure &= ~extended[candidate]
    candidate, longer = candidate[unsure], _inserted(sequences[candidate[unsure]], slot[unsure], item[unsure])
    extended[candidate[count_texts(corpus, longer) == support[candidate]]] = True
    return extended


def _inserted(sequences: np.ndarray, slot: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Each sequence with an item put before the token of a slot."""
    rows, length = sequences.shape
    column = np.arange(length + 1)
    moved = np.concatenate([sequences, np.zeros((rows, 1), sequences.dtype)], axis=1)
    moved[:, 1:] = np.where(column[1:] > slot[:, None], sequences, moved[:, 1:])
    moved[np.arange(rows), slot] = item
    return moved


def count_texts(corpus: Corpus, sequences: np.ndarray) -> np.ndarray:
    """In how many texts each of ``(n, length)`` sequences occurs."""
    keys, _, _ = corpus.postings
    order = np.argsort(corpus.supports[sequences], axis=1)
    rarest_first = np.take_along_axis(sequences, order, axis=1).astype(np.int64)
    rarest = rarest_first[:, 0]
    first, most = np.searchsorted(keys, rarest * corpus.documents), corpus.supports[rarest]
    counts = np.zeros(len(sequences), np.int64)
    for begin, stop in pieces(np.concatenate([[0], np.cumsum(most)]), PAIRS_AT_A_TIME):
        owner, place = ragged_ranges(first[begin:stop], (first + most)[begin:stop])
        texts = keys[place] % corpus.documents
        for item in rarest_first[begin:stop, 1:].T:
            key = item[owner] * corpus.documents + texts
            held = keys[np.minimum(np.searchsorted(keys, key), len(keys) - 1)] == key
            owner, texts = owner[held], texts[held]
        ends, _ = reach(corpus, sequences[begin:stop][owner], texts, backward=False)[-1]
        counts[begin:stop] = np.bincount(owner[ends[run_starts(ends)]], minlength=stop - begin)
    return counts


def reach(
    corpus: Corpus, sequences: np.ndarray, texts: np.ndarray, backward: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where the first tokens of each sequence can end in its text or, backward, where its last tokens can begin.

    Args:
        corpus: the texts.
        sequences: ``(pairs, length)`` items.
        texts: ``(pairs,)`` the text in which each is looked for.
        backward: from the last token to the first.

    Returns:
        For every slot the pairs and places at which its token ends (begins) such a part, in ascending order.
    """
    length = sequences.shape[1]
    slots = range(length - 1, -1, -1) if backward else range(length)
    keys, offsets, positions = corpus.postings
    occurrences: list[tuple[np.ndarray, np.ndarray]] = []
    for slot in slots:
        wanted = sequences[:, slot]
        if not occurrences:
            key = wanted.astype(np.int64) * corpus.documents + texts
            posting = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            held = np.flatnonzero(keys[posting] == key)
            source, place = ragged_ranges(offsets[posting[held]], offsets[posting[held] + 1])
            pair, place = held[source], positions[place]
        else:
            pair, place = occurrences[-1]
            source, place = (corpus.before if backward else corpus.after)(place, wanted[pair])
            pair, place = _unique_pairs(corpus, pair[source], place)
        occurrences.append((pair, place))
    return occurrences[::-1] if backward else occurrences


def _between(corpus: Corpus, sequences: np.ndarray, texts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For every slot the pairs, and the places where a token may be put before the slot's own, with a gap limit."""
    heads, tails = reach(corpus, sequences, texts, backward=False), reach(corpus, sequences, texts, backward=True)
    pair, place = tails[0]
    source, middle = corpus.before(place)
    yield pair[source], middle
    for (head_pair, head), (pair, place) in zip(heads, tails[1:], strict=False):
        source, middle = corpus.after(head)
        middle_pair = head_pair[source]
        # The next place from which the rest of the sequence can go on.
        following = np.searchsorted(_key(corpus, pair, place), _key(corpus, middle_pair, middle), side="right")
        near = np.minimum(following, len(pair) - 1)
        exists = (following < len(pair)) & (pair[near] == middle_pair) & (place[near] - middle <= corpus.window)
        yield middle_pair[exists], middle[exists]


def _between_unlimited(
    corpus: Corpus, sequences: np.ndarray, texts: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same without one: whatever lies between the first end of what precedes and the last begin of the rest."""
    tails = [corpus.last[texts] + 1]
    for items in sequences.T[::-1]:
        tails.append(corpus.previous_place(items, tails[-1]))
    head = corpus.first[texts] - 1
    for items, tail in zip(sequences.T, tails[:0:-1], strict=True):
        pair, middle = ragged_ranges(head + 1, tail)
        filled = corpus.items[middle] != BLANK
        yield pair[filled], middle[filled]
        head = corpus.next_place(items, head)


def _in_pieces(
    corpus: Corpus, sequences: np.ndarray, owner: np.ndarray, texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_insertions`, for some sequences at a time."""
    names, counts = np.unique(owner, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    parts = [(np.empty(0, np.int64),) * 3]
    for begin, stop in pieces(offsets, PAIRS_AT_A_TIME):
        local = np.repeat(np.arange(stop - begin), counts[begin:stop])
        chosen = sequences[names[begin:stop]]
        row, slot, item = _insertions(corpus, chosen, local, texts[offsets[begin] : offsets[stop]])
        parts.append((names[begin:stop][row], slot, item))
    row, slot, item = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, slot, item


def _insertions(
    corpus: Corpus, sequences: np.ndarray, owner: np.ndarray, texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens that can be put before or into a sequence so that it still occurs in each of the given texts.

    Returns:
        Row of the sequence, slot (0: before its first token) and item.
    """
    asked = np.bincount(owner, minlength=len(sequences))
    between = _between_unlimited if corpus.window is None else _between
    per_slot = []
    for slot, (pair, middle) in enumerate(between(corpus, sequences[owner], texts)):
        item = corpus.items[middle]
        pair, item = _unique_pairs(corpus, pair, item)
        together = np.sort(owner[pair] * len(corpus.token_ids) + item)
        starts = run_starts(together)
        row, item = np.divmod(together[starts], len(corpus.token_ids))
        everywhere = np.diff(np.append(starts, len(together))) == asked[row]
        per_slot.append((row[everywhere], np.full(everywhere.sum(), slot), item[everywhere]))
    rows, slots, items = (np.concatenate(column) for column in zip(*per_slot, strict=True))
    return rows, slots, items


def _key(corpus: Corpus, pair: np.ndarray, place: np.ndarray) -> np.ndarray:
    """One number for a pair and a place (or item), in their order."""
    return pair * len(corpus.items) + place


def _unique_pairs(corpus: Corpus, pair: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys = np.sort(_key(corpus, pair, place))
    return np.divmod(keys[run_starts(keys)], len(corpus.items))
