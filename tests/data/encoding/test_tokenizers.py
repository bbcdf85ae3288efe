"""What a tokenizer needs of an embedding."""

from __future__ import annotations

from tokenizers import AddedToken

from opinionlm.data.encoding.tokenizers import entries_of_texts
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
