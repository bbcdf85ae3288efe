"""Run a training script of this repository and say when its parts began and ended.

    OPINIONLM_STARTED=$(date +%s.%N) python benchmarks/phases.py TIMES.json [--noise] train_classifier.py --config …

It works for any commit since the cache of frozen states: the script comes from the working folder, and what is watched
are torch's optimizers and the function that fills the cache. With ``--noise`` the cache is filled with random numbers,
so that steps can be timed without waiting for states that their time does not depend on.
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.util
import json
import os
import resource
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# Where `fill` is and was.
BUILDING = ("opinionlm.training.prefix_cache_building", "opinionlm.training.cache_building")
# What steps with fewer weights is a trial of the options, not a model.
SMALLEST = 10_000


class Watch(importlib.abc.MetaPathFinder):
    """Writes down when optimizers step and caches are filled, by the wall's clock and the processor's.

    Args:
        report: file to write to when the process ends.
        noise: fill caches with random numbers.
    """

    def __init__(self, report: Path, noise: bool) -> None:
        self.report, self.noise = report, noise
        self.steps: list[tuple[float, float]] = []
        self.fills: list[tuple[float, float, float]] = []
        atexit.register(self.write)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called for every import; only two are changed."""
        if fullname != "torch.optim.optimizer" and fullname not in BUILDING:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        sys.meta_path.insert(0, self)
        load = spec.loader.exec_module

        def load_and_watch(module: ModuleType) -> None:
            load(module)
            if fullname in BUILDING:
                module.fill = self.watched(noisy_fill if self.noise else module.fill)
            else:
                module.register_optimizer_step_post_hook(self.step)

        spec.loader.exec_module = load_and_watch
        return spec

    def watched(self, fill: Callable[..., None]) -> Callable[..., None]:
        """The same, with its seconds written down."""

        def timed(*arguments: Any, **named: Any) -> None:
            begun, used = time.time(), time.process_time()
            fill(*arguments, **named)
            self.fills.append((begun, time.time(), time.process_time() - used))

        return timed

    def step(self, optimizer: Any, *_: object) -> None:
        """An optimizer has made a step."""
        if sum(weight.numel() for group in optimizer.param_groups for weight in group["params"]) >= SMALLEST:
            self.steps.append((time.time(), time.process_time()))

    def write(self) -> None:
        """Called at the end."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        facts = {
            "started": float(os.environ["OPINIONLM_STARTED"]),
            "fills": self.fills,
            "steps": self.steps,
            "ended": time.time(),
            "processor_seconds": time.process_time(),
            "peak_mb": peak,
        }
        self.report.write_text(json.dumps(facts))


def noisy_fill(model: Any, encoded: Any, partial: Path, *_: Any) -> None:
    """Fill a cache that lies ready with random numbers."""
    import torch

    file = partial / "states.bin"
    count = file.stat().st_size // model.dtype.itemsize
    torch.from_file(str(file), shared=True, size=count, dtype=model.dtype).normal_()


if __name__ == "__main__":
    report, *rest = sys.argv[1:]
    noise = rest[0] == "--noise"
    sys.argv = rest[1:] if noise else rest
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    sys.meta_path.insert(0, Watch(Path(report), noise))
    runpy.run_path(sys.argv[0], run_name="__main__")
