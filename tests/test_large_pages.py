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
    def printed(program: str, **told: str) -> int:
        unset = {name: text for name, text in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=repository, env=unset | told, check=True)
        return int(ended.stdout.split()[-1])

    assert printed(PROGRAM) > 50_000
    # What torch would read; without it the same tensor has none (torch's own default).
    assert printed("import opinionlm, os; print(os.environ['THP_MEM_ALLOC_ENABLE'])", THP_MEM_ALLOC_ENABLE="0") == 0
