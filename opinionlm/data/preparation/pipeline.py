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

import numpy as np
import pyarrow as pa

from opinionlm.data.preparation.balance import drop_surplus
from opinionlm.data.preparation.clean_rows import QUALITY_REASONS, clean_rows
from opinionlm.data.preparation.declared_labels import check_declared
from opinionlm.data.preparation.deduplication import drop_copies, drop_leaks
from opinionlm.data.preparation.empty_splits import require_split_rows
from opinionlm.data.preparation.ledger import Ledger
from opinionlm.data.preparation.report import write_report
from opinionlm.data.preparation.rows import (
    RejectWriter,
    RowReader,
    Source,
    find_data,
    find_sources,
    given_splits,
    split_numbers,
)
from opinionlm.data.preparation.split_files import SplitFiles
from opinionlm.data.preparation.splits import share_warnings, stratified_split, tie_problem, time_split
from opinionlm.data.preparation.task_pipeline import fill_task
from opinionlm.data.preparation.tokens import find_tokenizer, load_tokenizer
from opinionlm.data.prepared import MANIFEST, PreparedDataset, load_prepared, read_manifest
from opinionlm.data.readers.timestamps import iso_times
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.utils.files import partial_folder, publish

# Raised whenever a change to this package changes what comes out for the same YAML and files.
PIPELINE_VERSION = 2


