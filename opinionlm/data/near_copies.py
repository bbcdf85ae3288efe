"""Evaluation texts that are nearly training texts: models know their labels by heart, which new texts have not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from opinionlm.data.prepared import PreparedDataset, load_prepared
from opinionlm.errors import UserError
from opinionlm.utils.files import write_json

# Cosine of the counts of runs of three to five characters from which on two texts are near-copies.
NEAR = 0.7
# Pairs of texts beyond which they are not compared: half an hour of a slow core.
MOST_PAIRS = 500_000_000
# Length of what a text's vector leaves out while candidates are looked for, and multiplications that this may take.
TAIL = 0.5
MOST_PRODUCTS = 2e11
# Rows that are compared at once: bounds the memory.
ROWS = 200
FILE = "near_copies.json"


def near_copies(prepared: PreparedDataset) -> Mapping[str, frozenset[str]] | None:
    """The ids of validation and test texts that are near-copies of a training text, by split.

    They are found once and kept beside the prepared data.

    Args:
        prepared: of a task with labels, whole or cut to some platforms: a copy of a left-out platform is one, too.

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
    known = vectors(references).T.tocsr()
    found = np.zeros(len(texts))
    for start in range(0, len(texts), ROWS):
        products = vectors(texts[start : start + ROWS]) @ known
        found[start : start + ROWS] = products.max(axis=1).toarray()[:, 0]
    return found


def vectors(texts: Sequence[str]) -> csr_matrix:
    """Counts of runs of 3 to 5 characters, of length 1: ``(texts, runs)``."""
    from sklearn.feature_extraction.text import HashingVectorizer

    # Hashed: a vocabulary of all runs would hold millions.
    counts = HashingVectorizer(analyzer="char", ngram_range=(3, 5), n_features=2**20, alternate_sign=False)
    return counts.transform(texts)


def near_copy_groups(texts: Sequence[str], source: str) -> np.ndarray:
    """Number of the group of every text ``(texts,)``: near-copies, and what a chain of them joins, share one.

    All pairs are compared without computing all cosines (Bayardo et al. 2007, "Scaling up all pairs similarity
    search"): every vector leaves out its most frequent runs, as many as hold at most `TAIL` of its length. With one
    order by frequency for all, what the kept parts of two vectors miss of their product lies in the rest of one of
    them, so that near-copies have a product of at least `NEAR` − `TAIL` there; of such pairs the
    cosine is computed.

    Raises:
        UserError: comparing would take more than `MOST_PRODUCTS` multiplications.
    """
    whole = vectors(texts)
    kept = without_frequent(whole)
    frequency = np.bincount(kept.indices, minlength=kept.shape[1]).astype(float)
    if (products := float(frequency @ frequency)) > MOST_PRODUCTS:
        raise UserError(
            f"{source}: split.near_copies: comparing {len(texts):,} texts takes {products:.1e} multiplications, more "
            f"than {MOST_PRODUCTS:.0e} (about an hour); leave it out, or give files splits of their own"
        )
    known = kept.T.tocsr()
    edges: list[np.ndarray] = []
    for start in range(0, len(texts), ROWS):
        candidates = (kept[start : start + ROWS] @ known).tocoo()
        first, second = candidates.row + start, candidates.col
        likely = (candidates.data >= NEAR - TAIL - 1e-4) & (first < second)
        first, second = first[likely], second[likely]
        cosines = np.asarray(whole[first].multiply(whole[second]).sum(axis=1)).ravel()
        edges.append(np.stack([first, second])[:, cosines >= NEAR])
    pairs = np.concatenate(edges, axis=1)
    graph = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(len(texts), len(texts)))
    return connected_components(graph, directed=False)[1]


def without_frequent(rows: csr_matrix) -> csr_matrix:
    """The rows without their most frequent runs, as many as hold at most `TAIL` of a row's length."""
    frequency = np.bincount(rows.indices, minlength=rows.shape[1])
    numbers = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    # One order for all rows: equally frequent runs by number.
    order = np.lexsort((rows.indices, -frequency[rows.indices], numbers))
    sums = np.cumsum(rows.data[order].astype(np.float64) ** 2)
    before = np.concatenate([[0.0], sums])[rows.indptr[:-1]]
    left = sums - np.repeat(before, np.diff(rows.indptr)) > TAIL**2
    kept = rows.copy()
    kept.data[order[~left]] = 0
    kept.eliminate_zeros()
    return kept
