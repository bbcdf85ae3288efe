"""Started by a launcher in two CPU processes: runs train_classifier.py as on two GPUs with FSDP2.

accelerate 1.15 splits weights on accelerators only, though torch does on CPUs too; so it is told that these are GPUs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accelerate import PartialState
from accelerate.utils import DistributedType

start = PartialState.__init__


def start_as_on_gpus(self: PartialState, *arguments: object, **options: object) -> None:
    start(self, *arguments, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = start_as_on_gpus
os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
os.environ |= {"FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
os.environ |= {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_OFFLOAD_PARAMS": "false"}

# Read the environment when they are imported.
import train_classifier  # noqa: E402 — see above
from opinionlm.errors import run_script  # noqa: E402 — likewise

run_script(train_classifier.main)
