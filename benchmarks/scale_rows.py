"""The rows of `scale.py`: every job a process, compared by what it wrote and by what it cost."""

from __future__ import annotations

import csv
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.posts import write_posts
from benchmarks.processes import ROOT, Cost, run
from benchmarks.report import Row, agree, compare

# Time per post at the largest size may be so many times that at the smallest.
LINEAR = 1.3
PREPROCESS_GOAL, PREDICT_GOAL = 5.0, 2.0
# Goals of time are about a million posts: with a few thousand the start of Python is most of what is measured.
GOAL_SIZE = 1_000_000
PIPELINE_POSTS = 2_000


class Bench:
    """Runs jobs, remembers what they cost.

    Attributes:
        growth: job → number of posts → cost.
    """

    def __init__(self, folder: Path, clock: Literal["wall", "processor"], repetitions: int) -> None:
        """Args: where files lie, what is measured, and how often the middle size is compared."""
        self.folder, self.clock, self.repetitions = folder.resolve(), clock, repetitions
        self.growth: dict[str, dict[int, Cost]] = {"preprocess": {}, "predict": {}}

    def time(self, costs: Sequence[Cost]) -> float:
        """The median of the chosen clock."""
        return median(cost.seconds if self.clock == "wall" else cost.processor_seconds for cost in costs)

    def preprocessing(self, sizes: Sequence[int]) -> list[Row]:
        """Ours and pandas at every size, the same kept posts, and growth."""
        rows = []
        for size in sizes:
            data = self.folder / f"posts-{size}"
            count = write_posts(data, size)
            ours, plain = self.folder / f"ours-{size}", self.folder / f"plain-{size}"
            command = [sys.executable, "preprocess.py", "--config", "configs/datasets/sample.yaml", "--force"]
            command += ["--data_dir", str(data), "--output_dir", str(ours)]
            baseline = [sys.executable, "benchmarks/scale_baseline.py", "preprocess", str(data), str(plain)]
            repetitions = self.repetitions if size < GOAL_SIZE else 1
            plain_costs, our_costs = self.turns(lambda b=baseline: run(b), lambda c=command: run(c), repetitions)
            self.growth["preprocess"][count] = min(our_costs, key=lambda cost: cost.seconds)
            goal = PREPROCESS_GOAL if size >= GOAL_SIZE else None
            name = f"preprocess {count:,}"
            rows += [
                compare(f"{name}: time", self.time(plain_costs), self.time(our_costs), "s", goal),
                compare(f"{name}: memory", plain_costs[0].peak_mb, our_costs[0].peak_mb, "MB"),
                agree(f"{name}: other kept posts", 0, len(kept(ours) ^ kept(plain)), "posts", 0),
            ]
            shutil.rmtree(plain)
        return rows + self.growth_rows("preprocess")

    def prediction(self, sizes: Sequence[int], data_dir: Path | None) -> list[Row]:
        """Ours and a pipeline on posts of mixed length with the bundled model, and growth with a tiny one."""
        model, tiny = save_models(self.folder)
        posts = self.folder / "mixed.csv"
        count = write_mixed(posts, data_dir, PIPELINE_POSTS if max(sizes) >= SHORT_RUN else 300)
        ours, plain = self.folder / "labels.csv", self.folder / "pipeline.csv"
        predict = [sys.executable, "predict.py", "--overwrite", "--device", "cpu", "--batch_size", "64"]
        command = [*predict, "--model", str(model), "--input", str(posts), "--output", str(ours)]
        baseline = [sys.executable, "benchmarks/scale_baseline.py", "predict", str(model), str(posts), str(plain)]
        plain_costs, our_costs = self.turns(lambda: run(baseline), lambda: run(command), min(self.repetitions, 3))
        differ = sum(a != b for a, b in zip(labels(ours), labels(plain), strict=True))
        goal = PREDICT_GOAL if max(sizes) >= SHORT_RUN else None
        rows = [
            compare(f"predict {count:,} mixed posts: time", self.time(plain_costs), self.time(our_costs), "s", goal),
            # A post on the very edge between two labels may fall to either side in another batch.
            agree("predict: other labels", 0, differ, "posts", count // 1_000),
        ]
        for size in sizes:
            many = self.folder / f"many-{size}.csv"
            written = join_posts(self.folder / f"posts-{size}", many)
            one = [*predict, "--model", str(tiny), "--input", str(many), "--output", str(self.folder / "many.out.csv")]
            self.growth["predict"][written] = run(one)
        return rows + self.growth_rows("predict")

    def turns(
        self, plain: Callable[[], Cost], ours: Callable[[], Cost], repetitions: int
    ) -> tuple[list[Cost], list[Cost]]:
        """Both ways in turn, so that whatever else the machine does hits both."""
        costs: tuple[list[Cost], list[Cost]] = ([], [])
        for number in range(repetitions):
            order = [(costs[0], plain), (costs[1], ours)]
            for found, job in order if number % 2 == 0 else reversed(order):
                found.append(job())
        return costs

    def growth_rows(self, job: str) -> list[Row]:
        """Time per post and memory of the largest run against the smallest."""
        costs = self.growth[job]
        small, large = min(costs), max(costs)
        if small == large:
            return []
        seconds = {n: self.time([costs[n]]) / n * 1e6 for n in (small, large)}
        growth = f"{job}: from {small:,} to {large:,}"
        return [
            compare(f"{growth}: time per post", seconds[small] * LINEAR, seconds[large], "µs", 1.0),
            # A few numbers for every post are kept: bounded is said against what the posts themselves would take.
            compare(f"{growth}: memory", memory_bound(job, costs[small], large), costs[large].peak_mb, "MB", 1.0),
            compare(
                f"{job} {large:,}: rate",
                1e6 / (seconds[small] / LINEAR),
                1e6 / seconds[large],
                "posts/s",
                None,
                True,
            ),
        ]


SHORT_RUN = 10_000


def memory_bound(job: str, small: Cost, posts: int) -> float:
    """What a run may take: prediction what a small one takes, preprocessing 200 bytes per post more."""
    return small.peak_mb * 1.2 + 50 + (posts * 200 / 1e6 if job == "preprocess" else 0)


def kept(folder: Path) -> set[tuple[str, str, str]]:
    """Hashes of id, text and label of every kept post of a prepared folder."""
    from datasets import load_from_disk

    found = set()
    for part in load_from_disk(str(folder)).values():
        names = part.features["label"].names
        for batch in part.select_columns(["id", "text", "label"]).iter(10_000):
            found |= {
                (identity, hash(text), names[label])
                for identity, text, label in zip(batch["id"], batch["text"], batch["label"], strict=True)
            }
    return found


def save_models(folder: Path) -> tuple[Path, Path]:
    """The bundled model and a tiny one of its kind, each with a random head whose labels differ from post to post."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from opinionlm.data.spec_parsing import load_spec
    from opinionlm.models.classifier import OpinionClassifier

    bundled = ROOT / "models" / "gemma3-mini"
    taxonomy = load_spec(ROOT / "configs" / "datasets" / "sample.yaml").labels
    tokenizer = AutoTokenizer.from_pretrained(bundled, model_max_length=512)
    config = AutoConfig.from_pretrained(bundled)
    config.update({"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1})
    config.update({"head_dim": 16, "layer_types": ["full_attention"]})
    torch.manual_seed(0)
    backbones = {
        "model": AutoModel.from_pretrained(bundled, dtype=torch.float32),
        "tiny": AutoModel.from_config(config, dtype=torch.float32),
    }
    for name, backbone in backbones.items():
        tree = taxonomy.to_tree()
        model = OpinionClassifier.from_backbone(backbone, list(taxonomy.leaves), label_tree=tree, max_length=512)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter.normal_(std=2.0)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder / "model", folder / "tiny"


def write_mixed(path: Path, data_dir: Path | None, count: int) -> int:
    """Posts of three platforms in random order: real ones, or the bundled sample's."""
    from opinionlm.data.preparation.pipeline import prepare_or_load

    config = "sample" if data_dir is None else "cryptoqa"
    folder = ROOT / "data" if data_dir is None else data_dir
    data = prepare_or_load(str(ROOT / f"configs/datasets/{config}.yaml"), folder, path.parent / "prepared")
    texts = [text for part in data.dataset.values() for text in part["text"]]
    random.Random(7).shuffle(texts)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts[:count])])
    return min(count, len(texts))


