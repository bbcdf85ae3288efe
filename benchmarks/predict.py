"""Labelling posts: this version in every precision, ONNX Runtime, an earlier commit and a transformers pipeline.

    python benchmarks/predict.py --model outputs/minilm-seed42 outputs/quickstart-seed42 --data_dir data
    python benchmarks/predict.py --model outputs/quickstart-seed42 --quick

Every way has a process of its own, started once; they take turns on the same posts, in an order that alternates, and
every number is a median. Seconds are the processor's, on one thread, so that neighbours on the machine count little.
The graphs are made here, whatever they lose. The row "all told" is the fastest way whose labels are those of the
earlier commit for 99.5 % of the posts. The program ends with 1 when a row misses its goal.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import Row, compare, environment, finish
from benchmarks.start import BASELINE, ROOT, earlier_version

ONE_BY_ONE, BATCHES = "pipeline, batch 1", "pipeline, batch 32"
EARLIER, FLOAT32, BFLOAT16, ONNX, INT8 = BASELINE, "float32", "bfloat16", "ONNX float32", "ONNX int8"
WAYS = (ONE_BY_ONE, BATCHES, EARLIER, FLOAT32, BFLOAT16, ONNX, INT8)
# Of labels, to count as equal; of the whole time, that the model's own should take.
EQUAL, MODEL_SHARE = 0.995, 0.85
FLAGS = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


@dataclass
class Measured:
    """What was measured of one way.

    Attributes:
        rates: posts/s in bulk, one per turn.
        alone: milliseconds of single posts, of all turns.
        labels: of the posts.
        memory: peak of its process in MB.
    """

    rates: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    memory: float = 0.0

    @property
    def rate(self) -> float:
        """Posts/s in bulk."""
        return median(self.rates)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    context = multiprocessing.get_context("forkserver")
    # Imported once, in the small process that every new one is a copy of.
    context.set_forkserver_preload(["torch", "transformers.pipelines", "datasets", "sklearn.metrics", "peft"])
    rows: list[Row] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="opinionlm-predict-") as folder:
        scratch = Path(folder)
        earlier = options.earlier or earlier_version(BASELINE, scratch / "earlier")
        if earlier is None:
            print(f"commit {BASELINE} is not in the history of {ROOT}; give a checkout of it with --earlier")
            return 2
        posts, gold, flags = in_new_process(context, load, options)
        for run in options.model:
            best = run / "best"
            graphs = (options.graphs or scratch) / run.name
            if not options.no_onnx:
                in_new_process(context, write_graphs, best, graphs)
            found, seconds = take_turns(context, options, best, graphs, earlier.resolve(), posts, scratch)
            rows += model_rows(run.name, found, gold, seconds, options.quick)
    facts = environment(
        device="cpu",
        threads=1,
        posts=f"{len(posts)} of the test split, {options.single} alone",
        repetitions=options.repetitions,
        flags=[name for name in FLAGS if flags.get(name)],
        minutes=round((time.perf_counter() - started) / 60, 1),
    )
    print(f"{facts['processor']}: {', '.join(facts['flags'])}; {facts['posts']}; {facts['date']}")
    return finish(facts, rows, options.json, options.figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, nargs="+", required=True, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--quick", action="store_true", help="16 posts, one turn, no goals")
    parser.add_argument("--posts", type=int, default=64, help="in bulk [64]")
    parser.add_argument("--single", type=int, default=16, help="of them one by one too [16]")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of every way [5]")
    parser.add_argument("--earlier", type=Path, metavar="DIR", help=f"a checkout of {BASELINE} [from the history]")
    parser.add_argument("--no_onnx", action="store_true", help="leave the graphs out: making them takes a minute each")
    parser.add_argument("--graphs", type=Path, metavar="DIR", help="keep the graphs here; those of before are used")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="holds cryptoqa-opinion/")
    parser.add_argument("--prepared_dir", type=Path, default=Path("outputs/data"), help="prepared posts are kept here")
    options = parser.parse_args(argv)
    if options.quick:
        options.posts, options.single, options.repetitions = 16, 4, 1
    return options


def take_turns(
    context: Any, options: argparse.Namespace, best: Path, graphs: Path, earlier: Path, posts: list[str], scratch: Path
) -> tuple[dict[str, Measured], dict[str, float]]:
    """Every way's measurements, and the seconds of a whole call of predict.py and of its model."""
    from tqdm import tqdm

    ways = [way for way in WAYS if not (options.no_onnx and way in (ONNX, INT8))]
    workers = {way: Worker(context, way, best, graphs, earlier) for way in ways}
    found = {way: Measured() for way in ways}
    emulated = not workers[FLOAT32].ask("bfloat16", [])
    for repetition in tqdm(range(options.repetitions), desc=best.parent.name, file=sys.stderr):
        for way in ways if repetition % 2 == 0 else ways[::-1]:
            if way == BFLOAT16 and emulated and repetition:
                # Without instructions it takes several times as long; once tells as much.
                continue
            seconds, found[way].labels = workers[way].ask("bulk", posts)
            found[way].rates.append(len(posts) / seconds)
            found[way].alone += [1000 * one for one in workers[way].ask("single", posts[: options.single])]
    whole = workers[FLOAT32].ask("file", posts)
    for way, worker in workers.items():
        found[way].memory = worker.finish()
    return found, whole


