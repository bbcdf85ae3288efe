"""Which character separates the columns of a file, found from its first lines and the columns that are asked for."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from typing import Literal

DELIMITERS = (",", ";", "\t", "|")
# Excel's own line about the delimiter, in front of the header.
_EXCEL_LINE = re.compile(r'\ufeff?"?sep=(.)"?\s*')


def excel_delimiter(line: str) -> str | None:
    """The delimiter that a line such as ``sep=;`` names; None for any other line."""
    found = _EXCEL_LINE.fullmatch(line)
    return None if found is None else found.group(1)


def split_line(line: str, delimiter: str, quoting: Literal["minimal", "none"]) -> list[str]:
    """The fields of one line, without blanks around them; none where quotes do not close."""
    rule: Literal[0, 3] = csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL
    try:
        fields = next(csv.reader([line], delimiter=delimiter, quoting=rule, strict=True), [])
    except csv.Error:
        return []
    return [field.strip().strip("\ufeff") for field in fields]


def find_delimiter(
    lines: Sequence[str], fits: Callable[[list[str]], bool], quoting: Literal["minimal", "none"], tried: str
) -> str | None:
    """Another delimiter by which every line has the form that is asked for.

    Args:
        lines: the first ones of a file: its header, or some records.
        fits: whether the fields of a line have the form.
        quoting: as in `FileSpec`.
        tried: the delimiter by which they do not fit.

    Returns:
        The only delimiter of `DELIMITERS` that fits; None where there is none, or more than one.
    """
    found = [
        delimiter
        for delimiter in DELIMITERS
        if delimiter != tried and lines and all(fits(split_line(line, delimiter, quoting)) for line in lines)
    ]
    return found[0] if len(found) == 1 else None


def delimiter_hint(header: Sequence[str]) -> str:
    """The end of a message about a missing column, where a header of one column shows another delimiter."""
    others = [name for name in DELIMITERS if len(header) == 1 and name in header[0]]
    return f", or set delimiter: {json.dumps(others[0])}" if len(others) == 1 else ""
