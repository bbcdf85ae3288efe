"""Token ids of many texts, word by word from memory where that gives exactly the tokenizer's own ids.

Gemma's tokenizer takes a whole post as one word, so it merges the letters of "the" anew in every post. But no token
of its vocabulary goes on behind a blank: the ids of a text are those of its words one after the other, and words
repeat. `words_stand_alone` checks that for a tokenizer; any other one is simply asked.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence

from tokenizers import Tokenizer

from opinionlm.data.preparation.tokens import token_ids

# Bounds the memory of a cache: about 30 MB, whatever the texts hold.
KNOWN_WORDS = 100_000
LONGEST_KNOWN = 40
# What the tokenizer writes for a blank.
_MARK = "▁"
_WORD = re.compile(" *[^ ]+| +")
_INSIDE = re.compile("[^▁]▁")


class WordCache:
    """Token ids without special tokens, equal to those of `opinionlm.data.preparation.tokens.token_ids`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Check once whether the words of this tokenizer stand alone."""
        self._tokenizer = tokenizer
        self.by_word = words_stand_alone(tokenizer)
        self._known: dict[str, bytes] = {}

    def spelled(self, text: str) -> str:
        """What is equal for two texts exactly when their ids are, where the tokenizer goes `by_word`."""
        return text.replace(_MARK, " ")

    def __call__(self, texts: Sequence[str]) -> list[array[int]]:
        """The token ids of every text, as unsigned integers."""
        # A mark in the text itself cannot be told from a blank afterwards.
        words = [_WORD.findall(text) if self.by_word and _MARK not in text else [text] for text in texts]
        found = self._find({word for row in words for word in row})
        return [array("I", b"".join([found[word] for word in row])) for row in words]

    def _find(self, words: set[str]) -> dict[str, bytes]:
        if len(self._known) > KNOWN_WORDS:
            self._known.clear()
        found = {word: self._known[word] for word in words & self._known.keys()}
        missing = list(words - found.keys())
        ids = token_ids(self._tokenizer, missing)
        new = {word: array("I", row).tobytes() for word, row in zip(missing, ids, strict=True)}
        if self.by_word:
            self._known.update((word, row) for word, row in new.items() if len(word) <= LONGEST_KNOWN)
        return found | new


def words_stand_alone(tokenizer: Tokenizer) -> bool:
    """Whether the ids of a text are those of its words (each with the blanks before it), one after the other.

    Byte pair encoding only ever joins neighbours into a token of the vocabulary. Where no token holds a mark for a
    blank behind something else, nothing is joined across the beginning of a word. Everything else in the tokenizer
    that could look beyond a word has to be absent.
    """
    plan = json.loads(tokenizer.to_str())
    model, vocabulary = plan["model"], tokenizer.get_vocab(with_added_tokens=True)
    marks_blanks = plan["normalizer"] == {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}
    # Splitting at blanks does nothing once they are marks.
    splitter = plan["pre_tokenizer"]
    splits_nothing = splitter is None or (splitter["type"] == "Split" and splitter["pattern"] == {"String": " "})
    plain_merging = (
        model["type"] == "BPE"
        and not any(model[key] for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and not model["ignore_merges"]
    )
    # With a token for every byte nothing is unknown (unknown neighbours would be fused), and none is merged from text.
    spelled_bytes = {f"<0x{byte:02X}>" for byte in range(256)}
    merged = {"".join(pair) for pair in model["merges"]} if plain_merging else set()
    spells_all = (
        model.get("byte_fallback", False) and vocabulary.keys() >= spelled_bytes and not spelled_bytes & merged
    )
    looks_around = any(token[key] for token in plan["added_tokens"] for key in ("lstrip", "rstrip", "single_word"))
    crosses = any(_INSIDE.search(token.replace(" ", _MARK)) for token in vocabulary)
    return marks_blanks and splits_nothing and plain_merging and spells_all and not looks_around and not crosses
