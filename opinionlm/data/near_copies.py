"""Evaluation texts that are nearly training texts: models know their labels by heart, which new texts have not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from opinionlm.data.prepared import PreparedDataset, load_prepared
from opinionlm.utils.files import write_json

# Cosine of the counts of runs of three to five characters from which on two texts are near-copies.
NEAR = 0.7
# Pairs of texts beyond which they are not compared: half an hour of a slow core.
MOST_PAIRS = 500_000_000
# Rows that are compared at once: bounds the memory.
ROWS = 200
FILE = "near_copies.json"


def near_copies(prepared: PreparedDataset) -> Mapping[str, frozenset[str]] | None:
    """The ids of validation and test texts that are near-copies of a training text, by split.

    They are found once and kept beside the prepared data.

    Args:
        prepared: of task sequence, whole or cut to some platforms: a copy of a left-out platform is one, too.

    Returns:
        None where there are too many texts to compare.
    """
    path = prepared.path / FILE
    if not path.is_file():
        whole = load_prepared(prepared.path).dataset
        texts = {name: texts_of(rows.to_dict()) for name, rows in whole.items()}
        if len(texts["train"]) * (len(texts["validation"]) + len(texts["test"])) > MOST_PAIRS:
            return None
        found = {}
        for name in ("validation", "test"):
            is_near = largest_cosines(texts[name], texts["train"]) >= NEAR
            found[name] = [row for row, near in zip(whole[name]["id"], is_near, strict=True) if near]
        # Data that may only be read are searched by every run.
        with suppress(OSError):
            write_json(path, found)
    else:
        found = json.loads(path.read_text(encoding="utf-8"))
    return {name: frozenset(ids) for name, ids in found.items()}


def texts_of(rows: Mapping[str, Sequence[str]]) -> list[str]:
    """The text of every row, of pairs both."""
    if "text_pair" not in rows:
        return list(rows["text"])
    return [f"{first}\n{second}" for first, second in zip(rows["text"], rows["text_pair"], strict=True)]


def largest_cosines(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """For every text the cosine to the reference that is most like it ``(texts,)``, by runs of 3 to 5 characters."""
    from sklearn.feature_extraction.text import HashingVectorizer

    # Hashed: a vocabulary of all runs would hold millions.
    counts = HashingVectorizer(analyzer="char", ngram_range=(3, 5), n_features=2**20, alternate_sign=False)
    known = counts.transform(references).T.tocsr()
    found = np.zeros(len(texts))
    for start in range(0, len(texts), ROWS):
        products = counts.transform(texts[start : start + ROWS]) @ known
        found[start : start + ROWS] = products.max(axis=1).toarray()[:, 0]
    return found
