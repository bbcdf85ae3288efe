"""The dataset YAML: where data come from, what their labels mean, how they are cleaned and split.

Everything is checked here, before a single record is read: unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import count
from typing import Any, Literal

from opinionlm.data.cleaning import PROFILES, Cleaning
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError

SPLITS = ("train", "validation", "test")
DEFAULT_TOKENIZER = "models/gemma3-mini"
Task = Literal["sequence", "multi_label", "token", "similarity", "question_answering", "summarization", "instruction"]
# The tasks that give texts labels of a label tree: one each, or any number.
LABEL_TASKS: tuple[Task, ...] = ("sequence", "multi_label")
SplitName = Literal["train", "validation", "test"]
Codes = Mapping[str, Mapping[str, str]]
FeatureKind = Literal["category", "number", "text"]


def _elsewhere() -> Any:
    """A key that says where something is to be had; it decides nothing of the output."""
    return field(default="", metadata={"omit": True})


def _later(default: object) -> Any:
    """A key that older YAMLs do not have: left out of `DatasetSpec.to_dict` at its default, so fingerprints stay."""
    return field(default=default, metadata={"omit_default": True})


@dataclass(frozen=True)
class FileSpec:
    """One source file.

    Attributes:
        path: relative to ``data_dir``; ``.csv``, ``.tsv``, ``.jsonl`` or (task token) ``.conll`` or ``.txt``, each
            also with ``.gz``; ``.xlsx`` (its first sheet) or ``.parquet``.
        columns: canonical name (``text``, ``label``, ``level1`` …, ``id``, ``platform``) → the file's own column name;
            `opinionlm.data.spec_checks` lists the canonical names of every task.
        platform: where the posts come from; blank when the data set has no platforms.
        split: the split this file is, when the data set comes with its own splits.
        field_names: column names of a file without a header row.
        delimiter: the separator; by default a comma, for ``.tsv`` a tab.
        quoting: ``minimal`` is ordinary CSV quoting, ``none`` takes quote characters literally.
        encoding: of the text; bytes that do not fit become U+FFFD and are counted in the report.
        label_separator: where set, a label field that holds it names several labels; task sequence, which takes one,
            rejects those records. Whatever is set, task multi_label reads a field in brackets as a JSON list.
        max_record_characters: longer records are rejected unread, so that no input can exhaust memory.
        url: where `opinionlm get_data` fetches the file.
        sha256: that the file of that address has.
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
    url: str = _elsewhere()
    sha256: str = _elsewhere()


@dataclass(frozen=True)
class HubSpec:
    """A data set on the Hugging Face hub (or a local folder that `datasets.load_dataset` can read).

    Attributes:
        path: hub name or local folder.
        columns: canonical name → the data set's column name.
        config: the hub configuration, where there are several.
        revision: commit or tag; name one to make a run repeatable.
        splits: our split → the hub's split.
        platform: where the posts come from; blank when the data set has no platforms.
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
        stratify_by: the shares hold within every combination of these columns; of several labels of a text the rarest
            one counts. Only the tasks sequence and multi_label have labels.
        seed: of the random assignment.
        group_by: rows that agree in this column stay in one split (all questions about a paragraph, for instance).
        by: ``random``; or ``time``: the earliest rows are train, the next ones validation, the latest test, whatever
            their labels and platforms, as a model meets them in use.
        near_copies: ``anywhere``; or ``together``: texts that are near-copies of each other (a cosine of at least 0.7
            of their counts of runs of 3 to 5 characters) stay in one split, as those that a chain of them joins do.
    """

    train: float = 0.7
    validation: float = 0.2
    test: float = 0.1
    stratify_by: tuple[Literal["label", "platform"], ...] = ("label", "platform")
    seed: int = 42
    group_by: Literal["group", "context", "text"] | None = _later(None)
    by: Literal["random", "time"] = _later("random")
    near_copies: Literal["anywhere", "together"] = _later("anywhere")


