"""Choose options of a run by trials on validation, with Optuna; any number of processes share one study.

A study has as many slots as trials are asked for. A slot's number and the study's seed decide what is drawn for it, so
that two processes never draw alike, and a slot whose process died (it gives no heartbeat) is taken up again with the
values that it had. Every trial is a run of the training script in a process of its own, over data whose test split is
validation: it cannot read the test rows.
"""

from __future__ import annotations

import copy
import json
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.config.chosen_metric import SCORES, ChosenMetric, asked_metric, direction
from opinionlm.config.config import Config
from opinionlm.data.loading import load_data
from opinionlm.data.preparation.folds import write_without_test
from opinionlm.errors import UserError, one_line, stopped
from opinionlm.runs.folder import changed_start, input_fingerprints
from opinionlm.runs.lock import locked
from opinionlm.runs.tuning_report import End, Trial, Tuned, best_text, trials_folder, write_report
from opinionlm.runs.tuning_spaces import Range, Tuning, space_of
from opinionlm.runs.tuning_trials import RETRIES, Row, Trainings, decoded, retry, run_trial
from opinionlm.utils.files import NO_RESULTS, write_text
from opinionlm.utils.shipped import script_environment

if TYPE_CHECKING:
    import optuna

    from opinionlm.data.prepared import PreparedDataset

# Random values first; then TPE (Bergstra et al. 2011) learns from them. Optuna begins with ten, nearly a whole budget.
STARTUP = 4
# Seconds between two looks at trials of other processes.
POLL = 1.0
# Seconds between two signs of life of a trial, and without one until it is taken for dead.
HEARTBEAT, GRACE = 5, 30
# What reports call the states of Optuna's trials; all others are failed.
ENDS: Mapping[str, End] = {"COMPLETE": "complete", "PRUNED": "pruned"}


def tune(config: Config, tuning: Tuning, name: str, folder: Path, trainings: Trainings) -> Tuned:
    """Run the trials of a study that are not done, beside any other processes that do so; wait until all are done.

    Args:
        config: the run's options, those to be tuned among them; the space's values win over them.
        tuning: what is asked for.
        name: of the study, in a database that many share.
        folder: gets the trials and, unless a database is named, the study.
        trainings: how trials are started.

    Raises:
        UserError: the run reads none of the space, the folder's study is another one, a trial was stopped by a
            signal, or every trial failed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats are an experimental feature of Optuna, which says so at every turn.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    space = space_of(tuning, config)
    prepared = load_data(config.data)
    data = folder / "data" / prepared.fingerprint[:12]
    write_without_test(prepared, data)
    write_text(folder / NO_RESULTS, f"Trials of {name}: what their metrics.json calls test is validation.\n")
    row = Row(config, tuning, space, metric_of(config, prepared), name, folder, data)
    print(f"tuning  {folder.name}: {tuning.trials} trials of {', '.join(space)}, in {folder}", flush=True)
    study = open_study(row, prepared.fingerprint)
    work_through(study, row, trainings)
    return result_of(study, row)


def with_best_values(config: Config, tuning: Tuning, forks: bool) -> Config:
    """The config of a run that asks for ``tune``, with the values that its trials found best; printed and written.

    Args:
        config: of the run.
        tuning: what it asks for.
        forks: whether trials share what is imported; for scripts alone, see `opinionlm.runs.processes`.

    Raises:
        UserError: see `tune`; or several processes are to train together, each of which would tune.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"{config.source}: tune: give it to one process; several may train with the best values")
    folder = trials_folder(config.run_folder)
    try:
        tuned = tune(config, tuning, folder.name, folder, Trainings(script_environment(), forks))
    except KeyboardInterrupt as interruption:
        raise stopped(interruption, f"; the same command goes on with the trials in {folder}") from None
    report = write_report(folder, config.training.run_name, tuned)
    print(f"tuned   {best_text(tuned)}; more in {report}", flush=True)
    chosen = copy.deepcopy(config)
    for option, value in tuned.best.values.items():
        chosen.set(option, value)
    return chosen


def metric_of(config: Config, prepared: PreparedDataset) -> ChosenMetric:
    """The validation score that chooses among trials: the one that chooses the checkpoint."""
    name = asked_metric(config.training) or SCORES[prepared.task][0]
    return ChosenMetric(name, direction(name) == "higher")


def open_study(row: Row, fingerprint: str) -> optuna.Study:
    """Make the study with all of its slots, or join it.

    Raises:
        UserError: the database cannot be opened, or has a study of this name that asks for something else.
    """
    import optuna

    # Its base class is Optuna's.
    from opinionlm.runs.tuning_sampler import SlotSampler

    url = row.tuning.storage or f"sqlite:///{row.folder / 'study.db'}"
    # SQLite locks when several make the tables at once (optuna #820, #5385): one does, the others wait for it.
    with locked(row.folder / "study", wait=""):
        try:
            storage = optuna.storages.RDBStorage(
                url,
                # A busy SQLite file is waited for.
                engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else None,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=retry(),
            )
        except Exception as error:
            raise UserError(f"tune: storage: {url}: {one_line(error)}") from None
        sampler = SlotSampler(row.tuning.seed, STARTUP)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
        asked = asked_of(row, fingerprint)
        try:
            study = optuna.create_study(
                storage=storage,
                sampler=sampler,
                pruner=pruner,
                study_name=row.name,
                direction="maximize",
            )
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(study_name=row.name, storage=storage, sampler=sampler, pruner=pruner)
        else:
            study.set_user_attr("asked", asked)
            for slot in range(row.tuning.trials):
                study.enqueue_trial({}, user_attrs={"slot": slot})
    require_same_study(study, asked, row)
    return study


