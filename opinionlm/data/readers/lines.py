"""Physical lines of a byte stream, with numbers and bounded memory: what every reader of text formats stands on."""

from __future__ import annotations

import gzip
import io
from collections import deque
from collections.abc import Callable
from typing import IO, Any

from opinionlm.data.readers.damage import refuse_wrong_width
from opinionlm.data.readers.json_values import scrub
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError, one_line

# How much of an oversized record is kept as evidence.
EVIDENCE_CHARACTERS = 2_000
# Text shrinks to a third or, where it repeats itself, to a fiftieth; a bomb of blanks to a thousandth.
MAX_EXPANSION = 200
# Where the bytes of a file are looked at for its encoding.
PEEKED_BYTES = 4_096
FREE_BYTES = 100_000_000


def unreadable(name: str, error: Exception) -> UserError:
    """What to raise when a stream breaks off or cannot be decoded."""
    return UserError(
        f"{name}: cannot be read ({one_line(error)}); check the path, the encoding and that the file is whole"
    )


def decoded(binary: IO[bytes], name: str, spec: FileSpec) -> io.TextIOWrapper[IO[bytes]]:
    """The stream as text, decompressed where its name ends in ``.gz``, without a byte order mark."""
    source: Any = _BoundedGzip(binary, name) if name.endswith(".gz") else binary
    beginning = source.peek(PEEKED_BYTES)[:PEEKED_BYTES]
    start = beginning[:3]
    is_utf8 = spec.encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    if is_utf8 and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        width = 32 if beginning[:4] == b"\xff\xfe\0\0" else 16
        raise UserError(f"{name}: starts with a UTF-{width} byte order mark; set encoding: utf-{width} for this file")
    refuse_wrong_width(beginning, name, spec.encoding)
    if not is_utf8 and start == b"\xef\xbb\xbf" and "utf" not in spec.encoding.lower():
        raise UserError(f"{name}: starts with a UTF-8 byte order mark; set encoding: utf-8 instead of {spec.encoding}")
    if is_utf8 and start == b"\xef\xbb\xbf":
        # By hand: Python's utf-8-sig silently swallows a file that is only the beginning of a mark.
        source.read(3)
    # newline="" leaves \r\n and \r as they are, so that raw content in rejects is the file's own.
    return io.TextIOWrapper(source, encoding=spec.encoding, errors="replace", newline="")


class _Counting(io.RawIOBase):
    """Hands on the compressed bytes and counts them."""

    def __init__(self, binary: IO[bytes]) -> None:
        self._binary, self.count = binary, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        content = self._binary.read(size)
        self.count += len(content)
        return content


class _BoundedGzip(gzip.GzipFile):
    """Stops a decompression bomb: memory is bounded anyway, but a few megabytes could keep us busy for days."""

    def __init__(self, binary: IO[bytes], name: str) -> None:
        self._source, self._name, self._given = _Counting(binary), name, 0
        super().__init__(fileobj=self._source, mode="rb")

    def read1(self, size: int = -1) -> bytes:
        """The next decompressed bytes."""
        content = super().read1(size)
        self._given += len(content)
        if self._given > FREE_BYTES and self._given > MAX_EXPANSION * self._source.count:
            raise UserError(
                f"{self._name}: expands to more than {MAX_EXPANSION} times its size, which no text does (a "
                "decompression bomb?); unpack it yourself if you trust it"
            )
        return content


class Oversized(Exception):
    """The record being read went over the limit."""


class Lines:
    """Physical lines with numbers, a memory of the current record's lines, and the means to give lines back.

    Giving back is what keeps one unterminated quote from swallowing the rest of a file: the first line is rejected and
    reading goes on with the second.
    """

    def __init__(self, stream: io.TextIOWrapper, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._returned: deque[tuple[int, str, bool]] = deque()
        self._read = 0
        self.taken: list[tuple[int, str, bool]] = []
        self._size = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        number, text, whole = self._returned.popleft() if self._returned else self._fetch()
        self.taken.append((number, text, whole))
        self._size += len(text)
        if not whole or self._size > self._limit:
            raise Oversized
        return text

    def _fetch(self) -> tuple[int, str, bool]:
        text = self._stream.readline(self._limit + 1)
        if not text:
            raise StopIteration
        self._read += 1
        whole = len(text) <= self._limit or text.endswith(("\n", "\r"))
        if not whole:
            while (rest := self._stream.readline(65_536)) and not rest.endswith(("\n", "\r")):
                pass
            text = text[:EVIDENCE_CHARACTERS]
        if self._read == 1 and self._stream.encoding.lower().startswith(("utf-16", "utf-32", "utf_16", "utf_32")):
            # Where the encoding names the byte order, the mark stays in the text.
            text = text.removeprefix("\ufeff")
        # Some encodings, utf-7 for one, can spell half of a surrogate pair.
        return self._read, text if text.isascii() else scrub(text), whole

    def begin(self) -> None:
        """Forget the previous record's lines."""
        self.taken = []
        self._size = 0

    def ahead(self, number: int) -> list[str]:
        """The next lines that are not blank, at most so many; they are read again afterwards."""
        self.begin()
        try:
            while len(self.taken) < number:
                next(self)
        except (StopIteration, Oversized):
            pass
        self._returned.extendleft(reversed(self.taken))
        found = [text for _, text, whole in self.taken if whole and text.strip()]
        self.begin()
        return found

    def first_if(self, wanted: Callable[[str], bool]) -> str | None:
        """Take the next line if it is a wanted one; None, with the line still to be read, otherwise."""
        found = self.ahead(1)
        if not found or not wanted(found[0]):
            return None
        line = next(self)
        self.begin()
        return line

    def give_back(self) -> None:
        """Return all but the first line of the current record."""
        self._returned.extendleft(reversed(self.taken[1:]))
        self.taken = self.taken[:1]

    @property
    def raw(self) -> str:
        """The current record as it stands in the file, without its line end."""
        return "".join(text for _, text, _ in self.taken).rstrip("\r\n")
