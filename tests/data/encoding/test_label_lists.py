"""Lists of labels and questions about them: what is written, what is asked, and which tokens a loss sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from opinionlm.data.encoding.collators import InstructCollator
from opinionlm.data.encoding.columns import IGNORED
from opinionlm.data.encoding.examples import encode_examples
from opinionlm.data.encoding.label_lists import ListEncoder, QuestionEncoder, encoder_class
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import PromptTemplate
from opinionlm.errors import UserError
from opinionlm.training.instruct_trainer import InstructTexts
from tests.tiny import tiny_tokenizer

WORDS = ("joy", "joyful", "anger", "calm")
TEMPLATE = PromptTemplate(prompt="post: {text}\nlabels:")
SETS = [[2, 0], [], [0, 1, 2, 3]]


def rows() -> Dataset:
    features = Features(text=Value("string"), labels=List(ClassLabel(names=list(WORDS))))
    return Dataset.from_dict({"text": ["a b", "c", "d e f"], "labels": SETS}, features=features)


def question_encoder(**options) -> QuestionEncoder:
    return QuestionEncoder(TEMPLATE, tiny_tokenizer(), 100, WORDS, **options)


def test_each_way_of_answering_has_its_encoder() -> None:
    assert encoder_class("multi_label", "score") is QuestionEncoder
    assert encoder_class("multi_label", "generate") is ListEncoder
    assert encoder_class("sequence", "score") is encoder_class("summarization", "generate") is PromptEncoder


def test_lists_are_written_in_the_order_of_the_labels() -> None:
    encoder = ListEncoder(TEMPLATE, tiny_tokenizer(), 100, WORDS, answer_room=40)
    assert [encoder.written(labels) for labels in SETS] == ["joy, anger", "none", "joy, joyful, anger, calm"]
    encoded = encode_examples(rows(), encoder)
    answers = [encoder.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in encoded["answer_ids"]]
    assert answers == [encoder.written(labels) for labels in SETS] and list(encoded["reason"]) == [""] * 3
    assert all(ids[-1] == encoder.tokenizer.eos_token_id for ids in encoded["answer_ids"])
    room = len(encoded["answer_ids"][0])
    short = encode_examples(rows(), ListEncoder(TEMPLATE, tiny_tokenizer(), 100, WORDS, answer_room=room))
    assert list(short["reason"])[:2] == ["", ""] and "where max_answer_length is" in short["reason"][2]


@pytest.mark.parametrize("word", ["joy, anger", "None"])
def test_words_that_a_list_cannot_hold(word: str) -> None:
    template = PromptTemplate(prompt="{text}:")
    with pytest.raises(UserError, match="cannot stand in a written list"):
        ListEncoder(template, tiny_tokenizer(), 100, ("calm", word), answer_room=20)
    assert QuestionEncoder(template, tiny_tokenizer(), 100, ("calm", word)).questions


def test_questions_differ_in_their_answers_only() -> None:
    encoder = question_encoder()
    for word, question in zip(WORDS, encoder.questions, strict=True):
        assert question.yes[: question.given] == question.no[: question.given]
        assert question.yes[question.given] != question.no[question.given]
        assert encoder.tokenizer.decode(question.yes).strip() == f"{word}: yes"
        assert encoder.tokenizer.decode(question.no).strip() == f"{word}: no"


def test_training_asks_about_all_labels_of_a_text_and_as_many_others() -> None:
    encoder = question_encoder()
    for text in map(str, range(30)):
        assert encoder.asked([0, 1, 2, 3], text) == [0, 1, 2, 3]
        assert len(encoder.asked([], text)) == 1
        two = encoder.asked([3], text)
        assert len(two) == 2 and 3 in two and two == encoder.asked([3], text)
    drawn = {label for text in map(str, range(60)) for label in encoder.asked([3], text)}
    assert drawn == {0, 1, 2, 3}


def test_demonstrations_say_yes_and_no_in_turn() -> None:
    encoder = question_encoder()
    assert [encoder.shown([2, 0], number) for number in (0, 1, 2)] == ["anger: yes", "joyful: no", "joy: yes"]
    assert encoder.shown([], 0).endswith("no") and encoder.shown([0, 1, 2, 3], 1).endswith("yes")


@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_a_loss_sees_yes_and_no_alone(encoder_decoder: bool) -> None:
    encoder = question_encoder(encoder_decoder=encoder_decoder)
    encoded = encode_examples(rows(), encoder)
    texts = InstructTexts(encoded, torch.ones(1))
    asked = [(row, label) for row, own in enumerate(SETS) for label in encoder.asked(own, rows()["text"][row])]
    assert len(texts) == len(asked) == len(texts.lengths)
    batch = InstructCollator(0, encoder_decoder)([texts[number] for number in range(len(texts))])
    for number, (row, label) in enumerate(asked):
        question = encoder.questions[label]
        ids = question.yes if label in SETS[row] else question.no
        learned = batch["labels"][number]
        assert learned[learned != IGNORED].tolist() == ids[question.given :]
        read = batch["input_ids"][number][batch["attention_mask"][number].bool()].tolist()
        prompt = encoded["prompt_ids"][row]
        assert read == (prompt if encoder_decoder else prompt + ids)
        assert texts.lengths[number] == len(prompt) + len(ids)
        if encoder_decoder:
            assert (learned != IGNORED).nonzero()[0, 0] == question.given
    assert len(texts.answers) - texts.given.sum() == int((batch["labels"] != IGNORED).sum())
    # A filler for a process without a text learns nothing.
    assert (InstructCollator(0, encoder_decoder)([texts[~1]])["labels"] == IGNORED).all()
    assert np.array_equal(np.unique(texts.rows), [0, 1, 2])
