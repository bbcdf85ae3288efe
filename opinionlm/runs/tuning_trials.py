"""One trial of a study: the values that are drawn, a run of the training script with them, its validation score."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tqdm import tqdm

from opinionlm.config.chosen_metric import ChosenMetric
from opinionlm.config.config import Config, default_of
from opinionlm.errors import UserError
from opinionlm.runs.lock import Held, locked
from opinionlm.runs.processes import ConsoleProcess, FreshProcess, load_libraries
from opinionlm.runs.tuning_report import value_text
from opinionlm.runs.tuning_spaces import Range, Space, Tuning
from opinionlm.training.checkpoints import MANIFEST
from opinionlm.utils.files import write_text

if TYPE_CHECKING:
    import optuna

# Seconds between two looks at a trial.
POLL = 1.0
# A trial whose process dies so often fails.
RETRIES = 3
# What has no place in a trial: its data are cut already, nobody watches it, and it does not tune.
LEFT_OUT = {"tune", "seeds", "overwrite", "push_to_hub", "train_platforms", "eval_platforms"}
LEFT_OUT |= {"data_source", "data_dir", "prepared_dir"}
LEFT_OUT |= {"report_to", "wandb_project", "wandb_group", "wandb_tags", "wandb_artifacts"}


@dataclass(frozen=True)
class Row:
    """What is tuned.

    Attributes:
        config: the run's options.
        tuning: what is asked for.
        space: what is chosen from.
        metric: the validation score that is to be the best.
        name: of the study.
        folder: gets a folder, a config and a log per trial.
        data: the prepared data set of the trials.
    """

    config: Config
    tuning: Tuning
    space: Space
    metric: ChosenMetric
    name: str
    folder: Path
    data: Path

    @property
    def sign(self) -> int:
        """Of a score in the study, which is to be as large as possible."""
        return 1 if self.metric.greater_is_better else -1

    def options(self, slot: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a trial."""
        flat = {name: value for name, value in self.config.flat().items() if name not in LEFT_OUT}
        extra = self.config.training.extra
        stated = {name: value for name, value in flat.items() if name in extra or value != default_of(name)}
        own: dict[str, Any] = {"seed": self.tuning.seed, "report_to": "none", "dataset": str(self.data)}
        own |= {"output_dir": str(self.folder), "run_name": run_name(slot)}
        return stated | dict(self.tuning.options) | dict(values) | own


@dataclass(frozen=True, eq=False)
class Trainings:
    """How trials are started and stopped.

    Attributes:
        environment: of their processes.
        forks: whether they are forked from a process that has loaded the libraries: for scripts alone, see
            `opinionlm.runs.processes`.
        stopped: set by whoever waits in another thread, to end the trial that is under way.
    """

    environment: Mapping[str, str]
    forks: bool
    stopped: threading.Event = field(default_factory=threading.Event)

    def get_ready(self) -> None:
        """Load what all trials share, which counts for none of them."""
        if self.forks:
            load_libraries(self.environment)

    def start(self, arguments: Sequence[str], output: int) -> ConsoleProcess | FreshProcess:
        """Start a command of the console; its output goes to an open file."""
        process = ConsoleProcess if self.forks else FreshProcess
        return process(arguments, self.environment, output)


