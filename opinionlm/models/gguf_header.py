"""The header of a GGUF file: what a model is called, how it is built, and where its tensors lie.

A file of a few hundred megabytes has its vocabulary and the names, shapes and places of its tensors in front, so that
a second tells whether it is whole and can be read, before anything is computed. `gguf.GGUFReader` would make several
numpy objects for each entry of the vocabulary: nine seconds of a processor for Gemma's 262,144 pieces, against 0.3.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from opinionlm.errors import UserError

VERSIONS = (2, 3)
# Values of a fixed size by their number in the file, as `struct` writes them.
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# What stands in front of the first entry: magic, version, number of tensors, number of entries.
START = struct.Struct("<4sIQQ")


@dataclass(frozen=True)
class Entry:
    """One entry of the metadata.

    Attributes:
        value: of an array, its length.
        is_array: whether it is one.
        start: where the entry begins in the file.
        end: where the next one does.
    """

    value: Any
    is_array: bool
    start: int
    end: int


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        shape: as torch orders it.
        type: how its numbers are stored, a number of `gguf.GGMLQuantizationType`.
        offset: from the start of the data.
    """

    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """What stands in front of the data of a GGUF file.

    Attributes:
        path: the file.
        entries: metadata by name.
        tensors: by name.
        tensors_start: where their list begins.
        tensors_end: where it ends.
        data_start: where the data begin.
    """

    path: Path
    entries: dict[str, Entry]
    tensors: dict[str, Tensor]
    tensors_start: int
    tensors_end: int
    data_start: int

    def value(self, name: str, default: Any = None) -> Any:
        """An entry's value."""
        return self.entries[name].value if name in self.entries else default

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the kind of model."""
        return str(self.value("general.architecture", "unknown"))

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    def write_without_vocabulary(self, path: Path) -> None:
        """Write the same file without the tokenizer's arrays, which `gguf.GGUFReader` takes so long to read."""
        kept = [one for name, one in self.entries.items() if not (name.startswith("tokenizer.") and one.is_array)]
        with open(self.path, "rb") as source, open(path, "wb") as target:
            magic, version, tensors, _ = START.unpack(source.read(START.size))
            target.write(START.pack(magic, version, tensors, len(kept)))
            for start, end in [*((one.start, one.end) for one in kept), (self.tensors_start, self.tensors_end)]:
                source.seek(start)
                target.write(source.read(end - start))
            alignment = self.value("general.alignment", 32)
            target.write(bytes(-target.tell() % alignment))
            source.seek(self.data_start)
            shutil.copyfileobj(source, target, 2**22)


def read_header(path: Path) -> GgufHeader:
    """Read what stands in front of the data.

    Raises:
        UserError: the file is none, is cut short, or is of a version or in parts that cannot be read.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _Reader(content, path).header()
    except FileNotFoundError:
        raise UserError(
            f"model_name_or_path: there is no file {path}; check the path, or fetch the files that configs/ "
            "names with `make gemma-weights` or `make smollm2-weights`"
        ) from None
    except (struct.error, ValueError, IndexError, MemoryError, OverflowError) as error:
        # mmap raises ValueError for an empty file; a length beyond the end gives one of the others.
        raise cut_short(path) from error
    if (parts := header.value("split.count", 0)) > 1:
        raise UserError(
            f"model_name_or_path: {path} is one of {parts} parts; join them with llama.cpp's `llama-gguf-split "
            "--merge` and give the whole file"
        )
    return header


def cut_short(path: Path) -> UserError:
    """The error for a file that ends too early."""
    return UserError(
        f"model_name_or_path: {path} is no whole GGUF file: it ends after {os.path.getsize(path):,} bytes, before "
        "what its header announces; fetch it again"
    )


class _Reader:
    """Walks through the bytes in front of the data."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self.content, self.path, self.at = content, path, 0

    def header(self) -> GgufHeader:
        """Everything in front of the data."""
        magic, version, tensor_count, entry_count = START.unpack_from(self.content, 0)
        if magic != b"GGUF" or version not in VERSIONS:
            found = f"is GGUF of version {version}" if magic == b"GGUF" else "does not begin with `GGUF`"
            raise UserError(
                f"model_name_or_path: {self.path} {found}, and versions {' and '.join(map(str, VERSIONS))} are read "
                "(little-endian); give another file of this model"
            )
        self.at = START.size
        entries = {}
        for _ in range(entry_count):
            start, name = self.at, self.string()
            (kind,) = self.numbers("I")
            value = self.skip_array() if kind == ARRAY else self.value(kind)
            entries[name] = Entry(value, kind == ARRAY, start, self.at)
        tensors_start = self.at
        tensors = dict(self.tensor() for _ in range(tensor_count))
        alignment = entries["general.alignment"].value if "general.alignment" in entries else 32
        data_start = -(-self.at // alignment) * alignment
        return GgufHeader(self.path, entries, tensors, tensors_start, self.at, data_start)

    def numbers(self, form: str) -> tuple[Any, ...]:
        """The next numbers, little-endian and without gaps."""
        found = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def skip(self, size: int) -> None:
        """Leave bytes out."""
        self.at += size
        if self.at > len(self.content):
            raise ValueError("beyond the end")

    def string(self) -> str:
        """The next text."""
        (size,) = self.numbers("Q")
        start = self.at
        self.skip(size)
        return self.content[start : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        """The next single value."""
        if kind == STRING:
            return self.string()
        if kind not in FORMATS:
            raise ValueError(f"type {kind}")
        return self.numbers(FORMATS[kind])[0]

    def skip_array(self) -> int:
        """Leave an array out; returns its length."""
        kind, count = self.numbers("IQ")
        if kind == STRING:
            for _ in range(count):
                (size,) = self.numbers("Q")
                self.skip(size)
        elif kind in FORMATS:
            self.skip(count * struct.calcsize(f"<{FORMATS[kind]}"))
        else:
            raise ValueError(f"array of type {kind}")
        return int(count)

    def tensor(self) -> tuple[str, Tensor]:
        """The next tensor's name and place."""
        name = self.string()
        (dimensions,) = self.numbers("I")
        shape = self.numbers(f"{min(dimensions, 8)}Q")
        kind, offset = self.numbers("IQ")
        return name, Tensor(shape[::-1], kind, offset)
