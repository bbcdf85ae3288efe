"""Names that come from outside: which may become folders, which one a mistyped one stands for; counts of things."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

# What a model of the Hugging Face hub is called: user/model.
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Beside a saved model: how its training files were read, see `opinionlm.inference.input_forms`.
INPUT_FORMS = "input.json"
# Its card, which the hub shows.
CARD = "README.md"
# What names of one `written_form` differ in.
WRITING = "case, blanks, invisible characters, Unicode form or decimals"
# Soft hyphens, joiners and other blanks without width, marks of direction and of byte order, selectors of variants.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")


def is_folder_name(name: object) -> bool:
    """Whether a name stays inside the folder that it is created in, on every system."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and not set(name) & set("/\\")
        and bool(name.strip(". "))
        and len(name.encode("utf-8", "replace")) <= 200
    )


def counted(number: int, singular: str) -> str:
    """A number of things in words: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {singular}{'s' * (number != 1)}"


def short(number: float) -> str:
    """A measured number in few digits and without an exponent: ``1,234`` or ``0.254``, from 0.0001 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def closest(name: object, valid: Iterable[str]) -> str | None:
    """The valid name that a wrong one begins or most likely stands for, or None; form and case count little."""
    by_form = {written_form(known): known for known in valid}
    if written_form(str(name)) in by_form:
        return by_form[written_form(str(name))]
    if begun := [form for form in by_form if name and form.startswith(written_form(str(name)))]:
        return by_form[begun[0]]
    close = difflib.get_close_matches(written_form(str(name)), list(by_form), n=1, cutoff=0.5)
    return by_form[close[0]] if close else None


def written_form(name: str) -> str:
    """What two names share that look alike: without case, needless blanks, invisible characters, decimals of zero."""
    shown = "".join(mark for mark in unicodedata.normalize("NFKC", name) if not _INVISIBLE.fullmatch(mark))
    form = " ".join(shown.casefold().split())
    return str(Fraction(form)) if _NUMBER.fullmatch(form) else form


def folder_title(path: Path) -> str:
    """The name of a folder; one that is only called a model is told by the one that it lies in."""
    return "/".join(path.parts[-2:]) if path.name in ("model", "best") else path.name


def nearest(name: object, valid: Iterable[str]) -> str:
    """The end of an error message about a wrong name: the nearest valid one and the list."""
    valid = list(valid)
    close = closest(name, valid)
    hint = "" if close is None else f", did you mean {close!r}?"
    return f"{hint} (valid: {', '.join(valid)})"