def join_posts(folder: Path, path: Path) -> int:
    """One CSV file with the texts of the three; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        for name, column in (("twitter", 0), ("youtube", 1)):
            for row in read_rows(folder / "sample" / f"{name}.csv"):
                writer.writerow([row[column]])
                count += 1
        for row in read_rows(folder / "sample" / "reddit.csv"):
            writer.writerow([row[0]])
            count += 1
    return count


def read_rows(path: Path) -> Iterator[list[str]]:
    """The records of a file that have all their fields."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        width = len(next(reader))
        yield from (row for row in reader if len(row) == width)


def labels(path: Path) -> list[str]:
    """The predicted labels of an output, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row["predicted"] for row in csv.DictReader(file)]


def draw_growth(growth: dict[str, dict[int, Cost]], path: Path) -> None:
    """Seconds and memory over the number of posts, on logarithmic axes, with a line of slope one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    from opinionlm.reporting.figures import BLUE, GREY, ORANGE, save_figure, styled

    @styled
    def panels() -> Figure:
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for (job, costs), color in zip(growth.items(), (BLUE, ORANGE), strict=True):
            posts = sorted(costs)
            time.plot(posts, [costs[n].seconds for n in posts], "o-", color=color, label=job)
            memory.plot(posts, [costs[n].peak_mb for n in posts], "o-", color=color, label=job)
            slope = [costs[posts[0]].seconds * n / posts[0] for n in posts]
            time.plot(posts, slope, ":", color=GREY)
        for axes, name in ((time, "seconds (dotted: linear)"), (memory, "peak memory in MB")):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.set_xlabel("posts")
            axes.set_ylabel(name)
            axes.grid()
        time.set_yscale("log")
        time.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        memory.set_ylim(bottom=0)
        time.legend(frameon=False)
        return figure

    save_figure(panels(), path)