def run_trial(trial: optuna.Trial, row: Row, trainings: Trainings) -> None:
    """Train with the values that are drawn, and tell the study the validation score, with its sign; print a line.

    A training that fails is noted: it was one of the budget.

    Raises:
        UserError: it was stopped by a signal; it is put back, as where this process is interrupted.
    """
    import optuna
    from optuna.storages._heartbeat import get_heartbeat_thread
    from optuna.trial import TrialState

    # Of attempts that were stopped.
    earlier = trial.user_attrs.get("seconds", 0.0)
    started = time.monotonic()
    # Optuna gives signs of life within `optimize` only, which takes trials in another order.
    with get_heartbeat_thread(trial._trial_id, trial.study._storage):
        try:
            score = score_of(trial, row, trainings)
            state = TrialState.FAIL if score is None else TrialState.COMPLETE
        except optuna.TrialPruned:
            score, state = None, TrialState.PRUNED
        except BaseException:
            trial.set_user_attr("seconds", earlier + time.monotonic() - started)
            put_back(trial)
            trial.study.tell(trial, state=TrialState.FAIL)
            raise
        seconds = earlier + time.monotonic() - started
        trial.set_user_attr("seconds", seconds)
        trial.study.tell(trial, score, state=state)
    tqdm.write(trial_line(trial, row, seconds))


def trial_line(trial: optuna.Trial, row: Row, seconds: float) -> str:
    """What a trial tried and found, to read."""
    done = trial.study.get_trials(deepcopy=False)
    found = done[trial.number]
    match found.state.name:
        case "COMPLETE":
            outcome = f"{row.metric.name} {row.sign * found.values[0]:.3f}"
        case "PRUNED":
            last = found.intermediate_values[max(found.intermediate_values)]
            outcome = f"given up at {row.metric.name} {row.sign * last:.3f}"
        case _:
            outcome = f"failed, see {log_of(row.folder / run_name(found.user_attrs['slot']))}"
    scores = [one.values[0] for one in done if one.state.name == "COMPLETE"]
    best = f", best {row.sign * max(scores):.3f}" if scores else ""
    return f"tuning  {place_of(trial, row)}: {outcome} after {seconds:.0f} s{best}"


def place_of(trial: optuna.Trial, row: Row) -> str:
    """Which trial of how many of which study, by the name of its folder."""
    return f"{row.folder.name}: {run_name(trial.user_attrs['slot'])} of {row.tuning.trials}"


def values_text(values: Mapping[str, Any], row: Row) -> str:
    """Options and the values that a trial has for them, to read."""
    return ", ".join(f"{name} {value_text(decoded(row.space[name], value))}" for name, value in values.items())


def score_of(trial: optuna.Trial, row: Row, trainings: Trainings) -> float | None:
    """The score of a trial, None where its training failed, which is noted; arguments as of `run_trial`.

    Raises:
        TrialPruned: it lay below the median of the others' at the same evaluation.
        UserError: it was stopped by a signal.
    """
    import optuna

    slot = trial.user_attrs["slot"]
    values = {name: drawn(trial, name, choices) for name, choices in row.space.items()}
    if (twin := twin_of(trial)) is not None:
        trial.set_user_attr("same_as", twin.user_attrs["slot"])
        return twin.values[0]
    options, folder = row.options(slot, values), row.folder / run_name(slot)
    try:
        code = watch(trial, row, options, trainings)
    except optuna.TrialPruned:
        drop_surplus(folder)
        raise
    if code < 0 or code >= 128:
        raise UserError(f"{folder}: the trial was stopped ({code}); give the same command again to go on")
    drop_surplus(folder)
    if code == 0 and (folder / "metrics.json").is_file():
        return row.sign * read_json(folder / "metrics.json")["validation"][row.metric.name]
    lines = log_of(folder).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    trial.set_user_attr("error", f"exit code {code}: {lines[-1][:300] if lines else 'no output'}")
    return None


def drop_surplus(folder: Path) -> None:
    """Delete what a trial that is over leaves but its scores: weights and optimizer states of a table fill a disk."""
    for surplus in ("checkpoints", "best", "figures", "predictions"):
        shutil.rmtree(folder / surplus, ignore_errors=True)


def drawn(trial: optuna.Trial, name: str, choices: Range | tuple[Any, ...]) -> Any:
    """A value for an option."""
    if not isinstance(choices, Range):
        # As JSON: a database holds words and numbers, and an option may be a list.
        return decoded(choices, trial.suggest_categorical(name, [json.dumps(choice) for choice in choices]))
    if isinstance(choices.low, int):
        return trial.suggest_int(name, choices.low, int(choices.high), log=choices.log)
    return trial.suggest_float(name, choices.low, choices.high, log=choices.log)


