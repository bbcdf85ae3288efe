"""Parts of a data set as data sets of their own: folds of a training split, or all but test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opinionlm.data.prepared import MANIFEST, PreparedDataset, is_current, manifest_of
from opinionlm.data.readers.hub import no_progress_bars
from opinionlm.errors import UserError
from opinionlm.utils.files import partial_folder, publish, write_json

if TYPE_CHECKING:
    from datasets import Dataset


def fold_numbers(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Fold of every row ``(rows,)``; the rows of a label are shared out equally.

    Args:
        labels: ids ``(rows,)``.
        number: of folds.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    fold_of = np.empty(len(labels), dtype=int)
    fold_of[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % number
    return fold_of


def write_fold(prepared: PreparedDataset, texts: Dataset, held_out: np.ndarray, folder: Path) -> None:
    """Write a prepared data set that trains on some of the training rows and has the others as its test split.

    A folder that holds exactly these rows is left as it is.

    Args:
        prepared: the whole; its validation split stays, its test split is left out.
        texts: rows of its training split.
        held_out: ``(rows,)`` whether a row is in the fold.
        folder: to write.

    Raises:
        UserError: the folder cannot be written.
    """
    parts = {
        "train": texts.select(np.flatnonzero(~held_out)),
        "validation": prepared.dataset["validation"],
        "test": texts.select(np.flatnonzero(held_out)),
    }
    write_parts(prepared, parts, folder)


def write_without_test(prepared: PreparedDataset, folder: Path) -> None:
    """Write a data set whose test split is its validation split: runs over it cannot read the test rows.

    Raises:
        UserError: the folder cannot be written.
    """
    validation = prepared.dataset["validation"]
    write_parts(prepared, {"train": prepared.dataset["train"], "validation": validation, "test": validation}, folder)


def write_parts(prepared: PreparedDataset, parts: dict[str, Dataset], folder: Path) -> None:
    """Write rows of a data set as a data set of its own, unless the folder holds exactly these.

    Raises:
        UserError: the folder cannot be written.
    """
    from datasets import DatasetDict

    content = json.dumps([prepared.fingerprint, *(list(part["id"]) for part in parts.values())])
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    if is_current(folder, fingerprint):
        return
    rows = {name: len(part) for name, part in parts.items()}
    manifest = manifest_of(prepared.path) | {"fingerprint": fingerprint, "rows": rows, "is_fold": True}
    try:
        with partial_folder(folder) as partial:
            with no_progress_bars():
                DatasetDict(parts).save_to_disk(str(partial))
            write_json(partial / MANIFEST, manifest)
            publish(partial, folder, lambda: is_current(folder, fingerprint))
    except OSError as error:
        raise UserError(f"output_dir: {folder} cannot be written ({error.strerror or error})") from None
