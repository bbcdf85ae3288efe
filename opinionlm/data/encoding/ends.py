"""Both ends of long texts: the first and the last half of the tokens that a model reads at once, without the middle.

Head and tail of Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.1. A text costs what a
truncated one does, and what stands at its end is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from opinionlm.data.encoding.special_tokens import surrounding_ids
from opinionlm.errors import UserError


def end_sizes(max_length: int) -> tuple[int, int]:
    """How many tokens of a longer text are read at its beginning, where the odd one goes, and at its end."""
    return max_length - max_length // 2, max_length // 2


def text_ends(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[list[int]]:
    """Token ids of every text; of longer ones those of both ends, with the special tokens that stand there.

    Args:
        texts: single texts.
        tokenizer: a fast tokenizer.
        max_length: tokens that are read of a text, special tokens included.

    Raises:
        UserError: the special tokens around a text do not fit into its ends.
    """
    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    (before, after), (head, tail) = surrounding_ids(tokenizer), end_sizes(max_length)
    if len(before) > head or len(after) > tail:
        raise UserError(
            f"max_length: {max_length} leaves no room at both ends for the {len(before) + len(after)} special tokens "
            "around a text, which long_texts: ends keeps; raise it"
        )
    return [ids if len(ids) <= max_length else [*ids[:head], *ids[-tail:]] for ids in rows]
