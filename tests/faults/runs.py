"""What a finished job leaves, as something that can be compared bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.classifier_runs import command_line
from tests.faults.children import Job

# Small runs with several checkpoints; between them they have accumulation, dropout, early stopping and the cache.
CASES: dict[str, dict[str, Any]] = {
    "trainer": {
        "adaptation": "full",
        "cache_frozen": "off",
        "eval_strategy": "steps",
        "eval_steps": 2,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "logging_steps": 3,
        "early_stopping_patience": 3,
    },
    "loop": {"engine": "loop", "cache_frozen": "on", "per_device_train_batch_size": 32, "num_train_epochs": 4},
    "instruct": {"max_eval_samples": 12, "eval_strategy": "steps", "eval_steps": 3, "num_train_epochs": 1},
}
TIMES = ("_runtime", "_per_second")


def training(case: str, setting: dict[str, str], root: Path, **options: Any) -> Job:
    """A training run all of whose files lie below ``root``; the raw data and the pretrained model are shared."""
    root.mkdir(exist_ok=True)
    places = {name: root / name.removesuffix("_dir") for name in ("prepared_dir", "cache_dir")}
    places |= {"output_dir": root / "out", "run_name": "r"}
    script = "train_instruct" if case == "instruct" else "train_classifier"
    arguments = command_line(setting | places, **(CASES[case] | options))
    return Job(script, arguments, root, root.with_name(f"{root.name}.log"))


def results(root: Path) -> dict[str, Any]:
    """Everything that a run is about, without times and places."""
    folder = root / "out" / "r"
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("cost")
    history = json.loads((folder / "history.json").read_text())
    kept = [path for path in sorted((folder / "best").iterdir()) if path.name != "README.md"]
    return {
        "metrics": metrics,
        "history": [
            {name: value for name, value in entry.items() if not name.endswith(TIMES) and name != "total_flos"}
            for entry in history
        ],
        "predictions": {path.name: path.read_bytes() for path in sorted(folder.glob("predictions/*.csv"))},
        "best": {path.name: path.read_bytes() for path in kept},
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal to the bit, told apart by part so that a failure says which."""
    for part in expected:
        assert found[part].__class__ is expected[part].__class__
        if isinstance(expected[part], dict):
            assert found[part].keys() == expected[part].keys(), part
            different = [name for name in expected[part] if found[part][name] != expected[part][name]]
            assert not different, (part, different)
        else:
            assert found[part] == expected[part], part
