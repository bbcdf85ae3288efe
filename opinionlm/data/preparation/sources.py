"""The sources of a data set: what there is to read, what came of each, and what the user should know of it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opinionlm.config.options import DataConfig
from opinionlm.data.readers.conll import read_conll
from opinionlm.data.readers.damage import damage_warnings
from opinionlm.data.readers.hub import read_hub
from opinionlm.data.readers.records import Record, Reject, SourceNotes, read_file
from opinionlm.data.readers.tables import TABLES, read_table
from opinionlm.data.spec import SPLITS, DatasetSpec, FileSpec
from opinionlm.data.spec_checks import CONLL_ENDINGS
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.utils.command_line import command
from opinionlm.utils.names import counted
from opinionlm.utils.shipped import shipped_root

# What `SourceNotes.details` calls the tags that were not of IOB2.
CONVERTED_TAGS = "tags converted from BIOES or BILOU"


@dataclass
class Source:
    """One file or one hub split (that has no ``file``), and what came of it."""

    name: str
    platform: str
    split: str | None
    file: FileSpec | None = None
    records: int = 0
    notes: SourceNotes = field(default_factory=SourceNotes)
    rejected: Counter[str] = field(default_factory=Counter)


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


def source_of(data: DataConfig) -> str:
    """Which source a run reads, and the rows that its publisher counts.

    Raises:
        UserError: files that are not there.
    """
    if Path(data.dataset).is_dir():
        return "a prepared folder"
    spec = load_spec(data.dataset).read_from(data.data_source)
    sources = find_sources(spec, find_data(spec, data.data_dir))
    if spec.hub is not None and all(source.file is None for source in sources):
        revision = "" if spec.hub.revision is None else f" at {spec.hub.revision}"
        place = f"hub {spec.hub.path}{revision}"
    else:
        place = f"{counted(len(sources), 'file')} in {data.data_dir}"
    facts = spec.published
    if facts is None:
        return place
    counts = (("train", facts.train), ("validation", facts.validation), ("test", facts.test))
    return f"{place}; published {', '.join(f'{name} {count:,}' for name, count in counts if count)}"


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
        return [Source(file.path, file.platform, file.split, file) for file in spec.files]
    if spec.hub is not None and len(missing) == len(spec.files):
        given = spec.hub.given_splits
        platform = spec.hub.platform
        return [Source(hub, platform, ours if ours in given else None) for ours, hub in spec.hub.splits.items()]
    fetched = all(file.url for file in spec.files if file.path in missing)
    fetch = f"fetch them: {command('get_data')} {Path(spec.source).stem}; or " if fetched else ""
    origin = f"; they are to be had from {spec.origin}" if spec.origin and not fetched else ""
    raise UserError(
        f"{spec.source}: files: {', '.join(missing)} not found in {data_dir}; {fetch}give the folder that holds them "
        f"with --data_dir, or correct `files`{origin}"
    )


def read_source(spec: DatasetSpec, source: Source, data_dir: Path) -> Iterator[Record | Reject]:
    """Every record of a source, in order."""
    if source.file is None:
        assert spec.hub is not None
        return read_hub(spec.hub, source.name, source.notes)
    path = data_dir / source.name
    if spec.task == "token" and source.name.endswith(CONLL_ENDINGS):
        return read_conll(path, source.file, source.notes)
    read = read_table if source.name.endswith(TABLES) else read_file
    return read(path, source.file, source.notes)


def require_rows(source: Source, first_problem: str, found: str = "") -> None:
    """Raise a `UserError` where a source has no records, or none that can be used."""
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
        if notes.unread_sheets:
            warnings.append(f"{source.name}: the first sheet is read; not {', '.join(notes.unread_sheets)}")
        if converted := notes.details[CONVERTED_TAGS]:
            warnings.append(f"{source.name}: {converted:,} tags of BIOES, BILOU or their kin were converted to IOB2")
        signs = (notes.undecodable_records, notes.nul_records, notes.mojibake_records)
        warnings += damage_warnings(source.name, source.records, *signs, spec.cleaning.fix_text)
    return warnings


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