def prepare(
    spec: DatasetSpec,
    data_dir: str | Path,
    output_dir: str | Path,
    num_proc: int | None = None,
    force: bool = False,
) -> Path:
    """Prepare a data set, unless the folder already holds exactly it.

    Args:
        spec: a checked dataset YAML.
        data_dir: where its files lie.
        output_dir: the folder to make; an older prepared data set there is replaced, anything else is left alone.
        num_proc: at most so many processes; by default as many as there are cores for us.
        force: prepare even if nothing changed.

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
        raise UserError(f"output_dir: {output_dir} exists and is not a prepared data set; give another folder")
    try:
        with partial_folder(output_dir) as folder, ExitStack() as cleanup:
            rejects = RejectWriter(folder / "rejects.csv")
            cleanup.callback(rejects.close)
            if spec.task == "sequence":
                found = _fill(folder, spec, sources, data_dir, rejects, fingerprint, num_proc or available_cores())
            else:
                found = fill_task(folder, spec, sources, data_dir, rejects, fingerprint)
            rejects.close()
            manifest = {"name": spec.name, "task": spec.task, "fingerprint": fingerprint, **found}
            manifest |= {"spec": spec.to_dict(), "pipeline_version": PIPELINE_VERSION}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
            publish(folder, output_dir, lambda: not force and is_current(output_dir, fingerprint))
    except OSError as error:
        raise UserError(f"output_dir: {output_dir} cannot be written ({error.strerror or error})") from None
    return output_dir


def prepare_or_load(
    dataset: str, data_dir: Path, cache_dir: Path, source: Literal["auto", "hub", "files"] = "auto"
) -> PreparedDataset:
    """Load a prepared folder, or prepare a dataset YAML once and load it.

    Args:
        dataset: a prepared folder or the path of a dataset YAML.
        data_dir: where the YAML's files lie.
        cache_dir: prepared data sets are kept here as ``<name>-<fingerprint>``.
        source: which of the YAML's sources is read.

    Raises:
        UserError: as for `load_spec`, `prepare` and `load_prepared`.
    """
    if Path(dataset).is_dir():
        return load_prepared(dataset)
    spec = load_spec(dataset).read_from(source)
    folder = Path(cache_dir) / f"{spec.name}-{fingerprint_of(spec, Path(data_dir))[:12]}"
    return load_prepared(prepare(spec, data_dir, folder))


def is_current(output_dir: Path, fingerprint: str) -> bool:
    """Whether a folder already holds the data set with this fingerprint."""
    manifest = read_manifest(output_dir)
    return manifest is not None and manifest["fingerprint"] == fingerprint


def fingerprint_of(spec: DatasetSpec, data_dir: Path) -> str:
    """A hash of everything that decides the output: settings, file contents, tokenizer and code version."""
    settings = {k: v for k, v in spec.to_dict().items() if k not in ("description", "licence")}
    parts: dict[str, object] = {"version": PIPELINE_VERSION, "ftfy": version("ftfy"), "spec": settings}
    data_dir = find_data(spec, data_dir)
    sources = find_sources(spec, data_dir)
    paths = [data_dir / source.name for source in sources if not source.from_hub]
    if not paths and spec.hub is not None and Path(spec.hub.path).is_dir():
        paths = sorted(path for path in Path(spec.hub.path).rglob("*") if path.is_file())
    if (tokenizer := find_tokenizer(spec.tokenizer_name_or_path)) is not None:
        paths += sorted(
            p for p in tokenizer.iterdir() if p.suffix in (".json", ".model", ".txt") and "token" in p.name
        )
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
    assert spec.labels is not None
    tokenizer = load_tokenizer(spec.tokenizer_name_or_path)
    noise = (
        spec.labels.leaves.index(spec.cleaning.noise_label)
        if spec.cleaning.noise_label in spec.labels.leaves
        else None
    )
    raw, cleaned = folder / "raw.arrow", folder / "cleaned.arrow"
    reader = RowReader(spec, sources, data_dir, raw, rejects)
    findings = clean_rows(reader, cleaned, spec.text_columns, spec.cleaning, tokenizer, noise, processes)
    table = reader.table()
    ledger = Ledger(spec, sources, table, findings)
    ledger.warnings += reader.warnings()
    ledger.warnings += check_declared(spec, np.unique(table.label).tolist(), reader.label_use)
    given = split_numbers(sources, table)

    nobody = np.zeros(len(given), dtype=bool)
    reasons = ("conflicting_labels_raw", "duplicate_raw")
    drop_copies(ledger, findings.raw_digest, given, nobody, "raw posts", reasons)
    copies = ~ledger.kept
    for bit, name in enumerate(ledger.text_steps):
        ledger.note_changed(name, (findings.changed >> bit) & 1)
    dropped = (findings.reason > 0) & ~findings.becomes_noise
    for code, reason in enumerate(QUALITY_REASONS, start=1):
        ledger.relabel(reason, (findings.reason == code) & findings.becomes_noise, noise)
    rules = [(dropped & (findings.reason == code), reason, None) for code, reason in enumerate(QUALITY_REASONS, 1)]
    ledger.drop("quality rules", rules)
    reasons = ("conflicting_labels_cleaned", "duplicate_cleaned")
    drop_copies(ledger, findings.digest, given, copies & ~dropped, "cleaned posts", reasons)
    if given_splits(sources):
        drop_leaks(ledger, findings.digest, given, "copies across splits", "in_another_split")
    splits = _assign_splits(ledger, spec, given)
    if spec.balance is not None:
        drop_surplus(ledger, splits, spec.balance)
    _require_classes(ledger, splits)
    require_split_rows(ledger, splits, given)

    rows = _write_dataset(folder, spec, ledger, splits, raw, cleaned, rejects)
    rejects.close()
    raw.unlink()
    cleaned.unlink()
    write_report(folder, ledger, splits, fingerprint)
    tree = spec.labels.to_tree()
    (folder / "taxonomy.json").write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return {"rows": rows, "labels": tree}


def _assign_splits(ledger: Ledger, spec: DatasetSpec, given: np.ndarray) -> np.ndarray:
    """(rows,) split numbers; missing given splits are taken out of train by their share."""
    splits = given.copy()
    pool = np.flatnonzero(ledger.kept & (given == 0))
    missing = [split for split in SPLITS if split not in (given_splits(ledger.sources) or ("train",))]
    taken = {split: getattr(spec.split, split) for split in missing}
    if missing and len(pool):
        shares, warnings = [1 - sum(taken.values()), *taken.values()], []
        if spec.split.by == "time":
            times = ledger.table.time[pool]
            if problem := tie_problem(times, len(shares)):
                raise UserError(
                    f"{spec.source}: split.by: time: {problem}; map `time` to a column with finer times, set "
                    "split.by: random, or give files a split"
                )
            chosen = time_split(times, shares)
            why = "rows of one time stay together"
            warnings = share_warnings(chosen, ["train", *missing], shares, why)
        else:
            chosen, warnings = stratified_split(
                ledger.label[pool],
                ledger.table.platform[pool],
                shares,
                spec.split.seed,
                spec.labels.leaves,
                "label" in spec.split.stratify_by,
                "platform" in spec.split.stratify_by,
            )
        splits[pool] = np.array([0, *(SPLITS.index(split) for split in missing)], dtype=np.int8)[chosen]
        ledger.warnings += warnings
    return splits


def _require_classes(ledger: Ledger, splits: np.ndarray) -> None:
    found = np.unique(ledger.label[ledger.kept & (splits == 0)])
    if len(found) < 2:
        names = ", ".join(repr(ledger.spec.labels.leaves[i]) for i in found) or "none"
        removed = "; ".join(
            f"{step.name}: {', '.join(f'{count:,} {reason}' for reason, count in step.removed.items())}"
            for step in ledger.steps
            if step.removed
        )
        early = ledger.spec.split.by == "time" and len(np.unique(ledger.label[ledger.kept])) > 1
        raise UserError(
            f"{ledger.spec.source}: the training split would hold only one class or none ({names}); a classifier "
            f"needs two. Removed so far: {removed or 'nothing'}; "
            + ("split.by: time gives it the earliest rows, which are all alike; set split.by: random" if early else "")
            + ("" if early else "check `codes`, `labels` and the cleaning options")
        )
    expected = set(np.unique(ledger.table.label).tolist())
    for number, split in enumerate(SPLITS):
        absent = expected - set(ledger.label[ledger.kept & (splits == number)].tolist())
        if absent:
            names = ", ".join(ledger.spec.labels.leaves[i] for i in sorted(absent))
            ledger.warnings.append(f"{split} has no post labelled {names}")


def _write_dataset(
    folder: Path,
    spec: DatasetSpec,
    ledger: Ledger,
    splits: np.ndarray,
    raw: Path,
    cleaned: Path,
    rejects: RejectWriter,
) -> dict[str, int]:
    """Write the kept rows as a `DatasetDict` and the others into rejects.csv, in one pass over both Arrow files."""
    import datasets

    taxonomy, levels = spec.labels, range(1, spec.labels.depth + 1)
    text_type = datasets.Value("string")
    features = datasets.Features(
        {"id": text_type}
        | dict.fromkeys(spec.text_columns, text_type)
        | {"label": datasets.ClassLabel(names=list(taxonomy.leaves))}
        | {f"level{level}": text_type for level in levels}
        | {"platform": text_type}
        | ({"time": text_type} if spec.has_time else {})
    )
    level_names = {
        level: np.array([taxonomy.label_at(i, level) for i in range(len(taxonomy.leaves))]) for level in levels
    }
    platforms = np.array(ledger.table.platforms)
    with SplitFiles(folder, features) as files, ExitStack() as stack:
        raws = pa.ipc.open_file(stack.enter_context(pa.memory_map(str(raw))))
        cleans = pa.ipc.open_file(stack.enter_context(pa.memory_map(str(cleaned))))
        start = 0
        for index in range(raws.num_record_batches):
            before, after = raws.get_batch(index), cleans.get_batch(index)
            rows = np.arange(start, start + before.num_rows)
            start += before.num_rows
            label = ledger.label[rows]
            columns = [before.column("id"), *after.columns, pa.array(label, pa.int64())]
            columns += [pa.array(level_names[level][label], pa.string()) for level in levels]
            columns += [pa.array(platforms[ledger.table.platform[rows]], pa.string())]
            columns += [pa.array(iso_times(ledger.table.time[rows]), pa.string())] if spec.has_time else []
            batch = pa.record_batch(columns, schema=features.arrow_schema)
            files.write(batch, np.where(ledger.kept[rows], splits[rows], -1))
            gone = np.flatnonzero(~ledger.kept[rows])
            for at, text in zip(gone, before.column("text").take(pa.array(gone)).to_pylist(), strict=True):
                ledger.write_reject(rows[at], text, rejects)
    return files.save()


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
