"""Short runs of train_classifier.py that several tests start."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

import train_classifier
from opinionlm.config.config import Config
from opinionlm.config.unread import is_read
from tests.tiny import save_pretrained_model

WORDS = {
    "noise": "vote lisa follow giveaway",
    "objective": "price closed volume report",
    "positive": "love great happy gain",
    "negative": "hate awful loss scam",
}


def drawn_posts(count: int) -> list[tuple[str, str]]:
    """Posts and their labels; a label shows in the words of its posts."""
    generator = np.random.default_rng(0)
    posts = []
    for index in range(count):
        label = list(WORDS)[min(3, index % 5)]
        words = generator.choice(WORDS[label].split() + ["coin", "market", "today", "chain"], 6)
        posts.append((" ".join(words) + f" {index}", label))
    return posts


def write_posts(folder: Path, posts: Sequence[tuple[str, str]]) -> None:
    """Write posts as ``posts.csv`` with a label tree of two levels, and ``posts.yaml`` about them.

    Args:
        folder: also holds ``model``, whose tokenizer measures the posts.
        posts: texts and leaves.
    """
    with open(folder / "posts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "level1", "level2"])
        for text, label in posts:
            writer.writerow([text, *(["subjective", label] if label in ("positive", "negative") else [label, ""])])
    spec = {
        "name": "posts",
        "tokenizer_name_or_path": str(folder / "model"),
        "files": [{"path": "posts.csv", "platform": "forum", "columns": {"text": "text"}}],
        "labels": {"noise": None, "objective": None, "subjective": ["positive", "negative"]},
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    }
    spec["files"][0]["columns"] |= {"level1": "level1", "level2": "level2"}
    (folder / "posts.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


def write_setting(folder: Path) -> dict[str, str]:
    """A tiny pretrained model and a small raw data set with its YAML: options that every run of a test shares."""
    save_pretrained_model(folder / "model")
    write_posts(folder, drawn_posts(160))
    return {
        "dataset": str(folder / "posts.yaml"),
        "data_dir": str(folder),
        "prepared_dir": str(folder / "prepared"),
        "cache_dir": str(folder / "cache"),
        "model_name_or_path": str(folder / "model"),
        "adaptation": "top_blocks",
        "head_hidden_sizes": "[16]",
        "max_length": "32",
        "learning_rate": "1e-3",
        "num_train_epochs": "2",
        "per_device_train_batch_size": "16",
        "report_to": "none",
        "use_cpu": "true",
    }


def command_line(setting: dict[str, str], **options: object) -> list[str]:
    """Arguments; of the setting what the options' engine or cache does not read is left out, as of a YAML."""
    config = Config()
    config.training.engine = str(options.get("engine", "trainer"))
    config.method.cache_frozen = str(options.get("cache_frozen", "auto"))
    setting = {name: value for name, value in setting.items() if is_read(config, name) or name in options}
    return [part for name, value in (setting | options).items() for part in (f"--{name}", str(value))]


def train(setting: dict[str, str], **options: object) -> dict | None:
    return train_classifier.main(command_line(setting, **options))
