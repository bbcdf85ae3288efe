"""Start a training from a config: the locks of its run folders, the imports, its seeds."""

from __future__ import annotations

from typing import Any

from opinionlm.config.config import Config
from opinionlm.runs.lock import Held, folders_of, is_first_process, locked_run, this_process
from opinionlm.runs.tuning_spaces import checked_tuning, require_optuna
from opinionlm.utils.loading import libraries_loading
from opinionlm.utils.progress import show_lines_at_once
from opinionlm.utils.shipped import require_model


def announce(config: Config) -> None:
    """Say what begins, before the libraries are loaded, which takes seconds; only the first process does.

    Raises:
        UserError: nothing is finished yet, and the data or a model of this machine are not there.
    """
    if not any((folder / "metrics.json").is_file() for folder in folders_of(config.training)):
        # Imported late, for the sake of --help; what it says is printed when the data are loaded.
        from opinionlm.data.preparation.sources import source_of

        source_of(config.data)
        require_model(config.model.model_name_or_path)
    if is_first_process():
        show_lines_at_once()
        print(f"start   {config.source} → {config.run_folder} (loading libraries)", flush=True)


def launch_script(config: Config) -> dict[str, Any] | None:
    """What the training scripts do with a config: `launch`, with trials of ``tune`` that share what is imported.

    A process that shared the trials with another one of the same command leaves it the run.

    Raises:
        UserError: as of `launch`.
    """
    try:
        return launch(config, forks=True)
    except Held as held:
        if config.training.tune is None or held.command != this_process().command:
            raise
        print(f"tuned   the trials are done, and the other process trains with the best values: {held}")
        return None


def launch(config: Config, forks: bool = False) -> dict[str, Any] | None:
    """Train a config of `train_classifier.py` or `train_instruct.py`, once or once per seed of ``seeds``.

    Args:
        config: of the run.
        forks: whether the trials of ``tune`` share what is imported; for scripts alone, see
            `opinionlm.runs.processes`.

    Returns:
        The content of ``metrics.json``, or of the summary over seeds; None where the run was finished already, and in
        the processes that only help.

    Raises:
        UserError: another process holds a run folder, or options, data or model cannot be used.
    """
    if config.training.tune is not None:
        # Without the lock: several processes may share the trials. Loaded late, for the few that ask for it.
        require_optuna()
        tuning = checked_tuning(config)
        show_lines_at_once()
        with libraries_loading():
            from opinionlm.runs.tuning import with_best_values
        config = with_best_values(config, tuning, forks)
    name = config.training.push_to_hub if is_first_process() else None
    with locked_run(config.training):
        announce(config)
        # Imported late, so that a held folder is answered at once.
        with libraries_loading():
            from opinionlm.inference.hub import push_model, require_pushable
            from opinionlm.runs.seeds import train_seeds
            from opinionlm.utils.distributed import quiet_libraries

            if config.script == "train_instruct":
                from opinionlm.runs.train_instruct import train
            else:
                from opinionlm.runs.train_classifier import train
        quiet_libraries()
        if name is not None:
            require_pushable(name)
        metrics = train_seeds(config, train)
        if name is not None:
            print(f"pushed  {config.run_folder} → {push_model(config.run_folder, name)}")
        return metrics
