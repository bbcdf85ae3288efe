"""From a dataset YAML to a prepared folder: read, compare, clean, compare again, split, report.

`prepare` is the order of the paper's section 4. The folder appears by a rename when everything in it is written; on
any error nothing is left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from opinionlm.data.near_copies import near_copy_groups, texts_of
from opinionlm.data.preparation.deduplication import drop_leaks
from opinionlm.data.preparation.found_labels import with_labels
from opinionlm.data.preparation.ledger import Ledger, split_numbers
from opinionlm.data.preparation.multi_label_rows import MultiLabelRows
from opinionlm.data.preparation.report import write_report
from opinionlm.data.preparation.row_kind import RowKind
from opinionlm.data.preparation.rows import RowReader
from opinionlm.data.preparation.sequence_rows import SequenceRows
from opinionlm.data.preparation.sources import RejectWriter, Source, find_data, find_sources, given_splits
from opinionlm.data.preparation.split_assignment import assign_splits, drop_surplus, require_split_rows
from opinionlm.data.preparation.split_files import SplitFiles, stored_batches
from opinionlm.data.preparation.task_rows import SimilarityRows, TextRows, TokenRows
from opinionlm.data.preparation.tokens import find_tokenizer, load_tokenizer
from opinionlm.data.prepared import MANIFEST, PreparedDataset, is_current, load_prepared, read_manifest
from opinionlm.data.readers.timestamps import iso_times
from opinionlm.data.spec import DatasetSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.utils.files import file_sha256, partial_folder, publish, write_json

# Raised whenever a change to this package changes what comes out for the same YAML and files.
PIPELINE_VERSION = 2


def prepare(
    spec: DatasetSpec,
    data_dir: str | Path,
    output_dir: str | Path,
    num_proc: int | None = None,
    force: bool = False,
    option: str = "output_dir",
) -> Path:
    """Prepare a data set, unless the folder already holds exactly it.

    Args:
        spec: a checked dataset YAML.
        data_dir: where its files lie.
        output_dir: the folder to make; an older prepared data set there is replaced, anything else is left alone.
        num_proc: at most so many processes; by default as many as there are cores for us.
        force: prepare even if nothing changed.
        option: that named the folder, for messages.

    Returns:
        The folder: the `DatasetDict`, ``dataset.json``, ``taxonomy.json``, ``report.json``, ``report.md``, figures and
        ``rejects.csv``.

    Raises:
        UserError: the data or the settings cannot be used, or the folder cannot be written.
    """
    data_dir, output_dir = find_data(spec, data_dir), Path(output_dir)
    sources = find_sources(spec, data_dir)
    fingerprint = fingerprint_of(spec, data_dir)
    if not force and is_current(output_dir, fingerprint):
        return output_dir
    if (
        output_dir.exists()
        and read_manifest(output_dir) is None
        and (output_dir.is_file() or any(output_dir.iterdir()))
    ):
        raise UserError(f"{option}: {output_dir} exists and is not a prepared data set; give another folder")
    try:
        with partial_folder(output_dir) as folder, ExitStack() as cleanup:
            rejects = RejectWriter(folder / "rejects.csv")
            cleanup.callback(rejects.close)
            found = _fill(folder, spec, sources, data_dir, rejects, fingerprint, num_proc or available_cores())
            rejects.close()
            manifest = {"name": spec.name, "task": spec.task, "fingerprint": fingerprint, **found}
            manifest |= {"pipeline_version": PIPELINE_VERSION}
            write_json(folder / MANIFEST, manifest)
            publish(folder, output_dir, lambda: not force and is_current(output_dir, fingerprint))
    except OSError as error:
        raise UserError(f"{option}: {output_dir} cannot be written ({error.strerror or error})") from None
    return output_dir


def prepare_or_load(
    dataset: str, data_dir: Path, cache_dir: Path, source: Literal["auto", "hub", "files"] = "auto"
) -> PreparedDataset:
    """Load a prepared folder, or prepare a dataset YAML once, in ``<name>-<fingerprint>`` of a folder, and load it.

    Raises:
        UserError: as for `load_spec`, `prepare` and `load_prepared`.
    """
    if Path(dataset).is_dir():
        return load_prepared(dataset)
    spec = load_spec(dataset).read_from(source)
    folder = Path(cache_dir) / f"{spec.name}-{fingerprint_of(spec, Path(data_dir))[:12]}"
    return load_prepared(prepare(spec, data_dir, folder, option="prepared_dir"))


def fingerprint_of(spec: DatasetSpec, data_dir: Path) -> str:
    """A hash of everything that decides the output: settings, file contents, tokenizer and code version."""
    settings = {k: v for k, v in spec.to_dict().items() if k not in ("description", "licence", "language")}
    parts: dict[str, object] = {"version": PIPELINE_VERSION, "ftfy": version("ftfy"), "spec": settings}
    data_dir = find_data(spec, data_dir)
    sources = find_sources(spec, data_dir)
    paths = [data_dir / source.name for source in sources if source.file is not None]
    if not paths and spec.hub is not None and Path(spec.hub.path).is_dir():
        paths = sorted(path for path in Path(spec.hub.path).rglob("*") if path.is_file())
    if (tokenizer := find_tokenizer(spec.tokenizer_name_or_path)) is not None:
        paths += sorted(
            p for p in tokenizer.iterdir() if p.suffix in (".json", ".model", ".txt") and "token" in p.name
        )
    if spec.features:
        parts["texts across splits"] = "dropped"
    parts["files"] = [_file_hash(path) for path in paths]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def available_cores() -> int:
    """Cores this process may use (fewer than the machine has, in a container or under SLURM)."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _fill(
    folder: Path,
    spec: DatasetSpec,
    sources: list[Source],
    data_dir: Path,
    rejects: RejectWriter,
    fingerprint: str,
    processes: int,
) -> dict[str, Any]:
    """Everything between the raw files and the finished folder; returns what the manifest says of it."""
    spec, label_lines = with_labels(spec, data_dir)
    kind = row_kind(spec, load_tokenizer(spec.tokenizer_name_or_path))
    raw = folder / "raw.arrow"
    reader = RowReader(kind, sources, data_dir, raw, rejects)
    findings, finished = kind.measure(reader, raw, processes)
    table = reader.table()
    ledger = Ledger(spec, sources, table, findings, kind.names)
    ledger.warnings += reader.warnings() + label_lines + kind.warnings(table)
    splits = _split_rows(ledger, kind, finished)

    rows = _write_dataset(folder, kind, ledger, splits, (raw, finished), rejects)
    rejects.close()
    for path in {raw, finished}:
        path.unlink()
    write_report(folder, ledger, kind.statistics(ledger, splits), fingerprint)
    if spec.labels is not None:
        write_json(folder / "taxonomy.json", spec.labels.to_tree())
    return {"rows": rows} | kind.manifest() | {"spec": spec.to_dict()}


