"""Words to be tagged from a CoNLL file, and the columns that a model needs beside its texts."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Generator
from typing import IO

from opinionlm.data.encoding.features import PLATFORM
from opinionlm.data.readers.conll import DOCUMENT_MARK
from opinionlm.data.readers.lines import EVIDENCE_CHARACTERS, Lines, Oversized, decoded, unreadable
from opinionlm.data.readers.records import Record, Reject, SourceNotes
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError
from opinionlm.inference.predictors import Predictor


def read_words(
    binary: IO[bytes], name: str, notes: SourceNotes, encoding: str = "utf-8"
) -> Generator[Record | Reject, None, None]:
    """Yield every sentence of an open CoNLL file, in order, with the list ``tokens`` and the field ``text``.

    A line's first column is its word, whatever else there is; blank lines and document marks end a sentence. A
    sentence with an endless line goes as a whole.

    Args:
        binary: buffered bytes. Closing it is left to the caller.
        name: what messages call it; with the ending ``.gz`` it is decompressed.
        notes: filled as a side effect.
        encoding: of the text.

    Raises:
        UserError: the stream is unreadable.
    """
    spec = FileSpec(name, {}, encoding=encoding)
    try:
        stream = decoded(binary, name, spec)
        try:
            yield from _sentences(Lines(stream, spec.max_record_characters), notes)
        finally:
            stream.detach()
    except (OSError, EOFError, zlib.error, UnicodeError, LookupError) as error:
        raise unreadable(name, error) from None


def _sentences(lines: Lines, notes: SourceNotes) -> Generator[Record | Reject, None, None]:
    number, more = 0, True
    while more:
        lines.begin()
        words: list[str] = []
        too_long = ""
        while more:
            try:
                line = next(lines).strip("\r\n")
            except StopIteration:
                more = False
                break
            except Oversized:
                too_long = too_long or lines.raw[:EVIDENCE_CHARACTERS]
                lines.begin()
                continue
            columns = line.split("\t") if "\t" in line else line.split()
            if not line.strip() or columns[0] == DOCUMENT_MARK:
                if words or too_long:
                    break
                notes.blank_lines += not line.strip()
                lines.begin()
                continue
            words.append(columns[0].strip())
        if too_long:
            number += 1
            yield Reject(number, number, "oversized_record", "a sentence too long to be one", too_long)
        elif words:
            number += 1
            notes.undecodable_records += "\ufffd" in lines.raw
            yield Record(lines.taken[0][0], number, {"text": " ".join(words)}, lines.raw, {"tokens": words})


def check_platform(predictor: Predictor, column: str | None, name: str) -> None:
    """A model that was trained with platforms in front of its texts needs them, and no other has a use for them.

    Args:
        predictor: the model.
        column: that names each record's platform, None for none.
        name: the platform of all records, blank for none.

    Raises:
        UserError: there is none, two, one of unknown name, or one too many.
    """
    known = predictor.platforms
    if known is None:
        if column is not None or name:
            raise UserError("--platform: the model reads no platforms; leave --platform and --platform_column out")
        return
    if column is None and not name:
        raise UserError(
            "--platform: the model reads the platform in front of every text; name the column with --platform_column, "
            f"or give --platform ({', '.join(known)})"
        )
    if column is not None and name:
        raise UserError("--platform: --platform_column names a platform per record; give only one of the two")
    if name and name not in known:
        raise UserError(f"--platform: {name!r} is none that the model was trained on ({', '.join(known)})")


def check_features(predictor: Predictor, given: Collection[str], source: str) -> None:
    """A model that was trained with columns in front of its texts needs all of them.

    Args:
        predictor: the model.
        given: names of the features that are there.
        source: of the records, for the message.

    Raises:
        UserError: one is absent.
    """
    names = [feature.name for feature in predictor.features if feature.name != PLATFORM]
    if absent := [name for name in names if name not in given]:
        raise UserError(
            f"{source}: {absent[0]!r} is not there, and the model reads {', '.join(names)} in front of every text; "
            "give a column or key of that name (blank where there is no value)"
        )
