"""Run folders written by hand, in the form that training leaves behind, for tests of what reads them."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

LABELS = ["noise", {"subjective": ["negative", "question"]}]
LEAVES = ["noise", "negative", "question"]
PLATFORMS = ["reddit", "twitter"]


def posts(count: int = 60) -> list[tuple[str, str, str, str]]:
    """Rows of (id, platform, text, gold)."""
    return [(f"p{i}", PLATFORMS[i % 2], f"post number {i}", LEAVES[i % 3]) for i in range(count)]


def write_predictions(path: Path, rows: Sequence[tuple[str, str, str, str]], share_right: float, seed: int) -> float:
    """A prediction file of a classifier; returns its accuracy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw, right = random.Random(seed), 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "platform", "text", "gold", "predicted", "confidence"])
        for identity, platform, text, gold in rows:
            others = [label for label in LEAVES if label != gold]
            predicted = gold if draw.random() < share_right else draw.choice(others)
            right += predicted == gold
            writer.writerow([identity, platform, text, gold, predicted, f"{draw.uniform(0.34, 0.99):.6f}"])
    return right / len(rows)


def with_sets(folder: Path) -> Path:
    """The same run with any number of labels per text: its one label in a list."""
    table = folder / "predictions" / "test.csv"
    with open(table, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *([*row[:3], json.dumps([row[3]]), json.dumps([row[4]]), row[5]] for row in rows)])
    return folder


def write_run(
    folder: Path,
    seed: int = 1,
    macro_f1: float = 0.6,
    share_right: float = 0.7,
    rows: Sequence[tuple[str, str, str, str]] | None = None,
    **options: Any,
) -> Path:
    """A finished run of a classifier; options go into its config."""
    folder.mkdir(parents=True)
    config = {
        "task": "auto",
        "dataset": "configs/datasets/tiny.yaml",
        "model_name_or_path": "models/tiny",
        "adaptation": "full",
        "learning_rate": 0.001,
        "run_name": folder.name,
        "seed": seed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | options, sort_keys=False, allow_unicode=True))
    write(folder / "environment.json", {"device": "cpu", "data_fingerprint": "f" * 64})
    write(folder / "labels.json", LABELS)
    scores = {}
    for number, split in enumerate(("validation", "test")):
        file = folder / "predictions" / f"{split}.csv"
        accuracy = write_predictions(file, rows or posts(), share_right, 2 * seed + number)
        scores[split] = {
            "loss": 1.0,
            "accuracy": accuracy,
            "macro_f1": macro_f1,
            "macro_f1_ci95": [macro_f1 - 0.05, macro_f1 + 0.04],
            "level1_macro_f1": macro_f1 + 0.1,
            "level2_macro_f1": macro_f1 - 0.1,
            **{f"f1_{leaf}": macro_f1 for leaf in LEAVES},
            **{f"f1_{leaf}_ci95": [macro_f1 - 0.1, macro_f1 + 0.1] for leaf in LEAVES},
        }
    history = [{"step": step, "epoch": step / 10, "loss": 2.0 / step} for step in range(1, 31)]
    history += [{"step": 10 * k, "epoch": k, "eval_loss": 1 / k, "eval_macro_f1": macro_f1 * k / 3} for k in (1, 2, 3)]
    write(folder / "history.json", history)
    train = {"loss": 1.0, "epochs": 3.0, "steps": 30}
    cost = {"train_seconds": 10.0 * seed, "peak_memory_mb": 500.0, "train_flops": 1e12}
    model = {"total_parameters": 4_000_000, "trainable_parameters": 1000 * seed}
    write(folder / "metrics.json", {"train": train, **scores, "model": model, "cost": cost})
    return folder


def write_similarity_run(folder: Path, pearson: float) -> Path:
    """A finished run of another task: no labels, no history, scores that are numbers."""
    (folder / "predictions").mkdir(parents=True)
    (folder / "config.yaml").write_text("task: similarity\ndataset: configs/datasets/pairs.yaml\nseed: 1\n")
    write(folder / "metrics.json", {"test": {"pearson": pearson}, "cost": {"train_seconds": 3.0}})
    with open(folder / "predictions" / "test.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["id", "text", "text_pair", "gold", "predicted"],
                ["a", "x", "y", "4", "1.5"],
                ["b", "u", "v", "2", "2.5"],
            ]
        )
    return folder


def write_answering_run(folder: Path) -> Path:
    """A run of `train_instruct.py` on questions: it writes texts, and nothing but its metrics names the task."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("dataset: configs/datasets/questions.yaml\nseed: 1\n")
    write(folder / "metrics.json", {"test": {"exact_match": 0.5, "f1": 0.6}, "cost": {"train_seconds": 3.0}})
    write(folder / "environment.json", {"finished": "2026-03-01T10:00:00+00:00"})
    write(folder / "history.json", [])
    (folder / "predictions").mkdir()
    table = "id,platform,text,context,gold,answer\na,,Who?,Ann sold.,Ann,Ann\nb,,What?,Ann sold coins.,coins,\n"
    (folder / "predictions" / "test.csv").write_text(table)
    return folder


def write_prepared(folder: Path, fingerprint: str = "f" * 64) -> Path:
    """The manifest and the report of a prepared data set."""
    folder.mkdir(parents=True)
    rows = {"train": 100, "validation": 60, "test": 60}
    write(
        folder / "dataset.json",
        {"name": "tiny", "task": "sequence", "fingerprint": fingerprint, "rows": rows, "labels": LABELS},
    )
    counts = {"label": dict.fromkeys(LEAVES, 20), "level1": {"noise": 20, "subjective": 40}}
    step = {"name": "copies", "rows_in": 230, "rows_out": 220, "removed": {"duplicate_raw": 10}, "changed": 3}
    write(
        folder / "report.json",
        {
            "totals": {"in": 230, "kept": 220, "rejected": 10},
            "rejected": {"duplicate_raw": 10},
            "steps": [step | {"relabelled": 0}],
            "classes": {name: dict.fromkeys(rows, counts) for name in ("reddit", "all")},
            "tokens": {"all": {"count": 220, "mean": 12.5}},
            "warnings": ["2 records hold odd bytes"],
        },
    )
    return folder


def write(path: Path, content: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content))
