"""Excel workbooks and parquet files as data."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest

from opinionlm.data.preparation.sources import Source, source_warnings
from opinionlm.data.readers.records import Record, SourceNotes
from opinionlm.data.readers.tables import open_table, read_table
from opinionlm.data.spec import DatasetSpec, FileSpec
from opinionlm.errors import UserError

ROWS = [
    {"text": "fine", "label": 1, "when": datetime.datetime(2021, 3, 4), "other": "x"},
    {"text": "NA", "label": 2, "when": datetime.datetime(2021, 3, 5, 6, 7), "other": "y"},
    {"text": None, "label": None, "when": None, "other": "z"},
]
COLUMNS = {"text": "text", "label": "label", "time": "when"}
FIELDS = [("fine", "1", "2021-03-04T00:00:00"), ("NA", "2", "2021-03-05T06:07:00"), ("", "", "")]


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        pandas.DataFrame(rows, dtype=object).to_excel(path, index=False)
    return path


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_values_are_text_as_everywhere(tmp_path, ending):
    path, notes = write(tmp_path / f"posts{ending}", ROWS), SourceNotes()
    records = list(read_table(path, FileSpec(path.name, COLUMNS), notes))
    assert all(isinstance(record, Record) for record in records)
    assert [tuple(record.fields[name] for name in COLUMNS) for record in records] == FIELDS
    assert [record.number for record in records] == [1, 2, 3] and notes.dropped_columns == ["other"]


def test_a_sheet_without_a_header(tmp_path):
    path = tmp_path / "posts.xlsx"
    pandas.DataFrame([["good", "a"], ["bad", "b"]]).to_excel(path, index=False, header=False)
    spec = FileSpec(path.name, {"text": "one", "label": "two"}, field_names=("one", "two"))
    assert [record.fields for record in read_table(path, spec, SourceNotes())] == [
        {"text": "good", "label": "a"},
        {"text": "bad", "label": "b"},
    ]


def test_nested_columns_and_floats_of_32_bits(tmp_path):
    path = tmp_path / "posts.parquet"
    table = pa.table({"post": [{"body": "hi"}], "score": pa.array([0.1], pa.float32()), "tags": [["a", "b"]]})
    pa.parquet.write_table(table, path)
    spec = FileSpec(path.name, {"text": "post.body", "score": "score", "tags": "tags"})
    (record,) = read_table(path, spec, SourceNotes())
    assert record.fields == {"text": "hi", "score": "0.1"} and record.lists == {"tags": ["a", "b"]}


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_what_cannot_be_read_is_one_line(tmp_path, ending, monkeypatch):
    path = write(tmp_path / f"posts{ending}", ROWS)
    with pytest.raises(UserError, match="the column 'txt' .for text. is not there, did you mean 'text'"):
        list(read_table(path, FileSpec(path.name, {"text": "txt"}), SourceNotes()))
    (tmp_path / f"broken{ending}").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="broken.*cannot be read") as caught:
        open_table(tmp_path / f"broken{ending}")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="none.*cannot be read"):
        open_table(tmp_path / f"none{ending}")
    if ending == ".xlsx":
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        with pytest.raises(UserError, match="pip install 'opinionlm.excel.'"):
            open_table(path)


def sheet(path: Path, rows: list[list]) -> Path:
    pandas.DataFrame(rows, dtype=object).to_excel(path, index=False, header=False)
    return path


def test_a_column_that_is_there_twice_is_refused_as_in_csv(tmp_path):
    path = sheet(tmp_path / "posts.xlsx", [["text", "label", "text"], ["one", "a", "other"]])
    with pytest.raises(UserError, match="the column 'text' .for text. is there twice"):
        list(read_table(path, FileSpec(path.name, {"text": "text"}), SourceNotes()))
    (record,) = read_table(path, FileSpec(path.name, {"label": "label"}), SourceNotes())
    assert record.fields == {"label": "a"}


def test_sheets_that_are_not_read_are_named(tmp_path):
    with pandas.ExcelWriter(tmp_path / "posts.xlsx") as book:
        for name in ("train", "more", "notes"):
            pandas.DataFrame({"text": [name], "label": ["a"]}).to_excel(book, sheet_name=name, index=False)
    notes = SourceNotes()
    (record,) = read_table(tmp_path / "posts.xlsx", FileSpec("posts.xlsx", {"text": "text"}), notes)
    source = Source("posts.xlsx", "", None, notes=notes)
    assert record.fields == {"text": "train"}
    warnings = source_warnings(DatasetSpec("posts"), [source])
    assert warnings == ["posts.xlsx: the first sheet is read; not more, notes"]


def test_names_of_too_few_columns_move_none(tmp_path):
    path = sheet(tmp_path / "posts.xlsx", [[1, "good", "a"], [2, "bad", "b"]])
    spec = FileSpec(path.name, {"text": "one", "label": "two"}, field_names=("one", "two"))
    with pytest.raises(UserError, match="has 3 columns, and field_names names 2"):
        list(read_table(path, spec, SourceNotes()))
    spec = FileSpec(path.name, {"text": "two", "label": "four"}, field_names=("one", "two", "three", "four"))
    assert [record.fields for record in read_table(path, spec, SourceNotes())] == [
        {"text": "good", "label": ""},
        {"text": "bad", "label": ""},
    ]


def test_a_header_below_blank_rows(tmp_path):
    path = sheet(tmp_path / "posts.xlsx", [[None, None], [" text ", 2024], ["good", True], [None, None], ["bad", 1]])
    spec = FileSpec(path.name, {"text": "text", "label": "2024"})
    found = [record.fields for record in read_table(path, spec, SourceNotes())]
    assert found == [{"text": "good", "label": "true"}, {"text": "", "label": ""}, {"text": "bad", "label": "1"}]