def _split_rows(ledger: Ledger, kind: RowKind, finished: Path) -> np.ndarray:
    """Drop copies, leaks and surplus rows, and split the rest: (rows,) split numbers, -1 for rows that went."""
    spec, table, findings = ledger.spec, ledger.table, ledger.findings
    given = split_numbers(ledger.sources, table)
    kind.drop(ledger, given)
    if given_splits(ledger.sources):
        drop_leaks(ledger, findings.digest, given, "copies across splits", "in_another_split")
        if spec.split.group_by is not None:
            drop_leaks(ledger, table.group, given, "groups across splits", "group_in_another_split")
    if spec.split.near_copies == "together":
        table.group = groups_of_near_copies(spec, finished, ledger.kept & (given == 0))
    splits = assign_splits(ledger, given, kind.strata(ledger))
    if findings.text_digest is not None:
        # With other features they were no copies; but what is evaluated must not have been read in any form.
        drop_leaks(ledger, findings.text_digest, splits, "texts across splits", "in_another_split")
    if spec.balance is not None:
        drop_surplus(ledger, splits, spec.balance)
    splits = np.where(ledger.kept, splits, -1)
    ledger.warnings += kind.check_splits(ledger, splits, finished)
    require_split_rows(ledger, splits, given)
    return splits


def groups_of_near_copies(spec: DatasetSpec, finished: Path, is_split: np.ndarray) -> np.ndarray:
    """Group numbers ``(rows,)`` of the rows that are to be split (bool ``(rows,)``), -1 for all others."""
    texts = [
        text
        for batch in stored_batches(finished)
        for text in texts_of({name: batch.column(name).to_pylist() for name in spec.text_columns})
    ]
    groups = np.full(len(texts), -1)
    rows = np.flatnonzero(is_split)
    groups[rows] = near_copy_groups([texts[row] for row in rows], spec.source)
    return groups


def row_kind(spec: DatasetSpec, tokenizer: Tokenizer) -> RowKind:
    """The kind of the rows of a data set."""
    match spec.task:
        case "sequence":
            return SequenceRows(spec, tokenizer)
        case "multi_label":
            return MultiLabelRows(spec, tokenizer)
        case "token":
            return TokenRows(spec, tokenizer)
        case "similarity":
            return SimilarityRows(spec, tokenizer)
        case "question_answering" | "summarization" | "instruction":
            return TextRows(spec, tokenizer)


def _write_dataset(
    folder: Path,
    kind: RowKind,
    ledger: Ledger,
    splits: np.ndarray,
    arrow_files: tuple[Path, Path],
    rejects: RejectWriter,
) -> dict[str, int]:
    """Write the kept rows as a `DatasetDict` and the others, whose split is -1, into rejects.csv.

    ``arrow_files`` are the rows as read and as finished, batch for batch. Returns the rows of each split.
    """
    text, table = datasets.Value("string"), ledger.table
    times = {} if table.time is None else {"time": text}
    beside = [feature.name for feature in ledger.spec.features]
    names = {"platform": text} | times | dict.fromkeys(beside, text)
    features = datasets.Features({"id": text} | dict(kind.features()) | names)
    platforms = np.array(table.platforms)
    start = 0
    with SplitFiles(folder, features) as files:
        for before, after in zip(*map(stored_batches, arrow_files), strict=True):
            rows = np.arange(start, start + before.num_rows)
            start += before.num_rows
            columns = [before.column("id"), *kind.columns(after, ledger.label[rows])]
            columns += [pa.array(platforms[table.platform[rows]], pa.string())]
            columns += [] if table.time is None else [pa.array(iso_times(table.time[rows]), pa.string())]
            columns += [before.column(name) for name in beside]
            files.write(pa.record_batch(columns, schema=features.arrow_schema), splits[rows])
            kind.count(after, splits[rows])
            gone = np.flatnonzero(splits[rows] < 0)
            evidence = before.column(kind.evidence).take(pa.array(gone, pa.int64())).to_pylist()
            for at, seen in zip(gone, evidence, strict=True):
                ledger.write_reject(rows[at], seen, rejects)
    return files.save()


def _file_hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
