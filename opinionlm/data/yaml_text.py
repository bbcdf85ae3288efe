"""Text in a dataset YAML that YAML would take for something else: ``No`` for a truth value, ``010`` for eight.

A label, a code or a column written so would turn into another one without a word. So the file is looked at as it is
written, and where text belongs, what YAML reads as anything else is refused with the line and the quotes it needs.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError

_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_KINDS = {"bool": "a truth value", "timestamp": "a date", "null": "nothing"}


def require_written_text(node: yaml.Node | None, kind: Any, source: str, where: str = "") -> None:
    """Check a part of a YAML file against the type that a dataclass declares for it, as far as text is concerned.

    Args:
        node: of the file; of another form than the type asks for it is left to `opinionlm.utils.typed_values`.
        kind: the type. In a mapping of mappings of texts (codes) numbers may stand without quotes where they are
            written as numbers are: ``0`` and ``12``, not ``01``, ``1_000``, ``0x1F`` or ``12:30``.
        source: the file.
        where: the keys that lead to the part.

    Raises:
        UserError: something that YAML does not read as text stands where text belongs, or a key is there twice.
    """
    if isinstance(node, yaml.MappingNode):
        _require_single_keys(node, source, where)
    origin = get_origin(kind)
    if kind is str or (origin is Literal and all(isinstance(choice, str) for choice in get_args(kind))):
        _require_text(node, source, where)
    elif kind is Taxonomy:
        _check_labels(node, source, where)
    elif origin in (types.UnionType, Union):
        if not _is_null(node):
            require_written_text(node, get_args(kind)[0], source, where)
    elif is_dataclass(kind) and isinstance(node, yaml.MappingNode):
        hints = get_type_hints(kind)
        known = {item.name for item in fields(kind)}
        for key, value in node.value:
            if key.value in known and not (_is_null(value) and hints[key.value] is str and not where):
                require_written_text(value, hints[key.value], source, _join(where, key.value))
    elif origin is tuple and isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            require_written_text(item, get_args(kind)[0], source, f"{where}[{number}]")
    elif origin is not None and issubclass(origin, Mapping) and isinstance(node, yaml.MappingNode):
        inner = get_args(kind)[1]
        numbers_too = get_origin(inner) is None and where.startswith("codes.")
        for key, value in node.value:
            _require_text(key, source, where, numbers_too)
            if inner is str:
                _require_text(value, source, _join(where, key.value), numbers_too)
            else:
                require_written_text(value, inner, source, _join(where, key.value))


def _check_labels(node: yaml.Node | None, source: str, where: str) -> None:
    """Names of a label tree: the keys of mappings, the items of lists."""
    match node:
        case yaml.MappingNode():
            _require_single_keys(node, source, where)
            for key, below in node.value:
                _require_text(key, source, where)
                if not _is_null(below):
                    _check_labels(below, source, f"{where} > {key.value}")
        case yaml.SequenceNode():
            for item in node.value:
                _check_labels(item, source, where)
        case yaml.ScalarNode():
            _require_text(node, source, where)


def _require_text(node: yaml.Node | None, source: str, where: str, numbers_too: bool = False) -> None:
    """Refuse a scalar that YAML does not read as text."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == _TEXT:
        return
    written, place = node.value, f"{source}:{node.start_mark.line + 1}: {where}"
    if not written:
        raise UserError(f"{place}: a blank stands where text belongs; write the text, or leave the key out")
    read = yaml.safe_load(written)
    if numbers_too and node.tag in _NUMBERS and str(read) == written:
        return
    kind = _KINDS.get(node.tag.rpartition(":")[2], f"the number {read}")
    raise UserError(
        f"{place}: {written} is read as {kind}, and text belongs here; write it in quotes: "
        f"{json.dumps(written, ensure_ascii=False)}"
    )


def _require_single_keys(node: yaml.MappingNode, source: str, where: str) -> None:
    """Refuse a key that stands twice in one mapping: YAML would take the last one and forget the others."""
    seen: set[Any] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        # Numbers written in two ways are one key: 1 and 1.0.
        same = {key.value} | ({yaml.safe_load(key.value)} if key.tag in _NUMBERS else set())
        if same & seen:
            place = f"{source}:{key.start_mark.line + 1}" + (f": {where}" if where else "")
            raise UserError(f"{place}: the key {key.value!r} is there twice; write it once")
        seen |= same


def _is_null(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
