"""Instruction tuning and label scoring with a vocabulary of 262,144, against TRL's SFTTrainer and against generating.

    python benchmarks/instruct.py --json instruct.json
    python benchmarks/instruct.py --quick                       # under a minute

Both train the last block and the final norm of the same Gemma 3 shape on the same token ids with the same labels (-100
but on answers) in the same order. TRL 1.16 scores the vocabulary in tiles and keeps no logits; on a CPU it does so for
every position, with Triton on a GPU for the answers' only. Time is the median over optimizer steps of runs that take
turns in one process; memory is that of a process which does nothing else, above what it held before the model was
loaded. The last rows are about scoring labels: see scoring_rows.py, and scoring.py, which measures these alone and
also on a GPU. The program ends with 1 when a row misses its goal.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.classifier import in_new_process
from benchmarks.report import Row, agree, compare, environment, finish

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig

Way = Literal["trl", "ours"]
WAYS: tuple[Way, Way] = ("trl", "ours")
VOCABULARY = 262_144
SEED = 11
# Of the two losses of a step. bfloat16 keeps 8 bits of a number.
LARGEST_DIFFERENCE = {"float32": 1e-4, "bfloat16": 0.05}


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        steps: optimizer steps of a run.
        batch: texts of a step.
        max_length: tokens of prompt and answer.
        hidden: width of the model.
        repetitions: runs of each way.
        scored: posts whose labels are scored.
        scoring_repetitions: of each way of scoring.
        device: ``cpu`` or ``cuda``.
        dtype: of the parameters.
    """

    steps: int
    batch: int
    max_length: int
    hidden: int
    repetitions: int
    scored: int
    scoring_repetitions: int
    device: str = "cpu"
    dtype: str = "float32"


QUICK = Size(steps=3, batch=4, max_length=96, hidden=32, repetitions=1, scored=16, scoring_repetitions=1)
FULL = Size(steps=3, batch=8, max_length=128, hidden=64, repetitions=3, scored=32, scoring_repetitions=5)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)

    from benchmarks.scoring_rows import scoring_rows

    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="opinionlm-benchmark-") as folder:
        scratch = Path(folder)
        posts = in_new_process(write_inputs, options, size, scratch)
        peaks = {way: in_new_process(peak_memory, options, size, scratch, way) for way in WAYS}
        rows, facts = training_rows(options, size, scratch)
    for kind, unit in (("above the process without the model", "MB"), ("whole process", "MB")):
        above = kind.startswith("above")
        pair = [peaks[way][0 if above else 1] for way in WAYS]
        # The libraries' own memory, some 700 MB, is the same on both sides.
        rows.append(compare(f"peak memory, {kind}", *pair, unit, 3.0 if above else None))
    rows += scoring_rows(size.scoring_repetitions, size.scored, size.scored // 8)
    facts |= {"posts": posts, "quick": options.quick}
    return finish(facts, rows, options.json, options.figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a smaller model, shorter texts, one repetition")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch [1]")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="holds cryptoqa-opinion/")
    parser.add_argument("--prepared_dir", type=Path, default=Path("outputs/data"), help="prepared posts are kept here")
    return parser.parse_args(argv)


def write_inputs(options: argparse.Namespace, size: Size, scratch: Path, shape: Gemma3TextConfig | None = None) -> str:
    """Write model and encoded posts, so that no measured process has to; says which posts they are.

    Args:
        options: where the posts are.
        size: how much is measured.
        scratch: gets both.
        shape: of the model; by default four blocks as wide as ``size`` says.
    """
    import torch
    from transformers import Gemma3ForCausalLM

    from benchmarks.ways import ROOT, TOKENIZER, load_posts, narrow_gemma
    from opinionlm.config.options import ModelConfig
    from opinionlm.data.encoding.columns import subset
    from opinionlm.data.encoding.examples import encode_examples
    from opinionlm.data.encoding.prompts import PromptEncoder
    from opinionlm.data.encoding.templates import label_words, load_template
    from opinionlm.data.encoding.tokenizers import load_tokenizer
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    posts = load_posts(options.data_dir, options.prepared_dir)
    tokenizer = load_tokenizer(ModelConfig(model_name_or_path=str(TOKENIZER)))
    template = load_template(ROOT / "configs" / "prompts" / "opinion.yaml")
    encoder = PromptEncoder(template, tokenizer, size.max_length, tuple(label_words(template, posts.taxonomy)))
    texts = subset(posts.dataset["train"], size.steps * size.batch, SEED)
    encode_examples(texts, encoder).save_to_disk(scratch / "encoded")
    torch.manual_seed(SEED)
    with torch.device(size.device):
        model = Gemma3ForCausalLM(narrow_gemma(VOCABULARY, 4, size.hidden) if shape is None else shape)
    model.to(getattr(torch, size.dtype)).save_pretrained(scratch / "model")
    tokenizer.save_pretrained(scratch / "model")
    return "real CryptoQA posts" if posts.name.startswith("cryptoqa") else "bundled sample posts"


