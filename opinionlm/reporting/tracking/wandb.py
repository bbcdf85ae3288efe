"""A Weights & Biases run: online where credentials and server answer in time, offline otherwise."""

from __future__ import annotations

import glob
import json
import netrc
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import wandb

from opinionlm.config.config import Config
from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.class_predictions import SplitPredictions
from opinionlm.evaluation.predictions import Predictions
from opinionlm.reporting.tracking.base import WANDB_RUN_ID, Tracker, flatten, say, shown, type_and_line
from opinionlm.utils.files import write_text

# How long a run waits for the server, at its start and for the last uploads at its end (seconds).
INIT_TIMEOUT = 15
FINISH_TIMEOUT = 60
# How long its file may lag behind, by default 15 s: what a kill of all processes loses.
FLUSH_INTERVAL = 1.0
# How long reading the file of an earlier part of a run may take.
INSPECT_TIMEOUT = 60


def start_wandb(config: Config, run_folder: Path, environment: Mapping[str, Any]) -> wandb.Run | None:
    """Start a run, in the mode that ``WANDB_MODE``, credentials and network allow; never waits for long.

    The run's id is kept in ``run_folder/wandb_run_id``, so that a resumed run continues the same W&B run.

    Returns:
        The run, or None when W&B is disabled by ``WANDB_MODE``.
    """
    settings = wandb.setup().settings
    reason: str | None
    # `dryrun` and `run` are W&B's former names of the modes.
    match settings.mode:
        case "disabled":
            return None
        case "offline" | "dryrun":
            reason = "offline mode was asked for"
        case _:
            reason = None if has_credentials(settings.base_url) else "no API key is configured"
    if reason is None:
        try:
            run = init_wandb(config, run_folder, environment, online=True)
            say(f"W&B: {run.url}")
            return run
        except Exception as error:
            reason = f"the server cannot be used: {type_and_line(error)}"
            # The failed attempt holds the run id until its service ends.
            wandb.teardown()
    run = init_wandb(config, run_folder, environment, online=False)
    # W&B makes a folder for every part of a run that was interrupted; synced together they are one run. A part that
    # was killed at once has left no file. Two of one second differ by a number behind the id.
    own = Path(run.settings.sync_dir)
    parts = sorted(own.parent.glob(f"offline-run-*-{glob.escape(run.id)}*"))
    parts = [part for part in parts if part.name == own.name or any(part.glob("*.wandb"))]
    folders = shlex.join(str(shown(part)) for part in parts)
    say(f"W&B: offline ({reason}); upload later with: wandb sync {folders}")
    return run


def init_wandb(config: Config, run_folder: Path, environment: Mapping[str, Any], online: bool) -> wandb.Run:
    """Call ``wandb.init`` silently and with bounded waiting."""
    own_timeout = "WANDB_INIT_TIMEOUT" in os.environ
    settings = wandb.Settings(
        silent=True,
        console="off",
        login_timeout=INIT_TIMEOUT,
        init_timeout=float(os.environ["WANDB_INIT_TIMEOUT"]) if own_timeout else INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
        x_transaction_log_flush_interval=FLUSH_INTERVAL,
    )
    return wandb.init(
        project=config.tracking.wandb_project,
        name=config.training.run_name,
        group=config.tracking.wandb_group,
        tags=config.tracking.wandb_tags,
        id=wandb_run_id(run_folder),
        # Offline it is noted, so that a further part of a run joins the others when they are synced.
        resume="allow",
        dir=str(run_folder),
        mode="online" if online else "offline",
        config=config.flat() | {"environment": dict(environment)},
        allow_val_change=True,
        settings=settings,
    )


