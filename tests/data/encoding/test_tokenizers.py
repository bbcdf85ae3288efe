"""What a tokenizer needs of an embedding, and how it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding.tokenizers import entries_of_texts, load_tokenizer, save_tokenizer, write_tokenizer
from tests.tiny import tiny_tokenizer


def test_entries_that_no_text_becomes_need_no_rows() -> None:
    """Gemma 3 1B: 262,145 entries, of which the last stands for an image, and 262,144 rows (transformers #37011)."""
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    assert entries_of_texts(tokenizer) == size
    tokenizer.add_tokens([AddedToken("<image_soft_token>", special=True)])
    assert len(tokenizer) == size + 1 and entries_of_texts(tokenizer) == size
    # An ordinary entry can stand in a text, and a padding token in every batch.
    tokenizer.add_tokens(["coin"])
    assert entries_of_texts(tokenizer) == size + 2
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert entries_of_texts(tokenizer) == size + 3


@pytest.mark.parametrize("source", ["mini", "tiny"])
def test_added_tokens_are_found_without_parsing_the_whole_file(tmp_path: Path, source: str, monkeypatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained("models/gemma3-mini") if source == "mini" else tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("hodl", single_word=True)])
    tokenizer.save_pretrained(tmp_path / "plain")
    write_tokenizer(tokenizer, tmp_path / "written")
    parsed = []
    monkeypatch.setattr(
        json, "load", lambda file, load=json.load: (parsed.append(Path(file.name).name), load(file))[1]
    )
    plain = AutoTokenizer.from_pretrained(tmp_path / "plain")
    count = parsed.count("tokenizer.json")
    parsed.clear()
    written = AutoTokenizer.from_pretrained(tmp_path / "written")
    # Gemma's own class parses it once more, for the vocabulary.
    assert parsed.count("tokenizer.json") == count - 1
    assert written.added_tokens_decoder == plain.added_tokens_decoder
    assert written.special_tokens_map == plain.special_tokens_map
    for text in ("hodl the coin", "<pad> a<eos>hodl", "hodler </s> [CLS]"):
        assert written(text)["input_ids"] == plain(text)["input_ids"]
        assert written.decode(written(text)["input_ids"]) == plain.decode(plain(text)["input_ids"])


def test_whoever_loads_the_tokenizer_of_a_head_pads_on_the_right(tmp_path: Path) -> None:
    """Gemma's class pads on the left, and the side that training set is no part of what transformers saves."""
    for pads_right, side in ((True, "right"), (False, "left")):
        tokenizer = load_tokenizer(ModelConfig(model_name_or_path="models/gemma3-mini"))
        save_tokenizer(tokenizer, tmp_path / side, 32, pads_right)
        assert AutoTokenizer.from_pretrained(tmp_path / side).padding_side == side
