"""Generated answers: batches do not matter, reading is strict, and what cannot be read is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AddedToken, PreTrainedTokenizerFast

from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import PromptTemplate
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.generation import (
    INVALID,
    answer_confusion,
    answer_in,
    answer_scores,
    generate_answers,
    parse_label,
    parse_list,
    parsed_labels,
    parsed_lists,
    require_readable,
)
from opinionlm.evaluation.metrics import classification_scores
from tests.generative import random_prompts, tiny_language_model
from tests.tiny import tiny_tokenizer, wordpiece_tokenizer

WORDS = ["noise", "positive", "neutral sentiment"]


def tiny_encoder(
    tokenizer: PreTrainedTokenizerFast | None = None,
    words: tuple[str, ...] = (),
    encoder_decoder: bool = False,
    **template: object,
) -> PromptEncoder:
    """Of prompts that are the text and a colon."""
    written = PromptTemplate(prompt="{text}:", **template)
    return PromptEncoder(written, tokenizer or tiny_tokenizer(), 64, words, 8, encoder_decoder)


TREE = Taxonomy.from_tree({"noise": None, "objective": None, "subjective": {"positive": None, "negative": None}})


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "t5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_single_prompts(family: str, beams: int) -> None:
    model, encoder = tiny_language_model(family), tiny_encoder(encoder_decoder=family == "t5")
    prompts = random_prompts(5, longest=20)
    answers = generate_answers(model, encoder, prompts, max_new_tokens=6, num_beams=beams)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, num_beams=beams, do_sample=False
        )[0]
        skipped = 1 if family == "t5" else len(prompt)
        assert answer == encoder.tokenizer.decode(written[skipped:], skip_special_tokens=True).strip()
    assert len(set(answers)) > 1
    small = generate_answers(model, encoder, prompts, max_new_tokens=6, num_beams=beams, batch_size_tokens=1)
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
    model, encoder = tiny_language_model("llama"), tiny_encoder()
    free = generate_answers(model, encoder, [[5, 6, 7]], max_new_tokens=8)[0]
    with torch.no_grad():
        first = int(model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [encoder.tokenizer.eos_token_id, first]
    ended = generate_answers(model, encoder, [[5, 6, 7]], max_new_tokens=8)[0]
    assert len(ended) < len(free)


def test_an_untrained_chat_model_ends_where_its_turn_ends() -> None:
    model, tokenizer, prompt = tiny_language_model("llama"), tiny_tokenizer(), [5, 6, 7]
    free = generate_answers(model, tiny_encoder(tokenizer), [prompt], max_new_tokens=8)[0]
    with torch.no_grad():
        first = int(model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
    # Special, but not named among the special tokens: so is <end_of_turn> in Gemma 3's tokenizer.
    end = tokenizer.convert_ids_to_tokens(first)
    tokenizer.add_tokens(AddedToken(end, special=True), special_tokens=True)
    assert end not in tokenizer.all_special_tokens and tokenizer.convert_tokens_to_ids(end) == first
    tokenizer.chat_template = "{% for turn in messages %}" + f"{{{{ turn['content'] }}}}{end}" + "{% endfor %}"
    encoder = tiny_encoder(tokenizer, chat=True)
    assert encoder.end_ids == [first] and model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert free and generate_answers(model, encoder, [prompt], max_new_tokens=8) == [""]


def test_what_a_template_writes_around_an_answer_is_no_part_of_it() -> None:
    encoder = tiny_encoder(words=("buy", "fell again"), answer=" It is: {answer} {{sure}}.")
    written = encoder.tokenizer.decode(encoder.answer_ids("fell again"))
    assert written == " It is: fell again {sure}.<eos>"
    assert answer_in(encoder.answer_ids("fell again"), encoder) == "fell again"
    require_readable(encoder)
    read = encoder.template.read_answer
    assert [read("buy"), read("It is: buy"), read("buy {sure}. ")] == ["buy"] * 3
    assert read("buy {sure}. And") == "buy {sure}. And"
    # Also behind a model: whatever it writes, its first and last word stand in for the template's.
    model = tiny_language_model("llama")
    free = generate_answers(model, tiny_encoder(), [[5, 6, 7]], max_new_tokens=8)[0]
    framed = tiny_encoder(answer=free[:3] + "{answer}" + free[-2:])
    assert generate_answers(model, framed, [[5, 6, 7]], max_new_tokens=8) == [free[3:-2].strip()]


def test_labels_that_cannot_be_written_are_named() -> None:
    tokenizer = wordpiece_tokenizer()
    tokenizer.eos_token = "[SEP]"
    require_readable(tiny_encoder(tokenizer, words=("buy", "fell again")))
    for word, written in (("na\u00efve", "naive"), ("buy \u20ac", "buy")):
        with pytest.raises(UserError, match=f"labels: '{word}' is '{written}' once this vocabulary has written it"):
            require_readable(tiny_encoder(tokenizer, words=("price", word)))


def test_sampling_settings_of_the_model_are_not_used() -> None:
    model, encoder = tiny_language_model("llama"), tiny_encoder()
    greedy = generate_answers(model, encoder, [[5, 6, 7]], max_new_tokens=8)
    model.generation_config.do_sample, model.generation_config.temperature = True, 50.0
    model.train()
    assert generate_answers(model, encoder, [[5, 6, 7]], max_new_tokens=8) == greedy
    assert model.training


@pytest.mark.parametrize("beams", [1, 3])
def test_penalties_and_forced_tokens_of_the_model_are_not_used(beams: int) -> None:
    model, encoder = tiny_language_model("llama"), tiny_encoder()
    plain = generate_answers(model, encoder, [[5, 6, 7]], max_new_tokens=8, num_beams=beams)
    own = model.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size, own.length_penalty = 9.0, 1, 5.0
    own.forced_eos_token_id, own.suppress_tokens, own.min_new_tokens = 7, [*range(8, 200)], 8
    assert generate_answers(model, encoder, [[5, 6, 7]], max_new_tokens=8, num_beams=beams) == plain
    assert model.generation_config is own and own.repetition_penalty == 9.0


def test_empty_prompts_are_named() -> None:
    with pytest.raises(UserError, match="prompt has no tokens"):
        generate_answers(tiny_language_model("gpt2"), tiny_encoder(), [[]], max_new_tokens=2)


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
