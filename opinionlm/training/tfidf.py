"""TF-IDF and logistic regression: the honest floor of every table of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from opinionlm.errors import UserError
from opinionlm.training.logistic import GRID, LogisticFit, fit_logistic


class TfidfClassifier:
    """Words and word pairs, weighted by rarity, into a linear classifier.

    Args:
        balanced: weight every class by its inverse frequency.
        score: (gold ids, logits) → what C is chosen by, on validation.
        grid: the values of C to choose from.
    """

    def __init__(
        self, balanced: bool, score: Callable[[np.ndarray, np.ndarray], float], grid: tuple[float, ...] = GRID
    ) -> None:
        self.balanced, self.score, self.grid = balanced, score, grid
        # A word that one text alone has tells nothing about another.
        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        self.regression: LogisticFit | None = None

    def fit(
        self,
        train: tuple[Sequence[str], np.ndarray],
        validation: tuple[Sequence[str], np.ndarray],
        classes: int,
    ) -> TfidfClassifier:
        """Learn vocabulary and weights from the training texts, C from validation.

        Args:
            train: texts and label ids ``(rows,)``.
            validation: the same.
            classes: number of labels.

        Raises:
            UserError: no word occurs in two training texts, or fewer than two classes do.
        """
        try:
            features = self.vectorizer.fit_transform(train[0])
        except ValueError as error:
            raise UserError(f"engine: tfidf finds no word that two training texts share ({error})") from error
        held_out = self.vectorizer.transform(validation[0])
        self.regression = fit_logistic(
            (features, train[1]), (held_out, validation[1]), classes, self.balanced, self.score, self.grid
        )
        return self

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits ``(rows, classes)``."""
        return self.regression.logits(self.vectorizer.transform(texts))

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.regression.weight.size + self.regression.bias.size
