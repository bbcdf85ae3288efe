"""Label scoring with a shared cache against generating an answer and against scoring the labels one by one.

    python benchmarks/scoring.py --json scoring.json --figure scoring.png
    python benchmarks/scoring.py --quick

The three ways take turns in one process, in an order that alternates; every rate is taken from the median of the
repetitions. The program ends with 1 when a row misses its goal. One thread unless told otherwise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import environment, finish


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="one repetition of fewer posts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on a CPU [1]")
    options = parser.parse_args(argv)

    import torch

    from benchmarks.scoring_rows import scoring_rows
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(options.threads)
    facts = environment(
        device=torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        quick=options.quick,
    )
    repetitions, count, separate_count = (1, 16, 2) if options.quick else (5, 32, 4)
    rows = scoring_rows(repetitions, count, separate_count, device=options.device)
    return finish(facts, rows, options.json, options.figure)


if __name__ == "__main__":
    sys.exit(main())