def decoded(choices: Range | tuple[Any, ...], value: Any) -> Any:
    """A value as the study holds it, as an option has it."""
    return value if isinstance(choices, Range) else json.loads(value)


def twin_of(trial: optuna.Trial) -> optuna.trial.FrozenTrial | None:
    """A trial that ran to its end with the same values: with the same seed it would be the same run."""
    done = [one for one in trial.study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]
    return next((one for one in done if one.params == trial.params), None)


def watch(trial: optuna.Trial, row: Row, options: Mapping[str, Any], trainings: Trainings) -> int:
    """Run a trial's training, and tell the study what every evaluation found; returns its exit code.

    Raises:
        TrialPruned: the study gave it up.
        UserError: it was told to stop.
    """
    import optuna

    folder = row.folder / options["run_name"]
    config = folder.with_name(f"{folder.name}.yaml")
    write_text(config, yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True))
    wait_for_earlier(folder, trainings)
    tqdm.write(f"tuning  {place_of(trial, row)}, {values_text(trial.params, row)} (see {log_of(folder)})")
    with open(log_of(folder), "wb") as log:
        process = trainings.start([row.config.script, "--config", str(config)], log.fileno())
        code, reported = None, 0
        try:
            while code is None:
                code = process.wait(POLL)
                if trainings.stopped.is_set():
                    raise UserError(f"{folder}: stopped")
                scores = evaluations(folder, row.metric.name)
                for step in range(reported, len(scores)):
                    trial.report(row.sign * scores[step], step)
                    if trial.should_prune():
                        raise optuna.TrialPruned
                reported = max(reported, len(scores))
            return code
        finally:
            if code is None:
                process.terminate()
                process.wait()


def wait_for_earlier(folder: Path, trainings: Trainings) -> None:
    """A training that an earlier process started goes on without it: wait for it, then take what it found.

    Raises:
        UserError: the study was told to stop.
    """
    said = False
    while not trainings.stopped.is_set():
        try:
            with locked(folder):
                return
        except Held as held:
            if not said:
                tqdm.write(f"tuning  waits for a training that is under way already: {held}")
            said = True
            time.sleep(POLL)
    raise UserError(f"{folder}: stopped")


def put_back(trial: optuna.Trial) -> None:
    """Have a trial that was stopped run again, with its values and seconds; unlike a death that does not count."""
    import optuna

    found = trial.study.get_trials(deepcopy=True)[trial.number]
    again = optuna.create_trial(
        state=optuna.trial.TrialState.WAITING,
        params=found.params,
        distributions=found.distributions,
        user_attrs=found.user_attrs,
        system_attrs=found.system_attrs,
    )
    trial.study.add_trial(again)


def evaluations(folder: Path, metric: str) -> list[float]:
    """The validation scores of a run so far: from its history, else from its last whole checkpoint."""
    if (folder / "metrics.json").is_file():
        history = read_json(folder / "history.json")
    else:
        sealed = [path.parent for path in folder.glob(f"checkpoints/checkpoint-*/{MANIFEST}")]
        if not sealed:
            return []
        last = max(sealed, key=lambda path: int(path.name.rpartition("-")[2]))
        history = read_json(last / "trainer_state.json")["log_history"]
    return [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]


def retry() -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    """What puts the trial of a dead process back into its slot."""
    import optuna

    return optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)


def run_name(slot: int) -> str:
    """The folder of a trial, within the study's."""
    return f"trial{slot:02}"


def log_of(folder: Path) -> Path:
    """What a trial's training printed."""
    return folder.with_name(f"{folder.name}.log")


def read_json(path: Path) -> Any:
    """Content of a JSON file that a run wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
