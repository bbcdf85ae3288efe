"""The input of a prediction: its bytes, its format, and how it is read."""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from opinionlm.data.readers.json_values import NotTextError, value_text
from opinionlm.data.readers.records import Kind
from opinionlm.data.readers.tables import TABLES, open_table, other_sheets, sheet_rows
from opinionlm.errors import UserError
from opinionlm.inference.input_forms import InputForm, check_encoding, choose_form, default_separator, load_input_forms

InputKind = Kind | Literal["conll"]
STANDARD = "-"


def input_kind(path: str, asked: InputKind | None) -> InputKind:
    """The format of the input, as asked for or by its ending; tables are read as what `table_bytes` makes of them.

    Raises:
        UserError: the ending says nothing.
    """
    if asked is not None:
        return asked
    if path == STANDARD:
        return "lines"
    match Path(path.removesuffix(".gz")).suffix:
        case ".csv" | ".xlsx":
            return "csv"
        case ".tsv":
            return "tsv"
        case ".jsonl" | ".parquet":
            return "jsonl"
        case ".txt":
            return "lines"
        case ".conll":
            return "conll"
        case suffix:
            raise UserError(
                f"--input: the ending {suffix!r} of {path} is none of .csv, .tsv, .jsonl, .txt and .conll "
                "(each also with .gz), .xlsx and .parquet; say the format with --format"
            )


@contextmanager
def open_input(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file or of standard input.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 — closed below, where errors of the body are not mistaken for its own
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror}") from None
    with file:
        if not path.endswith(TABLES):
            yield file
            return
    with table_bytes(Path(path)) as table:
        yield table


def table_bytes(path: Path) -> IO[bytes]:
    """A temporary file with a workbook's first sheet as CSV, or with a parquet file as JSON lines.

    Raises:
        UserError: see `opinionlm.data.readers.tables`.
    """
    binary = tempfile.TemporaryFile()  # noqa: SIM115 — the caller closes it, which removes it
    text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
    if path.suffix == ".xlsx":
        csv.writer(text).writerows(sheet_rows(path))
    else:
        rows = open_table(path)[1]
        text.writelines(json.dumps(row, ensure_ascii=False, default=_json_value) + "\n" for row in rows)
        if not text.tell():
            raise UserError(f"{path}: the file is empty; expected a header and records")
    text.detach()
    binary.seek(0)
    return binary


def _json_value(value: object) -> str | dict[str, str]:
    """A value of a typed table as training reads it: dates in ISO 8601; bytes, which are no text, as an object."""
    try:
        return value_text(value)
    except NotTextError:
        return {type(value).__name__: str(value)}


def input_form(
    folders: Sequence[Path], path: str, kind: InputKind | None, asked: Mapping[str, str | None]
) -> InputForm:
    """How an input is read: as the command line says, else as the files that its model was trained on.

    Args:
        folders: of the models; the first that says how its training files were read counts.
        path: of the input, or ``-``.
        kind: its format; None goes by its ending.
        asked: fields of the form that the command line gives, None for a column that is not to be read.

    Raises:
        UserError: see `choose_form`, `check_encoding` and `open_input`; or what is asked for makes no sense there.
    """
    kind = input_kind(path, kind)
    known = next((forms for folder in folders if (forms := load_input_forms(folder))), [])
    name = "standard input" if path == STANDARD else path
    is_table = path.endswith(TABLES)
    refuse_unread(asked, name, kind, is_table)
    if is_table:
        asked = {**asked, "encoding": "utf-8", "delimiter": default_separator(kind), "quoting": "minimal"}
    with open_input(path) as binary:
        form = choose_form(name, kind, binary, known, asked)
    if path != STANDARD and not is_table:
        check_encoding(path, form.encoding)
    if is_table and (unread := other_sheets(Path(path))):
        print(f"{name}: the first sheet is read; not {', '.join(unread)}", file=sys.stderr)
    if form.encoding not in ("utf-8", asked.get("encoding"), *(one.encoding for one in known)):
        print(f"{name}: read as {form.encoding}, which its byte order mark says", file=sys.stderr)
        asked = {**asked, "encoding": form.encoding}
    read_beside = next((one.pair for one in known if one.pair), None)
    if read_beside and form.pair is None and "pair" not in asked and kind not in ("lines", "conll"):
        print(
            f"{name}: warning: has no {read_beside!r}, from which training read second texts or contexts; name theirs "
            "with --pair_column",
            file=sys.stderr,
        )
    if told := form.told(kind, asked):
        print(f"{name}: read as the model's training files were, {told}", file=sys.stderr)
    return form


def refuse_unread(asked: Collection[str], name: str, kind: InputKind, is_table: bool) -> None:
    """Refuse options about what an input of this format does not have.

    Raises:
        UserError: one is given.
    """
    unread = () if kind in ("csv", "tsv") and not is_table else ("delimiter", "quoting")
    for option in ("encoding", *unread) if is_table else unread:
        if option in asked:
            raise UserError(f"--{option}: {name} is read without one; leave it out")
    for option in ("text", "id") if kind in ("lines", "conll") else ():
        if option in asked:
            raise UserError(f"--{option}_column: {name} has no columns as {kind}; leave it out, or give --format")
