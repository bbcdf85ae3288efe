"""Names that come from outside: which may become folders, which one a mistyped one stands for; counts of things."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

# What a model of the Hugging Face hub is called: user/model.
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Beside a saved model: how its training files were read, see `opinionlm.inference.input_forms`.
INPUT_FORMS = "input.json"


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
    by_form = {_form(known): known for known in valid}
    if begun := [form for form in by_form if name and form.startswith(_form(str(name)))]:
        return by_form[begun[0]]
    close = difflib.get_close_matches(_form(str(name)), list(by_form), n=1, cutoff=0.5)
    return by_form[close[0]] if close else None


def same_form(one: str, other: str) -> bool:
    """Whether two names differ in case, blanks around them or Unicode form alone."""
    return _form(one) == _form(other)


def _form(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def nearest(name: object, valid: Iterable[str]) -> str:
    """The end of an error message about a wrong name: the nearest valid one and the list."""
    valid = list(valid)
    close = closest(name, valid)
    hint = "" if close is None else f", did you mean {close!r}?"
    return f"{hint} (valid: {', '.join(valid)})"
