"""The input of a prediction: its bytes, its format, and how it is read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from opinionlm.data.readers.records import Kind
from opinionlm.errors import UserError
from opinionlm.inference.input_forms import InputForm, check_encoding, choose_form, load_input_forms

InputKind = Kind | Literal["conll"]
STANDARD = "-"


def input_kind(path: str, asked: InputKind | None) -> InputKind:
    """The format of the input, as asked for or by its ending.

    Raises:
        UserError: the ending says nothing.
    """
    if asked is not None:
        return asked
    if path == STANDARD:
        return "lines"
    match Path(path.removesuffix(".gz")).suffix:
        case ".csv":
            return "csv"
        case ".tsv":
            return "tsv"
        case ".jsonl":
            return "jsonl"
        case ".txt":
            return "lines"
        case ".conll":
            return "conll"
        case suffix:
            raise UserError(
                f"--input: the ending {suffix!r} of {path} is none of .csv, .tsv, .jsonl, .txt and .conll "
                "(each also with .gz); say the format with --format"
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
        yield file


def input_form(folders: Sequence[Path], path: str, kind: InputKind | None, asked: Mapping[str, str]) -> InputForm:
    """How an input is read: as the command line says, else as the files that its model was trained on.

    Args:
        folders: of the models; the first that says how its training files were read counts.
        path: of the input, or ``-``.
        kind: its format; None goes by its ending.
        asked: fields of the form that the command line gives.

    Raises:
        UserError: see `choose_form`, `check_encoding` and `open_input`.
    """
    kind = input_kind(path, kind)
    known = next((forms for folder in folders if (forms := load_input_forms(folder))), [])
    name = "standard input" if path == STANDARD else path
    with open_input(path) as binary:
        form = choose_form(name, kind, binary, known, asked)
    if path != STANDARD:
        check_encoding(path, form.encoding)
    told = form.told(kind, asked)
    if told:
        print(f"{name}: read as the model's training files were, {told}", file=sys.stderr)
    return form
