"""Token ids and token labels from words and their tags, for every family of tokenizers.

The words are joined with blanks and encoded as one text, as pretraining saw it and as a pipeline will encode it later;
each token then belongs to the word that its characters come from. Encoding word by word would need another trick per
family (GPT-2's blank in front, Gemma's and Llama's "▁") and still read pieces that pretraining never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from opinionlm.data.encoding.columns import IGNORED
from opinionlm.data.encoding.fingerprints import encode_rows, tokenizer_digest
from opinionlm.errors import UserError

# Position of a word that has no token: cut off by max_length, or nothing that the tokenizer keeps.
NO_TOKEN = -1


def encode_words(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    tags: Sequence[str],
    all_subwords: bool,
    identity: str | None = None,
) -> Dataset:
    """Tokenise the sentences of a split and label their tokens.

    Args:
        dataset: with columns ``tokens`` (lists of words) and ``tags`` (lists of tag ids of equal length).
        tokenizer: a fast tokenizer.
        max_length: sentences are truncated to this many tokens, special tokens included.
        tags: tag names in IOB2.
        all_subwords: every token of a word carries its tag (continuing a ``B-x`` with ``I-x``), not only the first.
        identity: `tokenizer_digest` of the tokenizer, where it was computed before.

    Returns:
        Rows in the given order with the columns ``input_ids``, ``labels`` (per token, -100 where none counts),
        ``length`` (tokens) and ``word_positions`` (per word, where its first token stands, -1 for a word without one).

    Raises:
        UserError: the tokenizer cannot say which characters a token comes from.
    """
    continued = continuation_tags(tags)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        ids, positions, owners = align(batch["tokens"], tokenizer, max_length)
        labels = [
            token_labels(owner, np.asarray(row_tags), continued if all_subwords else None)
            for owner, row_tags in zip(owners, batch["tags"], strict=True)
        ]
        lengths = [len(row) for row in ids]
        return {"input_ids": ids, "labels": labels, "length": lengths, "word_positions": positions}

    facts = {
        "tokenizer": identity or tokenizer_digest(tokenizer),
        "max_length": max_length,
        "tags": list(tags),
        "all_subwords": all_subwords,
    }
    return encode_rows(dataset, encode, "words", facts)


def continuation_tags(tags: Sequence[str]) -> np.ndarray:
    """The tag of a word's further tokens by the tag of its first one: ``B-x`` → ``I-x``, the others stay."""
    inside = {tag: tags.index(f"I-{tag.removeprefix('B-')}") for tag in tags if tag.startswith("B-")}
    return np.array([inside.get(tag, at) for at, tag in enumerate(tags)])


def token_labels(owner: np.ndarray, tags: np.ndarray, continued: np.ndarray | None) -> np.ndarray:
    """Labels ``(tokens,)``, -100 where none counts.

    Args:
        owner: word that each token belongs to, -1 for none ``(tokens,)``.
        tags: tag id of each word.
        continued: from `continuation_tags`, to label further tokens of a word too; None labels the first one only.
    """
    labels = np.full(len(owner), IGNORED, dtype=np.int64)
    seen = -1
    for at, word in enumerate(owner):
        if word > seen:
            labels[at] = tags[word]
        elif word >= 0 and continued is not None:
            labels[at] = continued[tags[word]]
        seen = max(seen, word)
    return labels


def align(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[list[int]], list[np.ndarray], list[np.ndarray]]:
    """Token ids of sentences, and which token belongs to which word.

    Returns:
        Per sentence: token ids; for each word the position of its first token, -1 without one; for each token the
        number of its word, -1 for special tokens and bare blanks.

    Raises:
        UserError: see `encode_words`.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "tokenizer_name_or_path: tagging needs a fast tokenizer, which says where a token's characters stand; "
            f"{type(tokenizer).__name__} is a slow one: give a folder with a tokenizer.json"
        )
    if not sentences:
        return [], [], []
    encoded = tokenizer(
        [" ".join(words) for words in sentences],
        truncation=True,
        max_length=max_length,
        return_offsets_mapping=True,
        verbose=False,
    )
    all_ids, positions, owners = [], [], []
    for words, ids, offsets in zip(sentences, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        characters = character_owners(words)
        owner = np.full(max(1, len(ids)), NO_TOKEN, dtype=np.int64)
        position = np.full(len(words), NO_TOKEN, dtype=np.int64)
        for at, (start, end) in enumerate(offsets):
            # The first character that is no joint: GPT-2's " coin" begins with the blank in front of the word.
            owner[at] = next((word for word in characters[start:end] if word >= 0), NO_TOKEN)
            if owner[at] >= 0 and position[owner[at]] == NO_TOKEN:
                position[owner[at]] = at
        # A sentence without any token is read as the padding token alone.
        all_ids.append(list(ids) or [tokenizer.pad_token_id])
        positions.append(position)
        owners.append(owner)
    return all_ids, positions, owners


def character_owners(words: Sequence[str]) -> list[int]:
    """The number of the word that each character of ``" ".join(words)`` belongs to, -1 for the joints."""
    owners: list[int] = []
    for number, word in enumerate(words):
        owners += [number] * len(word) + [-1]
    return owners[:-1]


def word_values(values: np.ndarray, positions: np.ndarray, missing: float) -> np.ndarray:
    """One value per word from one value per token: that of the word's first token.

    Args:
        values: ``(tokens or more,)``.
        positions: where each word's first token stands, -1 for none ``(words,)``.
        missing: value of a word without a token.
    """
    return np.where(positions >= 0, values[np.maximum(positions, 0)], missing)
