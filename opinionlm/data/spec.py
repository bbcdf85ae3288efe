"""The dataset YAML: where data come from, what their labels mean, how they are cleaned and split.

Everything is checked here, before a single record is read: unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from opinionlm.data.cleaning import PROFILES, Cleaning
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError

SPLITS = ("train", "validation", "test")
DEFAULT_TOKENIZER = "models/gemma3-mini"

Task = Literal["sequence", "token", "similarity", "question_answering", "summarization", "instruction"]
SplitName = Literal["train", "validation", "test"]
Codes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class FileSpec:
    """One source file.

    Attributes:
        path: relative to ``data_dir``; ``.csv``, ``.tsv`` or ``.jsonl``, each also with ``.gz``.
        columns: canonical name (``text``, ``label``, ``level1`` …, ``id``, ``platform``) → the file's own column name.
        platform: where the posts come from; blank when the data set has no platforms.
        split: the split this file is, when the data set comes with its own splits.
        field_names: column names of a file without a header row.
        delimiter: the separator; by default a comma, for ``.tsv`` a tab.
        quoting: ``minimal`` is ordinary CSV quoting, ``none`` takes quote characters literally.
        encoding: of the text; bytes that do not fit become U+FFFD and are counted in the report.
        label_separator: where set, a label field that holds it names several classes, which this task cannot take.
        max_record_characters: longer records are rejected unread, so that no input can exhaust memory.
    """

    path: str
    columns: Mapping[str, str]
    platform: str = ""
    split: SplitName | None = None
    field_names: tuple[str, ...] = ()
    delimiter: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    encoding: str = "utf-8"
    label_separator: str = ""
    max_record_characters: int = 1_000_000


@dataclass(frozen=True)
class HubSpec:
    """A data set on the Hugging Face hub (or a local folder that `datasets.load_dataset` can read).

    Attributes:
        path: hub name or local folder.
        columns: canonical name → the data set's column name.
        config: the hub configuration, where there are several.
        revision: commit or tag; name one to make a run repeatable.
        splits: our split → the hub's split.
        platform: as in `FileSpec`.
    """

    path: str
    columns: Mapping[str, str]
    config: str | None = None
    revision: str | None = None
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train"})
    platform: str = ""

    @property
    def given_splits(self) -> set[str]:
        """The splits the data set comes with; none if it is all one, which we then split ourselves."""
        return set(self.splits) if set(self.splits) != {"train"} else set()


@dataclass(frozen=True)
class SplitSpec:
    """How rows are split; for files that are splits already, only the shares of missing splits are used.

    Attributes:
        train: share of the training split (paper, section 9.2: 70 / 20 / 10).
        validation: share of the validation split.
        test: share of the test split.
        stratify_by: the shares hold within every combination of these columns.
        seed: of the random assignment.
    """

    train: float = 0.7
    validation: float = 0.2
    test: float = 0.1
    stratify_by: tuple[Literal["label", "platform"], ...] = ("label", "platform")
    seed: int = 42


@dataclass(frozen=True)
class DatasetSpec:
    """A whole dataset YAML, checked."""

    name: str
    labels: Taxonomy
    task: Task = "sequence"
    description: str = ""
    licence: str = ""
    tokenizer_name_or_path: str = DEFAULT_TOKENIZER
    files: tuple[FileSpec, ...] = ()
    hub: HubSpec | None = None
    codes: Codes = field(default_factory=dict)
    cleaning: Cleaning = PROFILES["default"]
    split: SplitSpec = SplitSpec()
    source: str = "dataset YAML"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: everything that decides the output, so that a fingerprint can be taken of it."""
        plain = {item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.name != "source"}
        return plain | {"labels": self.labels.to_tree()}


