"""What W&B wrote offline, read back by its own reader."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from wandb.util import get_core_path


def records(file: Path) -> list[dict[str, Any]]:
    """The records of a ``.wandb`` file.

    As ``wandb leet inspect --json`` prints them, without the seconds that Python takes to import its command line.
    """
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(file)]
    lines = subprocess.run(
        [*command, str(file.parent)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [json.loads(line) for line in lines]
