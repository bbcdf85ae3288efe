"""The frozen-prefix cache: what frozen blocks compute for a text is computed once and kept.

A cache is a folder named by a key over everything that decides its content: the weights of the prefix, the token ids
of the texts, the cut, data types, attention and the kind of device. It holds

- ``states.bin``: the states of all texts one after another, without padding, in the model's data type;
- ``offsets.npy``: where each text's states begin, in tokens;
- ``meta.json``: shape, data type and checksum, written last.

It is written under a temporary name and renamed when it is whole, so that a killed writer leaves nothing that looks
like a cache. Readers map it into memory after checking its sum.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from datasets import Dataset

from opinionlm.data.encoding.columns import flat_lists, numbers_of
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, frozen_parts, plain_backbone
from opinionlm.models.classifier import OpinionClassifier, stores_pooled, whole_backbone_frozen
from opinionlm.models.frozen_prefix import LanguagePrefix
from opinionlm.utils.files import is_running

FORMAT = 1
META, STATES, OFFSETS = "meta.json", "states.bin", "offsets.npy"


class DamagedCacheError(Exception):
    """A cache whose files do not hold what its description says."""


@dataclass(frozen=True)
class PrefixStates:
    """Stored states of the texts of one split.

    Attributes:
        states: ``(tokens, hidden)``, mapped into memory; ``(texts, hidden)`` for pooled states.
        offsets: row ``i`` begins at ``offsets[i]`` and ends before ``offsets[i + 1]``.
        pooled: whether a text has one state for all of its tokens.
        built_seconds: that computing and writing them took in this process; None where they were there already.
    """

    states: torch.Tensor
    offsets: np.ndarray
    pooled: bool = False
    built_seconds: float | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> torch.Tensor:
        """States ``(tokens, hidden)`` of one text, or its pooled state ``(hidden,)``."""
        return self.states[row] if self.pooled else self.states[self.offsets[row] : self.offsets[row + 1]]


def weights_digest(model: OpinionClassifier | LanguagePrefix) -> str:
    """Hash of every tensor of the frozen prefix: embedding, blocks below the cut, and what quantisation keeps aside.

    When the whole backbone is frozen, its final norm and its pooler, where that is used, belong to the prefix too.
    """
    anatomy = anatomy_of(model.backbone)
    parts = frozen_parts(model.backbone, model.prefix_blocks)
    if whole_backbone_frozen(model) and anatomy.final_norm is not None:
        parts.append(anatomy.final_norm)
    if stores_pooled(model) and model.pooling == "pooler":
        parts.append(plain_backbone(model.backbone).pooler)
    # XXH3 in 128 bits: nobody forges weights here, and it keeps up with the memory where SHA-256 does not.
    digest = xxhash.xxh3_128()
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().flatten().cpu().view(torch.uint8).numpy())
    return digest.hexdigest()


def texts_digest(encoded: Dataset) -> str:
    """Hash of the token ids of a split, row by row; another tokenizer, text or truncation gives another hash.

    Which text of a pair, or which chunk, a token belongs to is part of it.
    """
    ids, offsets = flat_lists(encoded)
    digest = xxhash.xxh3_128(offsets.tobytes())
    digest.update(ids.astype(np.int64).tobytes())
    if "token_type_ids" in encoded.column_names:
        digest.update(flat_lists(encoded, "token_type_ids")[0].astype(np.int64).tobytes())
    if "chunks" in encoded.column_names:
        digest.update(b"chunks" + flat_lists(encoded, "chunks")[0].astype(np.int64).tobytes())
    return digest.hexdigest()


def cache_key(model: OpinionClassifier | LanguagePrefix, encoded: Dataset, weights: str, autocast: bool) -> str:
    """Name of the cache for these texts under this prefix."""
    config = model.backbone.config
    facts = {
        "format": FORMAT,
        "weights": weights,
        "texts": texts_digest(encoded),
        "cut": model.prefix_blocks,
        "pooling": model.pooling if stores_pooled(model) else None,
        "config": config.to_diff_dict(),
        "attention": config._attn_implementation,
        "autocast": autocast,
        "device": model.device.type,
        "torch": torch.__version__,
    }
    if stores_pooled(model) and "chunks" in encoded.column_names:
        facts["chunk_pooling"] = model.config.chunk_pooling
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def states_size(model: OpinionClassifier | LanguagePrefix, encoded: Dataset) -> tuple[int, int]:
    """Rows and bytes that a cache of these texts takes: one row per token, or one per text when all is frozen."""
    rows = len(encoded) if stores_pooled(model) else int(numbers_of(encoded, "length").sum())
    return rows, rows * model.backbone.config.hidden_size * model.dtype.itemsize


def allocate(folder: Path, model: OpinionClassifier | LanguagePrefix, encoded: Dataset) -> None:
    """Make the files of a cache that is to be filled, with all their space reserved.

    Without reservation a full disk would kill a process that writes through the memory map.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True)
    rows, size = states_size(model, encoded)
    lengths = np.ones(len(encoded), dtype=np.int64) if stores_pooled(model) else numbers_of(encoded, "length")
    np.save(folder / OFFSETS, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    with open(folder / STATES, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


def map_states(path: Path, rows: int, hidden: int, dtype: torch.dtype, writable: bool) -> torch.Tensor:
    """Map ``(rows, hidden)`` states of a file into memory."""
    return torch.from_file(str(path), shared=writable, size=rows * hidden, dtype=dtype).view(rows, hidden)


def publish(partial: Path, folder: Path, model: OpinionClassifier | LanguagePrefix, encoded: Dataset) -> None:
    """Describe a filled cache and give it its name; one that another run finished first is kept instead."""
    rows, _ = states_size(model, encoded)
    meta = {
        "format": FORMAT,
        "texts": len(encoded),
        "rows": rows,
        "hidden": model.backbone.config.hidden_size,
        "dtype": str(model.dtype).removeprefix("torch."),
        "checksums": {name: checksum(partial / name) for name in (STATES, OFFSETS)},
    }
    (partial / META).write_text(json.dumps(meta, indent=2))
    for name in (STATES, OFFSETS, META):
        with open(partial / name, "rb") as file:
            os.fsync(file.fileno())
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / META).is_file():
            raise
        shutil.rmtree(partial)


def open_cache(folder: Path, pooled: bool) -> PrefixStates:
    """Open a cache, of pooled states or of those of tokens, after checking its sums.

    Raises:
        DamagedCacheError: a file is missing, cut off or changed.
    """
    try:
        meta = json.loads((folder / META).read_text())
        for name, expected in meta["checksums"].items():
            if checksum(folder / name) != expected:
                raise DamagedCacheError(f"{folder / name} was changed or cut off")
        offsets = np.load(folder / OFFSETS)
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[meta["dtype"]]
        states = map_states(folder / STATES, meta["rows"], meta["hidden"], dtype, writable=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DamagedCacheError(f"{folder}: {error}") from error
    os.utime(folder / META)  # used now: the last to be cleaned away
    return PrefixStates(states, offsets, pooled)


def checksum(path: Path) -> str:
    """XxHash (XXH3, 128 bit) of a file, read in pieces of 16 MB."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest.hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def clean(cache_dir: Path, limit_bytes: int, keep: set[str]) -> list[str]:
    """Delete the caches that were used longest ago until the rest fits the limit; those in ``keep`` stay.

    Also deletes what writers on other machines left behind a day ago. A cache that another run has mapped stays
    readable for it.

    Returns:
        Names of the deleted caches.
    """
    finished, deleted = [], []
    for folder in cache_dir.iterdir():
        if not folder.is_dir():
            continue
        if folder.name.startswith(".") and time.time() - folder.stat().st_mtime > 86_400:
            shutil.rmtree(folder, ignore_errors=True)
        elif (folder / META).is_file():
            finished.append((((folder / META).stat().st_mtime), folder_size(folder), folder))
    total = sum(size for _, size, _ in finished)
    for _, size, folder in sorted(finished, key=lambda entry: entry[0]):
        if total <= limit_bytes:
            break
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            deleted.append(folder.name)
            total -= size
    return deleted


def clear_left_overs(cache_dir: Path) -> None:
    """Delete what killed writers of this machine left behind: it holds all the space of a cache."""
    for folder in cache_dir.glob(".*"):
        start, _, rest = folder.name.rpartition(f".{socket.gethostname()}-")
        if start and not is_running(rest.split("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)


def room_for(
    model: OpinionClassifier | LanguagePrefix, splits: list[Dataset], cache_dir: Path, limit_gb: float
) -> tuple[int, str]:
    """Bytes that the caches of some splits take, and why they cannot be kept (empty when they can).

    Raises:
        UserError: the cache folder cannot be made.
    """
    needed = sum(states_size(model, encoded)[1] for encoded in splits)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cache_dir: cannot make {cache_dir}: {error.strerror}") from error
    free = shutil.disk_usage(cache_dir).free
    if needed > limit_gb * 1e9:
        return needed, f"{needed / 1e9:.1f} GB exceed cache_limit_gb: {limit_gb:g}"
    if needed > 0.9 * free:
        return needed, f"{needed / 1e9:.1f} GB do not fit the {free / 1e9:.1f} GB free in {cache_dir}"
    return needed, ""
