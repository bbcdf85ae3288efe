"""Started by a launcher in two processes: runs train_classifier.py with a fault in one of them.

accelerate launch … tests/faults/dying_rank.py <fault> <options of train_classifier.py>
"""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train_classifier
from opinionlm.errors import run_script
from opinionlm.training.losses.base import WeightedCrossEntropy
from opinionlm.training.trainer import OpinionTrainer

FAULT, RANK = sys.argv.pop(1), int(os.environ["RANK"])
step, weighted_sum = OpinionTrainer.training_step, WeightedCrossEntropy.weighted_sum
calls: list[int] = []


def faulty_step(self, *arguments):
    if self.state.global_step == 3 and RANK == 1:
        match FAULT:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raises":
                raise ValueError("a bug in one process")
            case "terminated":
                os.kill(os.getpid(), signal.SIGTERM)
    return step(self, *arguments)


def faulty_loss(self, logits, labels):
    calls.append(len(labels))
    found = weighted_sum(self, logits, labels)
    return found * math.nan if FAULT == "nan" and RANK == 1 and len(calls) == 4 else found


OpinionTrainer.training_step, WeightedCrossEntropy.weighted_sum = faulty_step, faulty_loss
run_script(train_classifier.main)
