"""Which encoding the bytes at the beginning of a file speak for."""

from __future__ import annotations

import codecs
import re

from opinionlm.data.readers.damage import wide_encoding

# What files are tried in; nearly every text of another encoding is text in cp1252 too, so UTF-8 comes first.
ENCODINGS = ("utf-8", "cp1252", "gb18030")
WIDE_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
WIDE_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def head_text(head: bytes, encoding: str) -> str | None:
    """The beginning of a file as text, None where it is none; the last character may be cut in two."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head).removeprefix("\ufeff")
    except (UnicodeError, LookupError):
        return None


def decodes(head: bytes, encoding: str) -> bool:
    """Whether the beginning of a file is text in an encoding."""
    return head_text(head, encoding) is not None


def find_encoding(head: bytes) -> str:
    """The encoding of a file by its mark, by the zeros of wide characters, or the first of `ENCODINGS` that fits."""
    by_mark = next((name for mark, name in WIDE_MARKS.items() if head.startswith(mark)), None)
    order = ("utf-8", "gb18030", "cp1252") if has_high_runs(head) else ENCODINGS
    return by_mark or wide_encoding(head) or next((name for name in order if decodes(head, name)), "utf-8")


def has_high_runs(head: bytes) -> bool:
    """Whether most bytes beyond ASCII stand together, as those of Chinese words do; those of accents stand alone."""
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", head)]
    return sum(length for length in runs if length > 3) > sum(runs) / 2
