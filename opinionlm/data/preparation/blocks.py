"""What `pipeline.prepare` does before it splits, block by block, for engines that spread blocks over machines.

A block is a `pyarrow.Table`. One worker reads a file, any worker cleans any block, and copies go where all rows of a
bucket are together: equal rows are in the same bucket. Reports, ``rejects.csv``, splits, and whatever compares rows
that are not equal stay with `pipeline.prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from opinionlm.data.preparation.clean_rows import BatchCleaner
from opinionlm.data.preparation.deduplication import KEPT, resolve_copies
from opinionlm.data.preparation.row_kind import Row
from opinionlm.data.preparation.sequence_rows import SequenceRows
from opinionlm.data.preparation.sources import find_data, find_sources, given_splits, id_prefixes, read_source
from opinionlm.data.preparation.tokens import load_tokenizer
from opinionlm.data.readers.records import Record
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError

BLOCK_ROWS = 1_000


class BlockPreparation:
    """The steps, in this order: `read`, `clean`, `drop_raw_copies`, `drop_copies`.

    Args:
        dataset: YAML of a data set of task sequence whose labels are declared and whose files are no splits, without
            times and features.
        data_dir: where its files lie, the same on all machines.

    Attributes:
        files: numbers of its files.

    Raises:
        UserError: another data set, or its files are not there.
    """

    def __init__(self, dataset: str | Path, data_dir: str | Path = "data") -> None:
        self._spec = spec = load_spec(dataset)
        self._data_dir = find_data(spec, data_dir)
        self._sources = find_sources(spec, self._data_dir)
        simple = spec.task == "sequence" and spec.labels is not None and not (spec.features or spec.has_time)
        if not simple or given_splits(self._sources):
            raise UserError(
                f"{spec.source}: only data sets of task sequence with `labels`, without `features`, times and given "
                "splits can be prepared block by block; use preprocess.py"
            )
        tokenizer = load_tokenizer(spec.tokenizer_name_or_path)
        self._kind = SequenceRows(spec, tokenizer)
        self._cleaner = BatchCleaner(spec.text_columns, spec.cleaning, tokenizer, self._kind.noise)
        self.files = range(len(self._sources))

    def read(self, file: int) -> Iterator[pa.Table]:
        """The usable records of a file, in order; ids that stand in it twice are not told apart.

        Raises:
            UserError: the file cannot be read.
        """
        source, prefix = self._sources[file], id_prefixes(self._sources)[file]
        rows: list[dict[str, Any]] = []
        schema = pa.schema(
            [("file", pa.int64()), ("record", pa.int64()), ("id", pa.string()), ("platform", pa.string())]
            + list(self._kind.schema())
        )
        for record in read_source(self._spec, source, self._data_dir):
            row = self._kind.parse(record, source) if isinstance(record, Record) else record
            if isinstance(record, Record) and isinstance(row, Row):
                identity = record.fields.get("id", "").strip() or f"{prefix}-{record.number}"
                platform = record.fields.get("platform", source.platform).strip()
                place = {"file": file, "record": record.number, "id": identity, "platform": platform}
                rows.append(place | row.values)
            if len(rows) == BLOCK_ROWS:
                yield pa.Table.from_pylist(rows, schema)
                rows = []
        if rows:
            yield pa.Table.from_pylist(rows, schema)

    def clean(self, block: pa.Table) -> pa.Table:
        """Clean the texts of a block; what a quality rule drops stays until `drop_raw_copies`, as its copies' witness.

        Returns:
            The block with digests of its rows before and after cleaning, and a bucket (0 to 255) for either.
        """
        texts, found = self._cleaner.clean(block)
        label, noise = block["label"].to_numpy(), self._kind.noise
        if noise is not None:
            label = np.where(found.becomes_noise, noise, label)
        columns = {name: block[name] for name in ("file", "record", "id", "platform")}
        columns |= {name: texts.column(name) for name in texts.schema.names}
        columns["raw_label"] = block["label"]
        columns["label"] = pa.array(label, pa.int32())
        columns["dropped"] = pa.array((found.reason > 0) & ~found.becomes_noise)
        for name, digests in (("raw_", found.raw_digest), ("", found.digest)):
            columns[f"{name}digest"] = pa.array([one.hex() for one in digests.tolist()])
            columns[f"{name}bucket"] = pa.array([one[0] for one in digests.tolist()], pa.int64())
        return pa.table(columns)

    def drop_raw_copies(self, bucket: pa.Table) -> pa.Table:
        """Mark copies and contradictions among the raw posts of a ``raw_bucket``, and drop what quality rules drop."""
        bucket = bucket.sort_by([("file", "ascending"), ("record", "ascending")])
        stays = self._stays(bucket, "raw_", np.ones(bucket.num_rows, dtype=bool))
        return bucket.append_column("kept", pa.array(stays)).filter(pa.compute.invert(bucket["dropped"]))

    def drop_copies(self, bucket: pa.Table) -> pa.Table:
        """Drop copies and contradictions among the cleaned posts of a ``bucket``; raw copies that went bear witness.

        Returns:
            The rows that stay, with the columns of a prepared data set.
        """
        bucket = bucket.sort_by([("file", "ascending"), ("record", "ascending")])
        kept = bucket["kept"].to_numpy()
        bucket = bucket.filter(pa.array(self._stays(bucket, "", kept) & kept))
        columns = self._kind.columns(bucket.select(self._spec.text_columns), bucket["label"].to_numpy())
        names = ["id", *self._kind.features(), "platform"]
        return pa.table([bucket["id"], *columns, bucket["platform"]], names)

    def _stays(self, bucket: pa.Table, which: str, present: np.ndarray) -> np.ndarray:
        """(rows,) which rows of a bucket, sorted by their places, are neither copies nor contradictions."""
        digests = np.array(bucket[f"{which}digest"].to_pylist(), dtype="S32")
        cleaning, labels = self._spec.cleaning, bucket[f"{which}label"].to_numpy()
        return resolve_copies(digests, labels, present, cleaning.duplicates, cleaning.conflicts)[0] == KEPT
