"""`WordCache` gives the tokenizer's own ids, whatever the text and whatever the tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from opinionlm.data.preparation import word_cache
from opinionlm.data.preparation.tokens import load_tokenizer, token_ids
from opinionlm.data.preparation.word_cache import WordCache, words_stand_alone

ROOT = Path(__file__).resolve().parents[3]
MINIATURE = load_tokenizer("models/gemma3-mini")
CACHE = WordCache(MINIATURE)
# Words that occur, blanks in runs, marks, special tokens, spelled bytes, damage: pieces that could join wrongly.
PIECES = [
    "the",
    " ",
    "  ",
    "▁",
    "▁▁",
    "<bos>",
    "<0x41>",
    "\n",
    "\t",
    "’",
    "😂",
    "é",
    "e\u0301",
    "ﬁ",
    "\x00",
    "coin",
    "<unk>",
]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=40))


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [list(row) for row in WordCache(tokenizer)(texts)]


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_words_give_the_ids_of_the_whole_text(texts: list[str]) -> None:
    assert words_stand_alone(MINIATURE)
    assert [list(row) for row in CACHE(texts)] == token_ids(MINIATURE, texts)


@given(TEXTS, TEXTS)
def test_spelling_tells_texts_apart_exactly_as_ids_do(left: str, right: str) -> None:
    a, b = token_ids(MINIATURE, [left, right])
    assert (a == b) == (CACHE.spelled(left) == CACHE.spelled(right))


def test_a_full_cache_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "KNOWN_WORDS", 3)
    cache = WordCache(MINIATURE)
    for texts in (["one two three four"], ["five six one " + "x" * 100], ["one two"]):
        assert [list(row) for row in cache(texts)] == token_ids(MINIATURE, texts)
    assert len(cache._known) <= 3 + 4


def byte_pairs(vocabulary: list[str], merges: list[tuple[str, str]], **options: object) -> Tokenizer:
    """A tokenizer of Gemma's kind over a few letters."""
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(["<unk>", *spelled, *vocabulary]))}
    model = models.BPE(numbers, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True, **options)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    return tokenizer


def test_a_token_across_words_is_noticed() -> None:
    plain = byte_pairs(["▁", "a", "b", "▁b"], [("▁", "b")])
    assert words_stand_alone(plain)
    crossing = byte_pairs(["▁", "a", "b", "a▁", "a▁b"], [("a", "▁"), ("a▁", "b")])
    assert not words_stand_alone(crossing)
    assert ids_of(crossing, ["a b", "b a b"]) == token_ids(crossing, ["a b", "b a b"])
    assert len(ids_of(crossing, ["a b"])[0]) == 1  # which word by word it would not be


@pytest.mark.parametrize("change", ["pre_tokenizer", "normalizer", "added", "ignore_merges"])
def test_whatever_could_look_beyond_a_word_is_noticed(change: str) -> None:
    tokenizer = byte_pairs(["▁", "a", "b"], [], ignore_merges=change == "ignore_merges")
    match change:
        case "pre_tokenizer":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        case "normalizer":
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        case "added":
            plan = json.loads(tokenizer.to_str())
            flags = {"single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True}
            plan["added_tokens"] = [{"id": len(plan["model"]["vocab"]), "content": "<x>", **flags}]
            tokenizer = Tokenizer.from_str(json.dumps(plan))
    assert not words_stand_alone(tokenizer)
    texts = ["a b", " ab <x>  b", "▁a"]
    assert ids_of(tokenizer, texts) == token_ids(tokenizer, texts)
    assert not WordCache(tokenizer).by_word


def test_cleaning_processes_do_without_torch_and_transformers() -> None:
    """Every one of them, and preprocess.py, would pay for the imports: four seconds and half a gigabyte."""
    check = "import sys, opinionlm.data.preparation.pipeline\n"
    check += "sys.exit(bool({'torch', 'transformers'} & {*sys.modules}))"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", check], env=environment, cwd=ROOT, check=False).returncode == 0
