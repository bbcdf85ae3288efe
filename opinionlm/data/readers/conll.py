"""Reading CoNLL files: one token and its tag per line, a blank line after every sentence; a sentence is a record.

Columns are separated by tabs where a line holds one, else by runs of blanks. Without ``field_names`` they are called
``first`` and ``last``, which fits files of two columns as well as the four of CoNLL-2003.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from opinionlm.data.iob2 import TAG_FORMS, is_tag
from opinionlm.data.readers.lines import EVIDENCE_CHARACTERS, Lines, Oversized, decoded, unreadable
from opinionlm.data.readers.records import ColumnRules, Record, Reject, SourceNotes, column_positions
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError

DOCUMENT_MARK = "-DOCSTART-"
# What the columns of a file are called whose YAML does not name them.
OUTER_COLUMNS = ("first", "last")
_BLANKS = re.compile(" +")


def read_conll(path: Path, spec: FileSpec, notes: SourceNotes) -> Iterator[Record | Reject]:
    """Yield every sentence of a file, perhaps in ``.gz``, in order, with the lists ``tokens`` and ``tags``.

    A sentence with a line that is no token and tag goes as a whole: without that line its tags would mean something
    else. Lines that start with ``-DOCSTART-`` are skipped and counted.

    Raises:
        UserError: the file is missing, unreadable or without a sentence, or a column is unknown.
    """
    header = list(spec.field_names or OUTER_COLUMNS)
    at = column_positions(str(path), header, spec.columns, notes, ColumnRules())
    try:
        with path.open("rb") as binary:
            stream = decoded(binary, str(path), spec)
            sentences = _Sentences(Lines(stream, spec.max_record_characters), spec, notes, at["tokens"], at["tags"])
            try:
                yield from sentences
            finally:
                stream.detach()
    except (OSError, EOFError, zlib.error, UnicodeError, LookupError) as error:
        raise unreadable(str(path), error) from None
    if sentences.number == 0:
        raise UserError(f"{path}: the file is empty; expected one token and its tag per line")


def line_fields(line: str, delimiter: str | None) -> list[str]:
    """The columns of a line whose end is stripped: by the delimiter, else by tabs if it has one, else by blanks."""
    delimiter = delimiter or ("\t" if "\t" in line else "")
    return line.split(delimiter) if delimiter else _BLANKS.split(line.lstrip(" "))


class _Sentences:
    """Iterates over the sentences of an open file."""

    def __init__(self, lines: Lines, spec: FileSpec, notes: SourceNotes, token_at: int, tag_at: int) -> None:
        self._lines, self._spec, self._notes = lines, spec, notes
        self._token_at, self._tag_at = token_at, tag_at
        self.number, self._at_end = 0, False

    def __iter__(self) -> Iterator[Record | Reject]:
        while not self._at_end:
            tokens, tags, problem = self._next_sentence()
            if not tokens and problem is None:
                continue
            self.number += 1
            raw = (problem.raw if problem else "") or self._lines.raw
            self._notes.look_at(raw)
            if problem is not None:
                problem.number, problem.raw = self.number, raw
                yield problem
            else:
                yield Record(self._lines.taken[0][0], self.number, {}, raw, {"tokens": tokens, "tags": tags})

    def _next_sentence(self) -> tuple[list[str], list[str], Reject | None]:
        """Tokens and tags up to the next border or the end, and the first thing that is wrong with their lines."""
        tokens: list[str] = []
        tags: list[str] = []
        problem: Reject | None = None
        self._lines.begin()
        while True:
            try:
                line = next(self._lines).rstrip()
            except StopIteration:
                self._at_end = True
                return tokens, tags, problem
            except Oversized:
                detail = f"a sentence longer than {self._spec.max_record_characters} characters"
                problem = problem or self._reject("oversized_record", detail)
                problem.raw = problem.raw or self._lines.raw[:EVIDENCE_CHARACTERS]
                self._lines.begin()
                continue
            fields = self._fields(line)
            if not line or fields[0] == DOCUMENT_MARK:
                self._notes.details["document marks"] += bool(line)
                if tokens or problem:
                    return tokens, tags, problem
                self._notes.blank_lines += not line
                self._lines.begin()
                continue
            problem = problem or self._problem(fields)
            if problem is None:
                tokens.append(fields[self._token_at])
                tags.append(fields[self._tag_at])

    def _fields(self, line: str) -> list[str]:
        """The columns of a line whose end is stripped."""
        fields = line_fields(line, self._spec.delimiter)
        # Without names only the outer columns count; one column alone is not both of them.
        return fields if self._spec.field_names or len(fields) < 2 else [fields[0], fields[-1]]

    def _problem(self, fields: list[str]) -> Reject | None:
        """What is wrong with a line."""
        expected = len(self._spec.field_names) or 2
        if len(fields) != expected:
            reason = "too_many_fields" if len(fields) > expected else "too_few_fields"
            wanted = str(expected) if self._spec.field_names else "a token and a tag"
            return self._reject(reason, f"{len(fields)} fields instead of {wanted}")
        if not is_tag(fields[self._tag_at]):
            return self._reject("bad_tag", f"{fields[self._tag_at][:80]!r} is not {TAG_FORMS}")
        return None

    def _reject(self, reason: str, detail: str) -> Reject:
        line = self._lines.taken[-1][0]
        return Reject(line, 0, reason, f"line {line}: {detail}", "")
