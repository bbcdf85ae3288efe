"""Both ends of long texts: their special tokens stay, short texts are as before, and what is not read is said."""

from __future__ import annotations

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerBase

from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.ends import text_ends
from opinionlm.data.encoding.features import Feature, with_features
from opinionlm.data.encoding.texts import encode_texts, length_note, token_columns
from opinionlm.errors import UserError
from tests.data.encoding.test_chunks import LETTERS, task_tokenizer
from tests.tiny import tiny_tokenizer, wordpiece_tokenizer

# Ids of the letters in the WordPiece tokenizer: a is 4.
A, Z = 4, 29


def letters_between(template: str) -> PreTrainedTokenizerBase:
    """A tokenizer with a token a letter and special tokens as a template says."""
    tokenizer = wordpiece_tokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


@pytest.mark.parametrize(
    ("template", "max_length", "expected"),
    [
        # BERT, RoBERTa: special tokens at both ends count as tokens of the text.
        ("[CLS] $A [SEP]", 8, [2, A, A + 1, A + 2, Z - 2, Z - 1, Z, 3]),
        ("[CLS] $A [SEP]", 7, [2, A, A + 1, A + 2, Z - 1, Z, 3]),
        ("[CLS] $A [SEP]", 3, [2, A, 3]),
        # Gemma, Llama: only a token at the beginning.
        ("[CLS] $A", 6, [2, A, A + 1, Z - 2, Z - 1, Z]),
        # T5: only a token at the end.
        ("$A [SEP]", 6, [A, A + 1, A + 2, Z - 1, Z, 3]),
        # GPT-2: none.
        ("$A", 5, [A, A + 1, A + 2, Z - 1, Z]),
        # XLNet: two at the end.
        ("$A [SEP] [CLS]", 6, [A, A + 1, A + 2, Z, 3, 2]),
    ],
)
def test_ends_by_hand(template: str, max_length: int, expected: list[int]) -> None:
    assert text_ends([LETTERS], letters_between(template), max_length) == [expected]


TOKENIZERS = {"bpe": tiny_tokenizer(), "wordpiece": wordpiece_tokenizer(), "task tokens": task_tokenizer()}
PIECES = st.sampled_from(["buy now ", "buy ", "is this coin ", "z", "🚀", "[SEP]", "<bos>", "é "])


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60)
@given(
    texts=st.lists(st.lists(PIECES, max_size=30).map("".join), min_size=1, max_size=4), max_length=st.integers(2, 40)
)
def test_head_and_tail_are_those_of_the_whole_text(name: str, texts: list[str], max_length: int) -> None:
    tokenizer = TOKENIZERS[name]
    whole = tokenizer(texts)["input_ids"]
    cut = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    found = token_columns(texts, None, tokenizer, max_length, read_ends=True)["input_ids"]
    tail = max_length // 2
    for ids, truncated, ends in zip(whole, cut, found, strict=True):
        # As many as of a text that is cut, so that it costs the same.
        assert len(ends) == len(truncated) == min(len(ids), max_length)
        if len(ids) <= max_length:
            assert ends == ids == truncated
        else:
            assert ends[:-tail] == ids[: max_length - tail] and ends[-tail:] == ids[-tail:]


def test_rows_and_what_is_said_of_them() -> None:
    rows = Dataset.from_dict({"text": ["a b c", LETTERS, "a b"], "label": [0, 1, 0]})
    encoded = encode_texts(rows, wordpiece_tokenizer(), 13, read_ends=True)
    assert encoded.column_names == ["input_ids", "labels", "length", "whole_length"]
    assert list(encoded["length"]) == [5, 13, 4] and list(encoded["whole_length"]) == [5, 28, 4]
    read, lost = "their first 7 and last 6 tokens", "the 15 tokens between (40.5% of all) are not read"
    assert f"train 1 of 3 texts, read by {read}; {lost}" in length_note({"train": encoded}, 13, read_ends=True)
    short = encode_texts(rows, wordpiece_tokenizer(), 40, read_ends=True)
    assert "no text is longer than max_length: 40" in length_note({"train": short}, 40, read_ends=True)
    assert short.to_list() == encode_texts(rows, wordpiece_tokenizer(), 40).to_list()


def test_what_stands_in_front_stays_in_front() -> None:
    rows = Dataset.from_dict({"text": [LETTERS], "label": [0], "platform": ["x"]})
    read = with_features(rows, [Feature("platform", "category", ("x",))])
    tokenizer = wordpiece_tokenizer()
    (ids,) = encode_texts(read, tokenizer, 12, read_ends=True)["input_ids"]
    assert " ".join(tokenizer.convert_ids_to_tokens(ids)) == "[CLS] x [UNK] a b c v w x y z [SEP]"


def test_special_tokens_that_fit_into_no_end_are_refused() -> None:
    assert text_ends([LETTERS], wordpiece_tokenizer(), 2) == [[2, 3]]
    with pytest.raises(UserError, match="max_length: 3 leaves no room at both ends for the 2 special tokens"):
        text_ends([LETTERS], letters_between("$A [SEP] [CLS]"), 3)


def test_options_that_make_no_sense_are_refused() -> None:
    for task, options, message in (
        ("token", [], "long_texts: 'ends' is not read by task: token"),
        ("similarity", [], "long_texts: 'ends' is not read by task: similarity"),
        ("sequence", ["--engine", "tfidf"], "long_texts: 'ends' is not read by engine: tfidf"),
        ("sequence", ["--chunk_overlap", "8"], "chunk_overlap: 8 is not read by long_texts: ends"),
        ("multi_label", ["--chunk_pooling", "max"], "chunk_pooling: 'max' is not read by long_texts: ends"),
    ):
        with pytest.raises(UserError, match=message):
            parse_config(["--task", task, "--long_texts", "ends", *options], "test")
    # The overlap of chunks, of which there are none, may be longer than a text.
    assert parse_config(["--long_texts", "ends", "--max_length", "16"], "test").data.long_texts == "ends"
