"""What rows are: the one object that knows what differs between tasks while data are prepared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features
from tokenizers import Tokenizer

from opinionlm.data.cleaning import text_steps
from opinionlm.data.preparation.clean_rows import Cleaned
from opinionlm.data.preparation.deduplication import drop_copies
from opinionlm.data.preparation.ledger import Ledger, Table
from opinionlm.data.preparation.report import LENGTHS, Statistics, token_statistics
from opinionlm.data.preparation.sources import Source
from opinionlm.data.preparation.tokens import digest, row_digest, token_ids, unknown_id
from opinionlm.data.readers.records import Record, Reject
from opinionlm.data.spec import SPLITS, DatasetSpec

OUTCOME_CHARACTERS = 60


@dataclass(slots=True)
class Row:
    """A parsed record.

    Attributes:
        values: its canonical columns without id and platform.
        outcome: what copies have to agree in; blank where they cannot contradict each other, or where a label says it.
        changed: names of the cleaning steps that changed it.
        time: seconds since 1970 in UTC; 0 for a record without a time.
    """

    values: dict[str, Any]
    outcome: str = ""
    changed: frozenset[str] = frozenset()
    time: int = 0


class RowKind(ABC):
    """How records of one data set become rows, and what is compared, counted and written of them.

    What stands here suits rows that are clean once they are parsed, whose outcomes are numbered in the order of
    reading. Task sequence has classes instead, and cleans and filters its rows afterwards.

    Attributes:
        names: of the outcomes, or of the classes.
        evidence: the column of the rows as read that rejects.csv shows.
    """

    evidence = "raw"

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer) -> None:
        """Nothing is read yet; the tokenizer is for lengths and for comparing rows."""
        self.spec, self.tokenizer, self.steps = spec, tokenizer, text_steps(spec.cleaning)
        self.names: list[str] = []
        self._outcomes: dict[bytes, int] = {}
        self._changed, self._answer_tokens = array("q"), array("q")
        self._counts: dict[str, Counter[tuple[str, str]]] = {}

    @abstractmethod
    def parse(self, record: Record, source: Source) -> Row | Reject:
        """Make a row of a record, or say why it is none."""

    @abstractmethod
    def prompt(self, values: dict[str, Any]) -> tuple[str, ...]:
        """What the model reads of a row's columns, for lengths in tokens."""

    @abstractmethod
    def features(self) -> Features:
        """Own columns of a finished row."""

    @abstractmethod
    def count_row(self, split: str, values: dict[str, Any]) -> None:
        """Count a row that is kept by its columns as read."""

    def identity(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Rows with equal identities are copies of each other."""
        return self.prompt(values)

    def schema(self) -> pa.Schema:
        """Own columns of a row as read."""
        return pa.schema([*self.features().arrow_schema, ("raw", pa.string())])

    def note(self, row: Row) -> int:
        """Note the outcome of a row and the steps that changed it; returns the outcome as an index into `names`."""
        key = digest(row.outcome, None, None)
        if key not in self._outcomes:
            self._outcomes[key] = len(self._outcomes)
            self.names.append(row.outcome[:OUTCOME_CHARACTERS])
        self._changed.append(sum(1 << bit for bit, (name, _) in enumerate(self.steps) if name in row.changed))
        return self._outcomes[key]

    def group(self, row: Row, record: Record) -> bytes:
        """Equal for rows that agree in the column that the YAML names; a row without a group is one of its own."""
        column = str(self.spec.split.group_by)
        group = record.fields["group"] if column == "group" else row.values[column]
        return row_digest(("group", group) if group.strip() else self.identity(row.values), None, None)

    def strata(self, ledger: Ledger) -> tuple[np.ndarray, Sequence[str]]:
        """(rows,) what the shares of the splits hold within, as numbers, and what these stand for."""
        return ledger.label, ledger.names

    def undeclared(self) -> str:
        """Which values stand where labels are expected; blank where there are none."""
        return ""

    def measure(self, batches: Iterable[pa.RecordBatch], raw: Path, processes: int) -> tuple[Cleaned, Path]:
        """Measure all rows and clean what is not clean yet.

        Args:
            batches: of the rows as read; reading goes on while other processes work.
            raw: the Arrow file that they are written to.
            processes: at most so many.

        Returns:
            The findings, and the Arrow file with the finished columns, batch for batch.
        """
        by_tokens, unknown = self.spec.cleaning.duplicates == "tokens", unknown_id(self.tokenizer)
        digests: list[bytes] = []
        tokens = array("q")
        for batch in batches:
            rows = batch.to_pylist()
            prompts, answers = [self.prompt(row) for row in rows], [row.get("answers", ()) for row in rows]
            prompt_ids, answer_ids = self._ids(prompts), self._ids(answers)
            for row, prompt, ids, answer in zip(rows, prompts, prompt_ids, answer_ids, strict=True):
                tokens.append(sum(map(len, ids)))
                self._answer_tokens.append(max(map(len, answer), default=0))
                if by_tokens:
                    texts, parts = zip(*self.compared(prompt, ids), strict=True)
                    digests.append(row_digest(texts, parts, unknown))
                else:
                    digests.append(row_digest(self.identity(row), None, unknown))
        found, nothing = np.array(digests, dtype="S16"), np.zeros(len(digests), dtype=np.int8)
        lengths, changed = (np.array(column, dtype=np.int64) for column in (tokens, self._changed))
        return Cleaned(found, found, lengths, changed, nothing, nothing.astype(bool)), raw

    def _ids(self, parts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Token ids of all parts of all rows, tokenised together."""
        ids = iter(token_ids(self.tokenizer, [text for row in parts for text in row]))
        return [[next(ids) for _ in row] for row in parts]

    def compared(self, prompt: tuple[str, ...], ids: list[list[int]]) -> list[tuple[str, list[int]]]:
        """The texts that are not blank, with their tokens, as copies are found by tokens."""
        return [part for part in zip(prompt, ids, strict=True) if part[0]]

    def warnings(self, table: Table) -> list[str]:
        """What the user should know about the labels that were read."""
        return []

    def drop(self, ledger: Ledger, given: np.ndarray) -> None:
        """Drop copies and what else cannot stay, within the splits that rows come with: (rows,) numbers."""
        ledger.note_text_steps()
        none = np.zeros(len(given), dtype=bool)
        reasons = ("conflicting_answers", "duplicate")
        drop_copies(ledger, ledger.findings.digest, given, none, "rows", reasons)

    def check_splits(self, ledger: Ledger, splits: np.ndarray, finished: Path) -> list[str]:
        """Warnings about splits ``(rows,)``, -1 for rows that went; `UserError` where nothing could be learned."""
        return []

    def columns(self, finished: pa.RecordBatch, numbers: np.ndarray) -> list[pa.Array]:
        """The arrays of `features` of a finished batch, whose rows have these classes or outcomes."""
        return [finished.column(name) for name in self.features()]

    def count(self, finished: pa.RecordBatch, splits: np.ndarray) -> None:
        """Count a finished batch for the report; -1 stands for rows that went."""
        for number, values in zip(splits, finished.to_pylist(), strict=True):
            if number >= 0:
                self.count_row(SPLITS[number], values)

    def add(self, title: str, name: str, split: str, number: int = 1) -> None:
        """Add to a number of a table of the report."""
        self._counts.setdefault(title, Counter())[name, split] += number

    def statistics(self, ledger: Ledger, splits: np.ndarray) -> dict[str, Any]:
        """What the report says of the rows of this task."""
        tables = self.tables()
        tables["tokens read"] = _lengths(splits, ledger.findings.tokens)
        answers = np.array(self._answer_tokens, dtype=np.int64)
        if answers.any():
            tables["tokens of the longest answer"] = _lengths(splits, answers)
        details = {source.name: dict(source.notes.details) for source in ledger.sources}
        return {"task": self.spec.task, "statistics": tables, "details": details}

    def tables(self) -> Statistics:
        """The tables of what was added."""
        return {
            title: {name: {split: counts[name, split] for split in SPLITS} for name, _ in counts}
            for title, counts in self._counts.items()
        }

    def manifest(self) -> dict[str, Any]:
        """What the manifest says of the labels, tags or scores."""
        return {"labels": None}


def _lengths(splits: np.ndarray, tokens: np.ndarray) -> dict[str, dict[str, float]]:
    """Statistic → split → number; a split without rows has zeros."""
    parts = {split: tokens[splits == number] for number, split in enumerate(SPLITS)}
    found = {split: token_statistics(values) if len(values) else {} for split, values in parts.items()}
    return {name: {split: found[split].get(name, 0) for split in SPLITS} for name in LENGTHS}
