"""One row per text, pair or sentence: what was gold, what was predicted, how sure, at every level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.similarity import ScorePredictions
from opinionlm.evaluation.tagging import TagPredictions

NO_BREAK_SPACE = "\u00a0"


def prediction_header(taxonomy: Taxonomy) -> list[str]:
    """Columns that describe a prediction: leaf, confidence, the label per level, the probability per leaf."""
    levels = [f"level{level}" for level in range(1, taxonomy.depth + 1)]
    return ["predicted", "confidence", *levels, *[f"probability_{label}" for label in taxonomy.leaves]]


def prediction_rows(
    probabilities: np.ndarray, taxonomy: Taxonomy, decided: np.ndarray | None = None
) -> Iterator[list[str]]:
    """One list of cells per row of ``(rows, leaves)`` probabilities, in the order of `prediction_header`.

    The leaf decides and its ancestors follow, so the levels always agree with each other.

    Args:
        probabilities: ``(rows, leaves)``.
        taxonomy: the label tree.
        decided: leaf ids ``(rows,)``; by default the likeliest leaves.
    """
    for row, leaf in zip(
        probabilities, (probabilities.argmax(axis=1) if decided is None else decided).tolist(), strict=True
    ):
        name, *levels = taxonomy.names_of(leaf)
        yield [name, f"{row[leaf]:.6f}", *levels, *[f"{value:.6f}" for value in row]]


def split_table(
    ids: Sequence[str], platforms: Sequence[str], predictions: SplitPredictions, taxonomy: Taxonomy
) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows of ``predictions/<split>.csv``, one row per text or pair of texts."""
    texts: list[Sequence[str]] = [predictions.texts]
    names = ["text"]
    if predictions.text_pairs is not None:
        texts.append(predictions.text_pairs)
        names.append("text_pair")
    header = ["id", "platform", *names, "gold", *prediction_header(taxonomy)]
    cells = prediction_rows(predictions.probabilities, taxonomy, predictions.predicted)
    rows = (
        [identity, platform, *read, taxonomy.leaves[label], *predicted]
        for identity, platform, label, predicted, *read in zip(
            ids, platforms, predictions.gold, cells, *texts, strict=True
        )
    )
    return header, rows


def tag_table(
    ids: Sequence[str], platforms: Sequence[str], predictions: TagPredictions
) -> tuple[list[str], Iterator[list[str]]]:
    """The same for tags, one row per sentence: words and tags separated by blanks, and the number of wrong tags.

    A blank within a word becomes one that does not break, so that words and tags stay as many.
    """
    names = (predictions.names(tags) for tags in (predictions.gold, predictions.predicted))
    rows = (
        [
            identity,
            platform,
            " ".join(word.replace(" ", NO_BREAK_SPACE) for word in words),
            " ".join(gold),
            " ".join(predicted),
            str(sum(one != other for one, other in zip(gold, predicted, strict=True))),
        ]
        for identity, platform, words, gold, predicted in zip(
            ids, platforms, predictions.sentences, *names, strict=True
        )
    )
    return ["id", "platform", "tokens", "gold", "predicted", "wrong"], rows


def score_table(
    ids: Sequence[str], platforms: Sequence[str], predictions: ScorePredictions
) -> tuple[list[str], Iterator[list[str]]]:
    """The same for scores, one row per pair."""
    columns = (predictions.texts, predictions.text_pairs, predictions.gold, predictions.predicted)
    rows = (
        [identity, platform, text, pair, f"{gold:g}", f"{predicted:.9g}"]
        for identity, platform, text, pair, gold, predicted in zip(ids, platforms, *columns, strict=True)
    )
    return ["id", "platform", "text", "text_pair", "gold", "predicted"], rows
