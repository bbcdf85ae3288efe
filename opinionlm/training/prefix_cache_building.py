"""Fill the frozen-prefix cache, alone or as one of several processes, and hand out its states."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainingArguments

from opinionlm.config.method_options import FREEZING, MethodConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.columns import longest_first, numbers_of
from opinionlm.errors import UserError
from opinionlm.models.classifier import OpinionClassifier, stores_pooled, whole_backbone_frozen
from opinionlm.models.frozen_prefix import LanguagePrefix, PrefixStandIn, prefix_states
from opinionlm.models.task_embedding import task_rows
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.prefix_cache import (
    OFFSETS,
    STATES,
    DamagedCacheError,
    PrefixStates,
    allocate,
    cache_key,
    clean,
    clear_left_overs,
    map_states,
    open_cache,
    publish,
    room_for,
    states_size,
    weights_digest,
)
from opinionlm.training.spending import Preparation, preparation_of
from opinionlm.training.splits import Split
from opinionlm.utils.distributed import said_by_main, wait_for_others
from opinionlm.utils.files import private_name
from opinionlm.utils.memory import return_freed_memory
from opinionlm.utils.progress import progress_bar

# Padded tokens per forward pass while building, on a CPU: small batches stay in its caches.
CPU_TOKENS = 1024
GPU_TOKENS = 65_536


@dataclass(frozen=True)
class FrozenPrefix:
    """The splits as training reads them, the output of frozen blocks computed where it can be.

    Attributes:
        splits: the encoded splits.
        readers: of each.
        states: what the frozen blocks put out, by split; None without a cache.
    """

    splits: dict[str, Split]
    readers: dict[str, EncodedTexts]
    states: dict[str, PrefixStates] | None

    def preparation(self, mining_seconds: float, selection_seconds: float) -> Preparation:
        """What this process spent before training."""
        tokens = int(self.readers["train"].lengths.sum())
        return preparation_of(mining_seconds, selection_seconds, self.states, tokens)


@contextmanager
def frozen_prefix(
    model: OpinionClassifier,
    splits: dict[str, Split],
    method: MethodConfig,
    arguments: TrainingArguments,
    pad_id: int,
) -> Iterator[FrozenPrefix]:
    """Compute what frozen blocks put out, and have stand-ins take their place inside a ``with`` block.

    Raises:
        UserError: see `cached_splits`.
    """
    states = cached_splits(model, {name: split.encoded for name, split in splits.items()}, method, arguments, pad_id)
    readers = {name: split.reader(None if states is None else states[name]) for name, split in splits.items()}
    # Where the whole backbone is frozen, no block runs and none is in the way.
    has_stand_ins = states is not None and not whole_backbone_frozen(model)
    with PrefixStandIn(model) if has_stand_ins else nullcontext():
        yield FrozenPrefix(splits, readers, states)


def cached_splits(
    model: OpinionClassifier | LanguagePrefix,
    encoded: dict[str, Dataset],
    method: MethodConfig,
    arguments: TrainingArguments,
    pad_id: int,
) -> dict[str, PrefixStates] | None:
    """States of the frozen prefix for every split, built where they are not kept yet; None without a cache.

    Every process of a run calls this; they share the work.

    Raises:
        UserError: ``cache_frozen: on`` and there is no frozen prefix, or no room for the cache.
    """
    cache_dir, is_main = Path(method.cache_dir), arguments.process_index == 0
    needed = bytes_to_keep(model, encoded, method, is_main)
    if needed is None:
        return None
    model.to(arguments.device)
    digest = weights_digest(model)
    keys = {name: cache_key(model, split, digest, arguments.bf16) for name, split in encoded.items()}
    if is_main:
        kept = sum((cache_dir / key).is_dir() for key in keys.values())
        print(
            f"cache   states of the {model.prefix_blocks} frozen blocks, {needed / 1e9:.2f} GB in {cache_dir}"
            + (f", {kept} of {len(keys)} splits there already" if kept else "")
        )
    states = {
        name: open_or_build(model, split, cache_dir / keys[name], arguments, pad_id, f"Cache ({name})")
        for name, split in encoded.items()
    }
    if is_main:
        clean(cache_dir, int(method.cache_limit_gb * 1e9), keep=set(keys.values()))
    return states


def bytes_to_keep(
    model: OpinionClassifier | LanguagePrefix, encoded: dict[str, Dataset], method: MethodConfig, is_main: bool
) -> int | None:
    """Size of the states of all splits; None where they are not kept, and the main process says why.

    Raises:
        UserError: see `cached_splits`.
    """
    mode, cache_dir = method.cache_frozen, Path(method.cache_dir)
    if mode == "off":
        return None
    if model.prefix_blocks == 0:
        if is_main and task_rows(model.backbone) is not None and method.adaptation in FREEZING:
            print("cache   off: the rows of task tokens train below all blocks")
        if mode == "on":
            raise UserError(
                f"cache_frozen: on, but adaptation: {method.adaptation} freezes no block "
                "below the trained ones; use top_blocks or head_only, or cache_frozen: auto"
            )
        return None
    if is_main and cache_dir.is_dir():
        clear_left_overs(cache_dir)
    needed, obstacle = room_for(model, list(encoded.values()), cache_dir, method.cache_limit_gb)
    if not obstacle:
        return needed
    if mode == "on":
        raise UserError(f"cache_frozen: on, but {obstacle}; free some, or use cache_frozen: auto")
    if is_main:
        print(f"cache   off: {obstacle}")
    return None


def open_or_build(
    model: OpinionClassifier | LanguagePrefix,
    encoded: Dataset,
    folder: Path,
    arguments: TrainingArguments,
    pad_id: int,
    description: str,
) -> PrefixStates:
    """Open one cache, or build it first where it is missing or damaged.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    is_main = arguments.process_index == 0
    if is_main and folder.is_dir():
        try:
            opened = open_cache(folder, stores_pooled(model))
        except DamagedCacheError as damage:
            print(f"cache   built again: {damage}")
            shutil.rmtree(folder)
        else:
            if arguments.world_size == 1:
                return opened
    wait_for_others()
    # Another run may finish this very cache between two looks; processes that differ about it would wait for ever.
    started, is_missing = time.perf_counter(), said_by_main(not folder.is_dir())
    if is_missing:
        build(model, encoded, folder, arguments, pad_id, description)
    wait_for_others()
    opened = open_cache(folder, stores_pooled(model))
    return replace(opened, built_seconds=time.perf_counter() - started) if is_missing else opened