def require_same_study(study: optuna.Study, asked: Mapping[str, Any], row: Row) -> None:
    """A study that is there must be the one that is asked for.

    Raises:
        UserError: it is another one.
    """
    # The one who made it may be writing what it asks for.
    for _ in range(30):
        stored = study.user_attrs.get("asked")
        if stored is not None:
            break
        time.sleep(POLL)
    known = stored or {}
    changed = sorted(name for name in asked if name != "files" and known.get(name) != asked[name])
    # Older studies did not note the files, and one that is done needs none.
    changed += ["files"] if changed_start(known.get("files", {}), asked["files"]) else []
    if changed:
        remedy = "delete the folder, or give another output_dir"
        if row.tuning.storage is not None:
            # A database knows a study by its name alone: that of the run, or of the table's file.
            remedy = f"delete the folder and the study {row.name!r} of the database, or give another run_name"
            remedy += " (a table: another file name)"
        raise UserError(f"{row.folder}: tune: its study was made with other {', '.join(changed)}; {remedy}")


def asked_of(row: Row, fingerprint: str) -> dict[str, Any]:
    """What makes one study of several calls: JSON values."""
    # Where things lie may differ from machine to machine.
    own = {"output_dir", "run_name", "dataset", *row.space}
    options = {name: value for name, value in row.options(0, {}).items() if name not in own}
    space = {
        name: [values.low, values.high, values.log] if isinstance(values, Range) else list(values)
        for name, values in row.space.items()
    }
    asked = {"trials": row.tuning.trials, "space": space, "data": fingerprint, "options": options}
    asked["files"] = input_fingerprints(row.config)
    return json.loads(json.dumps(asked, default=str))


def work_through(study: optuna.Study, row: Row, trainings: Trainings) -> None:
    """Run what waits until every slot is done, by this process or another.

    Raises:
        UserError: a trial was stopped; it waits for whoever goes on.
    """
    import optuna

    wait_for_the_dead(study, row, trainings)
    if is_over(study):
        return
    trainings.get_ready()
    while not is_over(study):
        if trainings.stopped.is_set():
            raise UserError(f"{row.folder}: stopped")
        # SQLite locks no row between a look and a mark: two processes would take one trial, or put one back twice.
        with locked(row.folder / "study", wait=""):
            optuna.storages.fail_stale_trials(study)
            trial = taken(study)
        if trial is None:
            time.sleep(POLL)
        else:
            run_trial(trial, row, trainings)


def taken(study: optuna.Study) -> optuna.Trial | None:
    """Take the first slot that waits; None where none does.

    Optuna's ``ask`` would take the trial that was made first, so that a slot that was put back came last, and the
    values of those before it would be drawn without what it finds.
    """
    import optuna

    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    for trial in sorted(waiting, key=lambda one: one.user_attrs["slot"]):
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            # False where another process was faster.
            if study._storage.set_trial_state_values(trial._trial_id, state=optuna.trial.TrialState.RUNNING):
                return optuna.Trial(study, trial._trial_id)
    return None


def wait_for_the_dead(study: optuna.Study, row: Row, trainings: Trainings) -> None:
    """Wait until what runs is seen to live or taken for dead: values are drawn from what earlier trials found."""
    import optuna

    begun = time.monotonic()
    running = (optuna.trial.TrialState.RUNNING,)
    while study.get_trials(deepcopy=False, states=running) and time.monotonic() < begun + GRACE + HEARTBEAT:
        if trainings.stopped.is_set():
            return
        with locked(row.folder / "study", wait=""):
            optuna.storages.fail_stale_trials(study)
        time.sleep(POLL)


def slots_of(study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
    """Slot → the last of its trials; the others' processes died."""
    return {trial.user_attrs["slot"]: trial for trial in study.get_trials(deepcopy=False)}


def is_over(study: optuna.Study) -> bool:
    """Whether every slot is done."""
    return all(is_done(slot) for slot in slots_of(study).values())


def is_done(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether nothing more will come of a trial: a dead one is put back, unless that was done too often."""
    if trial.state.name != "FAIL":
        return trial.state.is_finished()
    return "error" in trial.user_attrs or len(trial.system_attrs.get("retry_history", [])) >= RETRIES


def result_of(study: optuna.Study, row: Row) -> Tuned:
    """What the trials of a study found.

    Raises:
        UserError: every trial failed.
    """
    trials = []
    for slot, found in sorted(slots_of(study).items()):
        values = {name: decoded(row.space[name], value) for name, value in found.params.items()}
        state = ENDS.get(found.state.name, "failed")
        score = None if state == "failed" else row.sign * found.values[0]
        trials.append(Trial(slot, values, state, score, found.user_attrs.get("seconds", 0.0)))
    if not any(trial.state == "complete" for trial in trials):
        reasons = [found.user_attrs.get("error", "its process died") for found in slots_of(study).values()]
        raise UserError(f"{row.folder}: tune: every trial failed; the last: {reasons[-1]}")
    return Tuned(row.space, row.metric.name, row.metric.greater_is_better, tuple(trials))
