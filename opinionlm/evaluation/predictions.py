"""One row per text: what was gold, what was predicted, how sure, at every level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from opinionlm.data.taxonomy import Taxonomy


def prediction_header(taxonomy: Taxonomy) -> list[str]:
    """Columns that describe a prediction: leaf, confidence, the label per level, the probability per leaf."""
    levels = [f"level{level}" for level in range(1, taxonomy.depth + 1)]
    return ["predicted", "confidence", *levels, *[f"probability_{label}" for label in taxonomy.leaves]]


def prediction_rows(probabilities: np.ndarray, taxonomy: Taxonomy) -> Iterator[list[str]]:
    """One list of cells per row of ``(rows, leaves)`` probabilities, in the order of `prediction_header`.

    The leaf decides and its ancestors follow, so the levels always agree with each other.
    """
    for row in probabilities:
        leaf = int(row.argmax())
        levels = [taxonomy.label_at(leaf, level) for level in range(1, taxonomy.depth + 1)]
        yield [taxonomy.leaves[leaf], f"{row[leaf]:.6f}", *levels, *[f"{value:.6f}" for value in row]]


def split_table(
    ids: Sequence[str],
    platforms: Sequence[str],
    texts: Sequence[str],
    gold: np.ndarray,
    probabilities: np.ndarray,
    taxonomy: Taxonomy,
) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows of ``predictions/<split>.csv``."""
    header = ["id", "platform", "text", "gold", *prediction_header(taxonomy)]
    cells = prediction_rows(probabilities, taxonomy)
    rows = (
        [identity, platform, text, taxonomy.leaves[label], *predicted]
        for identity, platform, text, label, predicted in zip(ids, platforms, texts, gold, cells, strict=True)
    )
    return header, rows
