"""Rows of task multi_label: a text or two with any number of leaves of a label tree; cleaned and compared as classes.

While rows are prepared, a set of labels is one outcome with a number: copies contradict each other when their sets
differ. The prepared data set holds the sets themselves.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Features, List, Value
from tokenizers import Tokenizer

from opinionlm.data.preparation.declared_labels import check_declared
from opinionlm.data.preparation.label_parsing import LabelError
from opinionlm.data.preparation.ledger import Ledger, Table
from opinionlm.data.preparation.report import Statistics
from opinionlm.data.preparation.row_kind import Row
from opinionlm.data.preparation.sequence_rows import SequenceRows
from opinionlm.data.preparation.sources import Source
from opinionlm.data.readers.json_values import NotTextError, load_row, value_text
from opinionlm.data.readers.records import Record
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.errors import UserError

NO_LABEL = "no label"


class MultiLabelRows(SequenceRows):
    """Texts with a set of labels each, which may be empty."""

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer) -> None:
        super().__init__(spec, tokenizer)
        # The outcomes are sets of labels, named as they are found; no post becomes noise.
        self._leaves, self.names, self.noise = tuple(self.names), [], None
        self._sets: dict[tuple[int, ...], int] = {}

    def label(self, record: Record, source: Source) -> int:
        """The number of a record's set of labels.

        Raises:
            LabelError: a label is unknown, there twice or blank, or stops above a leaf of the tree.
        """
        separator = "" if source.file is None else source.file.label_separator
        values = record.lists["label"] if "label" in record.lists else label_list(record.fields["label"], separator)
        leaves = self.label_parser(source).several(values)
        if leaves not in self._sets:
            self._sets[leaves] = len(self._sets)
            self.names.append(", ".join(self._leaves[leaf] for leaf in leaves) or NO_LABEL)
        return self._sets[leaves]

    def note(self, row: Row) -> int:
        """The number of the set."""
        return row.values["label"]

    def members(self, numbers: np.ndarray) -> np.ndarray:
        """Which labels rows have whose sets have these numbers: bool ``(rows, leaves)``."""
        sets = np.zeros((len(self._sets), len(self._leaves)), dtype=bool)
        for leaves, number in self._sets.items():
            sets[number, list(leaves)] = True
        return sets[numbers]

    def warnings(self, table: Table) -> list[str]:
        """Labels that are declared and absent, or the other way round."""
        present = np.flatnonzero(self.members(np.unique(table.label)).any(axis=0))
        return check_declared(self.spec, present.tolist(), self._label_use)

    def strata(self, ledger: Ledger) -> tuple[np.ndarray, list[str]]:
        """The rarest label of every row; behind the labels stands one more for rows without any."""
        members = self.members(ledger.label)
        counts = members[ledger.kept].sum(axis=0)
        rarest = np.where(members, counts, len(members) + 1).argmin(axis=1)
        return np.where(members.any(axis=1), rarest, len(self._leaves)), [*self._leaves, NO_LABEL]

    def check_splits(self, ledger: Ledger, splits: np.ndarray, finished: Path) -> list[str]:
        """Refuse training data with fewer than two labels; warn of labels that a split lacks."""
        expected, warnings = self.members(ledger.table.label).any(axis=0), []
        for number, split in enumerate(SPLITS):
            found = self.members(ledger.label[splits == number]).any(axis=0)
            if number == 0 and found.sum() < 2:
                names = ", ".join(self._leaves[i] for i in np.flatnonzero(found)) or "none"
                counts = sum((source.rejected for source in ledger.sources), Counter[str]())
                rejected = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common()) or "nothing"
                raise UserError(
                    f"{self.spec.source}: the training split would hold only one label or none ({names}); a "
                    f"classifier needs two. Rejected so far: {rejected}; check `codes`, `labels`, `label_separator` "
                    "and the cleaning options"
                )
            if absent := [self._leaves[i] for i in np.flatnonzero(expected & ~found)]:
                warnings.append(f"{split} has no post labelled {', '.join(absent)}")
        return warnings

    def features(self) -> Features:
        """The texts, their labels, and the names of these at every level of the tree."""
        return Features(
            dict.fromkeys(self.spec.text_columns, Value("string"))
            | {"labels": List(ClassLabel(names=list(self._leaves)))}
            | {f"level{level}": List(Value("string")) for level in self._level_names}
        )

    def columns(self, finished: pa.RecordBatch, numbers: np.ndarray) -> list[pa.Array]:
        """The cleaned texts, and the sets; a level has the name of every ancestor once."""
        schema = self.features().arrow_schema
        leaves = [np.flatnonzero(row) for row in self.members(numbers)]
        levels = [
            [list(dict.fromkeys(name for name in names[row] if name)) for row in leaves]
            for names in self._level_names.values()
        ]
        arrays = [pa.array(leaves, schema.field("labels").type)]
        arrays += [pa.array(rows, schema.field(f"level{n}").type) for n, rows in enumerate(levels, start=1)]
        return [*finished.columns, *arrays]

    def statistics(self, ledger: Ledger, splits: np.ndarray) -> dict[str, Any]:
        """Posts by their number of labels, and by label at every level of the tree."""
        parts = {split: self.members(ledger.label[splits == number]) for number, split in enumerate(SPLITS)}
        sizes = {split: part.sum(axis=1) for split, part in parts.items()}
        most = max(int(size.max(initial=0)) for size in sizes.values())
        tables: Statistics = {
            "posts by number of labels": {
                str(number): {split: int((size == number).sum()) for split, size in sizes.items()}
                for number in range(most + 1)
            },
            "labels": {
                name: {split: int(part[:, leaf].sum()) for split, part in parts.items()}
                for leaf, name in enumerate(self._leaves)
            },
        }
        for level in range(1, self._taxonomy.depth):
            places = np.array(self._taxonomy.leaf_to_level(level))
            tables[f"level {level}"] = {
                name: {split: int(part[:, places == place].any(axis=1).sum()) for split, part in parts.items()}
                for place, name in enumerate(self._taxonomy.level_labels(level))
            }
        details = {source.name: dict(source.notes.details) for source in ledger.sources}
        return {"task": self.spec.task, "statistics": tables, "details": details}


def label_list(written: str, separator: str) -> list[str]:
    """The labels of a field: a JSON list where it opens a bracket, else what the separator cuts it into.

    Args:
        written: the field.
        separator: of labels; blank for a field that holds one label.

    Raises:
        LabelError: it is blank, or its brackets hold no list of names.
    """
    written = written.strip()
    if written.startswith("["):
        try:
            found = load_row(written)
            if not isinstance(found, list):
                raise ValueError
            return [value_text(item, is_name=True) for item in found]
        except (ValueError, NotTextError, RecursionError, json.JSONDecodeError):
            raise LabelError("bad_label_list", f"label: {written[:80]!r} is no JSON list of names") from None
    if not written:
        raise LabelError("missing_label", "label is blank; [] stands for a text without labels")
    return written.split(separator) if separator else [written]