def has_credentials(base_url: str) -> bool:
    """Whether W&B would find a key without asking: in the environment, or in the netrc file under its host."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(urlsplit(base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_run_id(run_folder: Path) -> str:
    """The id of this run at W&B, made up once per run folder; an agent of a sweep has given one."""
    file = run_folder / WANDB_RUN_ID
    if not file.is_file():
        given = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        write_text(file, (given or secrets.token_hex(4)) + "\n")
    return file.read_text(encoding="utf-8").strip()


def logged_steps(run: wandb.Run) -> dict[str, int]:
    """The last step of every metric that the earlier parts of a run have logged, from the files that W&B keeps."""
    own = Path(run.settings.sync_dir)
    files = own.parent.glob(f"*run-*-{glob.escape(run.id)}*/*.wandb")
    steps: dict[str, int] = {}
    for file in files:
        if file.parent.name == own.name:
            continue
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=INSPECT_TIMEOUT).stdout
        for record in map(json.loads, found.splitlines()):
            item = record.get("history", {}).get("item", {})
            for name in item.keys() - {"step"} if "step" in item else ():
                steps[name] = max(int(item["step"]), steps.get(name, -1))
    return steps


class WandbTracking(Tracker):
    """Logs to a W&B run, online or offline.

    W&B's history cannot be taken back: what a resumed run does again is not logged again. It gives the same values.

    Args:
        run: a started run.
        artifacts: what versions of data and model hold: references, whole files, or nothing at all.
    """

    def __init__(self, run: wandb.Run, artifacts: Literal["references", "files", "none"] = "references") -> None:
        self.run = run
        self.earlier = logged_steps(run)
        self.artifacts = artifacts
        # The optimizer step is an axis of its own: W&B's counter must never fall, a resumed run's step does.
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log as history what no earlier part of the run has logged."""
        fresh = {name: value for name, value in metrics.items() if step > self.earlier.get(name, -1)}
        if fresh:
            self.run.log({**fresh, "step": step})

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Log as summary, nested values with their path: ``test/macro_f1``."""
        self.run.summary.update(flatten(values))

    def log_predictions(self, split: str, predictions: Predictions, figures: Mapping[str, Path]) -> None:
        """Log the figures and tables and, of a classifier, W&B's own confusion chart."""
        content: dict[str, Any] = {}
        if isinstance(predictions, SplitPredictions):
            content[f"{split}/confusion"] = wandb.plot.confusion_matrix(
                y_true=predictions.gold.tolist(),
                preds=predictions.predicted.tolist(),
                class_names=list(predictions.labels),
                title=f"{split}: confusion",
            )
        for name, file in figures.items():
            content[f"{split}/{name}_figure"] = wandb.Image(str(file))
        for name, table in predictions.tables().items():
            content[f"{split}/{name}"] = wandb.Table(columns=table.columns, data=table.rows)
        self.run.log(content)

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Log the data as what went in and the model as what came out.

        W&B refuses ``use_artifact`` offline; there the data are logged with the run, and in both modes the model's
        metadata name them. Equal content is one version at the server, whoever logs it.
        """
        if self.artifacts == "none":
            return
        facts = {"fingerprint": prepared.fingerprint, "task": prepared.task}
        data = self._artifact(f"data-{prepared.name}", "dataset", prepared.path, facts)
        if self.run.offline:
            self.run.log_artifact(data)
        else:
            self.run.use_artifact(data)
        if best.is_dir():
            facts = {"data": data.name, "data_fingerprint": prepared.fingerprint, "run": self.run.id}
            model = self._artifact(f"model-{self.run.name or self.run.id}", "model", best, facts)
            self.run.log_artifact(model, aliases=["best"])

    def _artifact(self, name: str, kind: str, folder: Path, facts: dict[str, Any]) -> wandb.Artifact:
        """A version of a folder; W&B takes names of letters, digits, dots, dashes and underscores."""
        artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9._-]", "_", name)[:128], type=kind, metadata=facts)
        # One by one: of a whole folder W&B prints that it is reading it.
        for file in sorted(path for path in folder.resolve().rglob("*") if path.is_file()):
            part = file.relative_to(folder.resolve()).as_posix()
            if self.artifacts == "files":
                artifact.add_file(str(file), name=part)
            else:
                artifact.add_reference(file.as_uri(), name=part)
        return artifact

    def finish(self, failed: bool = False) -> None:
        """Wait a bounded time for the last uploads."""
        try:
            self.run.finish(exit_code=1 if failed else 0)
        except TimeoutError:
            folder = shown(Path(self.run.settings.sync_dir))
            say(f"W&B: not everything is uploaded after {FINISH_TIMEOUT} s; upload the rest with: wandb sync {folder}")
