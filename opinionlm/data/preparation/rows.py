"""The first heavy part of preparing: posts stream from the sources into an Arrow file and on to `clean_rows`.

Nothing here holds all texts: in memory stay a few numbers per post (`Table`).
"""

from __future__ import annotations

import csv
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from opinionlm.data.preparation.declared_labels import describe_undeclared
from opinionlm.data.preparation.label_parsing import LabelError, Labeller, LabelUse
from opinionlm.data.readers.damage import damage_warnings
from opinionlm.data.readers.hub import read_hub
from opinionlm.data.readers.records import Record, Reject, SourceNotes, read_file
from opinionlm.data.readers.timestamps import epoch_seconds, is_date
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.errors import UserError
from opinionlm.utils.shipped import shipped_root

BATCH_ROWS = 1_000
BATCH_CHARACTERS = 4_000_000
PROGRESS_RECORDS = 100
# What `SourceNotes.details` calls the tags that were not of IOB2.
CONVERTED_TAGS = "tags converted from BIOES or BILOU"

READER_REASONS = (
    "bad_quoting",
    "too_many_fields",
    "too_few_fields",
    "oversized_record",
    "invalid_json",
    "missing_field",
    "not_text",
    "bad_time",
)
LABEL_REASONS = (
    "missing_label",
    "unknown_code",
    "ambiguous_label",
    "several_labels",
    "incomplete_label",
    "contradictory_label",
)
NULL_REASONS = ("empty_text",)


@dataclass
class Source:
    """One file or one hub split, and what came of it."""

    name: str
    platform: str
    split: str | None
    from_hub: bool = False
    records: int = 0
    notes: SourceNotes = field(default_factory=SourceNotes)
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass
class Table:
    """Numbers per readable post, of shape (rows,), in the order of the sources; `platform` indexes `platforms`.

    ``time`` holds seconds since 1970 in UTC; None where the data do not say when posts were written.
    """

    source: np.ndarray
    line: np.ndarray
    number: np.ndarray
    label: np.ndarray
    platform: np.ndarray
    platforms: list[str]
    time: np.ndarray | None = None


class RejectWriter:
    """``rejects.csv``: one line for every record that did not make it, whatever the reason."""

    def __init__(self, path: Path) -> None:
        """Open the file and write its header."""
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["file", "line", "record", "reason", "detail", "raw"])

    def write(self, source: Source, line: int, number: int, reason: str, detail: str, raw: str) -> None:
        """Add one record and count it for its source."""
        source.rejected[reason] += 1
        self._writer.writerow([source.name, line, number, reason, detail, raw])

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()


def find_data(spec: DatasetSpec, data_dir: str | Path) -> Path:
    """The folder of a data set's files: the given one, or, where ``data`` has none of them, that of bundled posts."""
    place, shipped = Path(data_dir), shipped_root() / "data"
    if place == Path("data") and not any((place / file.path).exists() for file in spec.files):
        return shipped if any((shipped / file.path).exists() for file in spec.files) else place
    return place


def find_sources(spec: DatasetSpec, data_dir: Path) -> list[Source]:
    """The sources to read: the files if they are there, else the hub data set.

    Raises:
        UserError: files are missing and there is no hub data set, or only some of the files are there.
    """
    missing = [file.path for file in spec.files if not (data_dir / file.path).is_file()]
    if spec.files and not missing:
        return [Source(file.path, file.platform, file.split) for file in spec.files]
    if spec.hub is not None and len(missing) == len(spec.files):
        given = spec.hub.given_splits
        platform = spec.hub.platform
        return [Source(hub, platform, ours if ours in given else None, True) for ours, hub in spec.hub.splits.items()]
    origin = f"; they are to be had from {spec.origin}" if spec.origin else ""
    raise UserError(
        f"{spec.source}: files: {', '.join(missing)} not found in {data_dir}; give the folder that holds them with "
        f"--data_dir, or correct `files`{origin}"
    )


