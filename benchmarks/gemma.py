"""Where the time of the paper's recipe goes on the real Gemma 3 270M, against an earlier commit of this repository.

    python benchmarks/gemma.py --model ../gemma270m/model --json gemma.json
    python benchmarks/gemma.py --model ../gemma270m/model --quick

Both versions run their configs/gemma1b.yaml with NF4 on the same posts, each run in a process of its own, in turns.
The earlier one trains bfloat16 parameters, ours float32 ones, under autocast where the processor computes in bfloat16.
Steps are timed on caches of random numbers, since nobody would wait for real ones; filling a cache is timed on a few
posts. The first table of times says where a run's seconds go. The model is read, never changed;
../shared/pretrained/README.md says where it is from. The program ends with 1 when a row misses its goal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import Row, compare, environment, finish
from benchmarks.start import BASELINE, ROOT, earlier_version, start_rows

PHASES = ROOT / "benchmarks" / "phases.py"
VERSIONS = ("baseline", "ours")
WARM_UP = 3
SIZES = {
    # Enough steps for a median; evaluation is not what is looked at.
    "steps": ("--max_train_samples", "64", "--max_eval_samples", "8", "--max_steps", "16"),
    # Few posts, since a baseline that emulates bfloat16 takes a second for ten tokens.
    "whole": ("--max_train_samples", "12", "--max_eval_samples", "4", "--num_train_epochs", "1"),
}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    repetitions = 1 if options.quick else options.repetitions
    facts = environment(threads=1, device="cpu", quick=options.quick, baseline=BASELINE)
    with tempfile.TemporaryDirectory(prefix="opinionlm-gemma-") as folder:
        scratch = Path(folder)
        earlier = options.earlier or earlier_version(BASELINE, scratch / "earlier")
        if earlier is None:
            print(f"commit {BASELINE} is not in the history of {ROOT}; give a checkout of it with --earlier")
            return 2
        roots = {"baseline": earlier.resolve(), "ours": ROOT}
        times: dict[str, dict[str, list[dict[str, Any]]]] = {kind: {name: [] for name in roots} for kind in SIZES}
        for repetition in range(repetitions):
            for kind in SIZES:
                for name in list(roots) if repetition % 2 == 0 else list(roots)[::-1]:
                    found = run(roots[name], kind, options, scratch / name)
                    times[kind][name].append(found)
                    print(f"  {kind}, {name}: {describe(found)}", file=sys.stderr)

        def goal(value: float) -> float | None:
            return None if options.quick else value

        rows = [*step_rows(times["steps"], goal), *phase_rows(times["whole"])]
        rows += start_rows(options.model, scratch, ["train_classifier"], repetitions, goal(3.0))
        rows += building_rows(options, scratch, repetitions, goal)
    return finish(facts, rows, options.json, options.figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="the converted Gemma 3 270M")
    parser.add_argument("--quick", action="store_true", help="one repetition, no goals")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each version and kind [5]")
    parser.add_argument("--earlier", type=Path, metavar="DIR", help=f"a checkout of {BASELINE} [from the history]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="holds cryptoqa-opinion/")
    parser.add_argument("--prepared_dir", type=Path, default=Path("outputs/data"), help="prepared posts are kept here")
    options = parser.parse_args(argv)
    options.model, options.data_dir = options.model.resolve(), options.data_dir.resolve()
    return options


def run(root: Path, kind: str, options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """One run of train_classifier.py of a version; what `benchmarks.phases` wrote about it.

    Raises:
        RuntimeError: it failed.
    """
    place.mkdir(exist_ok=True)
    report = place / "times.json"
    given = ["--model_name_or_path", str(options.model), "--data_dir", str(options.data_dir)]
    given += ["--prepared_dir", str(place / "data"), "--output_dir", str(place / "runs"), "--overwrite", "true"]
    given += ["--cache_dir", str(place / f"cache-{time.time_ns()}"), "--report_to", "none", *SIZES[kind]]
    noise = ["--noise"] if kind == "steps" else []
    command = [sys.executable, str(PHASES), str(report), *noise]
    command += ["train_classifier.py", "--config", "configs/gemma1b.yaml", *given]
    started = {"OPINIONLM_STARTED": repr(time.time()), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=root, env=os.environ | started, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {root} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads(report.read_text())


def step_seconds(times: dict[str, Any]) -> tuple[float, float]:
    """Median seconds of a step, by the wall's clock and the processor's; the first steps warm up."""
    steps = times["steps"]
    between = [(later[0] - one[0], later[1] - one[1]) for one, later in zip(steps, steps[1:], strict=False)][WARM_UP:]
    return median(wall for wall, _ in between), median(used for _, used in between)


def phases(times: dict[str, Any]) -> dict[str, float]:
    """Seconds of the parts of a run, in their order."""
    steps = times["steps"]
    return {
        "start, reading, tokenising, loading": times["fills"][0][0] - times["started"],
        "cache building": sum(used for _, _, used in times["fills"]),
        "steps": steps[-1][0] - steps[0][0],
        "evaluation and writing": times["ended"] - steps[-1][0],
    }


def describe(times: dict[str, Any]) -> str:
    """A run in one line."""
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases(times).items())
    if len(times["steps"]) <= WARM_UP + 1:
        return parts
    return f"{parts}; step {step_seconds(times)[1]:.3f} processor seconds"


def step_rows(times: dict[str, list[dict[str, Any]]], goal: Callable[[float], float | None]) -> list[Row]:
    """Steps of batches of four texts above the cut, and the most memory that a process held."""
    pairs = {name: [step_seconds(found) for found in runs] for name, runs in times.items()}
    rows = []
    for number, unit in enumerate(("s", "cpu s")):
        pair = [median(found[number] for found in pairs[name]) for name in VERSIONS]
        rows.append(compare("step of batch 4 above the cut", *pair, unit, goal(1.5)))
    peaks = [median(found["peak_mb"] for found in times[name]) for name in VERSIONS]
    return [*rows, compare("peak memory", *peaks, "MB", goal(1.0))]


def phase_rows(times: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Where the seconds of a whole run go."""
    found = {name: [phases(one) for one in runs] for name, runs in times.items()}
    return [
        compare(f"whole run: {part}", *(median(one[part] for one in found[name]) for name in VERSIONS), "s")
        for part in found["ours"][0]
    ]


def building_rows(
    options: argparse.Namespace, scratch: Path, repetitions: int, goal: Callable[[float], float | None]
) -> list[Row]:
    """Filling a cache from NF4 blocks against bare forward passes of the same blocks without 4 bits."""
    import torch

    from benchmarks.profiling import building_seconds
    from benchmarks.ways import Workload, encode, load_posts
    from opinionlm.config.options import ModelConfig
    from opinionlm.data.encoding.tokenizers import load_tokenizer

    torch.set_num_threads(1)
    posts = load_posts(options.data_dir, options.prepared_dir)
    tokenizer = load_tokenizer(ModelConfig(model_name_or_path=str(options.model)))
    splits = encode(posts, tokenizer, 64, 16, 512)
    nf4 = Workload("Gemma 3 270M", options.model, splits, 512, tokenizer, posts.taxonomy, "fastest", load_in_4bit=True)
    plain = replace(nf4, load_in_4bit=False)
    pairs = [(building_seconds(plain, scratch)[0], building_seconds(nf4, scratch)[1]) for _ in range(repetitions)]
    bare, building = (median(column) for column in zip(*pairs, strict=True))
    return [compare("cache building from NF4, bare forward passes without", bare, building, "s", goal(1 / 1.15))]


if __name__ == "__main__":
    sys.exit(main())
