"""What happens beside the steps of a run: what a person at the terminal sees, and memory given back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opinionlm.utils.memory import return_freed_memory
from opinionlm.utils.progress import progress_bar


class MemoryCallback(TrainerCallback):
    """Gives back what an evaluation has freed, so that it does not add to what steps take."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """An evaluation has ended."""
        return_freed_memory()


class ConsoleCallback(TrainerCallback):
    """Progress of training and evaluations, and one line per evaluation.

    Args:
        shown: scores of that line; the first one is what checkpoints are chosen by. Of equal names one is shown.
        greater_is_better: whether its largest or its smallest value is the best.
    """

    def __init__(self, shown: Sequence[str], greater_is_better: bool = True) -> None:
        self.shown, self.sign = shown, 1 if greater_is_better else -1
        self.bar: tqdm | None = None
        self.evaluation: tqdm | None = None
        self.best: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar where the run (re)starts."""
        if state.best_metric is not None:
            self.best = state.best_metric
        if state.is_world_process_zero:
            done, disable = state.global_step, bool(args.disable_tqdm)
            self.bar = progress_bar(
                desc="training", total=state.max_steps, initial=done, unit="steps", disable=disable
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the training loss beside the bar."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.4f}", refresh=False)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance the bar of an evaluation by Trainer, which opens with its first batch."""
        if not state.is_world_process_zero:
            return
        if self.evaluation is None:
            total, disable = len(kwargs["eval_dataloader"]), bool(args.disable_tqdm)
            self.evaluation = progress_bar(desc="evaluation", total=total, unit="batches", disable=disable)
        self.evaluation.update()
        if self.evaluation.n >= (self.evaluation.total or 0):
            self.evaluation.close()
            self.evaluation = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Print epoch, losses and scores of an evaluation."""
        if not state.is_world_process_zero or not metrics:
            return
        score = metrics[f"eval_{self.shown[0]}"]
        # As for the engines: a score that is no number is never the best.
        is_best = not math.isnan(score) and (self.best is None or self.sign * score > self.sign * self.best)
        mark = "  best so far" if is_best else ""
        self.best = score if is_best else self.best
        # The loss stands before them anyway.
        names = [name for name in dict.fromkeys(self.shown) if name != "loss"]
        scores = "  ".join(f"{name} {metrics[f'eval_{name}']:.4f}" for name in names)
        tqdm.write(
            f"epoch {state.epoch:.2f}  step {state.global_step}/{state.max_steps}  "
            f"train loss {metrics.get('loss_since_evaluation', math.nan):.4f}  "
            f"validation loss {metrics['eval_loss']:.4f}  {scores}{mark}"
        )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class TrainingClock(TrainerCallback):
    """Seconds of training, those before an interruption included: every checkpoint remembers how long it took."""

    def __init__(self) -> None:
        self.earlier = 0.0
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the clock was made, and what a continued run took before."""
        return self.earlier + time.perf_counter() - self.started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Within it no time passes: what is done there is not training."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.started += time.perf_counter() - begun

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Where a run goes on, add the seconds up to its checkpoint."""
        path = clock_file(args, state)
        if state.global_step and path.is_file():
            self.earlier = float(path.read_text(encoding="utf-8"))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the seconds so far beside the checkpoint's weights."""
        if state.is_world_process_zero:
            clock_file(args, state).write_text(f"{self.seconds:.3f}\n", encoding="utf-8")


def clock_file(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the seconds up to the current step are kept."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / "seconds.txt"
