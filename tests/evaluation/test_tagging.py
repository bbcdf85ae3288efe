"""Entity scores against seqeval, intervals, and words that the model never saw."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import IOB2

from opinionlm.evaluation import tagging
from opinionlm.evaluation.prediction_tables import tag_table
from opinionlm.evaluation.tagging import (
    TagPredictions,
    confident_tag_mistakes,
    per_type_table,
    tag_intervals,
    tag_predictions,
    tag_scores,
    token_summary,
)
from tests.task_data import TAGS


def predictions(gold: list[list[int]], predicted: list[list[int]], confidence: float = 0.9) -> TagPredictions:
    return TagPredictions(
        TAGS,
        [[f"w{at}" for at in range(len(row))] for row in gold],
        [np.array(row) for row in gold],
        [np.array(row) for row in predicted],
        [np.full(len(row), confidence) for row in gold],
        [np.zeros(len(row), dtype=bool) for row in gold],
    )


def test_words_that_hold_blanks_stay_as_many_as_their_tags() -> None:
    found = dataclasses.replace(predictions([[0, 1, 0]], [[0, 1, 0]]), sentences=[["so", "\U0001f633 ", "New York"]])
    header, rows = tag_table(["a"], [""], found)
    row = dict(zip(header, next(rows), strict=True))
    assert [len(row[name].split(" ")) for name in ("tokens", "gold", "predicted")] == [3, 3, 3]


row = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)


@settings(max_examples=80, deadline=None)
@given(st.lists(row, min_size=1, max_size=6))
def test_equal_to_seqeval(rows: list[list[tuple[int, int]]]) -> None:
    result = predictions([[g for g, _ in row] for row in rows], [[p for _, p in row] for row in rows])
    scores = tag_scores(result)
    gold, predicted = result.names(result.gold), result.names(result.predicted)
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    if not result.counts[:, 1:].any():
        assert scores["entity_f1"] == scores["macro_f1"] == 0
        return
    report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert scores[f"entity_{ours}"] == pytest.approx(report["micro avg"][theirs])
        for name in result.types:
            if name in report:
                assert scores[f"{ours}_{name}"] == pytest.approx(report[name][theirs])
    # Over the types of the gold entities; seqeval's takes in those that are only predicted.
    own = [kinds["f1-score"] for name, kinds in report.items() if name in result.types and kinds["support"]]
    assert scores["macro_f1"] == pytest.approx(np.mean(own) if own else 0)
    assert [line[4] for line in per_type_table(result).rows] == [
        report.get(name, {"support": 0})["support"] for name in result.types
    ]


def test_a_wrong_entity_of_an_absent_type_takes_no_whole_type() -> None:
    gold = [[1, 2, 0]] * 4
    right, wrong = predictions(gold, gold), predictions(gold, [*gold[1:], [1, 2, 3]])
    assert tag_scores(right)["macro_f1"] == tag_scores(wrong)["macro_f1"] == 1
    assert tag_intervals(wrong, 50)["macro_f1_ci95"] == [1, 1]
    assert tag_scores(wrong)["entity_precision"] == pytest.approx(4 / 5)


def test_words_without_a_token_are_errors() -> None:
    # One sentence, whose last two words (an entity's second word, and an O) were cut off.
    summaries = np.zeros((1, 4, 3))
    summaries[0, :, 0], summaries[0, :, 1] = [0, 0, 1, 0], 0.8
    result = tag_predictions(TAGS, [["a", "b", "c", "d"]], [[0, 1, 2, 0]], [[1, 2, -1, -1]], summaries)
    assert result.predicted[0].tolist() == [0, 1, 0, 0] and result.unread[0].sum() == 2
    scores = tag_scores(result)
    assert scores["entity_f1"] == 0  # half of an entity is none
    assert scores["accuracy"] == pytest.approx(2 / 4)  # the O that was never read does not count as right
    assert confident_tag_mistakes(result).rows == [["c", "I-coin", "O", 0.0, "a b c d"]]


def test_summary_keeps_what_scores_need() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, -100, 4], [-100, 0, -100]])
    summary = token_summary(logits, labels)
    assert torch.equal(summary[..., 0].long(), logits.argmax(-1))
    torch.testing.assert_close(summary[..., 1], logits.softmax(-1).max(-1).values)
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    torch.testing.assert_close(summary[..., 2].flatten(), losses)


def test_intervals_cover_and_shrink() -> None:
    generator = np.random.default_rng(0)
    gold = [generator.choice([0, 0, 0, 1, 3], 8).tolist() for _ in range(800)]
    guessed = [[tag if generator.random() < 0.8 else 0 for tag in row] for row in gold]
    large, small = predictions(gold, guessed), predictions(gold[:50], guessed[:50])
    scores, wide, narrow = tag_scores(large), tag_intervals(small, 300), tag_intervals(large, 300)
    for name in ("entity_f1", "entity_recall", "macro_f1", "accuracy"):
        low, high = narrow[f"{name}_ci95"]
        assert low < scores[name] < high
        assert high - low < (wide[f"{name}_ci95"][1] - wide[f"{name}_ci95"][0]) / 2
    assert narrow["entity_precision_ci95"] == [1.0, 1.0]
    for kind in large.types:
        low, high = narrow[f"f1_{kind}_ci95"]
        assert low < scores[f"f1_{kind}"] < high


def test_chunks_of_replicates_change_nothing(monkeypatch) -> None:
    generator = np.random.default_rng(1)
    gold = [generator.choice([0, 0, 1, 3], 6).tolist() for _ in range(40)]
    split = predictions(gold, [[tag if generator.random() < 0.7 else 0 for tag in row] for row in gold])
    whole = tag_intervals(split, 250)
    for chunk in (7, 125, 250, 1000):
        monkeypatch.setattr(tagging, "CHUNK", chunk)
        assert tag_intervals(split, 250) == whole, chunk
    assert tag_intervals(split) == tag_intervals(split, replicates=2000, seed=0)


def test_the_interval_is_the_middle_of_the_binomial() -> None:
    # One word per sentence: a resample's number of right words is binomial.
    split = predictions([[0]] * 200, [[0]] * 140 + [[1]] * 60)
    expected = binom.ppf([0.025, 0.975], 200, 0.7) / 200
    assert tag_intervals(split)["accuracy_ci95"] == pytest.approx(expected.tolist(), abs=0.006)


def test_confusion_by_hand() -> None:
    # Types: O, coin, person; the first and the later words of an entity are one type.
    split = predictions([[0, 1, 2, 3, 0]], [[0, 2, 4, 3, 1]])
    assert split.confusion.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_fifty_mistakes_at_most_the_surest_first() -> None:
    split = predictions([[0]] * 60, [[1]] * 60)
    for at, confidence in enumerate(split.confidence):
        confidence[0] = (at * 7 % 60) / 60
    shown = [row[3] for row in confident_tag_mistakes(split).rows]
    assert len(shown) == 50 and shown == sorted(shown, reverse=True) and shown[0] == pytest.approx(59 / 60)


def test_tokenizers_that_put_nothing_before_the_first_word() -> None:
    """GPT-2's first token is a word's: position 0 is read like any other."""
    summaries = np.zeros((2, 3, 3))
    summaries[0, :, 0], summaries[0, :, 1] = [1, 2, 3], [0.7, 0.8, 0.9]
    result = tag_predictions(TAGS, [["a", "b"], ["c"]], [[1, 2], [0]], [np.array([0, 1]), np.array([-1])], summaries)
    assert [row.tolist() for row in result.predicted] == [[1, 2], [0]]
    assert [row.tolist() for row in result.confidence] == [[0.7, 0.8], [0.0]]
    assert [row.tolist() for row in result.unread] == [[False, False], [True]]
