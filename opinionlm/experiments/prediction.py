"""Label texts with a saved classifier: sorted by length, batched under a token budget, every distinct text once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from opinionlm.data.encoding import PadCollator
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.metrics import softmax
from opinionlm.evaluation.predictions import prediction_header, prediction_rows
from opinionlm.models.classifier import OpinionClassifier, OpinionClassifierConfig

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Labeller:
    """A loaded classifier with all that prediction needs.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: pads on the right.
        taxonomy: its leaves are the model's classes, in the order of the ids.
        max_length: longer texts are cut to this many tokens, as in training.
        batch_size: at most so many texts at once.
        max_tokens_per_batch: at most so many tokens at once, padding included; one text is always let through.
    """

    model: OpinionClassifier
    tokenizer: PreTrainedTokenizerBase
    taxonomy: Taxonomy
    max_length: int
    batch_size: int = 64
    max_tokens_per_batch: int = 4096

    def header(self) -> list[str]:
        """Columns of a prediction."""
        return prediction_header(self.taxonomy)

    def number_columns(self) -> set[str]:
        """Those that hold numbers."""
        return {"confidence", *(f"probability_{label}" for label in self.taxonomy.leaves)}

    def cells(self, records: Sequence[Mapping[str, str]], progress: Callable[[int], object]) -> Iterator[list[str]]:
        """Cells of every record, in the order of `header`."""
        return prediction_rows(self.probabilities([record["text"] for record in records], progress), self.taxonomy)

    def probabilities(self, texts: Sequence[str], progress: Callable[[int], object] = lambda rows: None) -> np.ndarray:
        """Probabilities ``(rows, leaves)`` in the order of the texts.

        Args:
            texts: any number; all of them and their tokens are held in memory.
            progress: called after every batch with the number of rows that it settled.
        """
        # Equal texts have equal answers, and posts are copied a lot.
        places: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            places.setdefault(text, []).append(row)
        rows_of = list(places.values())
        ids = self.encode(list(places))
        # Longest first: batches without padding, and a lack of memory shows at once and not after hours.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
        logits = np.empty((len(texts), len(self.taxonomy.leaves)))
        for batch in self.batches(order, [len(tokens) for tokens in ids]):
            rows = [rows_of[index] for index in batch]
            copies = [len(same) for same in rows]
            logits[np.concatenate(rows)] = np.repeat(self.logits([ids[index] for index in batch]), copies, axis=0)
            progress(sum(copies))
        return softmax(logits)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of every text. A text without any token is read as the padding token alone."""
        if not texts:
            return []
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_length, verbose=False)["input_ids"]
        return [tokens or [self.tokenizer.pad_token_id] for tokens in encoded]

    def batches(self, order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Cut an order of falling lengths into batches that keep both limits."""
        start = 0
        while start < len(order):
            width = max(1, lengths[order[start]])
            size = max(1, min(self.batch_size, self.max_tokens_per_batch // width))
            yield list(order[start : start + size])
            start += size

    @torch.inference_mode()
    def logits(self, ids: list[list[int]]) -> np.ndarray:
        """Logits ``(texts, leaves)`` of one batch of token ids."""
        batch = PadCollator(self.tokenizer.pad_token_id)([{"input_ids": tokens} for tokens in ids])
        batch = {name: tensor.to(self.model.device, non_blocking=True) for name, tensor in batch.items()}
        return self.model(**batch).logits.float().cpu().numpy()


def load_labeller(
    folder: Path, device: Device = "auto", bf16: bool = False, batch_size: int = 64, max_tokens_per_batch: int = 4096
) -> Labeller:
    """Load a classifier that `train_classifier.py` saved.

    Args:
        folder: ``outputs/<run>/best``.
        device: ``auto`` takes a GPU where there is one.
        bf16: compute in bfloat16.
        batch_size: see `Labeller`.
        max_tokens_per_batch: see `Labeller`.

    Raises:
        UserError: not such a folder, parts of it missing or damaged, or no GPU where one was asked for.
    """
    check_model_folder(folder)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda was asked for, but torch sees no GPU; use --device cpu or auto")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.bfloat16 if bf16 else "auto", output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001 — damaged files surface as errors of many libraries
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"--model: {folder} cannot be loaded ({reason}); train again, or copy the folder anew"
        ) from error
    if broken := [*loading["missing_keys"], *loading["mismatched_keys"]]:
        raise UserError(f"--model: the weights in {folder} are incomplete (no {broken[0]!s}); copy the folder anew")
    if tokenizer.pad_token_id is None:
        raise UserError(f"--model: the tokenizer in {folder} has no padding token; save one with the model")
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    use_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    model = model.to("cuda" if use_gpu else "cpu").eval()
    # 512 tokens is the default of training too; models saved by train_classifier.py always say their length.
    max_length = model.config.max_length or 512
    return Labeller(model, tokenizer, saved_taxonomy(model.config), max_length, batch_size, max_tokens_per_batch)


def check_model_folder(folder: Path) -> None:
    """Refuse what is no saved classifier before anything is loaded.

    Raises:
        UserError: with what was looked for.
    """
    remedy = "give the folder best/ of a finished run, such as outputs/<run>/best"
    if not folder.is_dir():
        raise UserError(f"--model: no such folder: {folder}; {remedy}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--model: {folder} has no config.json; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--model: {folder / 'config.json'} cannot be read ({error}); {remedy}") from None
    found = config.get("model_type") if isinstance(config, dict) else None
    if found != OpinionClassifierConfig.model_type:
        raise UserError(
            f"--model: {folder} holds a model of type {found!r}, not one that train_classifier.py saved; {remedy}"
        )
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"--model: {folder} has no weights (looked for *.safetensors); {remedy}")
    if not (folder / "tokenizer_config.json").is_file():
        raise UserError(f"--model: {folder} has no tokenizer (looked for tokenizer_config.json); {remedy}")


def saved_taxonomy(config: OpinionClassifierConfig) -> Taxonomy:
    """The label tree of a saved model, its leaves in the order of the ids.

    ``config.json`` is written with sorted keys, so the order of a tree of mappings is lost there; ``id2label`` has it.

    Raises:
        UserError: tree and ``id2label`` name different labels.
    """
    labels = [config.id2label[index] for index in range(config.num_labels)]
    tree = Taxonomy.from_tree(config.label_tree or labels)
    if sorted(tree.leaves) != sorted(labels):
        raise UserError("--model: label_tree and id2label in config.json name different labels; train again")
    return Taxonomy(tuple(sorted(tree.paths, key=lambda path: labels.index(path[-1]))))


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over configuration, tokenizer and weights: all that decides a prediction."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.model")]):
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
