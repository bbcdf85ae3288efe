"""The training posts that are most like a text, so that people see what a model may have learned a label from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opinionlm.data.encoding.columns import subset
from opinionlm.data.loading import choose_platforms
from opinionlm.data.prepared import find_prepared, load_prepared
from opinionlm.models.linear.tfidf import new_vectorizer, word_texts
from opinionlm.utils.yaml import load_yaml

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer


@dataclass(frozen=True)
class Neighbour:
    """A training post like a text.

    Attributes:
        similarity: cosine of their words and word pairs weighted by rarity, above 0 and at most 1.
        label: of the post.
        text: of the post.
    """

    similarity: float
    label: str
    text: str


@dataclass(frozen=True)
class TrainingTexts:
    """The training posts of a run as words.

    Attributes:
        texts: of the training split.
        labels: of the same posts.
        vectorizer: fitted to them.
        words: ``(posts, terms)``, rows of length 1.
    """

    texts: list[str]
    labels: list[str]
    vectorizer: TfidfVectorizer
    words: csr_matrix

    def nearest(self, texts: Sequence[str], count: int = 3) -> list[list[Neighbour]]:
        """For every text the training posts that share most with it, the nearest first; fewer where few share a word.

        Args:
            texts: any number.
            count: at most so many each.
        """
        # One text after the other: all similarities at once would be as many numbers as texts times posts.
        return [self._nearest_to(row, count) for row in self.vectorizer.transform(texts)]

    def _nearest_to(self, row: csr_matrix, count: int) -> list[Neighbour]:
        similarities = (self.words @ row.T).toarray()[:, 0]
        best = np.argsort(-similarities, kind="stable")[:count]
        return [
            Neighbour(float(similarities[post]), self.labels[post], self.texts[post])
            for post in best
            if similarities[post] > 0
        ]


def training_texts(run: Path) -> TrainingTexts | None:
    """The training posts of a finished run; None where its prepared data are gone or its posts have no single label.

    Args:
        run: the run's folder.
    """
    try:
        facts = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        options = load_yaml((run / "config.yaml").read_text(encoding="utf-8"))
        folder = find_prepared(facts["data_fingerprint"], options, {})
    except (OSError, ValueError, KeyError):
        return None
    if folder is None:
        return None
    prepared = choose_platforms(load_prepared(folder), options.get("train_platforms"), None)
    if prepared.task != "sequence" or prepared.taxonomy is None:
        return None
    train = prepared.dataset["train"]
    if options.get("seeds") is None:
        # Members of an ensemble drew a part each.
        train = subset(train, options.get("max_train_samples"), options["seed"])
    vectorizer = new_vectorizer()
    try:
        words = vectorizer.fit_transform(word_texts(train))
    except ValueError:  # no word stands in two of them
        return None
    labels = [prepared.taxonomy.leaves[leaf] for leaf in train["label"]]
    return TrainingTexts(list(train["text"]), labels, vectorizer, words)
