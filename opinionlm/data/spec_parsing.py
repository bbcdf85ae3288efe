"""Read a dataset YAML into a `DatasetSpec`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from opinionlm.data.cleaning import PROFILES, Cleaning
from opinionlm.data.spec import (
    LABEL_TASKS,
    BalanceSpec,
    DatasetSpec,
    FeatureKind,
    FeatureSpec,
    FileSpec,
    HubSpec,
    PublishedFacts,
    SplitSpec,
    Task,
    normal_code,
)
from opinionlm.data.spec_checks import check_spec
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.data.yaml_text import require_written_text
from opinionlm.errors import UserError, one_line
from opinionlm.utils.names import is_folder_name
from opinionlm.utils.shipped import find_shipped
from opinionlm.utils.typed_values import as_list, build, check_keys, convert
from opinionlm.utils.yaml import load_yaml


def load_spec(
    path: str | Path, cleaning: Mapping[str, Any] | None = None, tokenizer_name_or_path: str | None = None
) -> DatasetSpec:
    """Read and check a dataset YAML; with ``base: other.yaml`` its keys replace those of the other one.

    Args:
        path: the YAML file.
        cleaning: single cleaning steps from the command line; they win over the file's.
        tokenizer_name_or_path: wins over the file's.

    Raises:
        UserError: no such file, not YAML, unknown or missing keys, values of the wrong kind, or settings that
            contradict each other. The message names the file and the key.
    """
    path = find_shipped(path, "configs/datasets")
    raw = _read(path)
    if "base" in raw:
        base = _read(path.parent / str(raw["base"]))
        if "base" in base:
            raise UserError(f"{path}: base: {raw['base']} has a base itself; name the last one")
        raw = base | {key: value for key, value in raw.items() if key != "base"}
    return spec_from_dict(raw, str(path), cleaning, tokenizer_name_or_path)


def _read(path: Path) -> dict[str, Any]:
    """The content of a dataset YAML, unchecked."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = load_yaml(text)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a dataset YAML; the shipped ones are in "
            f"{find_shipped('configs/datasets')}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        said = error.problem if isinstance(error, yaml.MarkedYAMLError) and error.context is None else None
        raise UserError(f"{where}: not valid YAML ({said or one_line(error)})") from None
    if not isinstance(raw, dict):
        held = "the file is empty" if raw is None else f"it holds a {type(raw).__name__}"
        raise UserError(f"{path}: {held}; expected keys such as name, files, labels")
    require_written_text(yaml.compose(text, Loader=yaml.SafeLoader), DatasetSpec, str(path))
    return raw


def spec_from_dict(
    raw: Mapping[str, Any],
    source: str,
    cleaning: Mapping[str, Any] | None = None,
    tokenizer_name_or_path: str | None = None,
) -> DatasetSpec:
    """Check the content of a dataset YAML; see `load_spec`. `source` is its name in messages."""
    hints = get_type_hints(DatasetSpec)
    task = convert(raw.get("task") or "sequence", Task, f"{source}: task")
    check_keys(raw, {item.name for item in fields(DatasetSpec)} - {"source"}, source, {"name"})
    if not is_folder_name(raw["name"]):
        raise UserError(f"{source}: name: {str(raw['name'])[:80]!r} has to be a plain name, it becomes a folder")
    files = as_list(raw.get("files") or [], f"{source}: files")
    values: dict[str, Any] = {
        "name": raw["name"],
        "labels": _labels(raw["labels"], source) if raw.get("labels") is not None else None,
        "files": tuple(build(FileSpec, item, f"{source}: files[{i}]") for i, item in enumerate(files)),
        "hub": build(HubSpec, raw["hub"], f"{source}: hub") if raw.get("hub") else None,
        "codes": _codes(raw.get("codes") or {}, f"{source}: codes"),
        "cleaning": _cleaning(raw.get("cleaning") or {}, cleaning or {}, task, f"{source}: cleaning"),
        "features": _features(raw.get("features") or {}, f"{source}: features"),
        "split": build(SplitSpec, raw.get("split") or {}, f"{source}: split"),
        "balance": build(BalanceSpec, raw["balance"], f"{source}: balance") if raw.get("balance") else None,
        "published": build(PublishedFacts, raw["published"], f"{source}: published") if raw.get("published") else None,
        "source": source,
    }
    for key in [item.name for item in fields(DatasetSpec) if item.name not in values]:
        if raw.get(key) is not None:
            values[key] = convert(raw[key], hints[key], f"{source}: {key}")
    if tokenizer_name_or_path is not None:
        values["tokenizer_name_or_path"] = tokenizer_name_or_path
    spec = DatasetSpec(**values)
    check_spec(spec)
    return spec


def _labels(tree: Any, source: str) -> Taxonomy:
    try:
        return Taxonomy.from_tree(tree)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _codes(raw: Any, where: str) -> dict[str, dict[str, str]]:
    """Codes as text: YAML gives numbers for ``0: noise``, files give ``0``, ``0.0`` or `` 0 ``."""
    if not isinstance(raw, Mapping) or not all(isinstance(codes, Mapping) for codes in raw.values()):
        raise UserError(f"{where}: expected, for each label column, codes and names")
    for name, codes in raw.items():
        for value in (item for pair in codes.items() for item in pair):
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise UserError(f"{where}.{name}: {value!r} is no text; write the codes and labels in quotes")
        spellings = Counter(normal_code(str(code)) for code in codes)
        if twice := [code for code, count in spellings.items() if count > 1]:
            raise UserError(f"{where}.{name}: the code {twice[0]!r} is there twice; write it once")
    return {str(name): {normal_code(str(c)): str(label) for c, label in codes.items()} for name, codes in raw.items()}


def _features(raw: Any, where: str) -> tuple[FeatureSpec, ...]:
    """Names of columns, each with its kind."""
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected names and kinds, as in {{stars: number}}; found {raw!r}")
    return tuple(FeatureSpec(str(name), convert(kind, FeatureKind, f"{where}.{name}")) for name, kind in raw.items())


def _cleaning(raw: Mapping[str, Any], overrides: Mapping[str, Any], task: Task, where: str) -> Cleaning:
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys and values, found {raw!r}")
    steps = dict(raw) | {key: value for key, value in overrides.items() if value is not None}
    default = "default" if task in LABEL_TASKS else "exact"
    profile = convert(steps.pop("profile", default), Literal["paper", "default", "exact", "none"], f"{where}.profile")
    check_keys(steps, {item.name for item in fields(Cleaning)}, where)
    hints = get_type_hints(Cleaning)
    return replace(PROFILES[profile], **{k: convert(v, hints[k], f"{where}.{k}") for k, v in steps.items()})
