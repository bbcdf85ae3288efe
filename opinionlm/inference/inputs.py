"""Words to be tagged from a CoNLL file, and the columns that a model needs beside its texts."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Generator
from typing import IO

from opinionlm.data.encoding.features import PLATFORM
from opinionlm.data.readers.conll import DOCUMENT_MARK, OUTER_COLUMNS, line_fields
from opinionlm.data.readers.lines import EVIDENCE_CHARACTERS, Lines, Oversized, decoded, unreadable
from opinionlm.data.readers.records import Record, Reject, SourceNotes
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError
from opinionlm.inference.input_forms import InputForm
from opinionlm.inference.predictors import Predictor


def read_words(
    binary: IO[bytes], name: str, notes: SourceNotes, form: InputForm
) -> Generator[Record | Reject, None, None]:
    """Yield every sentence of an open CoNLL file, in order, with the list ``tokens`` and the field ``text``.

    Blank lines and document marks end a sentence. One with an endless line, or with a line whose word cannot be told
    (see `word_place`), goes as a whole.

    Args:
        binary: buffered bytes. Closing it is left to the caller.
        name: what messages call it; with the ending ``.gz`` it is decompressed.
        notes: filled as a side effect.
        form: its encoding, what separates its columns, and which of them holds the words.

    Raises:
        UserError: the stream is unreadable.
    """
    spec = FileSpec(name, {}, encoding=form.encoding)
    try:
        stream = decoded(binary, name, spec)
        try:
            yield from _sentences(Lines(stream, spec.max_record_characters), notes, form)
        finally:
            stream.detach()
    except (OSError, EOFError, zlib.error, UnicodeError, LookupError) as error:
        raise unreadable(name, error) from None


def word_place(form: InputForm, columns: int) -> int | None:
    """Where the word stands on a line of so many columns; None where that cannot be told.

    Files like those of training have it where it was there. A line of one column is a word, and files of other columns
    have it first if those of training did.
    """
    if columns == 1 or not form.is_conll:
        return 0
    names = form.field_names or OUTER_COLUMNS
    place = names.index(str(form.text).strip())
    if not form.field_names:
        return -place  # 0 of the first column, -1 of the last one
    return place if place == 0 or columns == len(names) else None


def _sentences(lines: Lines, notes: SourceNotes, form: InputForm) -> Generator[Record | Reject, None, None]:
    number, more = 0, True
    while more:
        lines.begin()
        words: list[str] = []
        problem: Reject | None = None
        while more:
            try:
                line = next(lines).rstrip()
            except StopIteration:
                more = False
                break
            except Oversized:
                problem = problem or _reject(lines, "oversized_record", "a sentence too long to be one")
                lines.begin()
                continue
            columns = line_fields(line, form.delimiter)
            if not line or columns[0] == DOCUMENT_MARK:
                if words or problem:
                    break
                notes.blank_lines += not line
                lines.begin()
                continue
            place = word_place(form, len(columns))
            if place is None:
                problem = problem or _reject(lines, *_other_columns(form, len(columns)))
            else:
                words.append(columns[place].strip())
        if words or problem:
            number += 1
            notes.undecodable_records += "\ufffd" in lines.raw
        if problem:
            problem.number = number
            yield problem
        elif words:
            yield Record(lines.taken[0][0], number, {"text": " ".join(words)}, lines.raw, {"tokens": words})


def _reject(lines: Lines, reason: str, detail: str) -> Reject:
    """A sentence that cannot be used, for the line that was read last."""
    return Reject(lines.taken[-1][0], 0, reason, detail, lines.raw[:EVIDENCE_CHARACTERS])


def _other_columns(form: InputForm, columns: int) -> tuple[str, str]:
    """Code and sentence about a line with other columns than the files of training."""
    reason = "too_many_fields" if columns > len(form.field_names) else "too_few_fields"
    expected = f"{len(form.field_names)} ({', '.join(form.field_names)})"
    return reason, f"{columns} fields instead of {expected}, or of 1, the word"


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
