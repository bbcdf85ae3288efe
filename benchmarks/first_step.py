"""Run a script of this repository until its first optimizer step, and say what it took to get there.

    OPINIONLM_STARTED=$(date +%s.%N) python benchmarks/first_step.py COST.json train_classifier.py --config …

It works for any commit: the script comes from the working folder, and what is watched is torch's own optimizer.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import resource
import runpy
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

STARTED = "OPINIONLM_STARTED"
# What steps with fewer weights is a trial of the options, not a model.
SMALLEST = 10_000


class StepWatch(importlib.abc.MetaPathFinder):
    """Asks torch, once it has loaded its optimizers, to report the first step of any of them.

    Args:
        report: file to write the cost to.
    """

    def __init__(self, report: Path) -> None:
        self.report = report

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called for every import; only that of the optimizers is changed."""
        if fullname != "torch.optim.optimizer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        load = spec.loader.exec_module

        def load_and_watch(module: ModuleType) -> None:
            load(module)
            module.register_optimizer_step_post_hook(self.first_step)

        spec.loader.exec_module = load_and_watch
        return spec

    def first_step(self, optimizer: Any, *_: object) -> None:
        """Write the seconds since the command was given and leave, without waiting for anything."""
        if sum(weight.numel() for group in optimizer.param_groups for weight in group["params"]) < SMALLEST:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        cost = {
            "seconds": time.time() - float(os.environ[STARTED]),
            "processor_seconds": used.ru_utime + used.ru_stime,
        }
        self.report.write_text(json.dumps(cost))
        os._exit(0)


if __name__ == "__main__":
    cost_file, script = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(script).resolve().parent)
    sys.meta_path.insert(0, StepWatch(Path(cost_file)))
    runpy.run_path(script, run_name="__main__")