@dataclass(frozen=True)
class FeatureSpec:
    """A column that a model reads in front of the text.

    Attributes:
        name: canonical, and written so: ``stars: 3.``
        kind: a category, a number, or a text of its own.
    """

    name: str
    kind: FeatureKind


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
class PublishedFacts:
    """What the publisher says of a data set: plans are made with it (``--dry_run``), nothing is prepared by it.

    Attributes:
        train: rows of the training split, before anything is removed.
        validation: rows of the validation split; 0 where there is none.
        test: rows of the test split; 0 where there is none.
        tags: of task token, in IOB2.
    """

    train: int
    validation: int = 0
    test: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetSpec:
    """A whole dataset YAML, checked.

    Attributes:
        name: of the data set; prepared data and runs are called after it.
        labels: the label tree; only of the tasks sequence and multi_label. Left out, it is what the
            files hold.
        task: what a row is an example of: a text (or pair) with a label, words with tags, a pair with a score, or a
            text with an answer.
        description: what the data are, for the model card and the prompts of language models.
        licence: of the data, for the model card.
        tokenizer_name_or_path: counts tokens, and finds copies where `cleaning.duplicates` is ``tokens``.
        files: the sources, each with its own columns.
        hub: a data set of the hub, instead of files or where they are not there.
        codes: label column → code → name, where files hold codes; numbers need no quotes here.
        cleaning: a ``profile`` and single steps that win over it; see below.
        split: how rows become train, validation and test.
        score_range: lowest and highest score; only of task similarity.
        empty_values: contexts that stand for none, such as ``<noinput>``; compared by letters and digits alone.
        features: columns that a model reads in front of the text, in this order; only of the tasks with labels.
        balance: keep only so many rows, equally many of every label; only of task sequence.
        labels_may_be_absent: labels or codes that the files need not hold although they hold values that are not
            declared; without it that is taken for a misspelling. Only of the tasks with labels.
        language: code of the texts' language by ISO 639 or BCP 47, for model cards.
        origin: where the files are to be had, for the message that they are missing.
        published: what its publisher says of it.
        source: the file, for messages; no key.
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
    features: tuple[FeatureSpec, ...] = _later(())
    balance: BalanceSpec | None = _later(None)
    labels_may_be_absent: tuple[str, ...] = _later(())
    language: str = _later("")
    origin: str = ""
    published: PublishedFacts | None = None
    source: str = "dataset YAML"

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The texts that a row of a task with labels consists of: one, or a pair."""
        return ("text", "text_pair") if self._maps("text_pair") else ("text",)

    @property
    def depth(self) -> int:
        """Levels of the label tree; where no labels are declared, the level columns that are."""
        if self.labels is not None:
            return self.labels.depth
        return next(level for level in count() if not self._maps(f"level{level + 1}"))

    @property
    def has_time(self) -> bool:
        """Whether rows of a task with labels say when they were written."""
        return self._maps("time")

    def _maps(self, name: str) -> bool:
        """Whether a source has this canonical column."""
        maps = [file.columns for file in self.files] + ([self.hub.columns] if self.hub else [])
        return any(name in columns for columns in maps)

    def read_from(self, source: Literal["auto", "hub", "files"]) -> DatasetSpec:
        """The same data set with one source alone; with ``auto`` it keeps both.

        Raises:
            UserError: it has no such source.
        """
        match source:
            case "hub" if self.hub is None:
                raise UserError(
                    f"{self.source}: data_source: hub, but no hub data set is named; leave data_source out"
                )
            case "files" if not self.files:
                raise UserError(f"{self.source}: data_source: files, but no files are named; leave data_source out")
            case "hub":
                return replace(self, files=())
            case "files":
                return replace(self, hub=None)
            case _:
                return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: everything that decides the output, so that a fingerprint can be taken of it."""
        plain = _plain(self)
        for name in ("source", "origin", "published"):
            del plain[name]
        return plain


def normal_code(value: str) -> str:
    """One spelling for the codes ``0``, `` 0 `` and ``0.0`` (pandas writes the last when a column has blanks)."""
    value = value.strip()
    head, dot, tail = value.partition(".")
    return head if dot and head.isascii() and head.isdigit() and tail and not tail.strip("0") else value


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, Taxonomy):
        items = [
            item
            for item in fields(value)
            if not item.metadata.get("omit")
            and (getattr(value, item.name) != item.default or not item.metadata.get("omit_default"))
        ]
        return {item.name: _plain(getattr(value, item.name)) for item in items}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value if not isinstance(value, Taxonomy) else value.to_tree()
