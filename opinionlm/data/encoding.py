"""Token ids from texts, and batches from token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from opinionlm.config import DataConfig, ModelConfig
from opinionlm.data.fingerprints import result_name, tokenizer_digest
from opinionlm.data.special_tokens import read_as_text
from opinionlm.errors import UserError
from opinionlm.options import EVALUATION_SEED

# A label that no loss counts: of padding, of special tokens, of a row which only fills up a process's batch.
IGNORED = -100


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, padding on the right, with a padding token.

    Classification pads on the right: GPT-2's absolute positions differ otherwise. A tokenizer without a padding
    token (GPT-2, Llama, Mistral) pads with its end token; pooling reads the attention mask, never the token. Pairs are
    kept apart, see `separate_pairs`, and texts are never read for special tokens, see `read_as_text`.

    Raises:
        UserError: no tokenizer found, or neither a padding nor an end token.
    """
    name = model.tokenizer_name_or_path or model.model_name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=model.model_revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer_name_or_path: no tokenizer in '{name}' ({reason}); give the name of the model the tokenizer "
            "belongs to"
        ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"tokenizer_name_or_path: '{name}' has neither a padding nor an end token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    tokenizer.truncation_side = "right"
    separate_pairs(tokenizer)
    read_as_text(tokenizer)
    return tokenizer


