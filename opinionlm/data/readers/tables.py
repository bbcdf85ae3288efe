"""Reading tables with types: Excel workbooks and parquet files, a record per row.

Their values become text by the rule of `opinionlm.data.readers.json_values`: numbers as they are written, dates in ISO
8601, blank cells no value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from opinionlm.data.readers.json_values import as_written, json_fields, top_level, value_text
from opinionlm.data.readers.records import ColumnRules, Record, Reject, SourceNotes, column_positions
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError, one_line

TABLES = (".xlsx", ".parquet")
BATCH_ROWS = 1_000


def read_table(path: Path, spec: FileSpec, notes: SourceNotes) -> Iterator[Record | Reject]:
    """Yield every row of a file, in order.

    Args:
        path: an Excel workbook, of which the first sheet is read, or a parquet file.
        spec: columns; ``field_names`` names those of a sheet without a header.
        notes: filled as a side effect.

    Raises:
        UserError: the file is missing, damaged or empty, lacks a column, or needs a library that is not installed.
    """
    header, rows = open_table(path, spec.field_names)
    notes.unread_sheets = other_sheets(path)
    column_positions(str(path), header, top_level(spec.columns, header), notes, ColumnRules())
    number = 0
    for number, row in enumerate(rows, start=1):
        fields, lists, problem, detail = json_fields(row, spec.columns)
        raw = json.dumps(row, ensure_ascii=False, default=str)
        notes.look_at(raw)
        if problem:
            yield Reject(number, number, problem, detail, raw)
        else:
            yield Record(number, number, fields, raw, lists)
    if number == 0:
        raise UserError(f"{path}: the file is empty; expected a header and records")


def open_table(path: Path, field_names: tuple[str, ...] = ()) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """The columns of a table and its rows; ``field_names`` are the columns of a sheet without a header row.

    Raises:
        UserError: as in `read_table`.
    """
    with _reading(path):
        return _parquet(path) if path.suffix == ".parquet" else _sheet(path, field_names)


def other_sheets(path: Path) -> list[str]:
    """The names of a workbook's sheets that are not read; none of a parquet file.

    Raises:
        UserError: as in `read_table`.
    """
    if path.suffix != ".xlsx":
        return []
    import pandas

    with _reading(path), pandas.ExcelFile(path) as book:
        return [str(name) for name in book.sheet_names[1:]]


def sheet_rows(path: Path, most: int | None = None) -> list[list[str]]:
    """The first rows of a workbook's first sheet as texts, that of the header among them, without blank ones.

    Raises:
        UserError: the file is missing, damaged or empty, or openpyxl is not installed.
    """
    with _reading(path):
        rows = [_texts(row) for row in _cells(path, most)]
    if not (rows := [row for row in rows if any(row)]):
        raise UserError(f"{path}: the file is empty; expected a header and records")
    return rows


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise about a file into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except ImportError:
        raise UserError(f"{path}: Excel files need openpyxl: pip install 'opinionlm[excel]'") from None
    except Exception as error:
        # pandas, openpyxl and Arrow raise a dozen kinds for files that are not what their name says.
        raise UserError(
            f"{path}: cannot be read ({one_line(error)}); check the path and that the file is whole"
        ) from None


def _parquet(path: Path) -> tuple[list[str], Iterator[dict[str, Any]]]:
    import pyarrow.parquet
    from pyarrow import types

    file = pyarrow.parquet.ParquetFile(path)
    narrow = [column.name for column in file.schema_arrow if types.is_float32(column.type)]
    rows = (row for batch in file.iter_batches(BATCH_ROWS) for row in batch.to_pylist())
    written = (row | {column: as_written(row[column]) for column in narrow} for row in rows)
    return list(file.schema_arrow.names), written


def _sheet(path: Path, field_names: tuple[str, ...]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    cells = _cells(path)
    rows, width = iter(cells), len(cells[0]) if cells else 0
    # Rows in front of the header are blank where a table does not begin at the top.
    header = list(field_names) or next((names for row in rows if any(names := _texts(row))), [])
    if field_names and width > len(field_names):
        raise UserError(f"{path}: has {width} columns, and field_names names {len(field_names)}; name all of them")
    return header, (dict(zip_longest(header, row)) for row in rows)


def _cells(path: Path, most: int | None = None) -> list[tuple[Any, ...]]:
    """The first rows of a workbook's first sheet, all as long as the longest."""
    import pandas

    # As objects: of a column with blanks pandas would make floats, and of words such as NA nothing. Without a header:
    # of two columns with one name pandas would rename the second.
    table = pandas.read_excel(path, dtype=object, keep_default_na=False, header=None, nrows=most)
    return [tuple(map(_cell, row)) for row in table.itertuples(False, None)]


def _texts(row: tuple[Any, ...]) -> list[str]:
    return [value_text(value, is_name=True).strip() for value in row]


def _cell(value: Any) -> Any:
    """A cell; Excel stores whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
