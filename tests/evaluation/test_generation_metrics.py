"""SQuAD's scores against values worked out by hand, ROUGE against rouge_score itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import binom

from opinionlm.errors import UserError
from opinionlm.evaluation.generation_metrics import (
    exact_match,
    means_with_intervals,
    overlap_f1,
    perplexity,
    rouge_scores,
    rouge_warning,
    sentence_lines,
    squad_scores,
    squad_words,
)

# Prediction, gold, exact match, F1: counted by hand after the rules of the official script.
BY_HAND = [
    ("The Eiffel Tower!", "eiffel tower", 1, 1.0),
    ("an apple", "the apple.", 1, 1.0),
    ("1,000", "1000", 1, 1.0),
    ("well-known", "wellknown", 1, 1.0),
    ("well-known", "well known", 0, 0.0),
    ("theatre", "the atre", 0, 0.0),
    ("in 1990", "1990", 0, 2 / 3),  # precision 1/2, recall 1
    ("red red blue", "red blue blue", 0, 2 / 3),  # two words in common, three in each
    ("Denver Broncos won", "the Broncos", 0, 0.5),  # precision 1/3, recall 1
    ("broncos denver", "denver broncos", 0, 1.0),  # order only matters to the exact match
    ("", "something", 0, 0.0),
    ("the", "a", 1, 0.0),  # nothing is left of either
    ("  spaced \n out ", "spaced out", 1, 1.0),
    ("“quoted”", "quoted", 0, 0.0),  # only ASCII punctuation goes
]


@pytest.mark.parametrize(("prediction", "gold", "exact", "overlap"), BY_HAND)
def test_squad_by_hand(prediction: str, gold: str, exact: int, overlap: float) -> None:
    assert exact_match(prediction, gold) == exact
    assert overlap_f1(prediction, gold) == pytest.approx(overlap)


def test_best_gold_answer_counts_for_each_score_on_its_own() -> None:
    scores = squad_scores(["in 1990", "blue"], [["1990", "in 1990 now"], ["Blue."]])
    assert scores["exact_match"] == 0.5
    assert scores["f1"] == pytest.approx((0.8 + 1.0) / 2)  # precision 1, recall 2/3
    low, high = scores["f1_ci95"]
    assert low <= scores["f1"] <= high


WORDS = st.lists(st.sampled_from(["a", "the", "coin", "rose", "fell", "again", ",", "Coin!"]), max_size=8).map(
    " ".join
)


@given(WORDS, WORDS)
def test_squad_properties(one: str, other: str) -> None:
    assert overlap_f1(one, other) == pytest.approx(overlap_f1(other, one))
    assert exact_match(one, other) == exact_match(other, one)
    assert 0 <= overlap_f1(one, other) <= 1
    if exact_match(one, other) and squad_words(one):
        assert overlap_f1(one, other) == 1
    assert squad_words(f"The {one.upper()} .") == squad_words(one), "case, articles and punctuation do not count"
    alone, more = squad_scores([one], [[other]]), squad_scores([one], [[other, one + " x"]])
    assert more["f1"] >= alone["f1"] and more["exact_match"] >= alone["exact_match"]


TEXTS = st.lists(st.sampled_from(["coins", "coin", "rising", "rose.", "Markets", "fell!", "again?"]), max_size=9).map(
    " ".join
)


@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_rouge_equals_rouge_score(rows: list[tuple[str, list[str]]]) -> None:
    predictions, golds = zip(*rows, strict=True)
    scores = rouge_scores(predictions, golds)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        best = [
            max(scorer.score(sentence_lines(gold), sentence_lines(prediction))[kind].fmeasure for gold in references)
            for prediction, references in rows
        ]
        assert scores[kind] == pytest.approx(np.mean(best))


def test_letters_that_rouge_drops_are_told() -> None:
    russian = ["\u0446\u0435\u043d\u0430 \u0443\u043f\u0430\u043b\u0430"]
    assert rouge_scores(russian, [russian])["rouge1"] == 0.0, "the same words, and none is read"
    (line,) = rouge_warning([russian, ["the price fell"]])
    assert line.startswith("warning: ROUGE reads the letters a to z and digits alone, and 43% of the letters")
    assert rouge_warning([["The price of 12 % fell, 3 \u20ac"]]) == rouge_warning([]) == []
    assert rouge_warning([["the price of a caf\u00e9" + " fell again" * 20]]) == []


def test_rouge_by_hand() -> None:
    scores = rouge_scores(["the cat sat"], [["the cat ran"]])
    assert scores["rouge1"] == pytest.approx(2 / 3)
    assert scores["rouge2"] == pytest.approx(1 / 2)
    assert scores["rougeL"] == pytest.approx(2 / 3)
    # As one text the sentences are in the wrong order; sentence by sentence they are all there.
    turned = rouge_scores(["Prices rose. Nobody sold."], [["Nobody sold. Prices rose."]])
    assert turned["rougeLsum"] == 1.0 and turned["rougeL"] == pytest.approx(1 / 2)


def test_perplexity_counts_tokens_not_texts() -> None:
    assert perplexity(0.0, 5) == 1.0
    assert perplexity(10 * math.log(8), 10) == pytest.approx(8.0)
    # One token at perplexity 2 and three at 16: the geometric mean over tokens.
    assert perplexity(math.log(2) + 3 * math.log(16), 4) == pytest.approx(2 ** (13 / 4))
    assert math.isfinite(perplexity(1e9, 1))
    with pytest.raises(UserError, match="there are no tokens"):
        perplexity(0.0, 0)


def test_intervals() -> None:
    same = squad_scores(["x"] * 4, [["x"]] * 4)
    assert same["f1_ci95"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("predictions", "golds", "message"),
    [
        (["a"], [["a"], ["b"]], "one prediction for every row"),
        ([], [], "one prediction for every row"),
        (["a"], [[]], "row 0 needs a list of at least one"),
        (["a"], ["a"], "row 0 needs a list of at least one"),
    ],
)
def test_rows_that_do_not_fit(predictions: list, golds: list, message: str) -> None:
    for score in (squad_scores, rouge_scores):
        with pytest.raises(UserError, match=message):
            score(predictions, golds)


def test_the_interval_is_the_middle_of_the_binomial() -> None:
    scores = squad_scores(["x"] * 140 + ["y"] * 60, [["x"]] * 200)
    expected = binom.ppf([0.025, 0.975], 200, 0.7) / 200
    assert scores["exact_match_ci95"] == pytest.approx(expected.tolist(), abs=0.006)
    values = np.random.default_rng(0).random(50)
    assert means_with_intervals({"f1": values}) == means_with_intervals({"f1": values}, replicates=2000, seed=0)
