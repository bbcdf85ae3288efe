"""Preparing every task but sequence: read, compare, split, write, report.

Rows stream into one Arrow file, cleaned as they come; in memory stay a few numbers and digests per row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer
from tqdm import tqdm

from opinionlm.data.cleaning import text_steps
from opinionlm.data.iob2 import tag_names
from opinionlm.data.preparation.clean_rows import Cleaned
from opinionlm.data.preparation.deduplication import drop_copies, drop_leaks
from opinionlm.data.preparation.empty_splits import require_split_rows
from opinionlm.data.preparation.rows import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    RejectWriter,
    Source,
    Table,
    given_splits,
    id_prefixes,
    repeated_ids_warning,
    require_rows,
    source_warnings,
    split_numbers,
)
from opinionlm.data.preparation.split_files import SplitFiles
from opinionlm.data.preparation.splits import group_split, share_warnings, stratified_split
from opinionlm.data.preparation.task_report import TaskLedger, TaskStatistics, write_task_report
from opinionlm.data.preparation.task_rows import TaskRow, parse_pair, parse_sentence, parse_text_task, squash
from opinionlm.data.preparation.tokens import digest, load_tokenizer, row_digest, token_ids, unknown_id
from opinionlm.data.readers.conll import read_conll
from opinionlm.data.readers.hub import read_hub
from opinionlm.data.readers.records import Record, Reject, read_file
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.data.spec_checks import CONLL_ENDINGS
from opinionlm.errors import UserError


@dataclass
class TaskTable:
    """What is kept in memory of all rows, every array of shape (rows,).

    Attributes:
        table: numbers per row; its ``label`` is a number of `outcomes`.
        findings: digests and lengths of what the model reads.
        groups: equal for rows that have to stay together; blank where nothing has to.
        answers: length in tokens of the longest answer.
        outcomes: shortened texts of the outcomes.
        warnings: for the user.
    """

    table: Table
    findings: Cleaned
    groups: np.ndarray
    answers: np.ndarray
    outcomes: list[str]
    warnings: list[str]


def fill_task(
    folder: Path, spec: DatasetSpec, sources: list[Source], data_dir: Path, rejects: RejectWriter, fingerprint: str
) -> dict[str, Any]:
    """Everything between the raw files and the finished folder.

    Returns:
        What the manifest says of the data: rows, labels, tags, score_range.

    Raises:
        UserError: a source cannot be read, or no training row is left.
    """
    raw = folder / "raw.arrow"
    rows = _Reader(spec, load_tokenizer(spec.tokenizer_name_or_path)).read(sources, data_dir, raw, rejects)
    digests = rows.findings.digest
    ledger = TaskLedger(spec, sources, rows.table, rows.findings, rows.outcomes)
    ledger.warnings += rows.warnings
    given = split_numbers(sources, rows.table)
    for bit, name in enumerate(ledger.text_steps):
        ledger.note_changed(name, (rows.findings.changed >> bit) & 1)
    nobody = np.zeros(len(given), dtype=bool)
    drop_copies(ledger, digests, given, nobody, "rows", ("conflicting_answers", "duplicate"))
    if given_splits(sources):
        drop_leaks(ledger, digests, given, "copies across splits", "in_another_split")
        if spec.split.group_by is not None:
            drop_leaks(ledger, rows.groups, given, "groups across splits", "group_in_another_split")
    splits = np.where(ledger.kept, _assign_splits(ledger, rows.groups, given), -1)
    # Whether there are entities to learn comes first: files without any are no tagging data, however few their rows.
    tags = _tags_of(raw, splits, ledger) if spec.task == "token" and (splits == 0).any() else ()
    require_split_rows(ledger, splits, given)
    statistics = TaskStatistics(spec)
    counts = _write_dataset(folder, spec, ledger, splits, raw, rejects, tags, statistics)
    rejects.close()
    raw.unlink()
    write_task_report(folder, ledger, statistics.tables(splits, rows.findings.tokens, rows.answers), fingerprint)
    found: dict[str, Any] = {"rows": counts, "labels": None}
    match spec.task:
        case "token":
            found["tags"] = list(tags)
        case "similarity":
            found["score_range"] = spec.score_range
    return found


def _records(spec: DatasetSpec, source: Source, index: int, data_dir: Path) -> Iterator[Record | Reject]:
    if source.from_hub:
        assert spec.hub is not None
        return read_hub(spec.hub, source.name, source.notes)
    read = read_conll if spec.task == "token" and source.name.endswith(CONLL_ENDINGS) else read_file
    return read(data_dir / source.name, spec.files[index], source.notes)


class _Reader:
    """Streams the sources into an Arrow file: id, the task's columns, and the record as it was."""

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer) -> None:
        self._spec, self._tokenizer, self._unknown = spec, tokenizer, unknown_id(tokenizer)
        self._steps = text_steps(spec.cleaning)
        self._fillers = frozenset(map(squash, spec.empty_values))
        self._numbers: tuple[array[int], ...] = tuple(array("q") for _ in range(8))
        self._digests: list[bytes] = []
        self._groups: list[bytes] = []
        self._outcomes: dict[bytes, int] = {}
        self._outcome_names: list[str] = []

    def read(self, sources: list[Source], data_dir: Path, path: Path, rejects: RejectWriter) -> TaskTable:
        """Read everything; counts and notes of the sources are filled in."""
        spec = self._spec
        platforms: dict[str, int] = {}
        prefixes, seen = id_prefixes(sources), set()
        schema = pa.schema([("id", pa.string()), *_columns(spec, ()).arrow_schema, ("raw", pa.string())])
        batch: list[tuple[str, TaskRow, str]] = []
        characters, repeated = 0, 0
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
            tqdm(desc="reading", unit=" rows", disable=None, leave=False) as progress,
        ):
            for index, source in enumerate(sources):
                first_problem = ""
                for item in _records(spec, source, index, data_dir):
                    source.records += 1
                    progress.update()
                    row = self._parse(item, source) if isinstance(item, Record) else item
                    if isinstance(row, Reject):
                        rejects.write(source, row.line, row.number, row.reason, row.detail, row.raw)
                        first_problem = first_problem or f"line {row.line}: {row.reason}, {row.detail}"
                        continue
                    identity = item.fields.get("id", "").strip() or f"{prefixes[index]}-{item.number}"
                    if identity in seen:
                        repeated += 1
                        identity = f"{identity}#{prefixes[index]}-{item.number}"
                    seen.add(identity)
                    platform = item.fields.get("platform", source.platform).strip()
                    place = (index, item.line, item.number, platforms.setdefault(platform, len(platforms)))
                    self._note(place, row, item)
                    batch.append((identity, row, item.raw))
                    characters += len(item.raw)
                    if len(batch) == BATCH_ROWS or characters > BATCH_CHARACTERS:
                        self._flush(writer, schema, batch)
                        batch, characters = [], 0
                require_rows(source, first_problem)
            if batch:
                self._flush(writer, schema, batch)
        source_of, line, number, platform_of, label, changed, tokens, answers = (
            np.array(column, dtype=np.int64) for column in self._numbers
        )
        nothing = np.zeros(len(label), dtype=np.int8)
        digests = np.array(self._digests, dtype="S16")
        return TaskTable(
            table=Table(source_of, line, number, label, platform_of, list(platforms)),
            findings=Cleaned(digests, digests, tokens, changed, nothing, nothing.astype(bool)),
            groups=np.array(self._groups, dtype="S16"),
            answers=answers,
            outcomes=self._outcome_names,
            warnings=source_warnings(spec, sources) + repeated_ids_warning(repeated),
        )

    def _parse(self, record: Record, source: Source) -> TaskRow | Reject:
        match self._spec.task:
            case "token":
                return parse_sentence(record, source.notes)
            case "similarity":
                assert self._spec.score_range is not None
                return parse_pair(record, self._spec.score_range, self._steps)
            case "question_answering" | "summarization" | "instruction":
                return parse_text_task(record, self._fillers, self._steps, source.notes)
            case "sequence":
                raise AssertionError("task sequence has a pipeline of its own")

    def _note(self, place: tuple[int, ...], row: TaskRow, record: Record) -> None:
        """Keep the numbers of a row; its lengths and digest follow with the batch."""
        key = digest(row.outcome, None, None)
        if key not in self._outcomes:
            self._outcomes[key] = len(self._outcomes)
            self._outcome_names.append(row.outcome[:60])
        changed = sum(1 << bit for bit, (name, _) in enumerate(self._steps) if name in row.changed)
        for column, value in zip(self._numbers, (*place, self._outcomes[key], changed), strict=False):
            column.append(value)
        match self._spec.split.group_by:
            case None:
                self._groups.append(b"")
                return
            case "group":
                group = record.fields["group"]
            case column:
                group = row.values[column]
        # A row without a group is a group of its own.
        self._groups.append(row_digest(("group", group) if group.strip() else row.identity, None, None))

    def _flush(self, writer: pa.RecordBatchWriter, schema: pa.Schema, batch: list[tuple[str, TaskRow, str]]) -> None:
        """Measure, compare and write a batch."""
        rows = [row for _, row, _ in batch]
        prompts, answers = (self._ids([getattr(row, name) for row in rows]) for name in ("prompt", "answers"))
        for row, prompt, answer in zip(rows, prompts, answers, strict=True):
            self._numbers[-2].append(sum(map(len, prompt)))
            self._numbers[-1].append(max(map(len, answer), default=0))
            if self._spec.cleaning.duplicates == "tokens":
                parts = [part for part in zip(row.prompt, prompt, strict=True) if part[0]]
                texts, ids = zip(*(sorted(parts) if self._spec.task == "similarity" else parts), strict=True)
                self._digests.append(row_digest(texts, ids, self._unknown))
            else:
                self._digests.append(row_digest(row.identity, None, self._unknown))
        columns = [[identity for identity, _, _ in batch]]
        columns += [[row.values[name] for row in rows] for name in schema.names[1:-1]]
        columns += [[raw for _, _, raw in batch]]
        arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    def _ids(self, parts: list[tuple[str, ...]]) -> list[list[list[int]]]:
        """Token ids of all parts of all rows, tokenised together."""
        ids = iter(token_ids(self._tokenizer, [text for row in parts for text in row]))
        return [[next(ids) for _ in row] for row in parts]


