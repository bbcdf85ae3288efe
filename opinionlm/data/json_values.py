"""Texts and lists of texts from JSON objects, nested ones by dotted path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# The canonical columns that hold several texts; all others hold one.
LIST_COLUMNS = ("tokens", "tags", "answers", "sentences")


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
        if name in LIST_COLUMNS and isinstance(value, list):
            if any(isinstance(item, dict | list) for item in value):
                return {}, {}, "not_text", f"{column}: expected a list of texts, found lists or objects in it"
            lists[name] = [_text(item) for item in value]
        elif isinstance(value, dict | list):
            return {}, {}, "not_text", f"{column}: expected text, found {type(value).__name__}"
        else:
            fields[name] = _text(value)
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


def _text(value: object) -> str:
    return scrub(value) if isinstance(value, str) else "" if value is None else str(value)
