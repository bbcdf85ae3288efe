"""What `benchmarks/gpu.py` measures: one function per check, each by itself, through the program's own entry points.

The models have the real shapes and random weights, the texts are the bundled posts: nothing is fetched. With ``dry``
every check runs on the CPU, with a narrow model and few posts.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Row, agree, compare

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 262_144
# What `opinionlm.train` imports besides torch and transformers.
PROGRAM = (
    "datasets",
    "accelerate",
    "peft",
    "sklearn",
    "pandas",
    "pyarrow",
    "seqeval",
    "rouge_score",
    "ftfy",
    "xxhash",
)


@dataclass(frozen=True)
class Place:
    """Where checks run, and at which size.

    Attributes:
        scratch: a folder for models, prepared posts and run folders.
        dry: on the CPU at tiny shapes.
    """

    scratch: Path
    dry: bool

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return "cpu" if self.dry else "cuda"

    def size(self, real: int, tiny: int) -> int:
        """How much of something."""
        return tiny if self.dry else real

    def shape(self) -> Gemma3TextConfig:
        """Gemma 3 1B's full shape; a narrow one of six blocks for a dry run."""
        from benchmarks.ways import gemma_1b, narrow_gemma

        return narrow_gemma(VOCABULARY, blocks=6, hidden=32) if self.dry else gemma_1b()

    def model(self) -> Path:
        """A folder with random bfloat16 weights of that shape and the bundled tokenizer, written once."""
        import torch

        from benchmarks.ways import write_random_model

        folder = self.scratch / "model"
        if not folder.is_dir():
            partial = self.scratch / "model.partial"
            write_random_model(self.shape(), partial, torch.bfloat16, self.device)
            partial.rename(folder)
        return folder

    def options(self, name: str, **more: Any) -> dict[str, Any]:
        """Options of a run on the bundled posts; ``more`` wins."""
        sizes = {"max_train_samples": self.size(1000, 24), "max_eval_samples": self.size(400, 12)}
        if self.dry:
            sizes |= {"use_cpu": True, "max_length": 32}
        return {
            "model_name_or_path": str(self.model()),
            "dataset": str(ROOT / "configs" / "datasets" / "sample.yaml"),
            "data_dir": str(ROOT / "data"),
            "prepared_dir": str(self.scratch / "data"),
            "output_dir": str(self.scratch / "runs"),
            "run_name": name,
            "report_to": ["none"],
            **sizes,
            **more,
        }

    def train(self, name: str, **more: Any) -> dict[str, Any]:
        """Train the recipe of configs/gemma1b.yaml anew; returns its metrics.

        What earlier runs left on the GPU goes first, so that the peak is this run's.
        """
        import opinionlm

        release_memory()
        options = self.options(name, **({"overwrite": True} | more))
        return opinionlm.train(ROOT / "configs" / "gemma1b.yaml", **options)

    def run_folder(self, name: str) -> Path:
        """Where a run of that name is."""
        return self.scratch / "runs" / name


@dataclass(frozen=True)
class Check:
    """Something to measure that stands alone.

    Attributes:
        name: short, for the command line.
        title: for the page.
        seconds: that it is expected to take on an H200; a guess until it has run there.
        packages: that have to be installed besides torch and transformers, by the names they are imported by.
        measure: does it.
    """

    name: str
    title: str
    seconds: int
    packages: tuple[str, ...]
    measure: Callable[[Place], list[Row]]


def release_memory() -> None:
    """Give back what no longer has a name, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def recipe(place: Place, four_bit: bool) -> list[Row]:
    """The paper's whole recipe, with the cache of frozen states and without."""
    found = {}
    for cache in ("off", "on"):
        name = f"recipe-{'nf4' if four_bit else 'bf16'}-{cache}"
        cache_dir = {} if cache == "off" else {"cache_dir": str(place.scratch / f"cache-{time.time_ns()}")}
        epochs = place.size(3, 1)
        found[cache] = place.train(
            name, load_in_4bit=four_bit, cache_frozen=cache, num_train_epochs=epochs, **cache_dir
        )
        shutil.rmtree(place.run_folder(name))
    off, on = found["off"]["cost"], found["on"]["cost"]
    rates = [cost["tokens_per_second"] for cost in (off, on)]
    whole = [cost["total_seconds"] for cost in (off, on)]
    losses = [found[cache]["validation"]["loss"] for cache in ("off", "on")]
    return [
        compare("whole recipe, cache off and on", *whole, "s"),
        compare("tokens of the steps, cache off and on", *rates, "tokens/s", more_is_better=True),
        compare("training without the cache, and building it", off["train_seconds"], on["cache_seconds"], "s"),
        compare("peak memory of training, cache off and on", off["peak_memory_mb"], on["peak_memory_mb"], "MB"),
        compare("validation loss, cache off and on", *losses, "nats"),
    ]


