"""Say from where `make` takes torch: PyTorch's CPU index on a machine without a GPU, or wherever pip looks.

    python3 tools/torch_index.py requirements.txt

It prints arguments of ``pip install``, or nothing. On Linux PyPI's torch needs several gigabytes of CUDA libraries,
which a machine without a GPU fetches for nothing. It runs before anything is installed, so it imports nothing that is
not Python's own.
"""

from __future__ import annotations

import re
import shutil
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE_SECONDS = 3.0


def pip_arguments(requirements: str, has_gpu: bool, index: str = CPU_INDEX) -> list[str]:
    """Arguments that make pip install the CPU build of the pinned torch; none to leave it to pip.

    Args:
        requirements: text of the requirements file, which pins torch.
        has_gpu: whether the machine has an NVIDIA GPU.
        index: address of PyTorch's CPU index; asked for an answer within three seconds.
    """
    if has_gpu or not answers(f"{index}/torch/"):
        return []
    pin = re.search(r"^torch==\S+", requirements, re.MULTILINE)
    return [] if pin is None else [pin[0], "--index-url", index]


def answers(address: str, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether a server answers a request in time."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
            return True
    except (OSError, HTTPException):
        return False


if __name__ == "__main__":
    print(
        *pip_arguments(Path(sys.argv[1]).read_text(encoding="utf-8"), has_gpu=shutil.which("nvidia-smi") is not None)
    )
