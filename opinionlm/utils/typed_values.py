"""The one converter from what a YAML file or a command line holds to the type that a field declares."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Literal

import yaml

from opinionlm.errors import UserError
from opinionlm.utils.names import closest, nearest
from opinionlm.utils.yaml import load_yaml, load_yaml_texts

NULLS = ("null", "Null", "NULL", "~")
# YAML 1.1 reads these words as truth values; where a word is expected, the word was meant.
WORDS_OF = {True: ("on", "yes", "true"), False: ("no", "off", "false")}


@dataclass(frozen=True)
class CommandLineText:
    """A value as it was typed; unlike one from a YAML file it has no type yet."""

    text: str | list[str]


def read_scalar(text: str | list[str]) -> Any:
    """Read a value from the command line as YAML would: ``true``, ``3``, ``null``, ``[1, 2]``."""
    if isinstance(text, list) and not (len(text) == 1 and text[0].startswith("[")):
        return [read_scalar(item) for item in text]
    text = text[0] if isinstance(text, list) else text
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return text


def read_typed(text: str | list[str], annotation: Any) -> Any:
    """A command-line value as a YAML file with the right quotes would hold it: words stay words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        typed = text[0] if isinstance(text, list) and len(text) == 1 else text
        return None if typed in NULLS else read_typed(text, inner_type(annotation))
    if origin is list:
        items = text if isinstance(text, list) else [text]
        if len(items) == 1 and items[0].startswith("[") and isinstance(flow := read_scalar(items), list):
            texts = load_yaml_texts(items[0])
            items = [item if isinstance(item, str) else whole for item, whole in zip(texts, flow, strict=True)]
        return [read_typed(item, arguments[0]) if isinstance(item, str) else item for item in items]
    if isinstance(text, list):
        return [read_typed(item, annotation) for item in text]
    if annotation is str:
        return text
    if origin is Literal:
        read = read_scalar(text)
        truth = text not in arguments and isinstance(read, bool) and {read, *WORDS_OF[read]} & set(arguments)
        return read if truth else text
    if annotation in (int, float):
        # YAML 1.1 takes 010 for eight and 1e-6 for a text.
        for read in (int, float):
            with suppress(ValueError):
                return read(text)
    return read_scalar(text)


def convert(value: Any, annotation: Any, place: str) -> Any:
    """Convert a value to a field's type, refusing what would be guessed at.

    Args:
        value: from a YAML file, or a `CommandLineText`.
        annotation: ``bool``, ``int``, ``float``, ``str``, ``dict``, a ``Literal`` of words and truth values, a list or
            tuple of those, a mapping of texts to texts, or one of them or None. One value may stand for a list, not
            for a tuple.
        place: file and option, for errors.

    Raises:
        UserError: the value does not fit.
    """
    if isinstance(value, CommandLineText):
        value = read_typed(value.text, annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else convert(value, inner_type(annotation), place)
    if origin is list:
        return [convert(item, arguments[0], place) for item in (value if isinstance(value, list) else [value])]
    if origin is tuple:
        return tuple(convert(item, arguments[0], f"{place}[{i}]") for i, item in enumerate(as_list(value, place)))
    if origin is Literal:
        return one_word(value, arguments, place)
    if origin is Mapping:
        return text_mapping(value, place)
    with suppress(TypeError, ValueError, OverflowError):
        if annotation is bool and isinstance(value, bool):
            return value
        if annotation is int and not isinstance(value, bool) and float(value) == int(float(value)):
            return value if isinstance(value, int) else int(float(value))
        if annotation is float and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
        if annotation is str and value is not None and not isinstance(value, bool | list | dict):
            return str(value)
        if annotation is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: number_or_same(item) for key, item in value.items()}
    finite = "a finite number" if value in (math.inf, -math.inf) else ""
    raise UserError(f"{place}: {value!r} is not {finite or describe_value(annotation)}")


def one_word(value: Any, words: tuple[str | bool, ...], place: str) -> str | bool:
    """One of some words, truth values among them; YAML's truth value for the word that stands there.

    Raises:
        UserError: it is none of them.
    """
    if isinstance(value, bool):
        value = value if value in words else next((one for one in WORDS_OF[value] if one in words), value)
    if not isinstance(value, str | bool) or value not in words:
        shown = [as_yaml(word) for word in words]
        near = closest(value, shown) if isinstance(value, str) else None
        raise UserError(
            f"{place}: {value!r} is not one of {', '.join(shown)}" + (f"; did you mean {near!r}?" if near else "")
        )
    return value


def as_yaml(value: Any) -> str:
    """A word, a number or a truth value as a YAML file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def text_mapping(value: Any, place: str) -> dict[str, str]:
    """Texts by texts.

    Raises:
        UserError: no mapping, or one with something else in it.
    """
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise UserError(f"{place}: expected names on both sides of each colon, found {value!r}; quote numbers")
    return dict(value)


def as_list(value: Any, place: str) -> list[Any]:
    """The value, which has to be a list."""
    if not isinstance(value, list | tuple):
        raise UserError(f"{place}: expected a list, found {value!r}")
    return list(value)


def build(kind: type, raw: object, place: str) -> Any:
    """An instance of a dataclass from a YAML mapping, every value converted to the field's type."""
    items: dict[str, Field] = {item.name: item for item in fields(kind)}
    required = {n for n, item in items.items() if item.default is MISSING and item.default_factory is MISSING}
    hints = typing.get_type_hints(kind)
    given = check_keys(raw, set(items), place, required)
    return kind(**{key: convert(value, hints[key], f"{place}.{key}") for key, value in given.items()})


def check_keys(raw: object, valid: Set[str], place: str, required: Set[str] = frozenset()) -> Mapping[str, Any]:
    """The value, which has to be a mapping.

    Raises:
        UserError: it is none, a key is unknown, or one is required and missing.
    """
    if not isinstance(raw, Mapping):
        raise UserError(f"{place}: expected keys and values, found {raw!r}")
    for key in raw:
        if key not in valid:
            raise UserError(f"{place}: unknown key {key!r}{nearest(key, sorted(valid))}")
    for key in sorted(required):
        if raw.get(key) in (None, ""):
            raise UserError(f"{place}: the key {key!r} is missing")
    return raw


def number_or_same(value: Any) -> Any:
    """A text that is a number, such as YAML's ``1e-6``, as that number; everything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def inner_type(annotation: Any) -> Any:
    """What a type that may also be None is otherwise."""
    (inner,) = (part for part in typing.get_args(annotation) if part is not type(None))
    return inner


def describe_value(annotation: Any) -> str:
    """What a value of a type looks like, for error messages."""
    return {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text (quote it)",
        dict: "a mapping of names to values, as in {name: 1}",
    }[annotation]
