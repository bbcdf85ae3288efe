"""Records of a hub data set, in the same form as those of files.

Text files of a hub data set (CSV, TSV, JSON lines) are read by our own reader, as they are under ``files``: loaded as
tables, pandas and Arrow would guess types, and a label ``None``, an id ``007`` or a text ``null`` would not come back.
What has types of its own (parquet, Arrow) is turned into text by the rule of `opinionlm.data.readers.json_values`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.data.readers.json_values import as_written, json_fields, top_level
from opinionlm.data.readers.records import ColumnRules, Kind, Record, Reject, SourceNotes, read_stream
from opinionlm.data.spec import FileSpec, HubSpec
from opinionlm.errors import UserError, one_line

if TYPE_CHECKING:
    import datasets

HUB_REMEDY = "correct `hub.columns` in the dataset YAML"
# Options of pandas that our reader has too, or that only say how types are guessed; any other one needs pandas.
KNOWN_CSV_OPTIONS = {
    *("name", "version", "data_dir", "data_files", "description", "features", "chunksize"),
    *("sep", "delimiter", "names", "column_names", "quoting", "encoding", "encoding_errors"),
    *("keep_default_na", "na_values", "na_filter", "true_values", "false_values", "date_format", "converters"),
}


@dataclass(frozen=True)
class TextFiles:
    """The text files of one split, and how they are read."""

    paths: tuple[str, ...]
    kind: Kind
    spec: FileSpec


def read_hub(spec: HubSpec, split: str, notes: SourceNotes) -> Iterator[Record | Reject]:
    """Yield every record of one split of a hub data set; numbers stand in for lines where there are several files.

    Raises:
        UserError: the data set cannot be loaded, or lacks a column.
    """
    builder = _builder(spec)
    files = None if builder is None else _text_files(builder, spec, split)
    features = None if builder is None else builder.info.features
    if files is None:
        yield from _read_table(spec, split, builder, notes)
    else:
        yield from _read_texts(spec, files, features, notes)


def _builder(spec: HubSpec) -> datasets.DatasetBuilder | None:
    """What knows the data set's files; None where it cannot be had, which loading will say why."""
    import datasets

    try:
        with no_progress_bars():
            return datasets.load_dataset_builder(spec.path, spec.config, revision=spec.revision)
    except Exception:
        return None


def _text_files(builder: datasets.DatasetBuilder, spec: HubSpec, split: str) -> TextFiles | None:
    """The files of a split if our reader can read all of them; None if they are tables or need options of pandas."""
    from datasets.packaged_modules.csv.csv import CsvConfig
    from datasets.packaged_modules.json.json import JsonConfig

    config = builder.config
    paths = tuple(map(str, (getattr(config, "data_files", None) or {}).get(split, ())))
    endings = {Path(path.lower().removesuffix(".gz")).suffix for path in paths}
    if not paths or any("::" in path for path in paths):
        return None
    match config:
        case CsvConfig() if endings <= {".csv", ".tsv"} and (form := _csv_form(config)) is not None:
            return TextFiles(paths, "csv", FileSpec(spec.path, spec.columns, **form))
        case JsonConfig(field=None) if endings <= {".jsonl", ".ndjson"}:
            encoding = config.encoding or "utf-8"
            return TextFiles(paths, "jsonl", FileSpec(spec.path, spec.columns, encoding=encoding))
    return None


def _csv_form(config: Any) -> dict[str, Any] | None:
    """How CSV files are written, by the data set's card; None for what only pandas can read."""
    plain = type(config)()
    changed = {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(plain, f.name)}
    if not changed <= KNOWN_CSV_OPTIONS or len(config.sep) != 1:
        return None
    return {
        "delimiter": config.sep,
        "quoting": "none" if config.quoting == 3 else "minimal",
        "encoding": config.encoding or "utf-8",
        "field_names": tuple(config.names or ()),
    }


