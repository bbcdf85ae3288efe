"""How a file is written: format, encoding, separator, quotes, header; and what its columns hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from opinionlm.data.inspection.columns import Column, flat, is_dated, is_number
from opinionlm.data.readers.conll import read_conll
from opinionlm.data.readers.delimiters import DELIMITERS, excel_delimiter
from opinionlm.data.readers.encodings import find_encoding, head_text
from opinionlm.data.readers.json_values import load_row
from opinionlm.data.readers.lines import unreadable
from opinionlm.data.readers.records import Record, SourceNotes, read_file, read_stream
from opinionlm.data.readers.tables import TABLES, open_table, sheet_rows
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError

Kind = Literal["csv", "tsv", "jsonl", "conll", "xlsx", "parquet"]
KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".conll": "conll", ".txt": "conll"}
KINDS |= {ending: ending.removeprefix(".") for ending in TABLES}
# Where the form is looked for; records of it by which separators are told apart.
HEAD_BYTES, HEAD_ROWS = 1_000_000, 200
# A longer cell in the first line is a post, no name of a column.
LONGEST_NAME = 80
CONLL_COLUMNS = {"tokens": "first", "tags": "last"}


@dataclass
class FileForm:
    """A file that was looked at.

    Attributes:
        path: the file.
        kind: its format.
        encoding: of its text.
        has_mark: it begins with a byte order mark.
        delimiter: between fields; None for the usual one, or where there is none.
        header: names of the columns of a separated file; one that stands there twice is none.
        field_names: the same where the file has no header and they are made up.
        columns: what they hold, in their order.
        records: that could be read.
        broken: records that could not.
    """

    path: Path
    kind: Kind
    encoding: str = "utf-8"
    has_mark: bool = False
    delimiter: str | None = None
    header: tuple[str, ...] = ()
    field_names: tuple[str, ...] = ()
    columns: dict[str, Column] = field(default_factory=dict)
    records: int = 0
    broken: int = 0

    def spec(self, columns: dict[str, str]) -> FileSpec:
        """The file with some columns, as a dataset YAML names it."""
        return FileSpec(
            self.path.name,
            columns,
            field_names=self.field_names,
            delimiter=self.delimiter,
            encoding=self.encoding,
        )


def look_at(path: Path, asked: Sequence[str]) -> FileForm:
    """Read a whole file once and say how it is written and what it holds.

    Args:
        path: the file; its ending says the format.
        asked: columns that are known to be there, which tells separators and headers apart.

    Raises:
        UserError: it is missing, of an unknown format, cannot be read, or has no record.
    """
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending not in KINDS:
        known = ".csv, .tsv, .jsonl, .xlsx, .parquet or, for tags of words, .conll or .txt"
        raise UserError(f"{path}: unknown format {ending!r}; save it as {known}")
    form = FileForm(path, cast(Kind, KINDS[ending]))
    if ending not in TABLES:
        head = read_head(path)
        form.encoding, form.has_mark = find_encoding(head), head.startswith(b"\xef\xbb\xbf")
        if form.kind in ("csv", "tsv"):
            find_table(form, head_text(head, form.encoding) or "", asked)
    elif form.kind == "xlsx":
        find_header(form, sheet_rows(path, HEAD_ROWS), asked)
    for row in rows_of(form):
        form.records += 1
        for name, value in row.items():
            form.columns.setdefault(name, Column(name)).add(value)
    if not form.records and not form.broken:
        raise UserError(f"{path}: it holds no record, at most a header line; expected texts and labels")
    if form.records and not form.columns:
        raise UserError(f"{path}: no column of it has a name of its own; is it really {form.kind}?")
    if not form.records:
        raise UserError(f"{path}: none of the {form.broken:,} records can be read as {form.kind}; is it that?")
    return form


def read_head(path: Path) -> bytes:
    """The first bytes of a file, decompressed.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    import gzip

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as binary:
            head = binary.read(HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise unreadable(str(path), error) from None
    if not head.strip():
        raise UserError(f"{path}: the file is empty; expected records")
    return head


def find_table(form: FileForm, head: str, asked: Sequence[str]) -> None:
    """Fill in what parts the fields of a file, and names of columns where it has no header."""
    usual, (first, _, below) = "\t" if form.kind == "tsv" else ",", head.partition("\n")
    if excel := excel_delimiter(first):
        head, candidates = below, [excel]
    else:
        candidates = list(dict.fromkeys([usual, *DELIMITERS]))
    tables = {delimiter: split_head(head, delimiter) for delimiter in candidates}
    named = [delimiter for delimiter, rows in tables.items() if asked and set(asked) <= {*rows[0]}]
    delimiter = named[0] if named else max(candidates, key=lambda one: evenness(tables[one]))
    rows = tables[delimiter]
    if delimiter != usual:
        form.delimiter = delimiter
    find_header(form, rows, asked)


def find_header(form: FileForm, rows: list[list[str]], asked: Sequence[str]) -> None:
    """Fill in the names of the columns, made up where the first row names none."""
    made_up = tuple(f"column{number}" for number in range(1, len(rows[0]) + 1))
    named = bool(asked) and set(asked) <= {*rows[0]}
    if not named and (set(asked) <= {*made_up} if asked else not is_header(rows)):
        form.field_names = made_up
    form.header = form.field_names or tuple(name for name in rows[0] if name and rows[0].count(name) == 1)


def split_head(head: str, delimiter: str) -> list[list[str]]:
    """The first records of a text, without blank ones; the last one may be cut and goes."""
    found: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
            found += [[cell.strip() for cell in row]] if any(cell.strip() for cell in row) else []
            if len(found) > HEAD_ROWS:
                break
    except csv.Error:
        pass
    return found[:HEAD_ROWS] or [[""]]


def evenness(rows: list[list[str]]) -> tuple[bool, float, int]:
    """How much rows look like a table: several columns, equally many in each, and many of them."""
    width = len(rows[0])
    return (width > 1, sum(len(row) == width for row in rows) / len(rows), width)


def is_header(rows: list[list[str]]) -> bool:
    """Whether the first row names columns.

    It does not where it is long as posts are, holds a number above numbers or a date above dates, or what comes again
    below it. The whole line may come again, where files were joined.
    """
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0]) and (row != rows[0] or len(row) < 2)]
    if max(map(len, first)) > LONGEST_NAME:
        return False
    for place, name in enumerate(first):
        values = [row[place] for row in below if row[place]]
        if name and name in values and len(set(values)) < len(values):
            return False
        if any(is_kind(name) and values and all(map(is_kind, values)) for is_kind in (is_number, is_dated)):
            return False
    return True


def rows_of(form: FileForm) -> Iterator[dict[str, Any]]:
    """Every record as texts and lists by column; broken ones are counted."""
    path, notes = form.path, SourceNotes()
    match form.kind:
        case "csv" | "tsv":
            for item in read_file(path, form.spec({name: name for name in form.header}), notes):
                if isinstance(item, Record):
                    yield item.fields
                else:
                    form.broken += 1
        case "jsonl":
            with path.open("rb") as binary:
                for item in read_stream(binary, str(path), "lines", form.spec({}), notes):
                    row = json_object(item.fields["text"]) if isinstance(item, Record) else None
                    if row is not None:
                        yield flat(row)
                    elif item.raw.strip():
                        form.broken += 1
        case "conll":
            for item in read_conll(path, form.spec(dict(CONLL_COLUMNS)), notes):
                if isinstance(item, Record):
                    yield {CONLL_COLUMNS[name]: values for name, values in item.lists.items()}
                else:
                    form.broken += 1
        case "xlsx" | "parquet":
            yield from map(flat, open_table(path, form.field_names)[1])


def json_object(line: str) -> dict[str, Any] | None:
    """The object that a line holds; None where it holds something else."""
    try:
        row = load_row(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
