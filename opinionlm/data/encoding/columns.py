"""Columns of token ids: lengths, subsets, orders and flat views of ragged rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset

# A label that no loss counts: of padding, of special tokens, of a row which only fills up a process's batch.
IGNORED = -100


def subset(dataset: Dataset, size: int | None, seed: int) -> Dataset:
    """A random part of a split in its original order; the whole split when ``size`` is None or larger than it."""
    if size is None or size >= len(dataset):
        return dataset
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:size]
    return dataset.select(sorted(chosen.tolist()))


def longest_first(encoded: Dataset) -> np.ndarray:
    """Row numbers by falling length: little padding within batches, and too little memory shows at once."""
    return np.argsort(-numbers_of(encoded, "length"), kind="stable")


def numbers_of(encoded: Dataset, column: str) -> np.ndarray:
    """A column of numbers; asked for as a plain list it would be read row by row."""
    return encoded.with_format("arrow", columns=[column])[:][column].to_numpy()


def multi_hot(sets: Sequence[Sequence[int]], labels: int) -> np.ndarray:
    """Lists of label ids as float32 ``(rows, labels)`` of zeros and ones."""
    matrix = np.zeros((len(sets), labels), dtype=np.float32)
    for row, members in enumerate(sets):
        matrix[row, list(members)] = 1.0
    return matrix


def flat_lists(encoded: Dataset, name: str = "input_ids") -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column of lists one after another, and where each row begins; the last offset is their number.

    Reading rows out of these is some twenty times faster than asking the data set for them, and takes no memory
    where the numbers lie in one piece on disk: they stay mapped.
    """
    column = encoded.with_format("arrow", columns=[name])[:][name].combine_chunks()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
