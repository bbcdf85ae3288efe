"""One run of a training script: its folder, its processes, and what every engine is told about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments, set_seed

from opinionlm.adaptation.callbacks import training_callbacks
from opinionlm.adaptation.parameter_groups import check_schedule
from opinionlm.config.chosen_metric import ChosenMetric
from opinionlm.config.config import Config
from opinionlm.data.contamination import refuse_seen_texts
from opinionlm.data.loading import load_data
from opinionlm.data.prepared import PreparedDataset
from opinionlm.models.gguf import require_converted
from opinionlm.reporting.tracking.base import Tracker, Trackers
from opinionlm.reporting.tracking.open import TrackingCallback, open_tracking
from opinionlm.runs.folder import create_run, environment, goes_on, is_finished, revision_of
from opinionlm.training.arguments import choose_by, training_arguments
from opinionlm.training.batching import HasLengths, batch_plan, optimizer_steps
from opinionlm.training.callbacks import ConsoleCallback, MemoryCallback, TrainingClock
from opinionlm.training.checkpoints import latest_checkpoint
from opinionlm.training.spending import Preparation, add_preparation
from opinionlm.utils.shipped import find_model, model_commit, model_identity


class Run:
    """One run of a training script.

    Args:
        config: the run's options.
        arguments: of the trainer; by default those of `train_classifier.py` and `train_instruct.py`.

    Attributes:
        is_main: whether this process writes.
        metric: the validation score that chooses the checkpoint, from `choose_by` on.
        model: which one trains; of the hub, from `pinned` on, by a commit.
        environment: what tells two runs apart, from `create` on.
        clock: seconds of training, from `callbacks` on.

    Raises:
        UserError: TrainingArguments refuses an option.
    """

    metric: ChosenMetric
    environment: dict[str, Any]
    clock: TrainingClock

    def __init__(self, config: Config, arguments: TrainingArguments | None = None) -> None:
        self.config = config
        self.model = config.model
        self.folder = config.run_folder
        self.arguments = arguments or training_arguments(config.training, config.source)
        self.is_main = self.arguments.process_index == 0

    def main_first(self, what: str) -> AbstractContextManager[None]:
        """Have the main process do the work of a block first; the others then find it done."""
        return self.arguments.main_process_first(desc=what)

    def is_finished(self) -> bool:
        """Whether the folder holds this run's results already, which is printed.

        Raises:
            UserError: it holds a run with other options.
        """
        with self.main_first("run folder"):
            finished = is_finished(self.config, self.is_main)
        if finished:
            print(f"{self.folder} is finished already; overwrite: true trains it again")
        return finished

    def pinned(self) -> Config:
        """The config with a commit in the place of the branch or tag of a model of the hub, which may move meanwhile.

        A run that goes on keeps the commit that it began with: its checkpoints hold nothing of what is frozen.
        """
        model = self.config.model
        if self.config.training.engine != "tfidf" and not find_model(model.model_name_or_path).exists():
            begun = revision_of(self.folder) if goes_on(self.config) else None
            commit = begun or model_commit(model.model_name_or_path, model.model_revision)
            self.model = replace(model, model_revision=commit or model.model_revision)
        return replace(self.config, model=self.model)

    def load_data(self) -> PreparedDataset:
        """The data set, raw files prepared by the main process; every process reads the same folder.

        Raises:
            UserError: it cannot be used, or the model has read its validation or test texts, or is a GGUF file that
                cannot be read, which is told before data are prepared.
        """
        has_model, model = self.config.training.engine != "tfidf", self.config.model.model_name_or_path
        if has_model:
            require_converted(model)
        with self.main_first("data"):
            prepared = load_data(self.config.data)
        if has_model:
            refuse_seen_texts(self.model, prepared)
        return prepared

    def choose_by(self, metric: ChosenMetric) -> None:
        """Choose the best checkpoint by a validation score."""
        self.metric = metric
        choose_by(self.arguments, metric)

    def seed(self) -> None:
        """Seed every random generator with the run's seed."""
        set_seed(self.config.training.seed)

    def total_steps(self, train_texts: HasLengths) -> int:
        """Optimizer steps of the run.

        Raises:
            UserError: the schedule does not fit their number.
        """
        plan = batch_plan(train_texts, self.config.data, self.config.training, self.arguments)
        steps = optimizer_steps(plan, self.arguments)
        check_schedule(self.arguments, self.config.source, steps)
        return steps

    def create(self, prepared: PreparedDataset, read: Mapping[str, str] | None = None) -> None:
        """Make the run folder, once data and model are known to be usable.

        Args:
            prepared: the data.
            read: fingerprints of what else the run reads, which the options alone do not tell.

        Raises:
            UserError: it cannot be written, or holds checkpoints that were trained on something else.
        """
        self.environment = environment(self.config, prepared.fingerprint) | dict(read or {})
        if self.is_main:
            found = model_identity(self.model.model_name_or_path, self.model.model_revision)
            self.environment |= {"model_fingerprint": found}
            create_run(self.config, self.environment, prepared.taxonomy)

    def total_preparation(self, now: Preparation) -> Preparation:
        """What all parts of the run spent before training, this one included; noted in the run folder."""
        return add_preparation(self.config, self.environment["data_fingerprint"], now) if self.is_main else now

    def tracker(self) -> Tracker:
        """Where the run is logged; nowhere in the processes that only help."""
        return open_tracking(self.config, self.folder, self.environment) if self.is_main else Trackers({})

    def callbacks(
        self, tracker: Tracker, model: Any, total_steps: int, shown_metrics: Sequence[str] = ()
    ) -> list[TrainerCallback]:
        """What an engine tells about its steps: the terminal, the tracker, the clock, and what the adaptation needs.

        Args:
            tracker: of the run.
            model: with its adaptation applied.
            total_steps: optimizer steps of the run.
            shown_metrics: printed after every evaluation beside the score that chooses the checkpoint.
        """
        # Seconds of training count from here.
        self.clock = TrainingClock()
        console = ConsoleCallback([self.metric.name, *shown_metrics], self.metric.greater_is_better)
        callbacks = [console, TrackingCallback(tracker, self.clock), self.clock, MemoryCallback()]
        callbacks += training_callbacks(model, self.config.method, total_steps)
        if self.config.training.early_stopping_patience is not None:
            callbacks.append(EarlyStoppingCallback(self.config.training.early_stopping_patience))
        return callbacks

    def latest_checkpoint(self) -> str | None:
        """Where an interrupted run goes on; None for a new one."""
        with self.main_first("checkpoint"):
            return latest_checkpoint(self.config.training, self.is_main)