def training_rows(options: argparse.Namespace, size: Size, scratch: Path) -> tuple[list[Row], dict[str, Any]]:
    """Step time and losses of runs that take turns, and the facts that they depend on."""
    import torch
    from datasets import load_from_disk

    torch.set_num_threads(options.threads)
    seconds: dict[Way, list[tuple[float, float]]] = {"trl": [], "ours": []}
    losses: dict[Way, list[float]] = {"trl": [], "ours": []}
    for repetition in range(size.repetitions):
        for way in WAYS if repetition % 2 == 0 else WAYS[::-1]:
            found, times = train(way, size, scratch)
            losses[way] = found
            # The first step of a run pays for what is set up once.
            seconds[way] += times[1:]
            print(f"  {way}: {median(wall for wall, _ in times[1:]):.2f} s per step", file=sys.stderr)
    encoded = load_from_disk(scratch / "encoded")
    facts = environment(
        device=size.device,
        threads=torch.get_num_threads(),
        vocabulary=VOCABULARY,
        steps=size.steps,
        batch=size.batch,
        hidden_size=size.hidden,
        mean_tokens=round(sum(encoded["length"]) / len(encoded), 1),
        supervised_tokens_per_step=round(sum(map(len, encoded["answer_ids"])) / size.steps, 1),
    )
    rows = []
    for number, clock in enumerate(("time", "processor time")):
        pair = [median(times[number] for times in seconds[way]) for way in WAYS]
        rows.append(compare(f"{clock} per optimizer step", *pair, "s", 1 / 0.75))
    apart = max(abs(one - other) for one, other in zip(losses["trl"], losses["ours"], strict=True))
    rows.append(
        agree(
            f"largest difference of the loss in {size.steps} steps", 0.0, apart, "nats", LARGEST_DIFFERENCE[size.dtype]
        )
    )
    return rows, facts


def peak_memory(options: argparse.Namespace, size: Size, scratch: Path, way: Way) -> tuple[float, float]:
    """Peak memory in MB of training one way, above what the process held before, and altogether.

    To be called in a process of its own.
    """
    import torch
    import trl  # noqa: F401 — both ways hold it before they are measured

    import opinionlm.training.instruct_trainer  # noqa: F401 — likewise

    torch.set_num_threads(options.threads)
    before = resident_mb()
    train(way, size, scratch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return peak - before, peak


def resident_mb() -> float:
    """Memory in MB that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def train(way: Way, size: Size, scratch: Path) -> tuple[list[float], list[tuple[float, float]]]:
    """One run; returns the loss and the seconds (see `StepClock`) of every optimizer step."""
    import torch
    from datasets import load_from_disk
    from transformers import set_seed

    from opinionlm.adaptation.methods import adapt_generative
    from opinionlm.config.method_options import MethodConfig
    from opinionlm.config.options import ModelConfig
    from opinionlm.models.backbones import read_model_config
    from opinionlm.models.generative import load_generative
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    set_seed(SEED)
    chosen = ModelConfig(model_name_or_path=str(scratch / "model"), dtype=size.dtype)
    model = load_generative(chosen, 1, read_model_config(chosen))
    model = adapt_generative(model, MethodConfig(adaptation="top_blocks", trainable_blocks=1))
    encoded = load_from_disk(scratch / "encoded")
    settings = {
        "output_dir": str(scratch / way),
        "per_device_train_batch_size": size.batch,
        "max_steps": size.steps,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": size.device == "cpu",
        "bf16": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": SEED,
    }
    torch.manual_seed(SEED)
    clock = StepClock()
    trainer = (
        trl_trainer(model, encoded, settings, scratch) if way == "trl" else our_trainer(model, encoded, settings, size)
    )
    trainer.add_callback(clock.callback())
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], clock.seconds


def trl_trainer(model: Any, encoded: Any, settings: dict[str, Any], scratch: Path) -> Any:
    """TRL's trainer on token ids and labels, in the order of the rows."""
    from transformers import AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    def whole(row: dict[str, Any]) -> dict[str, list[int]]:
        prompt, answer = row["prompt_ids"], row["answer_ids"]
        return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}

    arguments = SFTConfig(
        **settings,
        activation_checkpointing=False,
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        train_sampling_strategy="sequential",
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=encoded.map(whole, remove_columns=encoded.column_names),
        processing_class=AutoTokenizer.from_pretrained(scratch / "model"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def our_trainer(model: Any, encoded: Any, settings: dict[str, Any], size: Size) -> Any:
    """Our trainer on the same rows in the same order."""
    import torch
    from transformers import TrainingArguments

    from opinionlm.data.encoding.collators import InstructCollator
    from opinionlm.training.instruct_trainer import InstructTexts, InstructTrainer

    texts = InstructTexts(encoded, torch.ones(max(encoded["label"]) + 1))
    return InstructTrainer(
        model=model,
        args=TrainingArguments(**settings, remove_unused_columns=False, label_names=["labels"]),
        predict=lambda model, prompts: [],
        score=lambda outcome: {},
        plan=InOrder(len(texts), size.batch),
        train_dataset=texts,
        data_collator=InstructCollator(model.config.pad_token_id, encoder_decoder=False),
    )


class InOrder:
    """Batches of the rows one after the other, as a plan of the trainer."""

    def __init__(self, rows: int, batch: int) -> None:
        self.rows, self.batch, self.seed = rows, batch, SEED

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has the same order."""

    def __len__(self) -> int:
        return -(-self.rows // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.rows, self.batch):
            yield list(range(start, min(start + self.batch, self.rows)))


class StepClock:
    """Seconds of every optimizer step, without reading its batch: of the clock on the wall, and of the processor.

    Where others use the machine too, the second number is the one to trust.
    """

    def __init__(self) -> None:
        self.seconds: list[tuple[float, float]] = []
        self.started = (0.0, 0.0)

    def callback(self) -> Any:
        """The trainer's view of this clock."""
        from transformers import TrainerCallback

        from benchmarks.profiling import synchronise

        clock = self

        class Steps(TrainerCallback):
            def on_step_begin(self, args, state, control, **kwargs) -> None:
                synchronise(args.device.type)
                clock.started = (time.perf_counter(), time.process_time())

            def on_step_end(self, args, state, control, **kwargs) -> None:
                synchronise(args.device.type)
                wall, processor = clock.started
                clock.seconds.append((time.perf_counter() - wall, time.process_time() - processor))

        return Steps()


if __name__ == "__main__":
    sys.exit(main())
