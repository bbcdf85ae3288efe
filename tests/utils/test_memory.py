"""Freed memory goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
import torch

from opinionlm.training import callbacks
from opinionlm.utils.memory import return_freed_memory
from tests.classifier_runs import train, write_setting


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another C library")
def test_memory_that_is_free_is_given_back() -> None:
    process = psutil.Process()
    # Blocks of 100 kB, which the C library keeps, below one that lasts.
    blocks = [torch.ones(25_000) for _ in range(4000)]
    last = torch.ones(25_000)
    held = process.memory_info().rss
    blocks.clear()
    return_freed_memory()
    assert process.memory_info().rss < held - 300e6
    assert last.sum() == 25_000


@pytest.mark.parametrize("engine", ["trainer", "loop"])
def test_every_evaluation_gives_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    calls = []
    monkeypatch.setattr(callbacks, "return_freed_memory", lambda: calls.append(1))
    train(write_setting(tmp_path), output_dir=tmp_path, run_name="run", engine=engine, num_train_epochs=2)
    assert len(calls) == 2
