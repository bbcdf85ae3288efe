"""What W&B wrote offline, read back by its own reader."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from wandb.util import get_core_path

# Seconds that W&B's process is given for the last records of a run.
PATIENCE = 5


def records(file: Path) -> list[dict[str, Any]]:
    """The records of a ``.wandb`` file; of a run that was killed, without its last ones, after `PATIENCE` seconds.

    W&B's process may write the last ones a moment after `finish` has returned: on a busy machine they are waited for.
    """
    deadline = time.monotonic() + PATIENCE
    found = read(file)
    while not any(record["type"] == "exit" for record in found) and time.monotonic() < deadline:
        time.sleep(0.1)
        found = read(file)
    return found


def read(file: Path) -> list[dict[str, Any]]:
    """What a file holds now.

    As ``wandb leet inspect --json`` prints it, without the seconds that Python takes to import its command line.
    """
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(file)]
    lines = subprocess.run(
        [*command, str(file.parent)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [json.loads(line) for line in lines]
