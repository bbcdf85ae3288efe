"""Generated answers: batches do not matter, reading is strict, and what cannot be read is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.generation import (
    INVALID,
    answer_confusion,
    answer_scores,
    generate_answers,
    parse_label,
    parse_list,
    parsed_labels,
    parsed_lists,
)
from opinionlm.evaluation.metrics import classification_scores
from tests.generative import random_prompts, tiny_language_model
from tests.tiny import tiny_tokenizer

WORDS = ["noise", "positive", "neutral sentiment"]
TREE = Taxonomy.from_tree({"noise": None, "objective": None, "subjective": {"positive": None, "negative": None}})


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "t5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_single_prompts(family: str, beams: int) -> None:
    model, tokenizer = tiny_language_model(family), tiny_tokenizer()
    prompts = random_prompts(5, longest=20)
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=6, num_beams=beams)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, num_beams=beams, do_sample=False
        )[0]
        skipped = 1 if family == "t5" else len(prompt)
        assert answer == tokenizer.decode(written[skipped:], skip_special_tokens=True).strip()
    assert len(set(answers)) > 1
    small = generate_answers(model, tokenizer, prompts, max_new_tokens=6, num_beams=beams, batch_size_tokens=1)
    assert small == answers


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("positive", (1,)),
        ("noise, neutral sentiment", (0, 2)),
        ("Neutral  Sentiment ,NOISE", (0, 2)),
        ("none", ()),
        (" None ", ()),
        # An unknown label among known ones, one twice, none beside one, something missing, more than a list.
        ("noise, joy", None),
        ("noise, noise", None),
        ("noise, none", None),
        ("noise,", None),
        ("", None),
        ("noise positive", None),
        ("noise and positive", None),
        ("noise, positive.", None),
        ('["noise"]', None),
    ],
)
def test_lists_are_read_strictly(answer: str, labels: tuple[int, ...] | None) -> None:
    assert parse_list(answer, WORDS) == labels
    predicted, is_list = parsed_lists([answer, "positive"], WORDS)
    assert is_list.tolist() == [labels is not None, True]
    assert np.flatnonzero(predicted[0]).tolist() == list(labels or ()) and predicted[1].tolist() == [
        False,
        True,
        False,
    ]


def test_generation_ends_at_the_end_token() -> None:
    model, tokenizer = tiny_language_model("llama"), tiny_tokenizer()
    free = generate_answers(model, tokenizer, [[5, 6, 7]], max_new_tokens=8)[0]
    with torch.no_grad():
        first = int(model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, first]
    ended = generate_answers(model, tokenizer, [[5, 6, 7]], max_new_tokens=8)[0]
    assert len(ended) < len(free)


def test_sampling_settings_of_the_model_are_not_used() -> None:
    model, tokenizer = tiny_language_model("llama"), tiny_tokenizer()
    greedy = generate_answers(model, tokenizer, [[5, 6, 7]], max_new_tokens=8)
    model.generation_config.do_sample, model.generation_config.temperature = True, 50.0
    model.train()
    assert generate_answers(model, tokenizer, [[5, 6, 7]], max_new_tokens=8) == greedy
    assert model.training


def test_empty_prompts_are_named() -> None:
    with pytest.raises(UserError, match="prompt has no tokens"):
        generate_answers(tiny_language_model("gpt2"), tiny_tokenizer(), [[]], max_new_tokens=2)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("positive", 1),
        ("  Positive\n", 1),
        ("NEUTRAL   sentiment", 2),
        ("positive.", None),
        ("positive, I think", None),
        ("neutral", None),
        ("pos", None),
        ("", None),
    ],
)
def test_reading_is_strict(text: str, label: int | None) -> None:
    assert parse_label(text, WORDS) == label


def test_unreadable_answers_are_marked() -> None:
    assert parsed_labels(["noise", "?", "positive"], WORDS).tolist() == [0, INVALID, 1]


LEAVES = len(TREE.leaves)


@given(st.lists(st.tuples(st.integers(0, LEAVES - 1), st.integers(0, LEAVES - 1)), min_size=1, max_size=30))
def test_valid_answers_are_scored_as_any_prediction(rows: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(rows).T
    expected = classification_scores(gold, predicted, TREE) | {"invalid_rate": 0.0}
    assert answer_scores(gold, predicted, TREE) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, LEAVES - 1), st.integers(INVALID, LEAVES - 1)), min_size=1, max_size=30))
def test_invalid_answers_are_misses_and_no_false_positives(rows: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(rows).T
    scores, confusion = answer_scores(gold, predicted, TREE), answer_confusion(gold, predicted, LEAVES)
    assert scores["invalid_rate"] == pytest.approx((predicted == INVALID).mean())
    assert confusion.shape == (LEAVES, LEAVES + 1) and confusion.sum() == len(rows)
    assert confusion[:, -1].sum() == (predicted == INVALID).sum()
    assert scores["accuracy"] == pytest.approx((gold == predicted).mean())
    for label, name in enumerate(TREE.leaves):
        hits, found, support = confusion[label, label], confusion[:, label].sum(), confusion[label].sum()
        assert scores[f"f1_{name}"] == pytest.approx(2 * hits / (found + support) if found + support else 0.0)
    assert all(0 <= value <= TREE.depth for value in scores.values())
    # Any label at all is at least as good an answer as none.
    guessed = answer_scores(gold, np.where(predicted == INVALID, gold, predicted), TREE)
    assert guessed["hierarchical_f1"] >= scores["hierarchical_f1"]
    assert guessed["level1_accuracy"] >= scores["level1_accuracy"]


def test_all_invalid() -> None:
    scores = answer_scores(np.array([0, 1]), np.array([INVALID, INVALID]), TREE)
    assert scores["macro_f1"] == scores["hierarchical_f1"] == scores["level1_accuracy"] == 0.0
    assert scores["invalid_rate"] == 1.0 and scores["mistake_severity"] == TREE.depth
