"""Reading source files record by record: whatever the bytes, a record becomes a `Record` or a `Reject`.

Section 4, step 1.1 (ingestion and schema alignment), without the paper's plain ``pandas.read_csv``, which fails on the
real YouTube file. Memory is bounded by ``max_record_characters``, also for compressed files and endless lines.
"""

from __future__ import annotations

import csv
import json
import sys
import zlib
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from opinionlm.data.readers.damage import holds_mojibake
from opinionlm.data.readers.delimiters import delimiter_hint, excel_delimiter, find_delimiter, split_line
from opinionlm.data.readers.json_values import json_fields, load_row, scrub, top_level
from opinionlm.data.readers.lines import EVIDENCE_CHARACTERS, Lines, Oversized, decoded, unreadable
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError, one_line
from opinionlm.utils.names import closest


@dataclass(slots=True)
class Record:
    """One well-formed record: its first physical line, its number among the records, its fields by canonical name.

    ``lists`` holds the fields that are lists of texts, ``others`` the fields of columns that nobody asked for, where
    they are kept, in the order of `SourceNotes.dropped_columns`.
    """

    line: int
    number: int
    fields: dict[str, str]
    raw: str
    lists: dict[str, list[str]] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class Reject:
    """One record that could not be used: where it is, why (a code and a sentence), and what it looked like."""

    line: int
    number: int
    reason: str
    detail: str
    raw: str


@dataclass
class SourceNotes:
    """What a reader noticed besides its records; filled while reading.

    ``delimiter`` is the one that a header showed where another was expected, ``unread_sheets`` are those of a workbook
    behind its first, ``details`` are counts of one task or format.
    """

    blank_lines: int = 0
    undecodable_records: int = 0
    nul_records: int = 0
    mojibake_records: int = 0
    delimiter: str = ""
    unread_sheets: list[str] = field(default_factory=list)
    dropped_columns: list[str] = field(default_factory=list)
    details: Counter[str] = field(default_factory=Counter)

    def look_at(self, raw: str) -> None:
        """Count the signs of a wrong encoding in a record."""
        self.undecodable_records += "\ufffd" in raw
        self.nul_records += "\0" in raw
        self.mojibake_records += holds_mojibake(raw)


Kind = Literal["csv", "tsv", "jsonl", "lines"]
KINDS: dict[str, Kind] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}
# How many lines of a file without a header have to agree on another delimiter.
FIRST_LINES = 20


@dataclass(frozen=True)
class ColumnRules:
    """What becomes of columns that are missing, and of those that nobody named.

    Attributes:
        optional: canonical columns that may be absent; their fields are then left out of the records.
        remedy: the end of messages about columns.
        keep_others: records of separated files keep the fields of all other columns.
    """

    optional: Collection[str] = ()
    remedy: str = "correct `columns` in the dataset YAML"
    keep_others: bool = False


