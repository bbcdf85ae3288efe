"""Scores of free text: SQuAD's exact match and F1, ROUGE, perplexity; with bootstrap intervals."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from opinionlm.errors import UserError
from opinionlm.evaluation.metrics import interval

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# More letters than this share, which names and loan words have, are those of another language.
ROUGE_DROPS = 0.01
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def squad_words(text: str) -> list[str]:
    """The words that SQuAD compares (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no articles."""
    # Articles go after the punctuation, so that "the." is none any more, and "a-b" is one word.
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact_match(prediction: str, gold: str) -> float:
    """1 where both have the same words in the same order, else 0."""
    return float(squad_words(prediction) == squad_words(gold))


def overlap_f1(prediction: str, gold: str) -> float:
    """F1 of the two bags of words.

    Where one of them has no words, as the official script of SQuAD 1.1 has it, it is 0, also where both have none:
    SQuAD 1.1 has no unanswerable questions.
    """
    predicted_words, gold_words = squad_words(prediction), squad_words(gold)
    common = sum((Counter(predicted_words) & Counter(gold_words)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def squad_scores(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float | list[float]]:
    """``exact_match`` and ``f1`` between 0 and 1 (the official script prints percent), with 95 % intervals.

    Of several gold answers the best match counts, for either score on its own.

    Args:
        predictions: one answer per question.
        golds: at least one gold answer per question.

    Raises:
        UserError: numbers of rows differ, there are none, or a row has no gold answer.
    """
    check_rows(predictions, golds)
    pairs = list(zip(predictions, golds, strict=True))
    exact = [max(exact_match(prediction, gold) for gold in answers) for prediction, answers in pairs]
    overlap = [max(overlap_f1(prediction, gold) for gold in answers) for prediction, answers in pairs]
    return means_with_intervals({"exact_match": np.array(exact), "f1": np.array(overlap)})


def rouge_scores(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float | list[float]]:
    """F-measures of ROUGE-1, -2, -L and -Lsum (Lin 2004) between 0 and 1, with 95 % intervals.

    Computed by Google's ``rouge_score`` with Porter stemming, as summaries are usually scored. Of several references
    the one with the largest F-measure counts, for each type on its own: the maximum is the rule of SciTLDR (Cachola
    et al. 2020), and this form of it that of ``RougeScorer.score_multi``, which Hugging Face's ``evaluate`` uses too.
    For Lsum, sentences end where a blank follows ``.``, ``!`` or ``?``.

    Args:
        predictions: one summary per document.
        golds: at least one reference per document.

    Raises:
        UserError: numbers of rows differ, there are none, or a row has no reference.
    """
    # It imports scikit-learn and SciPy, for which only summaries wait.
    from rouge_score.rouge_scorer import RougeScorer

    check_rows(predictions, golds)
    scorer = RougeScorer(ROUGE_TYPES, use_stemmer=True)
    rows = [
        scorer.score_multi([sentence_lines(gold) for gold in references], sentence_lines(prediction))
        for prediction, references in zip(predictions, golds, strict=True)
    ]
    return means_with_intervals({kind: np.array([row[kind].fmeasure for row in rows]) for kind in ROUGE_TYPES})


def rouge_warning(golds: Sequence[Sequence[str]]) -> list[str]:
    """A line where ROUGE drops more letters of the references than a few: its words are of a to z and digits."""
    letters = [char for references in golds for gold in references for char in gold.lower() if char.isalpha()]
    share = sum(not "a" <= char <= "z" for char in letters) / max(len(letters), 1)
    if share <= ROUGE_DROPS:
        return []
    return [
        f"warning: ROUGE reads the letters a to z and digits alone, and {share:.0%} of the letters of the gold "
        "answers are others: its scores leave them out, and are 0 where nothing else is written"
    ]


def sentence_lines(text: str) -> str:
    """One sentence per line, as ROUGE-Lsum reads a text."""
    return SENTENCE_END.sub("\n", text.strip())


def perplexity(total_nll: float, tokens: int) -> float:
    """Perplexity over a whole set: every token that counts has the same weight, whatever its text's length.

    Args:
        total_nll: negative log-likelihood (nats) summed over all tokens of the set that count.
        tokens: their number.

    Raises:
        UserError: no tokens.
    """
    if tokens < 1:
        raise UserError("perplexity: there are no tokens to take it over; give more or longer texts or answers")
    # A hopeless model has a perplexity beyond what a float holds; infinity is no JSON.
    return math.exp(min(total_nll / tokens, 700.0))


def means_with_intervals(
    values: dict[str, np.ndarray], replicates: int = 2000, seed: int = 0
) -> dict[str, float | list[float]]:
    """Mean of each score over the texts, and ``<name>_ci95`` from a percentile bootstrap over them.

    Args:
        values: score of every text ``(texts,)``, by name.
        replicates: bootstrap samples, the same ones for all scores.
        seed: of the drawing.
    """
    rows = len(next(iter(values.values())))
    draws = np.random.default_rng(seed).integers(rows, size=(replicates, rows), dtype=np.int32)
    flat = draws + np.arange(replicates, dtype=np.int64)[:, None] * rows
    counts = np.bincount(flat.ravel(), minlength=replicates * rows).reshape(replicates, rows)
    scores: dict[str, float | list[float]] = {name: float(row.mean()) for name, row in values.items()}
    return scores | {f"{name}_ci95": interval(counts @ row / rows) for name, row in values.items()}


def check_rows(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> None:
    """Refuse what cannot be scored.

    Raises:
        UserError: see `squad_scores`.
    """
    if len(predictions) != len(golds) or not predictions:
        raise UserError(
            f"text scores: {len(predictions)} predictions for {len(golds)} rows; give one prediction for every row"
        )
    for number, answers in enumerate(golds):
        if isinstance(answers, str) or not len(answers):
            raise UserError(f"text scores: row {number} needs a list of at least one gold answer, found {answers!r}")
