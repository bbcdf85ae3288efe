"""Long texts in chunks: every token is in one of them, neighbours share what was asked for, short texts stay whole."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from opinionlm.adaptation.adapt.task_tokens import TaskTokens
from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.chunks import chunked_texts
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.texts import encode_texts, length_note
from opinionlm.errors import UserError
from tests.tiny import tiny_tokenizer, wordpiece_tokenizer

# One token of the WordPiece tokenizer each, all different: a chunk tells where in the text it was.
LETTERS = " ".join("abcdefghijklmnopqrstuvwxyz")


def test_chunks_by_hand() -> None:
    tokenizer = wordpiece_tokenizer()
    ids = tokenizer(LETTERS)["input_ids"]
    # 26 letters, room for 10 between [CLS] and [SEP], 3 shared: from 0, 7, 14, and the last ten.
    (chunks,) = chunked_texts([LETTERS], tokenizer, max_length=12, overlap=3)
    assert chunks == [[2, *ids[1 + start : 11 + start], 3] for start in (0, 7, 14, 16)]


def task_tokenizer() -> TaskTokenTokenizer:
    """AdaPT's: a task token comes behind each of two neighbouring tokens of the texts below."""
    buy, now = tiny_tokenizer()("buy now", add_special_tokens=False)["input_ids"][:2]
    return TaskTokenTokenizer.extend(tiny_tokenizer(), TaskTokens(((buy, now),), 0, 320))


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), wordpiece_tokenizer(), task_tokenizer()])
@pytest.mark.parametrize(("max_length", "overlap"), [(8, 0), (8, 5), (13, 4), (26, 1), (29, 7), (200, 32)])
def test_every_token_is_read_and_the_first_chunk_is_the_truncated_text(tokenizer, max_length, overlap) -> None:
    texts = [LETTERS[: 2 * count] for count in (1, 5, 6, 7, 8, 11, 24, 26)] + ["buy now " * 20]
    whole = tokenizer(texts)["input_ids"]
    cut = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    outside = tokenizer.num_special_tokens_to_add()
    for ids, truncated, chunks in zip(whole, cut, chunked_texts(texts, tokenizer, max_length, overlap), strict=True):
        assert chunks[0] == truncated
        assert (len(chunks) == 1) == (len(ids) <= max_length)
        if len(chunks) > 1:
            assert {len(chunk) for chunk in chunks} == {max_length}
        inner = [chunk[1 : len(chunk) - outside + 1] for chunk in chunks]
        size, read = len(inner[0]), list(inner[0])
        for number, chunk in enumerate(inner[1:], start=1):
            shared = overlap if number < len(inner) - 1 else len(read) + size - (len(ids) - outside)
            assert shared >= overlap and read[len(read) - shared :] == chunk[:shared]
            read += chunk[shared:]
        assert read == ids[1 : len(ids) - outside + 1]


def test_rows_and_batches() -> None:
    texts = ["a b c", LETTERS, "a b c d e f g h i j k l"]
    rows = Dataset.from_dict({"text": texts, "label": [0, 1, 0]})
    encoded = encode_texts(rows, wordpiece_tokenizer(), 12, chunk_overlap=3)
    assert list(encoded["chunks"]) == [[5], [12] * 4, [12, 12]]
    assert list(encoded["length"]) == [5, 48, 24] == [len(ids) for ids in encoded["input_ids"]]
    assert list(encoded["whole_length"]) == [5, 28, 14]
    batch = PadCollator(0)(list(encoded))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 4, 12)
    assert batch["attention_mask"].any(dim=2).tolist() == [
        [True] + [False] * 3,
        [True] * 4,
        [True, True, False, False],
    ]
    flat = [token for row in encoded["input_ids"] for token in row]
    assert batch["input_ids"][batch["attention_mask"].bool()].tolist() == flat
    # Texts of one chunk are batches as without chunks, to the bit.
    plain = encode_texts(rows.select([0, 0]), wordpiece_tokenizer(), 12)
    short = PadCollator(0)([encoded[0], encoded[0]])
    for name, tensor in PadCollator(0)(list(plain)).items():
        assert torch.equal(short[name], tensor)


def test_the_first_lines_say_what_is_lost() -> None:
    rows = Dataset.from_dict({"text": ["a b c", LETTERS, "a b"], "label": [0, 1, 0]})
    for length, overlap, end in (
        (12, None, "train 1 of 3 texts; the 16 tokens beyond it (43.2% of all) are not read"),
        (12, 3, "train 1 of 3 texts, read in up to 4 chunks, with the 16 tokens beyond"),
        (40, None, "no text is longer than max_length: 40"),
    ):
        encoded = encode_texts(rows, wordpiece_tokenizer(), length, chunk_overlap=overlap)
        assert end in length_note({"train": encoded}, length)


def test_of_pairs_the_lost_tokens_are_those_of_both() -> None:
    rows = Dataset.from_dict({"text": ["a b c d e"], "text_pair": ["a b c d"], "score": [1.0]})
    encoded = encode_texts(rows, wordpiece_tokenizer(), 8, target="score")
    assert list(encoded["length"]) == [8] and list(encoded["whole_length"]) == [12]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(
        UserError, match="chunk_overlap: 10 leaves no new token in chunks of max_length: 12, 2 of which"
    ):
        chunked_texts([LETTERS], wordpiece_tokenizer(), max_length=12, overlap=10)
    for task, options, message in (
        ("token", ["--long_texts", "chunk"], "long_texts: 'chunk' is not read by task: token"),
        ("similarity", ["--long_texts", "chunk"], "long_texts: 'chunk' is not read by task: similarity"),
        (
            "sequence",
            ["--long_texts", "chunk", "--max_length", "32"],
            r"chunk_overlap: 32 must be below max_length \(32",
        ),
        ("sequence", ["--chunk_overlap", "8"], "chunk_overlap: 8 is not read by long_texts: truncate"),
        (
            "sequence",
            ["--long_texts", "chunk", "--engine", "tfidf"],
            "long_texts: 'chunk' is not read by engine: tfidf",
        ),
    ):
        with pytest.raises(UserError, match=message):
            parse_config(["--task", task, *options], "test")