def load_spec(
    path: str | Path, cleaning: Mapping[str, Any] | None = None, tokenizer_name_or_path: str | None = None
) -> DatasetSpec:
    """Read and check a dataset YAML.

    Args:
        path: the YAML file.
        cleaning: single cleaning steps from the command line; they win over the file's.
        tokenizer_name_or_path: wins over the file's.

    Raises:
        UserError: no such file, not YAML, unknown or missing keys, values of the wrong kind, or settings that
            contradict each other. The message names the file and the key.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a dataset YAML, see configs/datasets/"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected keys such as name, files, labels; found {type(raw).__name__}")
    return spec_from_dict(raw, str(path), cleaning, tokenizer_name_or_path)


def spec_from_dict(
    raw: Mapping[str, Any],
    source: str,
    cleaning: Mapping[str, Any] | None = None,
    tokenizer_name_or_path: str | None = None,
) -> DatasetSpec:
    """Check the content of a dataset YAML; see `load_spec`. `source` is its name in messages."""
    _check_keys(raw, {item.name for item in fields(DatasetSpec)} - {"source"}, {"name", "labels"}, source)
    if raw["name"] != Path(str(raw["name"])).name or not str(raw["name"]).strip(". "):
        raise UserError(f"{source}: name: {raw['name']!r} has to be a plain name, it becomes a folder")
    files = _list(raw.get("files") or [], f"{source}: files")
    values: dict[str, Any] = {
        "name": raw["name"],
        "labels": _labels(raw["labels"], source),
        "files": tuple(_build(FileSpec, item, f"{source}: files[{i}]") for i, item in enumerate(files)),
        "hub": _build(HubSpec, raw["hub"], f"{source}: hub") if raw.get("hub") else None,
        "codes": _codes(raw.get("codes") or {}, f"{source}: codes"),
        "cleaning": _cleaning(raw.get("cleaning") or {}, cleaning or {}, f"{source}: cleaning"),
        "split": _build(SplitSpec, raw.get("split") or {}, f"{source}: split"),
        "source": source,
    }
    hints = get_type_hints(DatasetSpec)
    for key in ("task", "description", "licence", "tokenizer_name_or_path"):
        if raw.get(key) is not None:
            values[key] = _convert(raw[key], hints[key], f"{source}: {key}")
    if tokenizer_name_or_path is not None:
        values["tokenizer_name_or_path"] = tokenizer_name_or_path
    spec = DatasetSpec(**values)
    _validate(spec)
    return spec


def _validate(spec: DatasetSpec) -> None:
    """Settings that contradict each other; all of them at once."""
    problems: list[str] = []
    if not spec.files and spec.hub is None:
        problems.append("files: no source given; name files and/or a hub data set")
    if len(spec.labels.leaves) < 2:
        problems.append(f"labels: only {spec.labels.leaves[0]!r}; a classifier needs at least two classes")
    levels = [f"level{level}" for level in range(1, spec.labels.depth + 1)]
    canonical = ["id", "text", "label", *levels, "platform"]
    sources = [(f"files[{i}]", file.columns) for i, file in enumerate(spec.files)]
    sources += [("hub", spec.hub.columns)] if spec.hub else []
    for where, columns in sources:
        for name in columns:
            if name not in canonical:
                problems.append(f"{where}.columns: unknown column {name!r}{nearest(name, canonical)}")
        if "text" not in columns:
            problems.append(f"{where}.columns: text is missing; say which column holds the posts")
        if "label" not in columns and "level1" not in columns:
            problems.append(f"{where}.columns: neither label nor level1 is named; say which columns hold the labels")
    for name, codes in spec.codes.items():
        if name not in ("label", *levels):
            problems.append(f"codes: unknown column {name!r}{nearest(name, ['label', *levels])}")
            continue
        valid = spec.labels.leaves if name == "label" else spec.labels.level_labels(int(name.removeprefix("level")))
        for code, label in codes.items():
            if label not in valid:
                problems.append(f"codes.{name}.{code}: {label!r} is no label there{nearest(label, valid)}")
    if spec.files and 0 < sum(file.split is not None for file in spec.files) < len(spec.files):
        problems.append("files: some have a split and some have none; give one to all or to none")
    for name in spec.hub.splits if spec.hub else ():
        if name not in SPLITS:
            problems.append(f"hub.splits: unknown split {name!r}{nearest(name, SPLITS)}")
    shares = {name: getattr(spec.split, name) for name in SPLITS}
    if any(not 0 < share < 1 for share in shares.values()):
        problems.append(f"split: every share has to lie between 0 and 1, found {shares}")
    # Files and hub data set stand in for each other, so each of them has to fit the rest.
    given = [{file.split for file in spec.files} - {None}] if spec.files else []
    given += [spec.hub.given_splits] if spec.hub else []
    if any(splits and "train" not in splits for splits in given):
        problems.append("no source is the training split; give one split: train")
    if not all(given) and spec.cleaning.duplicates == "keep":
        problems.append(
            "cleaning.duplicates: keep would let one text into two splits; use tokens or text, or give files a split"
        )
    if not all(given) and abs(sum(shares.values()) - 1) > 1e-6:
        problems.append(f"split: train, validation and test have to sum to 1, found {sum(shares.values()):g}")
    if spec.cleaning.relabels_noise and spec.cleaning.noise_label not in spec.labels.leaves:
        problems.append(
            f"cleaning.noise_label: posts are to be labelled {spec.cleaning.noise_label!r}, which is no label of this "
            f"data set{nearest(spec.cleaning.noise_label, spec.labels.leaves)}; or use drop or keep instead of noise"
        )
    if problems:
        raise UserError(f"{spec.source}: " + "; ".join(problems))


def nearest(name: object, valid: Iterable[str]) -> str:
    """The end of an error message about a wrong name: the nearest valid one and the list."""
    valid = list(valid)
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"{hint} (valid: {', '.join(valid)})"


def _check_keys(raw: Mapping[str, Any], valid: set[str], required: set[str], where: str) -> None:
    for key in raw:
        if key not in valid:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, sorted(valid))}")
    for key in sorted(required):
        if raw.get(key) in (None, ""):
            raise UserError(f"{where}: the key {key!r} is missing")


def _build(kind: type, raw: object, where: str) -> Any:
    """An instance of a dataclass from a YAML mapping, every value checked against the field's type."""
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys and values, found {raw!r}")
    items: dict[str, Field] = {item.name: item for item in fields(kind)}
    required = {n for n, item in items.items() if item.default is MISSING and item.default_factory is MISSING}
    _check_keys(raw, set(items), required, where)
    hints = get_type_hints(kind)
    return kind(**{key: _convert(value, hints[key], f"{where}.{key}") for key, value in raw.items()})