def instruct(place: Place) -> list[Row]:
    """Steps of instruction tuning against TRL's, with all of the vocabulary."""
    from benchmarks.instruct import WAYS, Size, train, training_rows, write_inputs
    from opinionlm.training.cost import peak_memory_mb, reset_peak_memory

    size = Size(
        steps=place.size(12, 3),
        batch=place.size(16, 2),
        max_length=place.size(256, 64),
        hidden=32,
        repetitions=place.size(3, 1),
        scored=0,
        scoring_repetitions=0,
        device=place.device,
        dtype="bfloat16",
    )
    scratch = place.scratch / "instruct"
    scratch.mkdir(exist_ok=True)
    # No real posts: the bundled ones are what lies everywhere.
    folders = argparse.Namespace(data_dir=ROOT / "data", prepared_dir=place.scratch / "data", threads=1)
    write_inputs(folders, size, scratch, place.shape())
    rows, _ = training_rows(folders, size, scratch)
    peaks = []
    for way in WAYS:
        release_memory()
        reset_peak_memory()
        train(way, size, scratch)
        peaks.append(peak_memory_mb())
    return [*rows, compare("peak memory", *peaks, "MB")]


def label_scoring(place: Place) -> list[Row]:
    """Labels for posts: scored together, one by one, and generated."""
    from benchmarks.scoring_rows import scoring_rows

    rows = []
    for dtype in ("float32", "bfloat16"):
        release_memory()
        found = scoring_rows(
            repetitions=place.size(3, 1),
            count=place.size(32, 2),
            separate_count=place.size(4, 1),
            device=place.device,
            shape=place.shape(),
            dtype=dtype,
            shots=place.size(8, 1),
        )
        rows += [replace(row, name=f"{dtype}, {row.name}") for row in found]
    return rows


def fsdp2(place: Place) -> list[Row]:
    """FSDP2 over one GPU against no distribution at all; a dry run takes two CPU processes for GPUs."""
    from benchmarks.processes import run

    options = {"adaptation": "top_blocks", "trainable_blocks": place.size(6, 2), "load_in_4bit": False}
    options |= {"cache_frozen": "off", "max_steps": place.size(40, 4), "classifier_dropout": 0}
    batch = 8
    alone = place.train("alone", **options, per_device_train_batch_size=batch)
    release_memory()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
    if place.dry:
        launcher += ["configs/accelerate/two_cpu_processes.yaml", "tests/fsdp_on_cpu.py"]
        options["per_device_train_batch_size"] = batch // 2
    else:
        launcher += ["configs/accelerate/fsdp2.yaml", "--num_processes", "1", "train_classifier.py"]
        options["per_device_train_batch_size"] = batch
    run([*launcher, "--config", "configs/gemma1b.yaml", *as_words(place.options("split", overwrite=True, **options))])
    split = json.loads((place.run_folder("split") / "metrics.json").read_text())
    rates, peaks, losses = (
        [metrics[part][name] for metrics in (alone, split)]
        for part, name in (("cost", "tokens_per_second"), ("cost", "peak_memory_mb"), ("validation", "loss"))
    )
    for name in ("alone", "split"):
        shutil.rmtree(place.run_folder(name))
    return [
        agree("validation loss, alone and with FSDP2", *losses, "nats", tolerance=0.02),
        compare("tokens of the steps, alone and with FSDP2", *rates, "tokens/s", more_is_better=True),
        compare("peak memory, alone and with FSDP2", *peaks, "MB"),
    ]


def as_words(options: dict[str, Any]) -> list[str]:
    """Options as a command line has them."""
    words = []
    for name, value in options.items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def short_run(place: Place, name: str, **more: Any) -> dict[str, Any]:
    """The recipe for a few steps, without 4 bits and without a cache."""
    options = {"load_in_4bit": False, "cache_frozen": "off", "max_steps": place.size(40, 4)}
    return place.train(name, **(options | more))


