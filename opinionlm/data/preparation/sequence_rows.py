"""Rows of task sequence: a text or two with a class; cleaned, filtered and compared before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Features, Value
from tokenizers import Tokenizer

from opinionlm.data.cleaning import is_blank
from opinionlm.data.encoding.features import feature_text
from opinionlm.data.preparation.clean_rows import QUALITY_REASONS, Cleaned, clean_rows
from opinionlm.data.preparation.declared_labels import check_declared, describe_undeclared
from opinionlm.data.preparation.deduplication import drop_copies
from opinionlm.data.preparation.label_parsing import LabelError, LabelParser, LabelUse
from opinionlm.data.preparation.ledger import Ledger, Table
from opinionlm.data.preparation.row_kind import Row, RowKind
from opinionlm.data.preparation.sources import Source
from opinionlm.data.preparation.tokens import row_digest
from opinionlm.data.readers.records import Record, Reject
from opinionlm.data.readers.timestamps import epoch_seconds
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.errors import UserError


class SequenceRows(RowKind):
    """Texts with a class, by the order of the paper's section 4."""

    evidence = "text"

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer) -> None:
        super().__init__(spec, tokenizer)
        assert spec.labels is not None
        self._taxonomy, self.names = spec.labels, list(spec.labels.leaves)
        self._label_use = LabelUse()
        self._label_parsers: dict[str, LabelParser] = {}
        self._read_beside: list[bytes] = []
        noise = spec.cleaning.noise_label
        self.noise = self.names.index(noise) if noise in self.names else None
        self._level_names = {
            level: np.array([self._taxonomy.label_at(i, level) for i in range(len(self.names))])
            for level in range(1, self._taxonomy.depth + 1)
        }

    def schema(self) -> pa.Schema:
        """The texts as they came, the features and the class."""
        names = (*self.spec.text_columns, *(feature.name for feature in self.spec.features))
        return pa.schema([*((name, pa.string()) for name in names), ("label", pa.int32())])

    def parse(self, record: Record, source: Source) -> Row | Reject:
        """The texts, the class (step 4.1) and the time of a record."""
        values: dict[str, Any] = {name: record.fields[name] for name in self.spec.text_columns}
        try:
            label = self.label(record, source)
        except LabelError as error:
            return Reject(record.line, record.number, error.code, str(error), record.raw)
        for name, text in values.items():
            if is_blank(text):
                return Reject(record.line, record.number, "empty_text", f"there is no {name}", record.raw)
        try:
            time = epoch_seconds(record.fields["time"]) if "time" in record.fields else 0
        except ValueError as error:
            return Reject(record.line, record.number, "bad_time", str(error), record.raw)
        try:
            features = {one.name: feature_text(one, record.fields[one.name], self.steps) for one in self.spec.features}
        except ValueError as error:
            return Reject(record.line, record.number, "bad_feature", str(error), record.raw)
        self._read_beside.append(row_digest(list(features.values()), None, None) if features else b"")
        return Row(values | {"label": label} | features, time=time)

    def label(self, record: Record, source: Source) -> int:
        """The class id of a record.

        Raises:
            LabelError: it has none, or several.
        """
        if "label" in record.lists:
            error = LabelError("several_labels", "label: a list of labels, and this task takes one label")
            self._label_use.note(error)
            raise error
        return self.label_parser(source)(record.fields)

    def label_parser(self, source: Source) -> LabelParser:
        """What finds the labels of the records of a source."""
        separator = "" if source.file is None else source.file.label_separator
        if separator not in self._label_parsers:
            self._label_parsers[separator] = LabelParser(self._taxonomy, self.spec.codes, separator, self._label_use)
        return self._label_parsers[separator]

    def prompt(self, values: dict[str, Any]) -> tuple[str, ...]:
        """The texts."""
        return tuple(values[name] for name in self.spec.text_columns)

    def note(self, row: Row) -> int:
        """The class id."""
        return row.values["label"]

    def undeclared(self) -> str:
        """The most frequent values that stand for no label."""
        return describe_undeclared(self.spec, self._label_use) if self._label_use.undeclared else ""

    def measure(self, batches: Iterable[pa.RecordBatch], raw: Path, processes: int) -> tuple[Cleaned, Path]:
        """Clean, measure and filter every post, in several processes where that pays."""
        spec, cleaned = self.spec, raw.with_name("cleaned.arrow")
        found = clean_rows(batches, cleaned, spec.text_columns, spec.cleaning, self.tokenizer, self.noise, processes)
        if spec.features:
            # Texts with other features are other inputs, which may well have other labels.
            raw_digest, digest = self._joined(found.raw_digest), self._joined(found.digest)
            found = replace(found, raw_digest=raw_digest, digest=digest, text_digest=found.digest)
        return found, cleaned

    def _joined(self, digests: np.ndarray) -> np.ndarray:
        """Digests of texts and of what is read beside them, as one for each row."""
        pairs = zip(digests.tolist(), self._read_beside, strict=True)
        return np.array([row_digest([one.hex(), other.hex()], None, None) for one, other in pairs], dtype="S16")

    def warnings(self, table: Table) -> list[str]:
        """Labels that are declared and absent, or the other way round."""
        return check_declared(self.spec, np.unique(table.label).tolist(), self._label_use)

    def drop(self, ledger: Ledger, given: np.ndarray) -> None:
        """Copies of raw posts, then by quality, then copies of cleaned posts."""
        findings, none = ledger.findings, np.zeros(len(given), dtype=bool)
        reasons = ("conflicting_labels_raw", "duplicate_raw")
        drop_copies(ledger, findings.raw_digest, given, none, "raw posts", reasons)
        copies = ~ledger.kept
        ledger.note_text_steps()
        dropped = (findings.reason > 0) & ~findings.becomes_noise
        for code, reason in enumerate(QUALITY_REASONS, start=1):
            ledger.relabel(reason, (findings.reason == code) & findings.becomes_noise, self.noise)
        rules = [(dropped & (findings.reason == code), reason, None) for code, reason in enumerate(QUALITY_REASONS, 1)]
        ledger.drop("quality rules", rules)
        reasons = ("conflicting_labels_cleaned", "duplicate_cleaned")
        drop_copies(ledger, findings.digest, given, copies & ~dropped, "cleaned posts", reasons)

    def check_splits(self, ledger: Ledger, splits: np.ndarray, finished: Path) -> list[str]:
        """Refuse training data of one class; warn of classes that a split lacks."""
        found = np.unique(ledger.label[splits == 0])
        if len(found) < 2:
            raise UserError(self._too_few_classes(ledger, found))
        expected, warnings = set(np.unique(ledger.table.label).tolist()), []
        for number, split in enumerate(SPLITS):
            if absent := sorted(expected - set(ledger.label[splits == number].tolist())):
                warnings.append(f"{split} has no post labelled {', '.join(self.names[i] for i in absent)}")
        return warnings

    def _too_few_classes(self, ledger: Ledger, found: np.ndarray) -> str:
        names = ", ".join(repr(self.names[i]) for i in found) or "none"
        removed = "; ".join(
            f"{step.name}: {', '.join(f'{count:,} {reason}' for reason, count in step.removed.items())}"
            for step in ledger.steps
            if step.removed
        )
        early = self.spec.split.by == "time" and len(np.unique(ledger.label[ledger.kept])) > 1
        remedy = (
            "split.by: time gives it the earliest rows, which are all alike; set split.by: random"
            if early
            else "check `codes`, `labels` and the cleaning options"
        )
        return (
            f"{self.spec.source}: the training split would hold only one class or none ({names}); a classifier "
            f"needs two. Removed so far: {removed or 'nothing'}; {remedy}"
        )

    def features(self) -> Features:
        """The texts, the class, and its name at every level of the tree."""
        text = Value("string")
        return Features(
            dict.fromkeys(self.spec.text_columns, text)
            | {"label": ClassLabel(names=self.names)}
            | {f"level{level}": text for level in self._level_names}
        )

    def columns(self, finished: pa.RecordBatch, numbers: np.ndarray) -> list[pa.Array]:
        """The cleaned texts, and the class as it was relabelled."""
        levels = [pa.array(names[numbers], pa.string()) for names in self._level_names.values()]
        return [*finished.columns, pa.array(numbers, pa.int64()), *levels]

    def count(self, finished: pa.RecordBatch, splits: np.ndarray) -> None:
        """Nothing: `statistics` counts classes from the ledger, without a look at the texts."""

    def count_row(self, split: str, values: dict[str, Any]) -> None:
        """Nothing; see `count`."""

    def statistics(self, ledger: Ledger, splits: np.ndarray) -> dict[str, Any]:
        """Platform → split → level → label → posts; the platform ``all`` sums up."""
        taxonomy, table = self._taxonomy, ledger.table
        masks = {name or "all": table.platform == index for index, name in enumerate(table.platforms)}
        counts: dict[str, Any] = {}
        for platform, mask in (masks | {"all": np.ones_like(ledger.kept)}).items():
            counts[platform] = {}
            for number, split in enumerate(SPLITS):
                leaves = np.bincount(ledger.label[mask & (splits == number)], minlength=len(self.names))
                levels = {"label": dict(zip(self.names, leaves.tolist(), strict=True))}
                for level in self._level_names:
                    names, places = taxonomy.level_labels(level), np.array(taxonomy.leaf_to_level(level))
                    levels[f"level{level}"] = {n: int(leaves[places == i].sum()) for i, n in enumerate(names)}
                counts[platform][split] = levels
        return {"classes": counts}

    def manifest(self) -> dict[str, Any]:
        """The label tree."""
        return {"labels": self._taxonomy.to_tree()}