class Worker:
    """A process that labels in one way.

    Args:
        context: of multiprocessing.
        way: one of `WAYS`.
        best: the saved model.
        graphs: folder of its graphs.
        earlier: files of the earlier commit.
    """

    def __init__(self, context: Any, way: str, best: Path, graphs: Path, earlier: Path) -> None:
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=serve, args=(end, way, best, graphs, earlier), daemon=True)
        self.process.start()
        end.close()

    def ask(self, what: str, posts: list[str]) -> Any:
        """What `serve` answers.

        Raises:
            EOFError: the process failed.
        """
        self.pipe.send((what, posts))
        return self.pipe.recv()

    def finish(self) -> float:
        """End the process; its peak memory in MB."""
        memory = self.ask("memory", [])
        self.process.join()
        return memory


def serve(pipe: Connection, way: str, best: Path, graphs: Path, earlier: Path) -> None:
    """Load a model and answer until its memory is asked for; arguments as of `Worker`."""
    if way == EARLIER:
        # This process has imported a little of this version.
        for name in [name for name in sys.modules if name.split(".")[0] == "opinionlm"]:
            del sys.modules[name]
        sys.path.insert(0, str(earlier))
    import resource

    import torch

    torch.set_num_threads(1)
    label = labeller(way, best, graphs)
    while True:
        what, posts = pipe.recv()
        match what:
            case "bulk":
                start = time.process_time()
                labels = label(posts)
                pipe.send((time.process_time() - start, labels))
            case "single":
                pipe.send([seconds_of(label, post) for post in posts])
            case "file":
                pipe.send(whole_call(best, posts))
            case "bfloat16":
                from opinionlm.models.precision import computes_in_bfloat16

                pipe.send(computes_in_bfloat16())
            case "memory":
                pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
                return


def seconds_of(label: Callable[[list[str]], list[str]], post: str) -> float:
    """Processor seconds of one post alone."""
    start = time.process_time()
    label([post])
    return time.process_time() - start


def labeller(way: str, best: Path, graphs: Path) -> Callable[[list[str]], list[str]]:
    """A function from posts to labels, warmed up."""
    answers: Callable[[list[str]], list[str]]
    match way:
        case "pipeline, batch 1" | "pipeline, batch 32":
            from transformers import pipeline

            import opinionlm.registration  # noqa: F401 — makes the model types known

            size = 1 if way == ONE_BY_ONE else 32
            pipe = pipeline("text-classification", model=str(best), device="cpu")

            def answers(posts: list[str]) -> list[str]:
                return [found["label"] for found in pipe(posts, truncation=True, batch_size=size)]

        case "ONNX float32" | "ONNX int8":
            from opinionlm.inference.onnx_model import load_onnx_predictor
            from opinionlm.inference.options import PredictionOptions

            predictor = load_onnx_predictor(graphs / ("onnx" if way == ONNX else "onnx_int8"), PredictionOptions())
            answers = first_cells(predictor)
        case "float32" | "bfloat16":
            from opinionlm.inference.loading import load_predictor
            from opinionlm.inference.options import PredictionOptions

            options = PredictionOptions("cpu", "float32" if way == FLOAT32 else "bfloat16")
            answers = first_cells(load_predictor(best, options))
        case _:
            # Of the earlier commit.
            from opinionlm.experiments.prediction import load_labeller

            answers = first_cells(load_labeller(best, "cpu"))
    answers(["Is this coin still worth holding?"])
    return answers


def first_cells(predictor: Any) -> Callable[[list[str]], list[str]]:
    """The labels of a predictor."""
    return lambda posts: [cells[0] for cells in predictor.answers(posts)]


