"""The dataset YAML: where data come from, what their labels mean, how they are cleaned and split.

Everything is checked here, before a single record is read: unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from opinionlm.data.cleaning import PROFILES, Cleaning
from opinionlm.data.task_rules import column_problems, label_problems, task_problems
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.data.yaml_text import require_written_text
from opinionlm.data.yaml_values import as_list, build, check_keys, convert, nearest
from opinionlm.errors import UserError
from opinionlm.untrusted import is_folder_name, load_yaml

SPLITS = ("train", "validation", "test")
DEFAULT_TOKENIZER = "models/gemma3-mini"

MAY_BE_ABSENT = "labels_may_be_absent"

Task = Literal["sequence", "token", "similarity", "question_answering", "summarization", "instruction"]
SplitName = Literal["train", "validation", "test"]
Codes = Mapping[str, Mapping[str, str]]


def _later(default: object) -> Any:
    """A key that older YAMLs do not have: left out of `DatasetSpec.to_dict` at its default, so fingerprints stay."""
    return field(default=default, metadata={"omit_default": True})


@dataclass(frozen=True)
class FileSpec:
    """One source file.

    Attributes:
        path: relative to ``data_dir``; ``.csv``, ``.tsv``, ``.jsonl`` or (task token) ``.conll`` or ``.txt``, each
            also with ``.gz``.
        columns: canonical name (``text``, ``label``, ``level1`` …, ``id``, ``platform``) → the file's own column name;
            `opinionlm.data.task_rules` lists the canonical names of every task.
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
        stratify_by: the shares hold within every combination of these columns; only task sequence has labels.
        seed: of the random assignment.
        group_by: rows that agree in this column stay in one split (all questions about a paragraph, for instance).
        by: ``random``; or ``time``: the earliest rows are train, the next ones validation, the latest test, whatever
            their labels and platforms, as a model meets them in use.
    """

    train: float = 0.7
    validation: float = 0.2
    test: float = 0.1
    stratify_by: tuple[Literal["label", "platform"], ...] = ("label", "platform")
    seed: int = 42
    group_by: Literal["group", "context", "text"] | None = _later(None)
    by: Literal["random", "time"] = _later("random")


@dataclass(frozen=True)
class BalanceSpec:
    """A balanced part of the data: equally many rows of every label, drawn without replacement.

    Of one seed the drawn rows are nested: 1,600 rows hold the 800 that a smaller subset has.

    Attributes:
        train: training rows, all labels together; a multiple of the number of labels, as are the next two.
        validation: validation rows.
        test: test rows.
        seed: of the draw.
    """

    train: int
    validation: int
    test: int
    seed: int = 42


@dataclass(frozen=True)
class DatasetSpec:
    """A whole dataset YAML, checked.

    Attributes:
        labels: the label tree; only of task sequence.
        score_range: lowest and highest score; only of task similarity.
        empty_values: contexts that stand for none, such as ``<noinput>``; compared by letters and digits alone.
        balance: keep only so many rows, equally many of every label; only of task sequence.
        labels_may_be_absent: labels or codes that the files need not hold although they hold values that are not
            declared; without it that is taken for a misspelling. Only of task sequence.
    """

    name: str
    labels: Taxonomy | None = None
    task: Task = "sequence"
    description: str = ""
    licence: str = ""
    tokenizer_name_or_path: str = DEFAULT_TOKENIZER
    files: tuple[FileSpec, ...] = ()
    hub: HubSpec | None = None
    codes: Codes = field(default_factory=dict)
    cleaning: Cleaning = PROFILES["default"]
    split: SplitSpec = SplitSpec()
    score_range: tuple[float, float] | None = _later(None)
    empty_values: tuple[str, ...] = _later(())
    balance: BalanceSpec | None = _later(None)
    labels_may_be_absent: tuple[str, ...] = _later(())
    source: str = "dataset YAML"

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The texts that a row of task sequence consists of: one, or a pair."""
        return ("text", "text_pair") if self._maps("text_pair") else ("text",)

    @property
    def has_time(self) -> bool:
        """Whether rows of task sequence say when they were written."""
        return self._maps("time")

    def _maps(self, name: str) -> bool:
        """Whether a source has this canonical column."""
        maps = [file.columns for file in self.files] + ([self.hub.columns] if self.hub else [])
        return any(name in columns for columns in maps)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: everything that decides the output, so that a fingerprint can be taken of it."""
        plain = _plain(self)
        del plain["source"]
        return plain


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
    path = Path(path)
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
            f"{path}: cannot be read ({error.strerror}); name a dataset YAML, see configs/datasets/"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected keys such as name, files, labels; found {type(raw).__name__}")
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
    required = {"name", "labels"} if task == "sequence" else {"name"}
    check_keys(raw, {item.name for item in fields(DatasetSpec)} - {"source"}, required, source)
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
        "split": build(SplitSpec, raw.get("split") or {}, f"{source}: split"),
        "balance": build(BalanceSpec, raw["balance"], f"{source}: balance") if raw.get("balance") else None,
        "source": source,
    }
    for key in (
        "task",
        "description",
        "licence",
        "tokenizer_name_or_path",
        "score_range",
        "empty_values",
        MAY_BE_ABSENT,
    ):
        if raw.get(key) is not None:
            values[key] = convert(raw[key], hints[key], f"{source}: {key}")
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
    problems += column_problems(spec)
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
    if any(len(splits) < len(SPLITS) for splits in given) and spec.cleaning.duplicates == "keep":
        problems.append(
            "cleaning.duplicates: keep would let one text into two splits; use tokens or text, or give files a split"
        )
    if not all(given) and abs(sum(shares.values()) - 1) > 1e-6:
        problems.append(f"split: train, validation and test have to sum to 1, found {sum(shares.values()):g}")
    problems += balance_problems(spec)
    problems += label_problems(spec) if spec.task == "sequence" else task_problems(spec)
    if problems:
        raise UserError(f"{spec.source}: " + "; ".join(problems))


def balance_problems(spec: DatasetSpec) -> list[str]:
    """Why a balanced subset cannot be drawn, as far as the data need not be known."""
    if spec.balance is None:
        return []
    if spec.task != "sequence" or spec.labels is None:
        return [f"balance: task {spec.task} has no labels to balance; leave it out"]
    labels = len(spec.labels.leaves)
    totals = {name: getattr(spec.balance, name) for name in SPLITS}
    return [
        f"balance.{name}: {total} has to be a positive multiple of the {labels} labels"
        for name, total in totals.items()
        if total < 1 or total % labels
    ]


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


def normal_code(value: str) -> str:
    """One spelling for the codes ``0``, `` 0 `` and ``0.0`` (pandas writes the last when a column has blanks)."""
    value = value.strip()
    head, dot, tail = value.partition(".")
    return head if dot and head.isascii() and head.isdigit() and tail and not tail.strip("0") else value


def _cleaning(raw: Mapping[str, Any], overrides: Mapping[str, Any], task: Task, where: str) -> Cleaning:
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys and values, found {raw!r}")
    steps = dict(raw) | {key: value for key, value in overrides.items() if value is not None}
    default = "default" if task == "sequence" else "exact"
    profile = convert(steps.pop("profile", default), Literal["paper", "default", "exact", "none"], f"{where}.profile")
    check_keys(steps, {item.name for item in fields(Cleaning)}, set(), where)
    hints = get_type_hints(Cleaning)
    return replace(PROFILES[profile], **{k: convert(v, hints[k], f"{where}.{k}") for k, v in steps.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, DatasetSpec | FileSpec | HubSpec | SplitSpec | BalanceSpec | Cleaning):
        items = [
            item
            for item in fields(value)
            if getattr(value, item.name) != item.default or not item.metadata.get("omit_default")
        ]
        return {item.name: _plain(getattr(value, item.name)) for item in items}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value if not isinstance(value, Taxonomy) else value.to_tree()
