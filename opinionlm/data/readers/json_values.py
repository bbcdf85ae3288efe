"""Texts and lists of texts from JSON objects, nested ones by dotted path.

One rule for every reader, task and column: a text is itself; null, NaN and Infinity are no value; a number is its
text as the file writes it (``1.0`` stays ``1.0``); true and false are themselves as labels and in columns beside the
text, and refused elsewhere, as lists and objects are: a post that reads ``True`` is a mistake in the file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, time
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

# The canonical columns that hold several texts; all others hold one.
LIST_COLUMNS = ("tokens", "tags", "answers", "sentences", "label")
# Those in which true and false stand for nothing; all others hold labels and features, of which they may be names.
TEXT_COLUMNS = {*LIST_COLUMNS} - {"label"}
TEXT_COLUMNS |= {"text", "text_pair", "context", "score", "time", "id", "group", "platform"}


class NotTextError(ValueError):
    """A value that stands for no text; the message says what was found."""


def load_row(line: str) -> Any:
    """A line of JSON, with numbers as texts and NaN and Infinity, which JSON does not know, as null.

    Raises:
        ValueError, RecursionError: it is no JSON, or a key of an object stands twice.
    """
    return json.loads(
        line, parse_float=str, parse_int=str, parse_constant=lambda name: None, object_pairs_hook=_unambiguous
    )


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that stands twice JSON would silently keep the last value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def json_fields(
    row: Mapping[str, Any], columns: Mapping[str, str], optional: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, list[str]], str, str]:
    """The canonical fields of a JSON object.

    Args:
        row: the object.
        columns: canonical name → key; where there is no such key, ``answers.text`` means ``text`` inside ``answers``.
        optional: canonical columns that may be absent.

    Returns:
        Texts and lists of texts by canonical name (a text where a list may stand is among the texts), and a problem's
        code and sentence, blank where there is none.
    """
    fields: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name, column in columns.items():
        is_there, value = _lookup(row, column)
        if not is_there and name in optional:
            continue
        if not is_there:
            return {}, {}, "missing_field", f"the key {column!r} is missing"
        is_name = name not in TEXT_COLUMNS
        try:
            if name in LIST_COLUMNS and isinstance(value, list):
                lists[name] = [value_text(item, is_name) for item in value]
            else:
                fields[name] = value_text(value, is_name)
        except NotTextError as error:
            kind = "a list of texts" if name in LIST_COLUMNS and isinstance(value, list) else "text"
            return {}, {}, "not_text", f"{column}: expected {kind}, found {error}"
    return fields, lists, "", ""


def top_level(columns: Mapping[str, str], present: Collection[str]) -> dict[str, str]:
    """Canonical name → the key of the object itself that holds the column: ``answers`` for ``answers.text``."""
    return {name: key if key in present else key.split(".")[0] for name, key in columns.items()}


def scrub(text: str) -> str:
    """Text that UTF-8 can hold: JSON and some encodings may spell half of a surrogate pair, which files cannot."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lookup(row: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """Whether there is such a key, and its value."""
    if column in row:
        return True, row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def as_written(value: float | None) -> float | None:
    """A number of 32 bits with the digits that tell it from others of its kind: 0.1, not 0.10000000149011612."""
    import numpy as np

    return None if value is None else float(str(np.float32(value)))


def value_text(value: object, is_name: bool = False) -> str:
    """The text of a JSON value, or of a value of a typed table; blank where there is none.

    Args:
        value: from `load_row`, or from a column of any type.
        is_name: whether true and false are names here.

    Raises:
        NotTextError: a list, an object, bytes; true and false elsewhere.
    """
    match value:
        case str():
            return scrub(value)
        case None:
            return ""
        case bool():
            written = "true" if value else "false"
            if is_name:
                return written
            raise NotTextError(written)
        # Those of NumPy too, whose repr is none of a number.
        case Integral():
            return str(value)
        case Real():
            return str(value) if math.isfinite(value) else ""
        case Decimal():
            return str(value) if value.is_finite() else ""
        case date() | time():
            return value.isoformat()
        case _:
            names: dict[type, str] = {dict: "an object", list: "a list", bytes: "bytes"}
            raise NotTextError(names.get(type(value), type(value).__name__))
