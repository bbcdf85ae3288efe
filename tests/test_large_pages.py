"""Large tensors lie in large pages, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# 64 MB in one tensor; the sum of what this process has in large pages, in KiB.
PROGRAM = """
import re
from pathlib import Path
import opinionlm, torch
held = torch.ones(16_000_000)
sizes = re.findall(r"^AnonHugePages: *([0-9]+) kB", Path("/proc/self/smaps").read_text(), re.MULTILINE)
print(sum(map(int, sizes)))
"""


@pytest.mark.skipif(
    not POLICY.is_file() or "[madvise]" not in POLICY.read_text(),
    reason="this system gives large pages to everybody, or to nobody",
)
def test_large_tensors_lie_in_large_pages_unless_told_otherwise(repository: Path) -> None:
    def held(value: str | None) -> int:
        # The package's own imports would change nothing, but take ten seconds.
        here = os.environ | {"OPINIONLM_WITHOUT_MODELS": "1"}
        unset = {name: text for name, text in here.items() if name != "THP_MEM_ALLOC_ENABLE"}
        environment = unset if value is None else unset | {"THP_MEM_ALLOC_ENABLE": value}
        command = [sys.executable, "-c", PROGRAM]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=repository, env=environment, check=True)
        return int(ended.stdout.split()[-1])

    assert held(None) - held("0") > 50_000
