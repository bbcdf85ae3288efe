"""Short runs of both engines and of train_instruct.py, and best/ compared to the checkpoint that it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import train_classifier
import train_instruct
from tests.classifier_runs import command_line, drawn_posts, write_posts
from tests.tiny import save_generative_model, save_pretrained_model

WAYS = ("trainer", "loop", "instruct")


def write_settings(folder: Path) -> dict[str, dict[str, str]]:
    """By way (`WAYS`), the options that all runs of a test share; they train every parameter for six steps."""
    save_pretrained_model(folder / "model", single=True)
    save_generative_model(folder / "writer", single=True)
    write_posts(folder, drawn_posts(60))
    (folder / "template.yaml").write_text('prompt: "post: {text}\\nlabel:"\n')
    common = {
        "dataset": str(folder / "posts.yaml"),
        "data_dir": str(folder),
        "prepared_dir": str(folder / "prepared"),
        "max_length": "32",
        "learning_rate": "1e-3",
        "num_train_epochs": "2",
        "per_device_train_batch_size": "16",
        "logging_steps": "2",
        "report_to": "none",
        "use_cpu": "true",
    }
    classifier = common | {"model_name_or_path": str(folder / "model"), "cache_frozen": "off"}
    writer = {"model_name_or_path": str(folder / "writer"), "prompt_template": str(folder / "template.yaml")}
    return {
        "trainer": classifier | {"engine": "trainer"},
        "loop": classifier | {"engine": "loop"},
        "instruct": common | writer | {"max_length": "48"},
    }


def run(way: str, setting: dict[str, str], folder: Path, **options: object) -> tuple[Path, dict[str, Any]]:
    """Train one way; returns the run folder and metrics.json."""
    main = train_instruct.main if way == "instruct" else train_classifier.main
    metrics = main(command_line(setting, output_dir=folder, run_name=way, **options))
    return folder / way, metrics


def history(folder: Path) -> list[dict[str, Any]]:
    """What a run logged."""
    return json.loads((folder / "history.json").read_text())


def values(folder: Path, name: str) -> dict[int, float]:
    """One logged quantity by step."""
    return {entry["step"]: entry[name] for entry in history(folder) if name in entry}


def assert_best_is_the_named_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    """Compare best/ to the checkpoint that metrics.json names, to the bit; returns the trained weights."""
    step = json.loads((folder / "metrics.json").read_text())["train"]["best_step"]
    trained = load_file(folder / "checkpoints" / f"checkpoint-{step}" / "trained.safetensors")
    saved = load_file(folder / "best" / "model.safetensors")
    for name, value in trained.items():
        # A tied weight is saved under one of its names.
        assert saved[name].dtype == value.dtype and torch.equal(saved[name], value), name
    return trained