def read_file(path: Path, spec: FileSpec, notes: SourceNotes) -> Iterator[Record | Reject]:
    """Yield every record of a file, in order; its name's endings decide the format and the compression.

    Raises:
        UserError: the file is missing, unreadable, empty, of an unknown format, or lacks a column.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix
    kind = KINDS.get(suffix)
    if kind is None:
        raise UserError(
            f"{path}: unknown format {suffix!r}; expected .csv, .tsv or .jsonl, each also with .gz, .xlsx or .parquet"
        )
    try:
        binary = path.open("rb")
    except OSError as error:
        raise unreadable(str(path), error) from None
    with binary:
        yield from read_stream(binary, str(path), kind, spec, notes)


def read_stream(
    binary: IO[bytes],
    name: str,
    kind: Kind,
    spec: FileSpec,
    notes: SourceNotes,
    rules: ColumnRules = ColumnRules(),
) -> Generator[Record | Reject, None, None]:
    """Yield every record of an open stream (a file, standard input), in order.

    Args:
        binary: buffered bytes; need not be seekable. Closing it is left to the caller.
        name: what messages call it; with the ending ``.gz`` it is decompressed.
        kind: the format; every line of ``lines`` is a record with the one field ``text``.
        spec: columns and format options.
        notes: filled as a side effect.
        rules: for columns that are missing, and for others.

    Raises:
        UserError: the stream is unreadable, empty, or lacks a column.
    """
    try:
        stream = decoded(binary, name, spec)
        try:
            lines = Lines(stream, spec.max_record_characters)
            match kind:
                case "jsonl":
                    yield from _read_jsonl(name, lines, spec, notes, rules)
                case "lines":
                    yield from _read_lines(name, lines, spec, notes)
                case "csv" | "tsv":
                    delimiter = spec.delimiter or ("\t" if kind == "tsv" else ",")
                    yield from _read_separated(name, lines, spec, notes, delimiter, rules)
        finally:
            # A wrapper that is collected closes what it wraps, and that belongs to the caller.
            stream.detach()
    except (OSError, EOFError, zlib.error, UnicodeError, LookupError) as error:
        raise unreadable(name, error) from None


def _read_separated(
    name: str, lines: Lines, spec: FileSpec, notes: SourceNotes, delimiter: str, rules: ColumnRules
) -> Iterator[Record | Reject]:
    csv.field_size_limit(sys.maxsize)  # `Lines` holds the limit; csv's own would raise in the middle of a record
    header, delimiter = _header_and_delimiter(name, lines, spec, notes, delimiter, rules.optional)
    reader = _csv_reader(lines, spec, delimiter)
    positions = column_positions(name, header, spec.columns, notes, rules)
    taken = set(positions.values())
    rest = [at for at in range(len(header)) if at not in taken] if rules.keep_others else []
    number = 0
    while True:
        lines.begin()
        problem = ""
        try:
            values = next(reader)
        except StopIteration:
            return
        except Oversized:
            problem, detail = "oversized_record", f"longer than {spec.max_record_characters} characters"
        except csv.Error as error:
            problem, detail = "bad_quoting", f"quotes do not close properly ({error})"
        if problem:
            # Only the first line is to blame for certain; what follows gets its own chance.
            lines.give_back()
        elif len(values) <= 1 and not lines.raw.strip():
            notes.blank_lines += 1
            continue
        else:
            problem, detail = problem_of(values, header)
        number += 1
        line, raw = lines.taken[0][0], lines.raw
        notes.look_at(raw)
        if problem:
            evidence = raw[:EVIDENCE_CHARACTERS] if problem == "oversized_record" else raw
            yield Reject(line, number, problem, detail, evidence)
        else:
            fields = {column: values[at] for column, at in positions.items()}
            yield Record(line, number, fields, raw, others=tuple(values[at] for at in rest))


def problem_of(values: Sequence[str], header: Sequence[str]) -> tuple[str, str]:
    """Why the fields of a line are no record, as a code and in words; blank where they are one."""
    if len(values) != len(header):
        reason = "too_many_fields" if len(values) > len(header) else "too_few_fields"
        return reason, f"{len(values)} fields instead of {len(header)}"
    if len(header) > 1 and all(value.strip() == name.strip() for value, name in zip(values, header, strict=True)):
        return "repeated_header", "its fields are the names of the columns"
    return "", ""


def _csv_reader(lines: Lines, spec: FileSpec, delimiter: str) -> Iterator[list[str]]:
    rule: Literal[0, 3] = csv.QUOTE_NONE if spec.quoting == "none" else csv.QUOTE_MINIMAL
    # Strict: a quote followed by anything but a separator is damage to report, not text to join up silently.
    return csv.reader(lines, delimiter=delimiter, quoting=rule, strict=True)


def _header_and_delimiter(
    name: str, lines: Lines, spec: FileSpec, notes: SourceNotes, delimiter: str, optional: Collection[str]
) -> tuple[list[str], str]:
    """The column names and what separates them; another delimiter than expected only where the YAML names none."""
    excel = lines.first_if(lambda line: excel_delimiter(line) is not None)
    if excel is not None and spec.delimiter is None and excel_delimiter(excel) != delimiter:
        delimiter = notes.delimiter = str(excel_delimiter(excel))
    required = {column.strip() for canonical, column in spec.columns.items() if canonical not in optional}

    def has_columns(fields: list[str]) -> bool:
        return bool(required) and required <= set(fields)

    def has_length(fields: list[str]) -> bool:
        return len(fields) == len(spec.field_names)

    if spec.field_names:
        header, start = list(spec.field_names), lines.ahead(FIRST_LINES)
        fits, does_fit = has_length, any(has_length(split_line(line, delimiter, spec.quoting)) for line in start)
    else:
        header, start = _read_header(name, lines, _csv_reader(lines, spec, delimiter))
        fits, does_fit = has_columns, has_columns(header)
    found = None if does_fit or not required else find_delimiter(start, fits, spec.quoting, delimiter)
    if found is None:
        if not header:
            raise UserError(f"{name}:1: the header line cannot be read (quotes do not close); is this a CSV file?")
        return header, delimiter
    if spec.delimiter is not None:
        raise UserError(
            f"{name}: by delimiter: {json.dumps(delimiter)} its first line lacks the columns asked for, by "
            f"{json.dumps(found)} it has them; set delimiter: {json.dumps(found)}"
        )
    notes.delimiter = found
    return header if spec.field_names else split_line(start[0], found, spec.quoting), found


def _read_header(name: str, lines: Lines, reader: Iterator[list[str]]) -> tuple[list[str], list[str]]:
    """The column names, none where quotes do not close, and the first line that is not blank."""
    try:
        header = next(reader)
        while not any(column.strip() for column in header):
            lines.begin()
            header = next(reader)
    except StopIteration:
        raise UserError(f"{name}: the file is empty; expected a header line and records") from None
    except Oversized:
        raise UserError(f"{name}:1: the header line cannot be read (too long); is this a CSV file?") from None
    except csv.Error:
        lines.give_back()
        header = []
    return [column.strip().strip("\ufeff") for column in header], [lines.raw]


def column_positions(
    name: str, header: list[str], columns: Mapping[str, str], notes: SourceNotes, rules: ColumnRules
) -> dict[str, int]:
    """Where each canonical column stands; the paper's step 1.3 (columns that are not asked for go) happens here."""
    wanted = {canonical: column.strip() for canonical, column in columns.items()}
    wanted = {key: column for key, column in wanted.items() if key not in rules.optional or column in header}
    for canonical, column in wanted.items():
        if header.count(column) != 1:
            near = closest(column, header)
            missing = f"is not there{f', did you mean {near!r}?' if near else ''}"
            problem = "is there twice" if column in header else missing
            raise UserError(
                f"{name}: the column {column!r} (for {canonical}) {problem}; "
                f"expected {', '.join(wanted.values())}; found {', '.join(map(repr, header))[:500]}; {rules.remedy}"
                f"{delimiter_hint(header)}"
            )
    notes.dropped_columns = [column for column in header if column not in wanted.values()]
    return {canonical: header.index(column) for canonical, column in wanted.items()}


