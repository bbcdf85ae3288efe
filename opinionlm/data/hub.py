"""Records of a hub data set, in the same form as those of files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from opinionlm.data.json_values import json_fields, top_level
from opinionlm.data.sources import Record, Reject, SourceNotes
from opinionlm.data.spec import HubSpec
from opinionlm.errors import UserError


def read_hub(spec: HubSpec, split: str, notes: SourceNotes) -> Iterator[Record | Reject]:
    """Yield every record of one split of a hub data set; numbers stand in for lines.

    Args:
        spec: the data set.
        split: the hub's own name of the split.
        notes: filled as a side effect.

    Raises:
        UserError: the data set cannot be loaded, or lacks a column.
    """
    import datasets

    try:
        with no_progress_bars():
            data = datasets.load_dataset(spec.path, spec.config, revision=spec.revision, split=split)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"hub data set {spec.path!r}, split {split!r}: {reason}; check the name and the network"
        ) from None
    expected = list(dict.fromkeys(top_level(spec.columns, data.column_names).values()))
    if missing := [column for column in expected if column not in data.column_names]:
        raise UserError(
            f"hub data set {spec.path!r}: missing columns {', '.join(missing)}; expected {', '.join(expected)}; found "
            f"{', '.join(data.column_names)}; correct `hub.columns` in the dataset YAML"
        )
    notes.dropped_columns = [column for column in data.column_names if column not in expected]
    # A ClassLabel stores numbers; its names are what the label tree is written in, and tags come as lists of them.
    names = {c: f for c, f in data.features.items() if c in expected and isinstance(f, datasets.ClassLabel)}
    lists = {c: f.feature for c, f in data.features.items() if isinstance(f, datasets.List)}
    lists = {c: item for c, item in lists.items() if c in expected and isinstance(item, datasets.ClassLabel)}
    for number, row in enumerate(data.select_columns(expected), start=1):
        row |= {column: feature.int2str(row[column]) for column, feature in names.items() if (row[column] or 0) >= 0}
        row |= {column: [item.int2str(tag) for tag in row[column] or ()] for column, item in lists.items()}
        fields, texts, problem, detail = json_fields(row, spec.columns)
        raw = json.dumps(row, ensure_ascii=False, default=str)
        yield Reject(number, number, problem, detail, raw) if problem else Record(number, number, fields, raw, texts)


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