def build(
    model: OpinionClassifier | LanguagePrefix,
    encoded: Dataset,
    folder: Path,
    arguments: TrainingArguments,
    pad_id: int,
    description: str,
) -> None:
    """Compute one cache in all processes, and give it its name when it is whole; raises as `open_or_build`."""
    is_main = arguments.process_index == 0
    partial = folder.with_name(f".{folder.name}.{said_by_main(private_name(''))}")
    try:
        if is_main:
            allocate(partial, model, encoded)
        wait_for_others()
        fill(model, encoded, partial, arguments, pad_id, description)
        wait_for_others()
        if is_main:
            publish(partial, folder, model, encoded)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f"cache_dir: cannot write {folder.parent} ({error.strerror}); free some space, give another "
            "cache_dir, or set cache_frozen: off"
        ) from error


def fill(
    model: OpinionClassifier | LanguagePrefix,
    encoded: Dataset,
    partial: Path,
    arguments: TrainingArguments,
    pad_id: int,
    description: str,
) -> None:
    """Compute and write the states of this process's share of the texts, longest first, under a token budget."""
    rows, _ = states_size(model, encoded)
    target = map_states(partial / STATES, rows, model.backbone.config.hidden_size, model.dtype, writable=True)
    offsets = np.load(partial / OFFSETS)
    lengths = numbers_of(encoded, "length")
    order = longest_first(encoded)[arguments.process_index :: arguments.world_size]
    budget = GPU_TOKENS if arguments.device.type == "cuda" else CPU_TOKENS
    collate = PadCollator(pad_id)
    reader = EncodedTexts(encoded, np.arange(len(encoded)))
    autocast = torch.autocast(arguments.device.type, torch.bfloat16) if arguments.bf16 else nullcontext()
    was_training = model.training
    model.eval()
    bar = progress_bar(desc=description, total=len(order), unit="texts")
    with bar, autocast:
        for chosen in cut(order, lengths, budget):
            batch = collate(reader.__getitems__(chosen))
            is_token = batch["attention_mask"].bool()
            batch = {name: tensor.to(arguments.device) for name, tensor in batch.items()}
            states = prefix_states(model, batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")).to(
                "cpu", model.dtype
            )
            for index, row in enumerate(chosen):
                begin, end = offsets[row], offsets[row + 1]
                target[begin:end] = states[index] if stores_pooled(model) else states[index][is_token[index]]
            bar.update(len(chosen))
    model.train(was_training)
    return_freed_memory()


def cut(order: np.ndarray, lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Cut rows, longest first, into batches of at most ``budget`` tokens, padding included."""
    start = 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size