def _read_lines(name: str, lines: Lines, spec: FileSpec, notes: SourceNotes) -> Iterator[Record | Reject]:
    """Every physical line is a record, a blank one too: line numbers of input and output agree."""
    number = 0
    while True:
        lines.begin()
        number += 1
        try:
            text = next(lines)
        except StopIteration:
            break
        except Oversized:
            detail = f"longer than {spec.max_record_characters} characters"
            yield Reject(number, number, "oversized_record", detail, lines.raw[:EVIDENCE_CHARACTERS])
            continue
        notes.look_at(text)
        yield Record(number, number, {"text": text.rstrip("\r\n")}, lines.raw)
    if number == 1:
        raise UserError(f"{name}: the file is empty; expected one text per line")


def _read_jsonl(
    name: str, lines: Lines, spec: FileSpec, notes: SourceNotes, rules: ColumnRules
) -> Iterator[Record | Reject]:
    number = 0
    found: dict[str, None] = {}
    used = False
    while True:
        lines.begin()
        try:
            row, problem, detail = _json_object(lines, spec.max_record_characters)
        except StopIteration:
            break
        if row is None and not problem:
            notes.blank_lines += 1
            continue
        number += 1
        raw = lines.raw
        notes.look_at(raw)
        if row is not None:
            found.update(dict.fromkeys(list(row)[:50]))
            fields, lists, problem, detail = json_fields(row, spec.columns, rules.optional)
            used = used or problem != "missing_field"
        if problem:
            yield Reject(lines.taken[0][0], number, problem, detail, raw)
        else:
            yield Record(lines.taken[0][0], number, fields, raw, lists)
    if number == 0:
        raise UserError(f"{name}: the file is empty; expected one JSON object per line")
    if not used and found:
        expected = ", ".join(column for name, column in spec.columns.items() if name not in rules.optional)
        raise UserError(
            f"{name}: no record has all the columns; expected {expected}; found {', '.join(map(repr, found))[:500]}; "
            f"{rules.remedy}"
        )
    used_keys = top_level(spec.columns, found).values()
    notes.dropped_columns = [scrub(column) for column in found if column not in used_keys]


def _json_object(lines: Lines, limit: int) -> tuple[dict[str, Any] | None, str, str]:
    """The object of the next line, and code and sentence of what is wrong with it; nothing of a blank line."""
    try:
        text = next(lines)
    except Oversized:
        return None, "oversized_record", f"longer than {limit} characters"
    if not text.strip():
        return None, "", ""
    try:
        row = load_row(text)
    except (ValueError, RecursionError) as error:
        return None, "invalid_json", one_line(error)
    if not isinstance(row, dict):
        return None, "invalid_json", f"expected an object with keys, found {type(row).__name__}"
    return row, "", ""
