"""Token ids from texts, and batches from token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, List
from transformers import PreTrainedTokenizerBase

from opinionlm.config.options import EVALUATION_SEED
from opinionlm.data.encoding.chunks import chunked_texts
from opinionlm.data.encoding.columns import flat_lists, multi_hot, numbers_of, subset
from opinionlm.data.encoding.ends import end_sizes, text_ends
from opinionlm.data.encoding.fingerprints import encode_rows, tokenizer_digest


def token_columns(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    chunk_overlap: int | None = None,
    read_ends: bool = False,
) -> dict[str, list[Any]]:
    """What a model reads of texts, or of pairs of them.

    Args:
        texts: the first ones.
        pairs: the second ones; None for single texts.
        tokenizer: a fast tokenizer.
        max_length: longer texts are truncated to this many tokens; of a pair the longer text first.
        chunk_overlap: read longer texts in chunks of ``max_length`` that share so many tokens instead; only of single
            texts.
        read_ends: read both ends of longer texts instead, see `text_ends`; only of single texts.

    Returns:
        ``input_ids``; of pairs ``token_type_ids`` too, where the tokenizer has them; with chunks their lengths,
        ``chunks``.
    """
    if chunk_overlap is not None:
        rows = chunked_texts(texts, tokenizer, max_length, chunk_overlap)
        ids = [[token for chunk in chunks for token in chunk] for chunks in rows]
        return {"input_ids": ids, "chunks": [list(map(len, chunks)) for chunks in rows]}
    if read_ends:
        return {"input_ids": text_ends(texts, tokenizer, max_length)}
    encoded = tokenizer(texts, pairs, truncation="longest_first", max_length=max_length, verbose=False)
    names = ["input_ids", *(["token_type_ids"] if pairs is not None and "token_type_ids" in encoded else [])]
    return {name: encoded[name] for name in names}


def encode_texts(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    target: str = "label",
    identity: str | None = None,
    chunk_overlap: int | None = None,
    read_ends: bool = False,
) -> Dataset:
    """Tokenise the texts, or pairs of texts, of a split.

    Args:
        dataset: with columns ``text``, ``text_pair`` where the task is about pairs, and the target.
        tokenizer: a fast tokenizer.
        max_length: how many tokens of a text are read at once, special tokens included.
        target: column of the labels: ids, scores, or lists of ids, which become vectors of zeros and ones.
        identity: `tokenizer_digest` of the tokenizer, where it was computed before.
        chunk_overlap: read longer texts in chunks that share so many tokens; None truncates them.
        read_ends: read both ends of longer texts instead, without what is between.

    Returns:
        Those of `token_columns`, ``labels``, ``length`` (tokens that are read) and ``whole_length`` (tokens of the
        uncut text), rows in the given order.
    """
    several = dataset.features[target].feature.num_classes if isinstance(dataset.features[target], List) else None
    if several is not None:
        # Else the vectors would become ids again: a new column keeps the type of an old one of its name. No feature
        # may be called raw.
        dataset, target = dataset.rename_column(target, "raw"), "raw"

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts, second = batch["text"], batch.get("text_pair")
        columns = token_columns(texts, second, tokenizer, max_length, chunk_overlap, read_ends)
        lengths = [len(ids) for ids in columns["input_ids"]]
        # Whoever fills max_length may have been cut, or be in chunks.
        full = [row for row, length in enumerate(lengths) if length >= max_length]
        whole = dict(enumerate(lengths))
        if full:
            pairs = None if second is None else [second[row] for row in full]
            uncut = tokenizer([texts[row] for row in full], pairs, verbose=False)["input_ids"]
            whole |= dict(zip(full, map(len, uncut), strict=True))
        labels = batch[target] if several is None else list(multi_hot(batch[target], several))
        return columns | {"labels": labels, "length": lengths, "whole_length": [*whole.values()]}

    facts = {"tokenizer": identity or tokenizer_digest(tokenizer), "max_length": max_length, "target": target}
    facts |= {} if chunk_overlap is None else {"chunk_overlap": chunk_overlap}
    facts |= {"read_ends": True} if read_ends else {}
    return encode_rows(dataset, encode, "texts", facts)


def length_note(splits: Mapping[str, Dataset], max_length: int, read_ends: bool = False) -> str:
    """How many texts are longer than ``max_length``, and what becomes of them, in a line for the terminal.

    Args:
        splits: of `encode_texts`.
        max_length: with which they were encoded, as is the next.
        read_ends: whether both ends of longer texts are read.
    """
    whole = {name: numbers_of(encoded, "whole_length") for name, encoded in splits.items()}
    longer = {name: lengths[lengths > max_length] for name, lengths in whole.items()}
    if not any(map(len, longer.values())):
        return f"length  no text is longer than max_length: {max_length}"
    counts = ", ".join(f"{name} {len(longer[name]):,} of {len(whole[name]):,}" for name in whole)
    beyond = sum(int((lengths - max_length).sum()) for lengths in longer.values())
    share = beyond / sum(int(lengths.sum()) for lengths in whole.values())
    start, share_of_all = f"length  longer than max_length: {max_length}: {counts} texts", f"({share:.1%} of all)"
    if read_ends:
        head, tail = end_sizes(max_length)
        read = f"read by their first {head} and last {tail} tokens"
        return f"{start}, {read}; the {beyond:,} tokens between {share_of_all} are not read"
    lost = f"the {beyond:,} tokens beyond it {share_of_all}"
    if not all("chunks" in encoded.column_names for encoded in splits.values()):
        return f"{start}; {lost} are not read"
    most = max(int(np.diff(flat_lists(encoded, "chunks")[1]).max()) for encoded in splits.values())
    return f"{start}, read in up to {most} chunks, with {lost}"


def evaluation_texts(dataset: Dataset, size: int | None) -> Dataset:
    """A part of validation or test under ``max_eval_samples``: the same one for every seed and every method.

    Drawn with the run's own seed, two runs would differ by their texts as well as by what is compared.
    """
    return subset(dataset, size, EVALUATION_SEED)
