"""Which texts a model saw while it was trained or went on with its pretraining, lest it be evaluated on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opinionlm.config.chosen_metric import TASKS_OF
from opinionlm.config.options import ModelConfig
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.spec import Task
from opinionlm.errors import UserError
from opinionlm.utils.shipped import model_file

if TYPE_CHECKING:
    from datasets import Dataset

SEEN_TEXTS = "seen_texts.npy"
TRAINED_TASKS = TASKS_OF["train_classifier"]


def plain_texts(rows: Dataset, task: Task) -> list[str]:
    """The texts of some rows: of pairs both, one by one; of sentences their words, separated by blanks.

    Raises:
        UserError: a task that `train_classifier.py` does not train.
    """
    if task not in TRAINED_TASKS:
        raise UserError(f"task {task!r} is text to text; give data of task {', '.join(TRAINED_TASKS)}")
    if "tokens" in rows.column_names:
        return [" ".join(words) for words in rows["tokens"]]
    return [text for name in ("text", "text_pair") if name in rows.column_names for text in rows[name]]


def save_seen_texts(folder: Path, source: ModelConfig, texts: Iterable[str]) -> None:
    """Note texts beside a model, and those that its source had seen: a sorted uint64 array of hashes.

    Raises:
        UserError: the note of the source is damaged.
    """
    np.save(folder / SEEN_TEXTS, np.union1d(_seen(source), _hashes(texts)))


def refuse_seen_texts(model: ModelConfig, prepared: PreparedDataset) -> None:
    """Compare what a model saw, as far as `save_seen_texts` noted it, with the evaluation texts of a data set.

    Raises:
        UserError: some of them were seen, or the note is damaged.
    """
    seen = _seen(model)
    if not len(seen) or prepared.task not in TRAINED_TASKS:
        return
    # Short sentences recur in natural data; what the training split holds itself, a model may have seen.
    own = _hashes(plain_texts(prepared.dataset["train"], prepared.task))
    # The rows that a fold calls test are training rows, which pretraining without labels may read.
    for split in ("validation",) if prepared.is_fold else ("validation", "test"):
        hashes = _hashes(plain_texts(prepared.dataset[split], prepared.task))
        if common := len(np.setdiff1d(np.intersect1d(hashes, seen), own)):
            raise UserError(
                f"model_name_or_path: '{model.model_name_or_path}' was trained on {common} of the {len(hashes)} texts "
                f"of {prepared.name}'s {split} split, so its score there would flatter it; train it on the training "
                "split of exactly these data (the same dataset YAML and options)"
            )


def seen_among(model: ModelConfig, texts: Iterable[str]) -> int:
    """How many different texts of some a model saw, as far as `save_seen_texts` noted it."""
    return len(np.intersect1d(_seen(model), _hashes(texts)))


def _seen(model: ModelConfig) -> np.ndarray:
    path = model_file(model.model_name_or_path, SEEN_TEXTS, model.model_revision)
    if path is None:
        return np.array([], dtype=np.uint64)
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"model_name_or_path: {path} cannot be read ({error}); copy the model folder anew") from None


def _hashes(texts: Iterable[str]) -> np.ndarray:
    numbers = {int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) for text in texts}
    return np.array(sorted(numbers), dtype=np.uint64)