def whole_call(best: Path, posts: list[str]) -> dict[str, float]:
    """Processor seconds of labelling a file, and of its model alone."""
    from opinionlm.inference.files import Request, predict_file
    from opinionlm.inference.loading import load_predictor
    from opinionlm.inference.options import PredictionOptions
    from opinionlm.inference.predictors import Predictor

    spent = {"model": 0.0}
    compute = Predictor.logits

    def timed(self: Predictor, rows: list[dict[str, Any]]) -> Any:
        start = time.process_time()
        found = compute(self, rows)
        spent["model"] += time.process_time() - start
        return found

    predictor = load_predictor(best, PredictionOptions("cpu", "float32"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([post] for post in posts)])
        Predictor.logits = timed  # type: ignore[method-assign]  # to tell the model's time from the rest
        start = time.process_time()
        predict_file(Request(str(path), str(Path(folder) / "labels.csv")), lambda: predictor)
        spent["all"] = time.process_time() - start
        Predictor.logits = compute  # type: ignore[method-assign]  # as it was
    return spent


def load(options: argparse.Namespace) -> tuple[list[str], list[str], dict[str, Any]]:
    """Texts and labels of the test split, and what the processor has."""
    import torch

    from benchmarks.ways import load_posts

    posts = load_posts(options.data_dir, options.prepared_dir)
    test = posts.dataset["test"].shuffle(seed=1).select(range(options.posts))
    gold = [posts.taxonomy.leaves[leaf] for leaf in test["label"]]
    return list(test["text"]), gold, dict(torch.cpu.get_capabilities())


def write_graphs(best: Path, folder: Path) -> None:
    """The model as graphs in float32 and int8, kept whatever they lose: rows say how much that is."""
    from opinionlm.inference.export.folder import export_model

    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("onnx", "onnx_int8"):
        if not (folder / kind).is_dir():
            export_model(best, folder / kind, kind, max_f1_loss=1.0)


def in_new_process(context: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process that was started for it alone."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def model_rows(
    name: str, found: dict[str, Measured], gold: list[str], seconds: dict[str, float], quick: bool
) -> list[Row]:
    """All comparisons of one model.

    Args:
        name: of the model.
        found: by way.
        gold: of the posts.
        seconds: of a whole call, and of its model.
        quick: whether nothing is claimed.
    """
    from sklearn.metrics import f1_score

    def goal(value: float) -> float | None:
        return None if quick else value

    base = found[EARLIER]
    equal = {way: share(one.labels, base.labels) for way, one in found.items()}
    here = [way for way in (FLOAT32, BFLOAT16, ONNX, INT8) if way in found]
    ours = [way for way in here if equal[way] >= EQUAL]
    best = max(ours or [FLOAT32], key=lambda way: found[way].rate)
    fast = found[best].rate
    rows = [
        rates(f"{name}: {BASELINE} to all told ({best})", base.rate, fast, goal(3.0)),
        rates(f"{name}: float32 to bfloat16", found[FLOAT32].rate, found[BFLOAT16].rate, goal(1.8)),
        rates(f"{name}: {ONE_BY_ONE} to all told", found[ONE_BY_ONE].rate, fast, goal(8.0)),
        rates(f"{name}: {BATCHES} to all told", found[BATCHES].rate, fast, goal(8.0)),
        *(rates(f"{name}: {BASELINE} to {way}", base.rate, found[way].rate) for way in here),
    ]
    for percent in (50, 95):
        pair = (percentile(base.alone, percent), percentile(found[best].alone, percent))
        rows.append(compare(f"{name}: one post alone, p{percent}", *pair, "ms"))
    for way in here:
        rows.append(rates(f"{name}: equal labels, {BASELINE} and {way}", 1.0, equal[way], None, "share"))
    scores = {way: f1_score(gold, one.labels, average="macro") for way, one in found.items()}
    for way in (*here, BATCHES):
        rows.append(rates(f"{name}: macro-F1, {BASELINE} and {way}", scores[EARLIER], scores[way], None, "macro-F1"))
    for way in (*here, BATCHES):
        rows.append(compare(f"{name}: peak memory, {BASELINE} and {way}", base.memory, found[way].memory, "MB"))
    rest, aim = seconds["all"] - seconds["model"], goal(MODEL_SHARE / (1 - MODEL_SHARE))
    rows.append(compare(f"{name}: a whole call, model to all else", seconds["model"], rest, "cpu s", aim))
    return rows


def rates(name: str, baseline: float, ours: float, goal: float | None = None, unit: str = "posts/s") -> Row:
    """A row of values of which more is better."""
    return compare(name, baseline, ours, unit, goal, more_is_better=True)


def share(some: Sequence[str], others: Sequence[str]) -> float:
    """Of equal labels."""
    return sum(one == other for one, other in zip(some, others, strict=True)) / len(some)


def percentile(values: Sequence[float], percent: int) -> float:
    """By linear interpolation."""
    import numpy

    return float(numpy.percentile(values, percent))


if __name__ == "__main__":
    sys.exit(main())
