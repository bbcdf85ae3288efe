"""What the columns of a file hold, counted in one pass of bounded memory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opinionlm.data.readers.json_values import NotTextError, value_text
from opinionlm.data.readers.timestamps import epoch_seconds

# So many different values of a column are remembered, and so many characters of each.
MOST_VALUES = 20_000
VALUE_CHARACTERS = 200
SEPARATORS = ("|", ";", ",")
# A date as people and programs write it: 31.12.2023 08:00, 12/31/23, 2023-12-31T08:00:00.
DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}(\D.*)?")


@dataclass
class Column:
    """A column of a file.

    Attributes:
        name: as in the file; a dotted path where objects are nested.
        filled: records that have a value.
        characters: of all values together.
        numbers: values that are numbers.
        lists: values that are lists of texts: of JSON, or written as such.
        values: value → records, of the first `MOST_VALUES` different ones.
        example: the first value.
    """

    name: str
    filled: int = 0
    characters: int = 0
    numbers: int = 0
    lists: int = 0
    values: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def add(self, value: Any) -> None:
        """Count a value."""
        is_list = isinstance(value, list)
        text = json.dumps(value, ensure_ascii=False) if is_list else value.strip()
        if not text:
            return
        self.filled += 1
        self.characters += len(text)
        self.numbers += is_number(text)
        self.lists += is_list or listed(text) is not None
        self.example = self.example or text
        key = text[:VALUE_CHARACTERS]
        if key in self.values or len(self.values) < MOST_VALUES:
            self.values[key] += 1

    @property
    def mean_characters(self) -> float:
        """Characters per value."""
        return self.characters / max(self.filled, 1)

    @property
    def is_numeric(self) -> bool:
        """Whether every value is a number."""
        return self.numbers == self.filled > 0

    @property
    def repeats(self) -> bool:
        """Whether a few values come again and again, as labels do."""
        return 2 <= len(self.values) <= max(2, min(MOST_VALUES - 1, self.filled // 2))

    @property
    def holds_dates(self) -> bool:
        """Whether every value is a date, in whatever spelling."""
        return bool(self.values) and all(map(is_dated, self.values))

    @property
    def holds_times(self) -> bool:
        """Whether every value says when something was, and not in whole numbers."""
        return bool(self.values) and not self.is_numeric and all(map(is_time, self.values))

    def separator(self) -> str:
        """What parts several labels in one value; blank where no value names several.

        A separator of labels makes fewer names than there are values, some of which stand alone and all of which come
        in more than one record; the comma within a name does not.
        """
        for separator in SEPARATORS:
            parts: Counter[str] = Counter()
            for value, records in self.values.items():
                parts.update({part.strip(): records for part in value.split(separator) if part.strip()})
            several = [value for value in self.values if separator in value]
            alone = parts.keys() & self.values.keys()
            if several and alone and len(parts) < len(self.values) and min(parts.values()) > 1:
                return separator
        return ""


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_dated(text: str) -> bool:
    """Whether a text is a date in some spelling."""
    return DATE.fullmatch(text) is not None


def is_time(text: str) -> bool:
    """Whether a text is a date, or a date and time."""
    try:
        epoch_seconds(text)
    except ValueError:
        return False
    return True


def listed(text: str) -> list[str] | None:
    """The texts of a list that is written as JSON; None for any other text."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def flat(row: Mapping[str, Any], above: str = "") -> dict[str, str | list[Any]]:
    """Texts and lists of an object, those of objects within it by dotted path; what is neither is left out."""
    found: dict[str, str | list[Any]] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        elif isinstance(value, list):
            found[f"{above}{key}"] = value
        else:
            try:
                found[f"{above}{key}"] = value_text(value, is_name=True)
            except NotTextError:
                continue
    return found