class RowReader:
    """Phase 1 of the paper, labels by step 4.1: all sources, record by record, into an Arrow file and a `Table`."""

    def __init__(
        self, spec: DatasetSpec, sources: list[Source], data_dir: Path, path: Path, rejects: RejectWriter
    ) -> None:
        """Nothing is read yet.

        Args:
            spec: the data set.
            sources: from `find_sources`; counts and notes are filled in.
            data_dir: where files lie.
            path: the Arrow file to write: id, the spec's text columns, label.
            rejects: takes the records that have no text, no valid label, or are broken.
        """
        self._spec, self._sources, self._data_dir = spec, sources, data_dir
        self._path, self._rejects = path, rejects
        self._columns: tuple[array[int], ...] = tuple(array("q") for _ in range(6))
        self._platforms: dict[str, int] = {}
        self.label_use = LabelUse()
        self._repeated_ids, self._times, self._dates = 0, 0, 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Read everything once; yields every batch as soon as it is in the file.

        Raises:
            UserError: a source cannot be read at all, or not one of its records can be used.
        """
        schema = pa.schema(
            [*((name, pa.string()) for name in ("id", *self._spec.text_columns)), ("label", pa.int32())]
        )
        with (
            pa.OSFile(str(self._path), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
            tqdm(desc="reading and cleaning", unit=" posts", disable=None, leave=False) as progress,
        ):
            for rows in _in_batches(self._rows(progress)):
                batch = pa.record_batch(list(zip(*rows, strict=True)), schema=schema)
                writer.write_batch(batch)
                yield batch

    def table(self) -> Table:
        """The numbers that belong to the rows read so far."""
        *numbers, times = (np.array(column, dtype=np.int64) for column in self._columns)
        return Table(*numbers, list(self._platforms), times if self._spec.has_time else None)

    def warnings(self) -> list[str]:
        """What the user should know about the files, ids and times that were read."""
        found = source_warnings(self._spec, self._sources) + repeated_ids_warning(self._repeated_ids)
        if 0 < self._dates < self._times:
            found.append(
                f"{self._dates:,} of {self._times:,} times are dates without a time of day, which count as midnight, "
                "before every other row of their day"
            )
        return found

    def _rows(self, progress: tqdm) -> Iterator[tuple[Any, ...]]:
        """Id, texts and class of every usable record; its numbers go into the columns of the table."""
        spec, names, platforms = self._spec, self._spec.text_columns, self._platforms
        add_source, add_line, add_number, add_label, add_platform, add_time = (c.append for c in self._columns)
        prefixes = id_prefixes(self._sources)
        # Ids that we make are distinct by themselves; remembering a million of them would take 100 MB.
        makes_ids = all("id" not in f.columns for f in spec.files) and not any(s.from_hub for s in self._sources)
        seen: set[str] = set()
        for index, source in enumerate(self._sources):
            first_problem = ""
            separator = "" if source.from_hub else spec.files[index].label_separator
            labeller = Labeller(spec.labels, spec.codes, separator, self.label_use)
            for item in _records(spec, source, index, self._data_dir):
                source.records += 1
                if source.records % PROGRESS_RECORDS == 0:
                    progress.update(PROGRESS_RECORDS)
                row = _labelled(item, labeller, names) if isinstance(item, Record) else item
                if isinstance(row, Reject):
                    self._rejects.write(source, row.line, row.number, row.reason, row.detail, row.raw)
                    first_problem = first_problem or f"line {row.line}: {row.reason}, {row.detail}"
                    continue
                texts, label, time = row
                identity = item.fields.get("id", "").strip() or f"{prefixes[index]}-{item.number}"
                if not makes_ids:
                    if identity in seen:
                        self._repeated_ids += 1
                        identity = f"{identity}#{prefixes[index]}-{item.number}"
                    seen.add(identity)
                platform = item.fields.get("platform", source.platform).strip()
                add_source(index)
                add_line(item.line)
                add_number(item.number)
                add_label(label)
                add_platform(platforms.setdefault(platform, len(platforms)))
                add_time(time)
                if spec.has_time:
                    self._times += 1
                    self._dates += is_date(item.fields["time"])
                yield (identity, *texts, label)
            found = describe_undeclared(spec, self.label_use) if self.label_use.undeclared else ""
            require_rows(source, first_problem, found)


def _in_batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of (id, texts, class) in batches bounded by posts and by characters."""
    batch: list[tuple[Any, ...]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += sum(map(len, row[1:-1]))
        if len(batch) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _records(spec: DatasetSpec, source: Source, index: int, data_dir: Path) -> Iterator[Record | Reject]:
    if not source.from_hub:
        return read_file(data_dir / source.name, spec.files[index], source.notes)
    assert spec.hub is not None
    return read_hub(spec.hub, source.name, source.notes)


def _labelled(record: Record, labeller: Labeller, names: tuple[str, ...]) -> tuple[list[str], int, int] | Reject:
    """The texts, the class and the time of a record; a record that has no time column is of time 0."""
    texts = [record.fields[name] for name in names]
    try:
        label = labeller(record.fields)
    except LabelError as error:
        return Reject(record.line, record.number, error.code, str(error), record.raw)
    for name, text in zip(names, texts, strict=True):
        if is_blank(text):
            return Reject(record.line, record.number, "empty_text", f"there is no {name}", record.raw)
    try:
        time = epoch_seconds(record.fields["time"]) if "time" in record.fields else 0
    except ValueError as error:
        return Reject(record.line, record.number, "bad_time", str(error), record.raw)
    return texts, label, time


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return not text.strip("\0\ufeff \t\r\n\v\f\u00a0\u200b")


def require_rows(source: Source, first_problem: str, found: str = "") -> None:
    """Raise a `UserError` where a source has no records, or none that can be used.

    Args:
        source: read to its end.
        first_problem: of its records.
        found: which values stand where labels are expected.
    """
    split = f" (the {source.split} split)" if source.split else ""
    if source.records == 0:
        raise UserError(f"{source.name}{split}: there are no records, only a header; give a file with posts")
    if sum(source.rejected.values()) == source.records:
        reason, count = source.rejected.most_common(1)[0]
        raise UserError(
            f"{source.name}{split}: none of the {source.records} records can be used; {count} because of {reason} "
            f"({first_problem[:300]}){found and f'; {found}'}; correct `columns`, `codes` or `labels` in the dataset "
            "YAML"
        )


def source_warnings(spec: DatasetSpec, sources: list[Source]) -> list[str]:
    """What the user should know about how the sources were read."""
    warnings = []
    for source in sources:
        notes = source.notes
        if notes.delimiter:
            found = json.dumps(notes.delimiter)
            warnings.append(f"{source.name}: read with delimiter: {found}, as it looks; the dataset YAML names none")
        if converted := notes.details[CONVERTED_TAGS]:
            warnings.append(f"{source.name}: {converted:,} tags of BIOES, BILOU or their kin were converted to IOB2")
        signs = (notes.undecodable_records, notes.nul_records, notes.mojibake_records)
        warnings += damage_warnings(source.name, source.records, *signs, spec.cleaning.fix_text)
    return warnings


def repeated_ids_warning(count: int) -> list[str]:
    """A warning where ids of the files had to be changed because earlier records have them."""
    if not count:
        return []
    return [f"{count:,} records have the id of an earlier one; a suffix keeps them apart (id#source-number)"]


def id_prefixes(sources: list[Source]) -> list[str]:
    """A distinct prefix per source for the ids of posts without one: platform, else split, else the file's name."""
    for choice in (
        [source.platform for source in sources],
        [source.split or "" for source in sources],
        [Path(source.name).name.split(".")[0] for source in sources],
    ):
        if all(choice) and len(set(choice)) == len(choice):
            return choice
    return [f"source{index}" for index in range(len(sources))]


def given_splits(sources: list[Source]) -> tuple[str, ...]:
    """The splits that come with the data, in the order train, validation, test; empty when we make them."""
    return tuple(split for split in SPLITS if split in {source.split for source in sources})


def split_numbers(sources: list[Source], table: Table) -> np.ndarray:
    """(rows,) the split each row comes with: 0 train, 1 validation, 2 test; all 0 where the sources have none."""
    return np.array([SPLITS.index(source.split or "train") for source in sources], dtype=np.int8)[table.source]
