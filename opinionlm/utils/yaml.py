"""What comes from outside and decides more than its own value: YAML texts, and names that become folders."""

from __future__ import annotations

import difflib
import types
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from opinionlm.errors import UserError

# A hundred times what the largest shipped YAML holds; what a "billion laughs" file expands to is far beyond.
MAX_YAML_CHARACTERS = 1_000_000
MAX_YAML_VALUES = 100_000
MAX_YAML_DEPTH = 50


class YamlTooLarge(yaml.YAMLError):
    """A YAML text that only makes sense as an attack on memory or on the stack."""


def load_yaml(text: str) -> Any:
    """The content of a YAML text: plain values only, of bounded size even where aliases repeat them.

    Raises:
        yaml.YAMLError: not YAML, or a date, number or key that cannot be; too large or too deep.
    """
    return _load(text, yaml.SafeLoader)


def load_yaml_texts(text: str) -> Any:
    """As `load_yaml`, with every number, truth value and date left as the text that stands there.

    Raises:
        yaml.YAMLError: not YAML, or a key that cannot be; too large or too deep.
    """
    return _load(text, yaml.BaseLoader)


def _load(text: str, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader]) -> Any:
    if len(text) > MAX_YAML_CHARACTERS:
        raise YamlTooLarge(f"longer than {MAX_YAML_CHARACTERS:,} characters")
    try:
        constructor = loader(text)
        try:
            # Reading takes nearly all the time, so what is measured is not read again.
            node = constructor.get_single_node()
            _measure(node, {}, frozenset())
            return None if node is None else constructor.construct_document(node)
        finally:
            constructor.dispose()
    except RecursionError:
        raise YamlTooLarge(f"nested deeper than {MAX_YAML_DEPTH} levels") from None
    except (ValueError, TypeError, OverflowError, AttributeError, LookupError) as error:
        # PyYAML checks neither dates such as 2026-99-99 nor broken numbers and keys; they fail in Python's own types.
        raise yaml.YAMLError(" ".join(str(error).split()) or "a value that cannot be") from None


def _measure(node: yaml.Node | None, known: dict[int, int], above: frozenset[int]) -> int:
    """How many values a node expands to, every alias counted as often as it is used."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise YamlTooLarge("an alias that holds itself")
    if len(above) >= MAX_YAML_DEPTH:
        raise YamlTooLarge(f"nested deeper than {MAX_YAML_DEPTH} levels")
    if id(node) not in known:
        children = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_measure(child, known, above | {id(node)}) for child in children)
        if known[id(node)] > MAX_YAML_VALUES:
            raise YamlTooLarge(f"more than {MAX_YAML_VALUES:,} values")
    return known[id(node)]


def is_folder_name(name: object) -> bool:
    """Whether a name stays inside the folder that it is created in, on every system."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and not set(name) & set("/\\")
        and bool(name.strip(". "))
        and len(name.encode("utf-8", "replace")) <= 200
    )


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
