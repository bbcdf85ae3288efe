"""The heavy part of preparing: posts stream from the sources into an Arrow file, and batches of it through workers.

Nothing here holds all texts. In memory stay a few numbers per post (`Table`); texts lie in two memory-mapped files of
the same batches, and the batches do not depend on the number of processes, so the result does not either.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer
from tqdm import tqdm

from opinionlm import WITHOUT_MODELS
from opinionlm.data.cleaning import Cleaning, Step, clean_text, judge, text_steps
from opinionlm.data.hub import read_hub
from opinionlm.data.labelling import LabelError, Labeller
from opinionlm.data.sources import Record, Reject, SourceNotes, read_file
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.data.tokens import row_digest, unknown_id
from opinionlm.data.word_cache import WordCache
from opinionlm.errors import UserError

BATCH_ROWS = 1_000
BATCH_CHARACTERS = 4_000_000
# Starting a process costs about as much as cleaning this many posts.
ROWS_PER_PROCESS = 5_000

READER_REASONS = (
    "bad_quoting",
    "too_many_fields",
    "too_few_fields",
    "oversized_record",
    "invalid_json",
    "missing_field",
    "not_text",
)
LABEL_REASONS = ("missing_label", "unknown_code", "several_labels", "incomplete_label", "contradictory_label")
NULL_REASONS = ("empty_text",)
QUALITY_REASONS = ("empty_after_cleaning", "no_letters", "repeated_pattern", "gibberish", "too_short", "too_long")


@dataclass
class Source:
    """One file or one hub split, and what came of it."""

    name: str
    platform: str
    split: str | None
    from_hub: bool = False
    records: int = 0
    notes: SourceNotes = field(default_factory=SourceNotes)
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass
class Table:
    """Numbers per readable post, of shape (rows,), in the order of the sources; `platform` indexes `platforms`."""

    source: np.ndarray
    line: np.ndarray
    number: np.ndarray
    label: np.ndarray
    platform: np.ndarray
    platforms: list[str]


@dataclass
class Cleaned:
    """What the workers found, all of shape (rows,).

    Attributes:
        raw_digest: equal for equal raw posts.
        digest: equal for equal cleaned posts.
        tokens: length of the cleaned post.
        changed: bit `i` says that text step `i` changed the post.
        reason: index into `QUALITY_REASONS` plus one; 0 where nothing is wrong.
        becomes_noise: the reason relabels the post instead of dropping it.
    """

    raw_digest: np.ndarray
    digest: np.ndarray
    tokens: np.ndarray
    changed: np.ndarray
    reason: np.ndarray
    becomes_noise: np.ndarray


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


def find_sources(spec: DatasetSpec, data_dir: Path) -> list[Source]:
    """The sources to read: the files if they are there, else the hub data set.

    Raises:
        UserError: files are missing and there is no hub data set, or only some of the files are there.
    """
    missing = [file.path for file in spec.files if not (data_dir / file.path).is_file()]
    if spec.files and not missing:
        return [Source(file.path, file.platform, file.split) for file in spec.files]
    if spec.hub is not None and len(missing) == len(spec.files):
        given = spec.hub.given_splits
        platform = spec.hub.platform
        return [Source(hub, platform, ours if ours in given else None, True) for ours, hub in spec.hub.splits.items()]
    raise UserError(
        f"{spec.source}: files: {', '.join(missing)} not found in {data_dir}; give the folder that holds them with "
        "--data_dir, or correct `files`"
    )


def read_rows(spec: DatasetSpec, sources: list[Source], data_dir: Path, path: Path, rejects: RejectWriter) -> Table:
    """Stream all sources into an Arrow file (phase 1 of the paper; labels by step 4.1).

    Args:
        spec: the data set.
        sources: from `find_sources`; counts and notes are filled in.
        data_dir: where files lie.
        path: the Arrow file to write: id, the spec's text columns, label.
        rejects: takes the records that have no text, no valid label, or are broken.

    Returns:
        The numbers that belong to the rows of the file.

    Raises:
        UserError: a source cannot be read at all, or not one of its records can be used.
    """
    columns: tuple[array[int], ...] = tuple(array("q") for _ in range(5))
    platforms: dict[str, int] = {}
    prefixes = id_prefixes(sources)
    # Ids that we make are distinct by themselves; remembering a million of them would take 100 MB.
    makes_ids = all("id" not in file.columns for file in spec.files) and not any(s.from_hub for s in sources)
    seen: set[str] = set()
    names = spec.text_columns
    schema = pa.schema([*((name, pa.string()) for name in ("id", *names)), ("label", pa.int32())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        batch: list[list[Any]] = [[] for _ in schema]
        characters = 0
        progress = tqdm(desc="reading", unit=" posts", disable=None, leave=False)
        for index, source in enumerate(sources):
            first_problem = ""
            separator = "" if source.from_hub else spec.files[index].label_separator
            labeller = Labeller(spec.labels, spec.codes, separator)
            for item in _records(spec, source, index, data_dir):
                source.records += 1
                progress.update()
                row = _labelled(item, labeller, names) if isinstance(item, Record) else item
                if isinstance(row, Reject):
                    rejects.write(source, row.line, row.number, row.reason, row.detail, row.raw)
                    first_problem = first_problem or f"line {row.line}: {row.reason}, {row.detail}"
                    continue
                texts, label = row
                identity = item.fields.get("id", "").strip() or f"{prefixes[index]}-{item.number}"
                if identity in seen:
                    identity = f"{identity}#{prefixes[index]}-{item.number}"
                if not makes_ids:
                    seen.add(identity)
                platform = platforms.setdefault(item.fields.get("platform", source.platform).strip(), len(platforms))
                for column, value in zip(columns, (index, item.line, item.number, label, platform), strict=True):
                    column.append(value)
                for values, value in zip(batch, (identity, *texts, label), strict=True):
                    values.append(value)
                characters += sum(map(len, texts))
                if len(batch[0]) == BATCH_ROWS or characters > BATCH_CHARACTERS:
                    writer.write_batch(pa.record_batch(batch, schema=schema))
                    batch, characters = [[] for _ in schema], 0
            require_rows(source, first_problem)
        progress.close()
        if batch[0]:
            writer.write_batch(pa.record_batch(batch, schema=schema))
    return Table(*(np.array(column, dtype=np.int64) for column in columns), list(platforms))


def _records(spec: DatasetSpec, source: Source, index: int, data_dir: Path) -> Iterator[Record | Reject]:
    if not source.from_hub:
        return read_file(data_dir / source.name, spec.files[index], source.notes)
    assert spec.hub is not None
    return read_hub(spec.hub, source.name, source.notes)


def _labelled(record: Record, labeller: Labeller, names: tuple[str, ...]) -> tuple[list[str], int] | Reject:
    """The texts and class of a record."""
    texts = [record.fields[name] for name in names]
    try:
        label = labeller(record.fields)
    except LabelError as error:
        return Reject(record.line, record.number, error.code, str(error), record.raw)
    for name, text in zip(names, texts, strict=True):
        if is_blank(text):
            return Reject(record.line, record.number, "empty_text", f"there is no {name}", record.raw)
    return texts, label


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return not text.strip("\0\ufeff \t\r\n\v\f\u00a0\u200b")


def require_rows(source: Source, first_problem: str) -> None:
    """Raise a `UserError` where a source has no records, or none that can be used."""
    if source.records == 0:
        raise UserError(f"{source.name}: there are no records, only a header; give a file with posts")
    if sum(source.rejected.values()) == source.records:
        reason, count = source.rejected.most_common(1)[0]
        raise UserError(
            f"{source.name}: none of the {source.records} records can be used; {count} because of {reason} "
            f"({first_problem[:300]}); correct `columns`, `codes` or `labels` in the dataset YAML"
        )


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


def clean_rows(
    raw: Path, cleaned: Path, rows: int, cleaning: Cleaning, tokenizer: Tokenizer, noise: int | None, processes: int
) -> Cleaned:
    """Clean, measure and judge every post (phases 2 and 3 of the paper), in several processes where that pays.

    Args:
        raw: the Arrow file of `read_rows`.
        cleaned: the Arrow file to write: the cleaned texts, batch for batch.
        rows: number of posts, for the progress bar.
        cleaning: the options.
        tokenizer: for lengths and for comparing posts.
        noise: class id of noise, if the data set has that class.
        processes: at most so many.

    Raises:
        UserError: a worker process died.
    """
    with pa.memory_map(str(raw)) as source:
        reader = pa.ipc.open_file(source)
        batches, names = reader.num_record_batches, reader.schema.names[1:-1]
    setup = (raw, cleaning, tokenizer.to_str(), noise)
    schema = pa.schema([(name, pa.string()) for name in names])
    processes = max(1, min(processes, rows // ROWS_PER_PROCESS, batches))
    parts: list[Cleaned] = []
    with (
        pa.OSFile(str(cleaned), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
        tqdm(total=rows, desc="cleaning", unit=" posts", disable=None, leave=False) as progress,
    ):
        for texts, part in _results(setup, batches, processes):
            writer.write_batch(pa.record_batch(texts, schema=schema))
            parts.append(part)
            progress.update(len(part.tokens))
    findings = ("raw_digest", "digest", "tokens", "changed", "reason", "becomes_noise")
    return Cleaned(*(np.concatenate([getattr(part, name) for part in parts]) for name in findings))


def _results(setup: tuple, batches: int, processes: int) -> Iterator[tuple[list[list[str]], Cleaned]]:
    """Results of all batches, in order; only a few are under way at any time, so memory stays bounded."""
    if processes == 1:
        worker = _Worker(*setup)
        yield from map(worker.clean, range(batches))
        return
    # Spawned, not forked: the parent runs threads (Arrow, progress bars), and forking those may deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=setup)
    try:
        with _without_models(), pool:
            under_way: deque[Future] = deque()
            for index in range(batches):
                under_way.append(pool.submit(_clean_in_worker, index))
                if len(under_way) > 2 * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
    except BrokenProcessPool:
        raise UserError("a cleaning process died, most likely for lack of memory; try a smaller --num_proc") from None


@contextmanager
def _without_models() -> Iterator[None]:
    """Let processes that start now import this package without torch."""
    before = os.environ.get(WITHOUT_MODELS)
    os.environ[WITHOUT_MODELS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[WITHOUT_MODELS]


class _Worker:
    """Everything one process needs to clean batches."""

    def __init__(self, raw: Path, cleaning: Cleaning, tokenizer: str, noise: int | None) -> None:
        self._batches = pa.ipc.open_file(pa.memory_map(str(raw)))
        self._cleaning = cleaning
        self._steps: list[Step] = text_steps(cleaning)
        plain = Tokenizer.from_str(tokenizer)
        self._token_ids, self._unknown = WordCache(plain), unknown_id(plain)
        self._noise = noise

    def clean(self, index: int) -> tuple[list[list[str]], Cleaned]:
        """Clean one batch; returns the texts, column by column, and the findings."""
        batch = self._batches.get_batch(index)
        labels = batch.column("label").to_numpy()
        rows = list(zip(*(batch.column(name).to_pylist() for name in batch.schema.names[1:-1]), strict=True))
        # Posts are copied a lot: what stands twice in a batch is looked at once.
        number = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        places = np.array([number[row] for row in rows])
        raw = list(number)
        results = [[clean_text(text, self._steps) for text in row] for row in raw]
        clean = [tuple(text for text, _ in row) for row in results]
        ids = self._ids(clean)
        lengths = np.array([sum(map(len, parts)) for parts in ids], dtype=np.int32)
        bits = {name: 1 << bit for bit, (name, _) in enumerate(self._steps)}
        changed = [sum(bits[name] for name in {name for _, names in row for name in names}) for row in results]
        verdicts = [
            judge(" ".join(clean[i]) if all(map(str.strip, clean[i])) else "", int(lengths[i]), noise, self._cleaning)
            for i, noise in zip(places, labels == self._noise, strict=True)
        ]
        reasons = ("", *QUALITY_REASONS)
        return [[column[i] for i in places] for column in zip(*clean, strict=True)], Cleaned(
            raw_digest=self._raw_digests(raw)[places],
            digest=self._digests(clean, ids)[places],
            tokens=lengths[places],
            changed=np.array(changed, dtype=np.int32)[places],
            reason=np.array([reasons.index(reason) for _, reason in verdicts], dtype=np.int8),
            becomes_noise=np.array([action == "noise" for action, _ in verdicts]),
        )

    def _ids(self, rows: list[tuple[str, ...]]) -> list[tuple[array[int], ...]]:
        """Token ids of every text of every row."""
        columns = [self._token_ids(texts) for texts in zip(*rows, strict=True)]
        return list(zip(*columns, strict=True))

    def _raw_digests(self, rows: list[tuple[str, ...]]) -> np.ndarray:
        """Digests before cleaning; where a tokenizer spells texts out, equal texts say what equal tokens would."""
        spelled = [tuple(map(self._token_ids.spelled, row)) for row in rows]
        if self._cleaning.duplicates == "text" or any(None in row for row in spelled):
            return self._digests(rows, self._ids(rows))
        return np.array([row_digest(row, None, None) for row in spelled], dtype="S16")

    def _digests(self, rows: list[tuple[str, ...]], ids: list[tuple[array[int], ...]]) -> np.ndarray:
        by_text = self._cleaning.duplicates == "text"
        return np.array(
            [row_digest(r, None if by_text else i, self._unknown) for r, i in zip(rows, ids, strict=True)], dtype="S16"
        )


_worker: _Worker


def _start_worker(raw: Path, cleaning: Cleaning, tokenizer: str, noise: int | None) -> None:
    global _worker
    _worker = _Worker(raw, cleaning, tokenizer, noise)


def _clean_in_worker(index: int) -> tuple[list[str], Cleaned]:
    return _worker.clean(index)


def given_splits(sources: list[Source]) -> tuple[str, ...]:
    """The splits that come with the data, in the order train, validation, test; empty when we make them."""
    return tuple(split for split in SPLITS if split in {source.split for source in sources})


def split_numbers(sources: list[Source], table: Table) -> np.ndarray:
    """(rows,) the split each row comes with: 0 train, 1 validation, 2 test; all 0 where the sources have none."""
    return np.array([SPLITS.index(source.split or "train") for source in sources], dtype=np.int8)[table.source]