def separate_pairs(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer put its end token between the texts of a pair, where it would let them run together.

    BERT and T5 mark the border themselves; GPT-2, and whatever knows single texts only, does not. The tokenizer is
    changed in place and keeps the change when it is saved, so that pipelines read pairs as training did.
    """
    single = tokenizer.num_special_tokens_to_add(pair=False)
    if tokenizer.num_special_tokens_to_add(pair=True) > single or tokenizer.eos_token is None:
        return
    # What a single text is wrapped in stays around the pair.
    before = tokenizer("a", add_special_tokens=True)["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(at for at in range(len(before)) if before[at : at + len(bare)] == bare)
    front = tokenizer.convert_ids_to_tokens(before[:start])
    back = tokenizer.convert_ids_to_tokens(before[start + len(bare) :])
    template = processors.TemplateProcessing(
        single=[*front, "$A", *back],
        pair=[*front, "$A", tokenizer.eos_token, "$B", *back],
        special_tokens=[
            (token, tokenizer.convert_tokens_to_ids(token)) for token in {*front, *back, tokenizer.eos_token}
        ],
    )
    backend = tokenizer.backend_tokenizer
    # A byte-level step adds no tokens; it keeps blanks out of the characters that a token says it comes from.
    keeps = isinstance(backend.post_processor, processors.ByteLevel)
    backend.post_processor = processors.Sequence([backend.post_processor, template]) if keeps else template


def encode_texts(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    target: str = "label",
    identity: str | None = None,
) -> Dataset:
    """Tokenise the texts, or pairs of texts, of a split.

    Args:
        dataset: with columns ``text``, ``text_pair`` where the task is about pairs, and the target.
        tokenizer: a fast tokenizer.
        max_length: texts are truncated to this many tokens, special tokens included; of a pair the longer text first.
        target: column of the labels: ids, or scores.
        identity: `tokenizer_digest` of the tokenizer, where it was computed before.

    Returns:
        Columns ``input_ids``, ``labels`` and ``length`` (tokens), rows in the given order; of pairs ``token_type_ids``
        too, where the tokenizer has them.
    """
    pairs = "text_pair" in dataset.column_names
    segments = pairs and "token_type_ids" in tokenizer.model_input_names

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        second = batch["text_pair"] if pairs else None
        encoded = tokenizer(batch["text"], second, truncation="longest_first", max_length=max_length, verbose=False)
        ids = encoded["input_ids"]
        columns = {"input_ids": ids, "labels": batch[target], "length": [len(row) for row in ids]}
        return columns | ({"token_type_ids": encoded["token_type_ids"]} if segments else {})

    facts = {"tokenizer": identity or tokenizer_digest(tokenizer), "max_length": max_length, "target": target}
    return dataset.map(
        encode,
        batched=True,
        remove_columns=dataset.column_names,
        new_fingerprint=result_name("texts", dataset, facts),
        desc="Tokenising",
    )


def subset(dataset: Dataset, size: int | None, seed: int) -> Dataset:
    """A random part of a split in its original order; the whole split when ``size`` is None or larger than it."""
    if size is None or size >= len(dataset):
        return dataset
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:size]
    return dataset.select(sorted(chosen.tolist()))


def evaluation_texts(dataset: Dataset, size: int | None) -> Dataset:
    """A part of validation or test under ``max_eval_samples``: the same one for every seed and every method.

    Drawn with the run's own seed, two runs would differ by their texts as well as by what is compared.
    """
    return subset(dataset, size, EVALUATION_SEED)


def longest_first(encoded: Dataset) -> np.ndarray:
    """Row numbers by falling length: little padding within batches, and too little memory shows at once."""
    return np.argsort(-numbers_of(encoded, "length"), kind="stable")


def numbers_of(encoded: Dataset, column: str) -> np.ndarray:
    """A column of numbers; asked for as a plain list it would be read row by row."""
    return encoded.with_format("arrow", columns=[column])[:][column].to_numpy()


def flat_ids(encoded: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all rows one after another, and where each row begins; the last offset is their number.

    Args:
        encoded: with a column ``input_ids``.
    """
    return flat_lists(encoded, "input_ids")


def flat_lists(encoded: Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column of lists one after another, and where each row begins; the last offset is their number.

    Reading rows out of these is some twenty times faster than asking the data set for them, and takes no memory
    where the numbers lie in one piece on disk: they stay mapped.

    Args:
        encoded: the data set.
        name: a column of lists of numbers.
    """
    column = encoded.with_format("arrow", columns=[name])[:][name].combine_chunks()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True)
class PadCollator:
    """Pad a batch of encoded texts on the right.

    Args:
        pad_token_id: id to pad with.
        fixed_length: pad to this length (the opinion paper's way); None pads to the longest text of the batch.
    """

    pad_token_id: int
    fixed_length: int | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Batch of ``input_ids`` and ``attention_mask`` ``(batch, length)``, int64, and ``labels``.

        Labels are int64 ``(batch,)`` for ids, float32 ``(batch,)`` for scores, float32 ``(batch, classes)`` for
        targets, and int64 ``(batch, length)``, -100 at the padding, for one label per token. ``token_type_ids`` and
        ``prefix_states`` go along where rows have them.
        """
        length = self.fixed_length or max(len(row["input_ids"]) for row in rows)
        # Filled by numpy, as in `pad_numbers`: assigning a slice costs a tenth of what it costs in torch.
        input_ids = np.full((len(rows), length), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            input_ids[index, :size] = row["input_ids"]
            attention_mask[index, :size] = 1
        batch = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask)}
        if "prefix_states" in rows[0]:
            batch["prefix_states"] = pad_states([row["prefix_states"] for row in rows], length)
        if "token_type_ids" in rows[0]:
            batch["token_type_ids"] = pad_numbers([row["token_type_ids"] for row in rows], length, 0)
        if "labels" in rows[0]:
            labels = [row["labels"] for row in rows]
            match labels[0]:
                case np.ndarray() if labels[0].dtype.kind == "f":
                    batch["labels"] = torch.from_numpy(np.stack(labels))
                case np.ndarray() | list():
                    batch["labels"] = pad_numbers(labels, length, IGNORED)
                case _:
                    batch["labels"] = torch.tensor(labels)
        return batch


def pad_numbers(rows: list[Sequence[int]], length: int, padding: int) -> torch.Tensor:
    """Ragged rows of whole numbers as int64 ``(batch, length)``, padded on the right."""
    padded = np.full((len(rows), length), padding, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)


def pad_states(states: list[torch.Tensor], length: int) -> torch.Tensor:
    """Stack ragged states ``(tokens, hidden)`` to ``(batch, length, hidden)``, zeros at the padding.

    Pooled states (one row per text, whatever its length) stay ``(batch, 1, hidden)``.
    """
    if all(len(rows) == 1 for rows in states):
        return torch.stack(states)
    padded = states[0].new_empty((len(states), length, states[0].shape[1]))
    for index, rows in enumerate(states):
        padded[index, : len(rows)] = rows
        padded[index, len(rows) :] = 0
    return padded


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write a tokenizer for others to use with a trained model.

    Args:
        tokenizer: the model's.
        folder: the model's.
        max_length: whoever truncates with this tokenizer, a pipeline for one, cuts where training did.
    """
    tokenizer.model_max_length = max_length
    if tokenizer.is_fast:
        # What its last call asked for would be saved too, and there was no call where encoded texts were kept.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def collator_for(data: DataConfig, tokenizer: PreTrainedTokenizerBase) -> PadCollator:
    """The collator that a config asks for."""
    return PadCollator(tokenizer.pad_token_id, data.max_length if data.pad_to_max else None)
