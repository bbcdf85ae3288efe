"""The first heavy part of preparing: rows stream from the sources into an Arrow file and on to be measured.

Nothing here holds all texts: in memory stay a few numbers per row (`Table`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from opinionlm.data.preparation.ledger import Table
from opinionlm.data.preparation.row_kind import Row, RowKind
from opinionlm.data.preparation.sources import (
    RejectWriter,
    Source,
    id_prefixes,
    read_source,
    require_rows,
    source_warnings,
)
from opinionlm.data.readers.records import Record, Reject
from opinionlm.data.readers.timestamps import is_date
from opinionlm.utils.progress import progress_bar

BATCH_ROWS = 1_000
BATCH_CHARACTERS = 4_000_000
PROGRESS_RECORDS = 100


class RowReader:
    """Phase 1 of the paper: all sources, record by record, into an Arrow file and a `Table`."""

    def __init__(
        self, kind: RowKind, sources: list[Source], data_dir: Path, path: Path, rejects: RejectWriter
    ) -> None:
        """Nothing is read yet.

        Args:
            kind: makes rows of records.
            sources: from `find_sources`; counts and notes are filled in.
            data_dir: where files lie.
            path: the Arrow file to write: id and the columns of the kind.
            rejects: takes the records that have no text, no valid label, or are broken.
        """
        self._kind, self._spec, self._sources, self._data_dir = kind, kind.spec, sources, data_dir
        self._path, self._rejects = path, rejects
        self._columns: tuple[array[int], ...] = tuple(array("q") for _ in range(6))
        self._groups: list[bytes] = []
        self._platforms: dict[str, int] = {}
        self._repeated_ids, self._dates = 0, 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Read everything once; yields every batch as soon as it is in the file.

        Raises:
            UserError: a source cannot be read at all, or not one of its records can be used.
        """
        schema = pa.schema([("id", pa.string()), *self._kind.schema()])
        with (
            pa.OSFile(str(self._path), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
            progress_bar(desc="reading and cleaning", unit="rows") as progress,
        ):
            for rows in _in_batches(self._rows(progress)):
                columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
                batch = pa.record_batch(columns, schema=schema)
                writer.write_batch(batch)
                yield batch

    def table(self) -> Table:
        """The numbers that belong to the rows read so far."""
        source, line, number, label, platform, times = (np.array(one, dtype=np.int64) for one in self._columns)
        time, group = times if self._spec.has_time else None, np.array(self._groups, dtype="S16")
        return Table(source, line, number, label, platform, list(self._platforms), time, group)

    def warnings(self) -> list[str]:
        """What the user should know about the files, ids and times that were read."""
        found, rows, repeated = source_warnings(self._spec, self._sources), len(self._columns[0]), self._repeated_ids
        if repeated:
            suffix = "a suffix keeps them apart (id#source-number)"
            found.append(f"{repeated:,} records have the id of an earlier one; {suffix}")
        if 0 < self._dates < rows:
            found.append(
                f"{self._dates:,} of {rows:,} times are dates without a time of day, which count as midnight, "
                "before every other row of their day"
            )
        return found

    def _rows(self, progress: tqdm) -> Iterator[dict[str, Any]]:
        """Id, columns and raw text of every usable record; its numbers go into the columns of the table."""
        prefixes = id_prefixes(self._sources)
        # Ids that we make are distinct by themselves; remembering a million of them would take 100 MB.
        makes_ids = all(source.file is not None and "id" not in source.file.columns for source in self._sources)
        seen: set[str] = set()
        for index, source in enumerate(self._sources):
            first_problem = ""
            for item in read_source(self._spec, source, self._data_dir):
                source.records += 1
                if source.records % PROGRESS_RECORDS == 0:
                    progress.update(PROGRESS_RECORDS)
                row = self._kind.parse(item, source) if isinstance(item, Record) else item
                if isinstance(row, Reject):
                    self._rejects.write(source, row.line, row.number, row.reason, row.detail, row.raw)
                    first_problem = first_problem or f"line {row.line}: {row.reason}, {row.detail}"
                    continue
                assert isinstance(item, Record)
                identity = item.fields.get("id", "").strip() or f"{prefixes[index]}-{item.number}"
                if not makes_ids:
                    if identity in seen:
                        self._repeated_ids += 1
                        identity = f"{identity}#{prefixes[index]}-{item.number}"
                    seen.add(identity)
                self._note(index, item, row)
                yield row.values | {"id": identity, "raw": item.raw}
            require_rows(source, first_problem, self._kind.undeclared())

    def _note(self, index: int, record: Record, row: Row) -> None:
        """Keep the numbers of a row of a source."""
        platform = record.fields.get("platform", self._sources[index].platform).strip()
        number = self._platforms.setdefault(platform, len(self._platforms))
        values = (index, record.line, record.number, self._kind.note(row), number, row.time)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if self._spec.split.group_by is not None:
            self._groups.append(self._kind.group(row, record))
        if self._spec.has_time:
            self._dates += is_date(record.fields["time"])


def _in_batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in batches bounded by their number and by characters."""
    batch: list[dict[str, Any]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row["raw"])
        if len(batch) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
