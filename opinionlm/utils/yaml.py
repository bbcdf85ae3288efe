"""YAML texts from outside, read as plain values of bounded size."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml

# A hundred times what the largest shipped YAML holds; what a "billion laughs" file expands to is far beyond.
MAX_YAML_CHARACTERS = 1_000_000
MAX_YAML_VALUES = 100_000
MAX_YAML_DEPTH = 50


class YamlTooLarge(yaml.YAMLError):
    """A YAML text that only makes sense as an attack on memory or on the stack."""


def load_yaml(text: str) -> Any:
    """The content of a YAML text: plain values only, of bounded size even where aliases repeat them.

    Raises:
        yaml.YAMLError: not YAML, or a date, number or key that cannot be; a key twice; too large or too deep.
    """
    return load_with_node(text)[0]


def load_yaml_texts(text: str) -> Any:
    """As `load_yaml`, with every number, truth value and date left as the text that stands there.

    Raises:
        yaml.YAMLError: not YAML, or a key that cannot be; a key twice; too large or too deep.
    """
    return load_with_node(text, as_texts=True)[0]


def load_with_node(text: str, as_texts: bool = False) -> tuple[Any, yaml.Node | None]:
    """As `load_yaml` or `load_yaml_texts`, with the node that the content was made of: its lines and spellings."""
    if len(text) > MAX_YAML_CHARACTERS:
        raise YamlTooLarge(f"longer than {MAX_YAML_CHARACTERS:,} characters")
    try:
        node = _composed(text, as_texts)
        return None if node is None else _loader("", as_texts).construct_document(node), node
    except RecursionError:
        raise YamlTooLarge(f"nested deeper than {MAX_YAML_DEPTH} levels") from None
    except (ValueError, TypeError, OverflowError, AttributeError, LookupError) as error:
        # PyYAML checks neither dates such as 2026-99-99 nor broken numbers and keys; they fail in Python's own types.
        raise yaml.YAMLError(" ".join(str(error).split()) or "a value that cannot be") from None


def _loader(text: str, as_texts: bool) -> Any:
    return yaml.BaseLoader(text) if as_texts else yaml.SafeLoader(text)


@lru_cache(maxsize=64)
def _composed(text: str, as_texts: bool) -> yaml.Node | None:
    """What a text is made of, measured. This takes nearly all the time, and a table reads its data's YAML per cell."""
    loader = _loader(text, as_texts)
    try:
        node = loader.get_single_node()
        _measure(node, {}, frozenset())
        return node
    finally:
        loader.dispose()


def _require_unique_keys(node: yaml.MappingNode) -> None:
    """Refuse a mapping in which a key stands twice, as YAML demands: PyYAML would keep the last and say nothing."""
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in seen:
            raise yaml.MarkedYAMLError(
                problem=f"the key {key.value!r} is there twice; write it once", problem_mark=key.start_mark
            )
        seen.add((key.tag, key.value))


def line_of_keys(node: yaml.Node | None) -> dict[str, int]:
    """The line of every key of a YAML mapping, the first being 1."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: key.start_mark.line + 1 for key, _ in pairs if isinstance(key, yaml.ScalarNode)}


def _measure(node: yaml.Node | None, known: dict[int, int], above: frozenset[int]) -> int:
    """How many values a node expands to, every alias counted as often as it is used."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise YamlTooLarge("an alias that holds itself")
    if len(above) >= MAX_YAML_DEPTH:
        raise YamlTooLarge(f"nested deeper than {MAX_YAML_DEPTH} levels")
    if id(node) not in known:
        if isinstance(node, yaml.MappingNode):
            _require_unique_keys(node)
        children = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_measure(child, known, above | {id(node)}) for child in children)
        if known[id(node)] > MAX_YAML_VALUES:
            raise YamlTooLarge(f"more than {MAX_YAML_VALUES:,} values")
    return known[id(node)]
