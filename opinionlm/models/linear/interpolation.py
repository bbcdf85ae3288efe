"""A language model and word statistics as one: each sees what the other misses, and the second costs seconds.

An encoder reads order and meaning, TF-IDF with logistic regression rare words and fixed phrases (tickers, hashtags,
names). Their log probabilities are mixed, a logarithmic opinion pool (Genest and Zidek 1986): log p = (1 - share)
log p_model + share log p_words + constant. The share is chosen on validation; it is 0, the model alone, unless the
best mixture's gain is more than the best of so many choices brings by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from scipy.special import log_softmax

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.columns import subset
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError, one_line
from opinionlm.models.linear.tfidf import VOCABULARY, TfidfClassifier, load_tfidf, require_shared_words, word_texts

# Half-decades around scikit-learn's default of 1.
C_GRID = (0.3, 1.0, 3.0, 10.0, 30.0)
SHARES = tuple(round(0.1 * step, 1) for step in range(10))

# p-value of the best mixture's gain up to which words take part. At 0.2 nine of ten draws without a true gain leave
# them out, since most mixtures then lose (tests/models/linear/test_interpolation.py simulates it).
LEVEL = 0.2

Score = Callable[[np.ndarray, np.ndarray], float]
# (gold ids, predictions of the model alone, predictions of all mixtures (mixtures, rows)) → p-value of the best gain.
Check = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class TfidfInterpolation:
    """Interpolation of a model with TF-IDF and logistic regression, and the share of those.

    Attributes:
        words: the fitted word statistics.
        share: of the words in the mixture, from 0 (the model alone) to below 1.
        scores: validation score by share, from the model alone (0.0) on.
        p_value: of the best mixture's gain on validation; 0 where it was not checked.
    """

    words: TfidfClassifier
    share: float
    scores: dict[float, float]
    p_value: float = 0.0

    def logits(self, model_logits: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Mixed log probabilities ``(rows, classes)``, float64, up to a constant per row.

        Args:
            model_logits: ``(rows, classes)`` of the model.
            texts: as `word_texts` gives them, in the same order.
        """
        return mixed(model_logits, self.words.logits(texts), self.share)


def mixed(model_logits: np.ndarray, word_logits: np.ndarray, share: float) -> np.ndarray:
    """The mixture of two sets of logits ``(rows, classes)``."""
    model = log_softmax(model_logits.astype(np.float64), axis=1)
    return (1 - share) * model + share * log_softmax(word_logits, axis=1)


def fit_interpolation(
    train: tuple[Sequence[str], np.ndarray],
    validation: tuple[Sequence[str], np.ndarray],
    model_logits: np.ndarray,
    balanced: bool,
    score: Score,
    check: Check,
    platforms: Sequence[str] = (),
) -> TfidfInterpolation:
    """Fit words on the training texts; choose their regularisation and their share together, on validation.

    What is best alone is not best beside a model: less regularised words say more that the model does not know.

    Args:
        train: texts and label ids ``(rows,)``.
        validation: the same.
        model_logits: of the model on the validation texts, ``(rows, classes)``.
        balanced: weight every class by its inverse frequency, where the model was trained for balance too.
        score: (gold ids, logits) → what is chosen by; the smaller share wins a tie.
        check: whether the best of all mixtures that were tried may be chance; above `LEVEL` the share is 0.
        platforms: that stand in front of the texts, for weights of their own; see `TfidfClassifier`.
    """
    tried: list[np.ndarray] = []

    def scores_by_share(gold: np.ndarray, word_logits: np.ndarray) -> dict[float, float]:
        mixtures = [mixed(model_logits, word_logits, share) for share in SHARES]
        tried.extend(logits.argmax(axis=1) for logits in mixtures[1:])
        return {share: score(gold, logits) for share, logits in zip(SHARES, mixtures, strict=True)}

    def best_mixture(gold: np.ndarray, word_logits: np.ndarray) -> float:
        return max(scores_by_share(gold, word_logits).values())

    words = TfidfClassifier(balanced, best_mixture, C_GRID, platforms)
    words.fit(train, validation, model_logits.shape[1])
    scores = scores_by_share(validation[1], words.logits(validation[0]))
    p_value = check(validation[1], model_logits.argmax(axis=1), np.stack(tried))
    share = max(SHARES, key=lambda share: scores[share]) if p_value <= LEVEL else 0.0
    return TfidfInterpolation(words, share, scores, p_value)


def check_words(prepared: PreparedDataset, data: DataConfig, seed: int, source: str) -> None:
    """Whether TF-IDF can be fitted at all, before the model is trained.

    Raises:
        UserError: if no two training texts share a word.
    """
    texts = subset(prepared.dataset["train"], data.max_train_samples, seed)
    require_shared_words(word_texts(texts), f"{source}: blend_words")


def load_interpolation(folder: Path, share: float) -> TfidfInterpolation | None:
    """The interpolation of a saved model, None for one without, whose share is 0.

    Raises:
        UserError: if they are missing or damaged.
    """
    if share == 0:
        return None
    try:
        return TfidfInterpolation(load_tfidf(folder), share, scores={})
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise UserError(
            f"--model: the TF-IDF interpolation in {folder} ({VOCABULARY}, words.safetensors) cannot be read "
            f"({one_line(error)}); copy the whole folder anew"
        ) from error