def prediction(place: Place) -> list[Row]:
    """Labels from a saved model: float32 against bfloat16."""
    import opinionlm
    from benchmarks.ways import load_posts
    from opinionlm.training.cost import peak_memory_mb, reset_peak_memory

    short_run(place, "saved")
    posts = load_posts(ROOT / "data", place.scratch / "data").dataset["train"]["text"][: place.size(2000, 24)]
    rates, labels, peaks = [], [], []
    for bf16 in (False, True):
        release_memory()
        reset_peak_memory()
        predictor = opinionlm.load(
            place.run_folder("saved") / "best",
            device=place.device,
            precision="bfloat16" if bf16 else "float32",
            max_tokens_per_batch=16_384,
        )
        predictor.predict(posts[:16])
        started = time.perf_counter()
        labels.append([answer.label for answer in predictor.predict(posts)])
        rates.append(len(posts) / (time.perf_counter() - started))
        peaks.append(peak_memory_mb())
        del predictor
    same = sum(one == other for one, other in zip(*labels, strict=True))
    shutil.rmtree(place.run_folder("saved"))
    return [
        compare("posts labelled, float32 and bfloat16", *rates, "posts/s", more_is_better=True),
        compare("posts with the same label in both", len(posts), same, "posts", more_is_better=True),
        compare("peak memory, float32 and bfloat16", *peaks, "MB"),
    ]


def resume(place: Place) -> list[Row]:
    """A run that goes on from its middle ends with the bits of the one that was not interrupted."""
    import torch

    same = [goes_on_exactly(place, {}), goes_on_exactly(place, {"full_determinism": True})]
    torch.use_deterministic_algorithms(False)
    return [
        compare("runs with equal bits, default kernels", 1, same[0], "run", more_is_better=True),
        agree("runs with equal bits, deterministic kernels", 1, same[1], "run", tolerance=0),
    ]


def goes_on_exactly(place: Place, more: dict[str, Any]) -> bool:
    """Whether a run that lost its second half trains the same weights again, to the bit."""
    steps = place.size(40, 4)
    more = {"max_steps": steps, "eval_strategy": "steps", "eval_steps": steps // 2} | more
    short_run(place, "resumed", **more)
    folder = place.run_folder("resumed")
    newest = folder / "checkpoints" / f"checkpoint-{steps}"
    unbroken = (newest / "trained.safetensors").read_bytes()
    # As after a kill between the two checkpoints.
    (folder / "metrics.json").unlink()
    shutil.rmtree(newest)
    shutil.rmtree(folder / "best")
    short_run(place, "resumed", **more, overwrite=False)
    again = (newest / "trained.safetensors").read_bytes()
    shutil.rmtree(folder)
    return again == unbroken


def memory(place: Place, four_bit: bool) -> list[Row]:
    """Peak memory of training texts of 512 tokens, four at a time: top block against adapters and all weights."""
    common = {"pad_to_max": True, "load_in_4bit": four_bit, "max_steps": place.size(6, 2)}
    small = {"max_train_samples": place.size(24, 8), "max_eval_samples": place.size(16, 8)}
    ways = {"QLoRA": "qlora"} if four_bit else {"LoRA on all blocks": "lora", "all weights": "full"}
    top = short_run(place, "memory", **common, **small)["cost"]["peak_memory_mb"]
    rows = []
    for name, adaptation in ways.items():
        peak = short_run(place, "memory", **common, **small, adaptation=adaptation)["cost"]["peak_memory_mb"]
        rows.append(compare(f"peak memory, {name} and the top block", peak, top, "MB"))
    shutil.rmtree(place.run_folder("memory"))
    return rows


# In the order of importance.
CHECKS = (
    Check(
        "recipe_bf16",
        "Gemma 3 1B, bfloat16 autocast, configs/gemma1b.yaml",
        90,
        PROGRAM,
        partial(recipe, four_bit=False),
    ),
    Check(
        "recipe_nf4",
        "Gemma 3 1B, NF4, configs/gemma1b.yaml",
        110,
        (*PROGRAM, "bitsandbytes"),
        partial(recipe, four_bit=True),
    ),
    Check("instruct", "Instruction tuning against TRL", 60, (*PROGRAM, "trl"), instruct),
    Check("label_scoring", "Label scoring", 50, PROGRAM, label_scoring),
    Check("fsdp2", "FSDP2 on one GPU", 60, PROGRAM, fsdp2),
    Check("prediction", "Prediction", 30, PROGRAM, prediction),
    Check("resume", "Going on from a checkpoint, to the bit", 50, PROGRAM, resume),
    Check("memory_bf16", "Memory, bfloat16", 45, PROGRAM, partial(memory, four_bit=False)),
    Check("memory_nf4", "Memory, NF4", 40, (*PROGRAM, "bitsandbytes"), partial(memory, four_bit=True)),
)
