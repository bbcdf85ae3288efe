"""Splits written batch by batch: every row where its number says, empty splits too."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from datasets import Features, Value, load_from_disk

from opinionlm.data.preparation.split_files import SplitFiles

FEATURES = Features({"id": Value("string"), "label": Value("int64")})


def batch(*ids: str) -> pa.RecordBatch:
    return pa.record_batch([list(ids), [ord(name) for name in ids]], schema=FEATURES.arrow_schema)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 1, 2], [2, 0], {"train": ["a", "e"], "validation": ["b"], "test": ["c", "d"]}),
        # -1 is in no split; a split without rows is there all the same.
        ([-1, 2, -1], [2, 2], {"train": [], "validation": [], "test": ["b", "d", "e"]}),
        ([0, 0, 0], [0, -1], {"train": ["a", "b", "c", "d"], "validation": [], "test": []}),
    ],
)
def test_rows_go_where_their_number_says(first: list[int], second: list[int], expected: dict, tmp_path) -> None:
    with SplitFiles(tmp_path, FEATURES) as files:
        files.write(batch("a", "b", "c"), np.array(first, dtype=np.int8))
        files.write(batch("d", "e"), np.array(second, dtype=np.int8))
    assert files.save() == {name: len(ids) for name, ids in expected.items()}
    data = load_from_disk(str(tmp_path))
    assert {name: list(split["id"]) for name, split in data.items()} == expected
    assert all(split.features == FEATURES for split in data.values())
    assert all(list(split["label"]) == [ord(name) for name in split["id"]] for split in data.values())
    # One file per split, the empty ones included, and nothing else is left behind.
    for name in expected:
        assert [path.name for path in (tmp_path / name).glob("*.arrow")] == ["data-00000-of-00001.arrow"]
    assert not list(tmp_path.glob("*.arrow"))
