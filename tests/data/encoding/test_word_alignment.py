"""Words, tokens and tags stay together, whatever the tokenizer makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer, GPT2Tokenizer, LlamaTokenizer, PreTrainedTokenizerBase, T5Tokenizer

from opinionlm.data.encoding.columns import IGNORED
from opinionlm.data.encoding.texts import encode_texts
from opinionlm.data.encoding.tokenizers import separate_pairs
from opinionlm.data.encoding.word_alignment import align, continuation_tags, encode_words, token_labels, word_values
from tests.conftest import SHARED
from tests.task_data import TAGS
from tests.tiny import tiny_tokenizer, wordpiece_tokenizer

TOKENIZERS: dict[str, Callable[[Path], PreTrainedTokenizerBase]] = {
    "bert-base-uncased": lambda folder: BertTokenizer(vocab=str(folder / "vocab.txt")),
    "gpt2": lambda folder: GPT2Tokenizer(vocab=str(folder / "encoder.json"), merges=str(folder / "vocab.bpe")),
    "t5": T5Tokenizer.from_pretrained,
    "mistral-v1": LlamaTokenizer.from_pretrained,
}
WORDS = ["@Ünïcode", "don't", "U.S.A.", "🚀🚀", "日本", "http://t.co/aBc", "$BTC", "…", "New", "York"]


def real_tokenizer(name: str) -> PreTrainedTokenizerBase:
    folder = SHARED / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("real tokenizers (../shared/tokenizers) are not beside this checkout")
    tokenizer = TOKENIZERS[name](folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_family_finds_every_word(name: str) -> None:
    tokenizer = real_tokenizer(name)
    (ids,), (positions,), (owners,) = align([WORDS], tokenizer, 128)
    assert (positions >= 0).all() and (np.diff(positions) > 0).all()
    # The first token of a word is the first that belongs to it, and words come in their order.
    assert [int(np.flatnonzero(owners == word)[0]) for word in range(len(WORDS))] == positions.tolist()
    assert (np.diff(owners[owners >= 0]) >= 0).all() and len(owners) == len(ids)
    # The tokens are those of the plain sentence, which a pipeline will see.
    assert ids == tokenizer(" ".join(WORDS))["input_ids"]
    for word, text in ((8, "new"), (9, "york")):
        piece = tokenizer.decode(np.array(ids)[owners == word]).strip().lower()
        assert piece == text


@pytest.mark.parametrize("make", [tiny_tokenizer, wordpiece_tokenizer])
@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.text("abz09é.#", min_size=1, max_size=7), min_size=1, max_size=9), cut=st.integers(4, 40))
def test_truncation_keeps_the_first_words_aligned(make, words: list[str], cut: int) -> None:
    tokenizer = make()
    _, (whole,), (all_owners,) = align([words], tokenizer, 512)
    (ids,), (positions,), (owners,) = align([words], tokenizer, cut)
    assert len(ids) <= cut
    kept = positions >= 0
    assert (positions[kept] == whole[kept]).all() and not (np.diff(kept.astype(int)) > 0).any()
    assert (owners[: len(ids) - 1] == all_owners[: len(ids) - 1]).all()


def test_labels_by_hand() -> None:
    owner, tags = np.array([-1, 0, 0, 1, 2, 2, -1]), np.array([1, 2, 0])  # B-coin, I-coin, O
    assert token_labels(owner, tags, None).tolist() == [IGNORED, 1, IGNORED, 2, 0, IGNORED, IGNORED]
    assert token_labels(owner, tags, continuation_tags(TAGS)).tolist() == [IGNORED, 1, 2, 2, 0, 0, IGNORED]
    assert word_values(np.array([9.0, 8.0, 7.0]), np.array([2, -1]), missing=0.0).tolist() == [7.0, 0.0]


def test_columns_of_encoded_sentences() -> None:
    data = Dataset.from_dict({"tokens": [["buy", "bitcoin", "now"], ["hm"]], "tags": [[0, 1, 0], [0]]})
    first, every = (encode_words(data, wordpiece_tokenizer(), 32, TAGS, all_subwords=flag) for flag in (False, True))
    assert first["input_ids"] == every["input_ids"] and first["length"] == [len(row) for row in first["input_ids"]]
    for row, all_row, tags in zip(first, every, data["tags"], strict=True):
        assert [row["labels"][place] for place in row["word_positions"]] == tags
        labelled = [label for label in all_row["labels"] if label != IGNORED]
        assert len(labelled) == len(row["input_ids"]) - 2 and set(labelled) <= {0, 1, 2}
        assert all_row["labels"][0] == all_row["labels"][-1] == IGNORED


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pairs_never_run_together(name: str, tmp_path) -> None:
    tokenizer = real_tokenizer(name)
    single = tokenizer("the price fell")["input_ids"]
    separate_pairs(tokenizer)
    assert tokenizer("the price fell")["input_ids"] == single
    pair = tokenizer("the price", "fell")["input_ids"]
    assert set(pair) & set(tokenizer.all_special_ids) and pair != tokenizer("the price fell", "")["input_ids"]
    tokenizer.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path)("the price", "fell")["input_ids"] == pair


def test_pairs_are_cut_longest_first_and_keep_their_segments() -> None:
    tokenizer = wordpiece_tokenizer()
    data = Dataset.from_dict({"text": ["buy now " * 20], "text_pair": ["the price"], "score": [1.5]})
    encoded = encode_texts(data, tokenizer, 16, target="score")[0]
    assert encoded["length"] == len(encoded["input_ids"]) == len(encoded["token_type_ids"]) == 16
    second = [piece for piece, part in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True) if part]
    assert tokenizer.decode(second, skip_special_tokens=True) == "the price" and encoded["labels"] == 1.5
