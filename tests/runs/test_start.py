"""What a run has loaded when it makes its first optimizer step: nothing that only its end has a use for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.classifier_runs import command_line

PROGRAM = """
import os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
import train_classifier

def first_step(optimizer, *_):
    if sum(weight.numel() for group in optimizer.param_groups for weight in group["params"]) > 1000:
        print("loaded:", *({"wandb", "matplotlib", "sklearn", "scipy.stats"} & set(sys.modules)), flush=True)
        os._exit(0)

register_optimizer_step_post_hook(first_step)
train_classifier.main(sys.argv[1:])
"""


# Slow: a process of its own, which imports everything.
@pytest.mark.slow
def test_nothing_of_the_end_is_loaded_before_the_first_step(setting, repository, tmp_path) -> None:
    arguments = command_line(setting, output_dir=tmp_path, run_name="r", report_to="wandb")
    command = [sys.executable, "-c", PROGRAM, *arguments]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["loaded:"], done.stdout + done.stderr
    assert not (tmp_path / "r" / "wandb").exists()
