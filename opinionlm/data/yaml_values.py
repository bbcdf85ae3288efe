"""Values of a YAML file, checked against the types that a dataclass declares."""

from __future__ import annotations

import difflib
import types
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from opinionlm.errors import UserError


def closest(name: object, valid: Iterable[str]) -> str | None:
    """The valid name that a wrong one most likely stands for, or None; case, blanks and Unicode form count little."""
    by_form = {_form(known): known for known in valid}
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


def check_keys(raw: Mapping[str, Any], valid: set[str], required: set[str], where: str) -> None:
    """Raise a `UserError` for the first key that is unknown, or that is required and missing."""
    for key in raw:
        if key not in valid:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, sorted(valid))}")
    for key in sorted(required):
        if raw.get(key) in (None, ""):
            raise UserError(f"{where}: the key {key!r} is missing")


def build(kind: type, raw: object, where: str) -> Any:
    """An instance of a dataclass from a YAML mapping, every value checked against the field's type."""
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys and values, found {raw!r}")
    items: dict[str, Field] = {item.name: item for item in fields(kind)}
    required = {n for n, item in items.items() if item.default is MISSING and item.default_factory is MISSING}
    check_keys(raw, set(items), required, where)
    hints = get_type_hints(kind)
    return kind(**{key: convert(value, hints[key], f"{where}.{key}") for key, value in raw.items()})


def convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as the type a field declares, or a `UserError`."""
    origin = get_origin(kind)
    if origin is Literal:
        if value in get_args(kind) and isinstance(value, str):
            return value
        raise UserError(f"{where}: {value!r} is not a choice{nearest(value, get_args(kind))}")
    if origin in (types.UnionType, Union):
        return None if value is None else convert(value, get_args(kind)[0], where)
    if origin is tuple:
        return tuple(convert(item, get_args(kind)[0], f"{where}[{i}]") for i, item in enumerate(as_list(value, where)))
    if origin is not None:  # Mapping[str, str]
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise UserError(f"{where}: expected names on both sides of each colon, found {value!r}; quote numbers")
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise UserError(f"{where}: expected {kind.__name__}, found {value!r}")
    if kind is int and value < 0:
        raise UserError(f"{where}: must not be negative, found {value}")
    return value


def as_list(value: Any, where: str) -> list[Any]:
    """The value, which has to be a list."""
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: expected a list, found {value!r}")
    return list(value)
