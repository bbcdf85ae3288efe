"""The three splits of a prepared data set, written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from opinionlm.data.readers.hub import no_progress_bars
from opinionlm.data.spec import SPLITS

if TYPE_CHECKING:
    from datasets import Features


class SplitFiles:
    """One Arrow stream per split while writing, a `DatasetDict` in the folder after `save`."""

    def __init__(self, folder: Path, features: Features) -> None:
        """Args: the folder to write and the columns."""
        self._folder, self._features = folder, features
        self._paths = {split: folder / f"{split}.arrow" for split in SPLITS}
        self._open = ExitStack()
        self._writers: list[pa.RecordBatchWriter] = []

    def __enter__(self) -> SplitFiles:
        for path in self._paths.values():
            sink = self._open.enter_context(pa.OSFile(str(path), "wb"))
            self._writers.append(self._open.enter_context(pa.ipc.new_stream(sink, self._features.arrow_schema)))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, batch: pa.RecordBatch, splits: np.ndarray) -> None:
        """Append rows: (rows,) split numbers, -1 for rows that are in none."""
        for number, writer in enumerate(self._writers):
            writer.write_batch(batch.filter(pa.array(splits == number)))

    def save(self) -> dict[str, int]:
        """Turn the closed streams into a `DatasetDict` on disk; returns the rows of each split."""
        from datasets import Dataset, DatasetDict

        with no_progress_bars():
            data = DatasetDict({split: Dataset.from_file(str(path)) for split, path in self._paths.items()})
            counts = {split: len(data[split]) for split in SPLITS}
            # datasets writes an empty split as no file at all and then cannot read it; one empty file it can.
            data.save_to_disk(str(self._folder), num_shards={s: None if count else 1 for s, count in counts.items()})
        del data
        for path in self._paths.values():
            path.unlink()
        return counts


def stored_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file, one after the other, memory-mapped."""
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        for index in range(file.num_record_batches):
            yield file.get_batch(index)
