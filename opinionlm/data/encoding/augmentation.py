"""More rows of rare labels, for training only: the same again, or perturbed (EDA, Wei and Zou 2019, no thesaurus).

Own code: a copy changes a tenth of a text's words by one of three operations, for which no dependency is worth it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from datasets import Dataset, concatenate_datasets

# What the id of a copy has behind that of its text.
MARK = "~copy"
# A text that would need more copies than this is not worth more: the model would learn it by heart.
MOST_COPIES = 4
# Share of a text's words that a copy changes, at least one.
CHANGED = 0.1
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {key: row[max(at - 1, 0) : at] + row[at + 1 : at + 2] for row in ROWS for at, key in enumerate(row)}


def with_copies(texts: Dataset, share: float, seed: int) -> Dataset:
    """Training rows, and behind them copies that bring labels below the median count towards it.

    A label with fewer texts than the median label gets copies until it has ``share`` times the median, though never
    more than `MOST_COPIES` of a text. A copy has the id of its text with `MARK` and a number, and all else of it but
    for the text (of a pair, the first). Every copy depends on the seed, the row and its number alone.
    """
    labels = np.asarray(texts["label"])
    counts = Counter(labels.tolist())
    median = float(np.median(list(counts.values())))
    columns = {name: list(texts[name]) for name in ("id", "text")}
    chosen: list[int] = []
    ids: list[str] = []
    copies: list[str] = []
    for label, count in sorted(counts.items()):
        wanted = min(round(share * median) - count, MOST_COPIES * count) if count < median else 0
        rows = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label)).tolist()
        for number in range(max(wanted, 0)):
            row, turn = rows[number % count], number // count + 1
            text = columns["text"][row]
            copy = perturbed(text, np.random.default_rng([seed, row, turn]))
            # A text of a single short word may have no other form.
            if copy != text:
                chosen.append(row)
                ids.append(f"{columns['id'][row]}{MARK}{turn}")
                copies.append(copy)
    if not chosen:
        return texts
    columns = texts.select(chosen).to_dict() | {"id": ids, "text": copies}
    return concatenate_datasets([texts, Dataset.from_dict(columns, features=texts.features)])


def oversampled(texts: Dataset, least: int, seed: int) -> Dataset:
    """Training rows, and behind them rows of rare labels again until each label has ``least`` (AdaPT, section 8.1).

    The rows of a label are taken in turn, in an order drawn with the seed.
    """
    labels = np.asarray(texts["label"])
    rows = [np.arange(len(labels))]
    for label, count in sorted(Counter(labels.tolist()).items()):
        order = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        rows.append(np.resize(order, max(least - count, 0)))
    return texts.select(np.concatenate(rows))


def copies_per_label(ids: Sequence[str], labels: Sequence[int]) -> Counter[int]:
    """How many rows of each label are copies."""
    return Counter(label for identity, label in zip(ids, labels, strict=True) if MARK in identity)


def perturbed(text: str, random: np.random.Generator) -> str:
    """A text with a tenth of its words left out, moved by one place, or mistyped."""
    words = text.split()
    times = max(1, round(CHANGED * len(words)))
    operation = random.choice(["drop", "swap", "typo"]) if len(words) > 1 else "typo"
    for _ in range(times):
        match operation:
            case "drop" if len(words) > 1:
                del words[random.integers(len(words))]
            case "swap" if len(words) > 1:
                at = int(random.integers(len(words) - 1))
                words[at], words[at + 1] = words[at + 1], words[at]
            case "typo":
                at = int(random.integers(len(words))) if words else 0
                words[at : at + 1] = [mistyped(word, random) for word in words[at : at + 1]]
    return " ".join(words)


def mistyped(word: str, random: np.random.Generator) -> str:
    """A word with one letter replaced by its neighbour on the keyboard; links, tags, names and tickers stay."""
    places = [at for at, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not places or word[0] in "@#$" or "://" in word:
        return word
    at = places[random.integers(len(places))]
    near = NEIGHBOURS[word[at].lower()]
    letter = near[random.integers(len(near))]
    return word[:at] + (letter.upper() if word[at].isupper() else letter) + word[at + 1 :]
