"""A million posts: preprocessing and prediction, against what one writes without this project, and how both grow.

    python benchmarks/scale.py --json scale.json --figure scale.png      24 minutes on two cores
    python benchmarks/scale.py --sizes 10000 100000                      a quarter of that, without the goals at 1M
    python benchmarks/scale.py --quick

Every job is a process of its own, measured from its start to its end, its children included: seconds, processor
seconds, memory. Ours and the plain way (`scale_baseline.py`) take turns. Posts are invented (`posts.py`), or, for
prediction against the pipeline, real ones (`--data_dir`). Growth of prediction is measured with a classifier so small
that reading, sorting and writing show: with the bundled model a million posts take hours on two cores, all of them in
the model, and the row about them is computed from its rate at the smallest size. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import environment, finish

SIZES = (10_000, 100_000, 1_000_000)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="3,000 posts, once")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of posts")
    parser.add_argument("--repetitions", type=int, default=5, help="of what is compared at the middle size [5]")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor: on a busy machine")
    parser.add_argument("--data_dir", type=Path, help="folder with cryptoqa-opinion/, for prediction of real posts")
    parser.add_argument("--work_dir", type=Path, help="keep inputs and outputs here [a folder that is removed]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="draw time and memory over the number of posts"
    )
    options = parser.parse_args(argv)

    from benchmarks.scale_rows import Bench, draw_growth

    sizes = [3_000] if options.quick else sorted(options.sizes)
    facts = environment(sizes=sizes, clock=options.clock, real_posts=options.data_dir is not None)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(options.work_dir or Path(temporary), options.clock, 1 if options.quick else options.repetitions)
        rows = bench.preprocessing(sizes) + bench.prediction(sizes, options.data_dir)
    if options.figure is not None:
        draw_growth(bench.growth, options.figure)
    facts["growth"] = {job: {str(n): vars(cost) for n, cost in costs.items()} for job, costs in bench.growth.items()}
    return finish(facts, rows, options.json, None)


if __name__ == "__main__":
    sys.exit(main())
