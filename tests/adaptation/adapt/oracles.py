"""What the miners have to find, by trying everything."""

from __future__ import annotations

from collections.abc import Sequence

Texts = Sequence[Sequence[int]]
Found = dict[tuple[int, ...], int]


def occurs(text: Sequence[int], sequence: Sequence[int], max_gap: int | None) -> bool:
    """Whether a text has the tokens in order, with at most so many skipped between neighbours."""
    ends = {place for place, token in enumerate(text) if token == sequence[0]}
    for token in sequence[1:]:
        reach = len(text) if max_gap is None else max_gap + 1
        ends = {
            place for end in ends for place in range(end + 1, min(end + reach + 1, len(text))) if text[place] == token
        }
    return bool(ends)


def brute_force(texts: Texts, shortest: int, longest: int, min_support: int, max_gap: int | None) -> Found:
    """Closed frequent sequences by the definition in `opinionlm.adaptation.adapt.search`."""
    tokens = sorted({token for text in texts for token in text})
    support: dict[tuple[int, ...], frozenset[int]] = {}
    level: list[tuple[int, ...]] = [()]
    for _ in range(longest + 1):
        grown = [(*sequence, token) for sequence in level for token in tokens]
        level = []
        for sequence in grown:
            where = frozenset(row for row, text in enumerate(texts) if occurs(text, sequence, max_gap))
            if len(where) >= min_support:
                support[sequence] = where
                level.append(sequence)

    def is_closed(sequence: tuple[int, ...]) -> bool:
        slots = (0, len(sequence)) if max_gap == 0 else range(len(sequence) + 1)
        longer = ((*sequence[:slot], token, *sequence[slot:]) for slot in slots for token in tokens)
        return all(support.get(one) != support[sequence] for one in longer)

    return {one: len(support[one]) for one in support if shortest <= len(one) <= longest and is_closed(one)}


def without_open(found: Found) -> Found:
    """Drop sequences that a longer one with the same support contains as a subsequence: no gap limit."""
    by_support: dict[int, list[tuple[int, ...]]] = {}
    for sequence, support in found.items():
        by_support.setdefault(support, []).append(sequence)
    return {
        sequence: support
        for sequence, support in found.items()
        if not any(len(one) > len(sequence) and occurs(one, sequence, None) for one in by_support[support])
    }
