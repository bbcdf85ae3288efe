"""TF-IDF and logistic regression: the baseline of every table of results, and a model to interpolate with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, diags, hstack

from opinionlm.data.encoding.features import platform_of, with_features
from opinionlm.data.spec import FeatureSpec
from opinionlm.errors import UserError
from opinionlm.models.classifier import WORD_FILES
from opinionlm.models.linear.logistic_regression import GRID, LogisticFit, fit_logistic

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

VOCABULARY, WEIGHTS = WORD_FILES

# Scripts that put no blanks between words: each character counts, and pairs of neighbours, as scikit-learn's own
# pattern would take a whole sentence for one word (Chinese, Japanese) or drop its vowels (Thai, Lao, Khmer, Burmese,
# Tibetan).
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Emoji, arrows, pictographs, shapes, mathematical signs and signs of currencies. What only changes how an emoji looks
# (skin, joiners, variation selectors) is passed over: ❤ and ❤️ are one.
SYMBOLS = "\u20a0-\u20cf\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001f3fa\U0001f400-\U0001fbff"
FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
# Words of two letters or more, as scikit-learn's pattern has them, where none of these stand in them.
TOKEN_PATTERN = rf"{FLAG}|[{SYMBOLS}]|[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}"
# Of models that were saved before they named theirs.
WORDS_ALONE = r"(?u)\b\w\w+\b"


def new_vectorizer(vocabulary: Sequence[str] | None = None, pattern: str = TOKEN_PATTERN) -> TfidfVectorizer:
    """Words, symbols and pairs of them; one that a single training text has tells nothing about another."""
    # Loaded by those who count words: a second, which every run would wait for.
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, vocabulary=vocabulary, token_pattern=pattern
    )


def require_shared_words(texts: Iterable[str], option: str) -> None:
    """Check before anything is trained that there is something to count.

    Args:
        texts: of the training split; few are read, since common words soon come again.
        option: that asks for words, for the message.

    Raises:
        UserError: if no word or symbol occurs in two of them.
    """
    analyze = new_vectorizer().build_analyzer()
    seen: set[str] = set()
    for text in texts:
        terms = set(analyze(text))
        if not terms.isdisjoint(seen):
            return
        seen |= terms
    if seen:
        reason = "every word occurs in one text only"
    else:
        reason = "they hold no word of two letters, no emoji and no character of an unspaced script"
    raise UserError(
        f"{option}: finds nothing that two training texts share ({reason}); leave it out, or give more texts"
    )


def word_texts(texts: Dataset, features: Sequence[FeatureSpec] = ()) -> list[str]:
    """The texts of a split as words are counted in them: of pairs both, and behind their features."""
    read = list(with_features(texts, features)["text"])
    if "text_pair" not in texts.column_names:
        return read
    return [f"{first} {second}" for first, second in zip(read, texts["text_pair"], strict=True)]


class TfidfClassifier:
    """Words and word pairs, weighted by rarity, into a linear classifier.

    With ``platforms`` every word has a weight that all posts share and one for each platform, because the same word
    may mean different things on each (feature augmentation, Daumé III 2007, "Frustratingly Easy Domain Adaptation").

    Args:
        balanced: weight every class by its inverse frequency.
        score: (gold ids, logits) → what C is chosen by, on validation.
        grid: the values of C to choose from.
        platforms: whose names `with_features` put in front of the texts; none for shared weights alone.
    """

    def __init__(
        self,
        balanced: bool,
        score: Callable[[np.ndarray, np.ndarray], float],
        grid: tuple[float, ...] = GRID,
        platforms: Sequence[str] = (),
    ) -> None:
        self.balanced, self.score, self.grid, self.platforms = balanced, score, grid, tuple(platforms)
        self.vectorizer = new_vectorizer()
        # Given by `fit`.
        self.regression: LogisticFit

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
            UserError: if no word occurs in two training texts, or fewer than two classes do.
        """
        try:
            self.vectorizer.fit(train[0])
        except ValueError as error:
            raise UserError(f"TF-IDF finds no word that two training texts share ({error})") from error
        features, held_out = self.features(train[0]), self.features(validation[0])
        self.regression = fit_logistic(
            (features, train[1]), (held_out, validation[1]), classes, self.balanced, self.score, self.grid
        )
        return self

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """Shared features and those of every platform, ``(rows, words · (1 + platforms))``, float64.

        A platform's block repeats the words of its own posts and is empty for all others.
        """
        shared = self.vectorizer.transform(texts)
        names = np.array([platform_of(text, self.platforms) for text in texts])
        blocks = [diags((names == platform).astype(np.float64)) @ shared for platform in self.platforms]
        return hstack([shared, *blocks], format="csr")

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits ``(rows, classes)``."""
        return self.regression.logits(self.features(texts))

    def save(self, folder: Path) -> None:
        """Write ``words.json`` (platforms, words, pattern) and ``words.safetensors`` (rarity, weights, biases)."""
        known = {"platforms": self.platforms, "words": self.vectorizer.get_feature_names_out().tolist()}
        known["pattern"] = self.vectorizer.token_pattern
        (folder / VOCABULARY).write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
        fit = self.regression
        arrays = {"idf": self.vectorizer.idf_, "weight": fit.weight, "bias": fit.bias}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WEIGHTS)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.regression.weight.size + self.regression.bias.size


def load_tfidf(folder: Path) -> TfidfClassifier:
    """Read back what `TfidfClassifier.save` wrote; the logits are the same to the last bit.

    Raises:
        OSError, ValueError, LookupError, SafetensorError: a file is missing or damaged.
    """
    known = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
    words, platforms = known["words"], known["platforms"]
    arrays = load_file(folder / WEIGHTS)
    if len(words) != len(arrays["idf"]) or len(words) * (1 + len(platforms)) != arrays["weight"].shape[1]:
        raise ValueError(f"{len(words)} words, {len(platforms)} platforms and {arrays['weight'].shape[1]} weights")
    model = TfidfClassifier(balanced=False, score=lambda gold, logits: 0.0, platforms=platforms)
    model.vectorizer = new_vectorizer(words, known.get("pattern", WORDS_ALONE))
    model.vectorizer.idf_ = arrays["idf"]
    model.regression = LogisticFit(arrays["weight"], arrays["bias"], c=0.0, scores={})
    return model
