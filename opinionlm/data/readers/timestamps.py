"""When a post was written: read from whatever a file gives, kept as one spelling in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np

# Seconds since 1970 have nine or ten digits from 1973 to 2286; fewer are a date such as 20210304 or a mere number.
EPOCH_SECONDS = re.compile(r"\d{9,10}(\.\d*)?")
DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}|\d{4}-?W\d{2}(-?\d)?")
FIRST_YEAR, LAST_YEAR = 1970, 2100


def epoch_seconds(text: str) -> int:
    """Whole seconds since 1970 in UTC.

    Args:
        text: an ISO 8601 date, or date and time, or seconds since 1970. Without a time zone it is UTC.

    Raises:
        ValueError: neither of the two, or a year that no post is from.
    """
    text = text.strip()
    if not text:
        raise ValueError("the time is blank")
    if EPOCH_SECONDS.fullmatch(text):
        return int(float(text))
    try:
        found = datetime.fromisoformat(text)
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is neither an ISO 8601 date nor seconds since 1970") from None
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError(f"the year {found.year} is not between {FIRST_YEAR} and {LAST_YEAR}")
    return int(found.timestamp())


def is_date(text: str) -> bool:
    """Whether a text that `epoch_seconds` reads is a date without a time of day."""
    return DATE.fullmatch(text.strip()) is not None


def iso_times(seconds: np.ndarray) -> np.ndarray:
    """ISO 8601 texts ``(rows,)`` such as ``2021-03-04T05:06:07Z``, whose alphabetical order is that of time."""
    return np.char.add(np.datetime_as_string(seconds.astype("datetime64[s]"), unit="s"), "Z")