def _convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as the type a field declares, or a `UserError`."""
    origin = get_origin(kind)
    if origin is Literal:
        if value in get_args(kind) and isinstance(value, str):
            return value
        raise UserError(f"{where}: {value!r} is not a choice{nearest(value, get_args(kind))}")
    if origin in (types.UnionType, Union):
        return None if value is None else _convert(value, get_args(kind)[0], where)
    if origin is tuple:
        return tuple(_convert(item, get_args(kind)[0], f"{where}[{i}]") for i, item in enumerate(_list(value, where)))
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


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: expected a list, found {value!r}")
    return list(value)


def _labels(tree: Any, source: str) -> Taxonomy:
    try:
        return Taxonomy.from_tree(tree)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _codes(raw: Any, where: str) -> dict[str, dict[str, str]]:
    """Codes as text: YAML gives numbers for ``0: noise``, files give ``0``, ``0.0`` or `` 0 ``."""
    if not isinstance(raw, Mapping) or not all(isinstance(codes, Mapping) for codes in raw.values()):
        raise UserError(f"{where}: expected, for each label column, codes and names")
    return {str(name): {normal_code(str(c)): str(label) for c, label in codes.items()} for name, codes in raw.items()}


def normal_code(value: str) -> str:
    """One spelling for the codes ``0``, `` 0 `` and ``0.0`` (pandas writes the last when a column has blanks)."""
    value = value.strip()
    head, dot, tail = value.partition(".")
    return head if dot and head.isascii() and head.isdigit() and tail and not tail.strip("0") else value


def _cleaning(raw: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> Cleaning:
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys and values, found {raw!r}")
    steps = dict(raw) | {key: value for key, value in overrides.items() if value is not None}
    profile = _convert(steps.pop("profile", "default"), Literal["paper", "default", "none"], f"{where}.profile")
    _check_keys(steps, {item.name for item in fields(Cleaning)}, set(), where)
    hints = get_type_hints(Cleaning)
    return replace(PROFILES[profile], **{k: _convert(v, hints[k], f"{where}.{k}") for k, v in steps.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, FileSpec | HubSpec | SplitSpec | Cleaning):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value if not isinstance(value, Taxonomy) else value.to_tree()