def _read_texts(
    spec: HubSpec, files: TextFiles, features: Mapping[str, Any] | None, notes: SourceNotes
) -> Iterator[Record | Reject]:
    """The records of text files one after the other, numbered throughout."""
    import datasets

    try:
        with no_progress_bars():
            local = datasets.DownloadManager().download(list(files.paths))
    except Exception as error:
        raise _unloadable(spec, "", error) from None
    last = 0
    for path, place in zip(files.paths, local, strict=True):
        name = re.sub(r"^hf://datasets/", "", path)
        first = last
        with open(place, "rb") as binary:
            for item in read_stream(binary, name, files.kind, files.spec, notes, ColumnRules(remedy=HUB_REMEDY)):
                last = first + item.number
                item.number = last
                if len(files.paths) > 1:
                    item.line = last
                if isinstance(item, Record) and features:
                    _name_classes(item, spec.columns, features)
                yield item


def _name_classes(record: Record, columns: Mapping[str, str], features: Mapping[str, Any]) -> None:
    """Write the names of classes for the numbers that the data set's card says they have."""

    def named(value: str, feature: Any) -> str:
        number = int(value) if re.fullmatch(r"\d{1,9}", value.strip()) else -1
        return feature.names[number] if 0 <= number < len(feature.names) else value

    for name, column in columns.items():
        feature = features.get(column)
        item = getattr(feature, "feature", None)
        if hasattr(feature, "names") and name in record.fields:
            record.fields[name] = named(record.fields[name], feature)
        if hasattr(item, "names") and name in record.lists:
            record.lists[name] = [named(value, item) for value in record.lists[name]]


def _read_table(
    spec: HubSpec, split: str, builder: datasets.DatasetBuilder | None, notes: SourceNotes
) -> Iterator[Record | Reject]:
    """The records of a table with types."""
    import datasets

    # Parts of a split, zipped files and odd options of pandas: at least no types are guessed.
    is_csv = builder is not None and type(builder.config).__name__ == "CsvConfig"
    options = {"converters": dict.fromkeys(spec.columns.values(), str), "keep_default_na": False} if is_csv else {}
    try:
        with no_progress_bars():
            data = datasets.load_dataset(spec.path, spec.config, revision=spec.revision, split=split, **options)
    except Exception as error:
        raise _unloadable(spec, f", split {split!r}", error) from None
    expected = list(dict.fromkeys(top_level(spec.columns, data.column_names).values()))
    if missing := [column for column in expected if column not in data.column_names]:
        raise UserError(
            f"hub data set {spec.path!r}: missing columns {', '.join(missing)}; expected {', '.join(expected)}; found "
            f"{', '.join(data.column_names)}; {HUB_REMEDY}"
        )
    notes.dropped_columns = [column for column in data.column_names if column not in expected]
    # A ClassLabel stores numbers; its names are what the label tree is written in, and tags come as lists of them.
    names = {c: f for c, f in data.features.items() if c in expected and isinstance(f, datasets.ClassLabel)}
    lists = {c: f.feature for c, f in data.features.items() if isinstance(f, datasets.List)}
    lists = {c: item for c, item in lists.items() if c in expected and isinstance(item, datasets.ClassLabel)}
    narrow = [c for c, f in data.features.items() if c in expected and getattr(f, "dtype", "") == "float32"]
    for number, row in enumerate(data.select_columns(expected), start=1):
        row |= {column: feature.int2str(row[column]) for column, feature in names.items() if (row[column] or 0) >= 0}
        row |= {column: [item.int2str(tag) for tag in row[column] or ()] for column, item in lists.items()}
        row |= {column: as_written(row[column]) for column in narrow}
        fields, texts, problem, detail = json_fields(row, spec.columns)
        raw = json.dumps(row, ensure_ascii=False, default=str)
        yield Reject(number, number, problem, detail, raw) if problem else Record(number, number, fields, raw, texts)


def _unloadable(spec: HubSpec, split: str, error: Exception) -> UserError:
    return UserError(f"hub data set {spec.path!r}{split}: {one_line(error)}; check the name and the network")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Silence the bars of `datasets`; ours tell enough."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