def _columns(spec: DatasetSpec, tags: tuple[str, ...]) -> datasets.Features:
    """The task's own columns; without tag names tags are texts."""
    text = datasets.Value("string")
    match spec.task:
        case "token":
            tag = datasets.ClassLabel(names=list(tags)) if tags else text
            return datasets.Features({"tokens": datasets.List(text), "tags": datasets.List(tag)})
        case "similarity":
            return datasets.Features({"text": text, "text_pair": text, "score": datasets.Value("float64")})
        case _:
            return datasets.Features({"text": text, "context": text, "answers": datasets.List(text)})


def _assign_splits(ledger: TaskLedger, groups: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(rows,) split numbers; missing given splits are taken out of train by their share."""
    spec, splits = ledger.spec, given.copy()
    pool = np.flatnonzero(ledger.kept & (given == 0))
    missing = [split for split in SPLITS if split not in (given_splits(ledger.sources) or ("train",))]
    if not missing or not len(pool):
        return splits
    taken = [getattr(spec.split, split) for split in missing]
    shares = [1 - sum(taken), *taken]
    if spec.split.group_by is None:
        platforms = ledger.table.platform[pool]
        by_platform = "platform" in spec.split.stratify_by
        chosen, warnings = stratified_split(
            np.zeros_like(pool), platforms, shares, spec.split.seed, ("row",), False, by_platform
        )
    else:
        _, numbers = np.unique(groups[pool], return_inverse=True)
        chosen, warnings = group_split(numbers, shares, spec.split.seed)
        warnings += share_warnings(chosen, ["train", *missing], shares, "rows of one group stay together")
    splits[pool] = np.array([0, *(SPLITS.index(split) for split in missing)], dtype=np.int8)[chosen]
    ledger.warnings += warnings
    return splits


def _tags_of(raw: Path, splits: np.ndarray, ledger: TaskLedger) -> tuple[str, ...]:
    """All tags of the kept sentences; types that training never shows are warned of."""
    types: list[set[str]] = [set() for _ in SPLITS]
    start = 0
    with pa.memory_map(str(raw)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            for tags in reader.get_batch(index).column("tags").to_pylist():
                if splits[start] >= 0:
                    types[splits[start]].update(tag[2:] for tag in tags if tag != "O")
                start += 1
    if not types[0]:
        raise UserError(f"{ledger.spec.source}: no training sentence holds an entity; check `columns` and the files")
    for split, found in zip(SPLITS, types, strict=True):
        if found and (unknown := sorted(found - types[0])):
            ledger.warnings.append(f"{split} has entities of types that train has none of: {', '.join(unknown)}")
    return tag_names(set().union(*types))


def _write_dataset(
    folder: Path,
    spec: DatasetSpec,
    ledger: TaskLedger,
    splits: np.ndarray,
    raw: Path,
    rejects: RejectWriter,
    tags: tuple[str, ...],
    statistics: TaskStatistics,
) -> dict[str, int]:
    """Write the kept rows as a `DatasetDict` and the others into rejects.csv; returns the rows of each split."""
    text = datasets.Value("string")
    features = datasets.Features({"id": text} | dict(_columns(spec, tags)) | {"platform": text})
    number_of = {tag: number for number, tag in enumerate(tags)}
    platforms = np.array(ledger.table.platforms)
    start = 0
    with SplitFiles(folder, features) as files, pa.memory_map(str(raw)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index)
            places = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            for place, values in zip(places, batch.to_pylist(), strict=True):
                if splits[place] >= 0:
                    statistics.add(SPLITS[splits[place]], values)
                else:
                    ledger.write_reject(place, values["raw"], rejects)
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            if spec.task == "token":
                # Sentences that went may hold types that no other has; their numbers are never written.
                numbers = [[number_of.get(tag, 0) for tag in row] for row in columns["tags"].to_pylist()]
                columns["tags"] = pa.array(numbers, features.arrow_schema.field("tags").type)
            columns["platform"] = pa.array(platforms[ledger.table.platform[places]], pa.string())
            arrays = [columns[name] for name in features]
            files.write(pa.record_batch(arrays, schema=features.arrow_schema), splits[places])
    return files.save()
