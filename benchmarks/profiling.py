"""Where the time goes: while the cache is filled, and in the epochs that read it."""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.ways import SEED, Workload, run, settings
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.encoding.columns import longest_first, numbers_of
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.frozen_prefix import prefix_states
from opinionlm.training.arguments import training_arguments
from opinionlm.training.prefix_cache_building import CPU_TOKENS, GPU_TOKENS, cached_splits, cut
from opinionlm.training.trainer import OpinionTrainer


def building_seconds(work: Workload, scratch: Path) -> tuple[float, float]:
    """Seconds of the bare forward passes of the frozen blocks, and of filling a cache with all that belongs to it.

    The bare passes run on the very batches that the cache is filled with, padded beforehand, once before the cache is
    filled and once after it: whatever comes first also pays for warming up.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        config = settings(work, "ours", 1, SEED, Path(cache), scratch)
        arguments = training_arguments(config.training, config.source)
        model = work.task(config).build_model(len(work.tokenizer)).to(arguments.device).eval()
        batches = building_batches(work)
        encoded = {name: split.encoded for name, split in work.splits.items()}

        before = bare_seconds(model, batches)
        started = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            cached_splits(model, encoded, config.method, arguments, work.tokenizer.pad_token_id)
        building = time.perf_counter() - started
        return (before + bare_seconds(model, batches)) / 2, building


def bare_seconds(model: OpinionClassifier, batches: list[dict[str, torch.Tensor]]) -> float:
    """Seconds of the frozen blocks' forward passes alone."""
    started = time.perf_counter()
    for batch in batches:
        prefix_states(model, batch["input_ids"], batch["attention_mask"])
    synchronise(model.device.type)
    return time.perf_counter() - started


def building_batches(work: Workload) -> list[dict[str, torch.Tensor]]:
    """The padded batches that a cache of these texts is filled with, on the device."""
    collate, batches = PadCollator(work.tokenizer.pad_token_id), []
    budget = GPU_TOKENS if work.device == "cuda" else CPU_TOKENS
    for split in work.splits.values():
        lengths = numbers_of(split.encoded, "length")
        for rows in cut(longest_first(split.encoded), lengths, budget):
            batch = collate([{"input_ids": split.encoded[int(row)]["input_ids"]} for row in rows])
            batches.append({name: tensor.to(work.device) for name, tensor in batch.items()})
    return batches


def synchronise(device: str) -> None:
    """Wait for what a GPU still has to do."""
    if device == "cuda":
        torch.cuda.synchronize()


@dataclass
class Spent:
    """Seconds of the second epoch and the later ones, evaluation left out.

    Attributes:
        loading: reading ids and states, and putting them together to batches.
        blocks: forward and backward pass of what lies above the cut, and the optimizer.
        total: of the epochs.
        counting: whether the clock runs: not in the first epoch, which warms up.
    """

    loading: float = 0.0
    blocks: float = 0.0
    total: float = 0.0
    counting: bool = False

    def add(self, name: str, started: float) -> None:
        """Count the time since ``started`` as spent on one of the parts."""
        if self.counting:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)


class ProfiledTrainer(OpinionTrainer):
    """Keeps account of where the time of an optimizer step goes.

    Args:
        spent: where it is written down.
        arguments: of `OpinionTrainer`.
    """

    def __init__(self, *, spent: Spent, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.spent = spent
        self.add_callback(ClockCallback(spent))

    def get_batch_samples(self, *arguments: Any) -> Any:
        """Fetch the batches of a step, timed."""
        started = time.perf_counter()
        fetched = super().get_batch_samples(*arguments)
        self.spent.add("loading", started)
        return fetched

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Forward and backward pass, timed."""
        started = time.perf_counter()
        loss = super().training_step(*arguments, **named)
        synchronise(self.args.device.type)
        self.spent.add("blocks", started)
        return loss


class ClockCallback(TrainerCallback):
    """Times the optimizer and whole epochs."""

    def __init__(self, spent: Spent) -> None:
        self.spent = spent
        self.epoch_started = self.optimizer_started = 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the clock; it counts from the second epoch on."""
        self.spent.counting = state.epoch >= 1
        self.epoch_started = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop it before the evaluation."""
        self.spent.add("total", self.epoch_started)
        self.spent.counting = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """The optimizer begins."""
        self.optimizer_started = time.perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """The optimizer is done."""
        self.spent.add("blocks", self.optimizer_started)


def profiled_epochs(work: Workload, scratch: Path) -> Spent:
    """Train with the cache and say where the time of the epochs after the first went."""
    spent = Spent()
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        run(work, "ours", 5, scratch, cache=Path(cache), trainer_class=partial(ProfiledTrainer, spent=spent))
    return spent
