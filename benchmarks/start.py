"""How soon a run starts: from the command to its first optimizer step, against an earlier commit of this repository.

Data are prepared, encoded and their frozen states kept by a first run of each version, which is not measured. The
versions then take turns, each run in a process of its own.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import string
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.report import Row, compare

ROOT = Path(__file__).resolve().parent.parent
WATCH = ROOT / "benchmarks" / "first_step.py"
# Before results of `datasets.map` had names of our own.
BASELINE = "23834f9"
ENTRIES = 262_144
# The parts of a run that are alike in both versions are small, so that the start is seen.
SIZES = ("--max_train_samples", "24", "--max_eval_samples", "12", "--max_steps", "4")
SCRIPTS = {
    "train_classifier": [
        "train_classifier.py",
        "--config",
        "configs/gemma1b.yaml",
        "--load_in_4bit",
        "false",
        "--max_length",
        "64",
    ],
    "train_instruct": ["train_instruct.py", "--config", "configs/gemma3_mini_instruct.yaml", "--max_length", "192"],
}


def start_rows(
    model: Path | None, scratch: Path, scripts: Sequence[str], repetitions: int, goal: float | None
) -> list[Row]:
    """The rows of this comparison; none, and a word why, where the earlier commit is not at hand.

    Args:
        model: a folder with a model and its tokenizer; None for a small one with as many entries as Gemma's.
        scratch: a folder for everything that is written.
        scripts: of `SCRIPTS`, those to measure.
        repetitions: measured runs of either version.
        goal: of `train_classifier.py`; None for no goal.
    """
    earlier = earlier_version(BASELINE, scratch / "earlier")
    if earlier is None:
        print(f"start: no comparison, commit {BASELINE} is not in the history of {ROOT}", file=sys.stderr)
        return []
    if model is None:
        model = write_model(scratch / "large-vocabulary")
    rows = []
    for script in scripts:
        command = SCRIPTS[script]
        versions = {"baseline": earlier, "ours": ROOT}
        for name, root in versions.items():
            first_step(root, command, model, scratch / f"{script}-{name}")
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
        for repetition in range(repetitions):
            for name in list(versions) if repetition % 2 == 0 else list(versions)[::-1]:
                cost = first_step(versions[name], command, model, scratch / f"{script}-{name}")
                print(f"  {script}, {name}: {cost}", file=sys.stderr)
                costs[name].append(cost)
        for kind, unit in (("processor_seconds", "cpu s"), ("seconds", "s")):
            pair = [median(cost[kind] for cost in costs[name]) for name in versions]
            aim = goal if script == "train_classifier" else None
            rows.append(compare(f"{script}.py: command to first optimizer step", *pair, unit, aim))
    return rows


def first_step(root: Path, command: list[str], model: Path, place: Path) -> dict[str, float]:
    """Seconds and processor seconds from a command to its first optimizer step; both versions write to own places.

    Raises:
        RuntimeError: it made none.
    """
    place.mkdir(exist_ok=True)
    report = place / "cost.json"
    report.unlink(missing_ok=True)
    options = ["--model_name_or_path", str(model), "--dataset", "configs/datasets/sample.yaml", "--data_dir", "data"]
    options += ["--prepared_dir", str(place / "data"), "--output_dir", str(place / "runs"), "--overwrite", "true"]
    if command[0] == "train_classifier.py":
        options += ["--cache_dir", str(place / "cache")]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "OPINIONLM_STARTED": repr(time.time()),
    }
    run = [sys.executable, str(WATCH), str(report), *command, *SIZES, *options]
    done = subprocess.run(run, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if not report.is_file():
        raise RuntimeError(f"{' '.join(command)} in {root} made no step:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads(report.read_text())


def earlier_version(commit: str, folder: Path) -> Path | None:
    """The files of an earlier commit, taken from this repository's history; None where it does not reach back."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def write_model(folder: Path) -> Path:
    """A narrow Gemma 3 of 26 blocks with random weights, and a tokenizer of Gemma's class and size."""
    import torch
    from transformers import GemmaTokenizer

    from benchmarks.ways import small_gemma, write_random_model

    write_random_model(small_gemma(vocabulary=ENTRIES), folder, torch.bfloat16, "cpu")
    vocabulary, merges = large_vocabulary(ENTRIES)
    GemmaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return folder


def large_vocabulary(size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Entries and merges of a byte-pair tokenizer: special tokens, bytes, characters, then strings of letters.

    Gemma's own has 514,906 merges, for most of its entries can be put together in more than one way; so here.
    """
    letters = ["▁", *string.ascii_lowercase]
    entries = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    entries += [mark for mark in string.printable.strip() if mark not in letters]
    merges = []
    for length in (2, 3, 4):
        for parts in itertools.product(letters, repeat=length):
            if len(entries) == size:
                break
            entries.append("".join(parts))
            merges.append(("".join(parts[:-1]), parts[-1]))
            if length > 2:
                merges.append((parts[0], "".join(parts[1:])))
    return {entry: number for number, entry in enumerate(entries)}, merges
