"""Finished classifiers as one: the average of their probabilities, scored like a run and saved like one.

    python -m opinionlm.experiments.ensemble outputs/minilm-seed0 outputs/gemma270m_best-seed0 --run_name both

The runs may be of unlike models, TF-IDF too; they have to be evaluated on the same texts. The decision, the
temperature of the average and the label sets are fitted on validation before test is scored, as the options of the
first run say. `best/` names the members' folders, and predict.py takes it like that of any run; a run that leaves no
model of its own (`engine: tfidf`) is scored with the others, and then there is no `best/`; nor is there one where the
models do not read the same (one the platform, say, and another the text alone).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.errors import UserError, run_script
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import read_object
from opinionlm.utils.loading import libraries_loading

if TYPE_CHECKING:
    from opinionlm.config.config import Config


def main(argv: list[str] | None = None) -> int:
    """Average runs as the command line says."""
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished classifiers")
    parser.add_argument("--run_name", required=True, help="name of the ensemble, a new one")
    parser.add_argument("--output_dir", help="folder that its run folder comes into [that of the first run]")
    arguments = parser.parse(argv)
    runs: list[Path] = arguments.runs
    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise UserError("ensemble: give at least two run folders, each of them once")
    folder = Path(arguments.output_dir or runs[0].parent) / arguments.run_name
    if folder.exists():
        raise UserError(f"--run_name: {folder} is there already; give another name, or delete it")
    for run in runs:
        require_classifier(run)
    average(runs, folder)
    return 0


def require_classifier(run: Path) -> None:
    """Refuse a folder that holds no finished classifier of texts.

    Raises:
        UserError: it does not.
    """
    for name in ("config.yaml", "metrics.json", "predictions/test.csv"):
        if not (run / name).is_file():
            raise UserError(f"{run}: {name} is missing; give the folder of a finished run of train_classifier.py")
    if not (run / "labels.json").is_file():
        raise UserError(f"{run}: does not label texts, and only labels can be averaged")
    train = read_object(run / "metrics.json").get("train", {})
    if "members" in train:
        raise UserError(f"{run}: is an ensemble itself; give the runs that it averages")
    if "supervised_tokens" in train or "steps" not in train:
        raise UserError(f"{run}: is no classifier; an ensemble averages runs of train_classifier.py")


def average(runs: list[Path], folder: Path) -> None:
    """Score and save the average of runs in a new run folder.

    Raises:
        UserError: the runs were evaluated on other texts or have other labels, or the first one's data is gone.
    """
    with libraries_loading():
        from opinionlm.data.loading import load_rows
        from opinionlm.experiments.answers import read_run, require_same_posts
        from opinionlm.inference.ensemble import why_apart
        from opinionlm.runs.ensembles import SPLITS, average_runs
        from opinionlm.runs.lock import locked_run
        from opinionlm.runs.seeds import stored_metrics

    for split in SPLITS:
        require_same_posts([read_run(run, split) for run in runs])
    config = options_of(runs[0], folder)
    members = [options_of(run, run.resolve()) for run in runs]
    with locked_run(config.training):
        metrics = [stored_metrics(run) for run in runs]
        if average_runs(config, load_rows(config.data), runs, metrics, members) is None:
            raise UserError(f"{runs[0]}: its data has changed since it was evaluated; train it anew")
    if reason := why_apart([run / "best" for run in runs]):
        print(f"scored only: {reason}")


def options_of(run: Path, folder: Path) -> Config:
    """The options that a finished run had, its run folder being another one, or where it lies now."""
    from opinionlm.config.parser import Layer, new_config

    place = Layer("the command line", {"output_dir": str(folder.parent), "run_name": folder.name})
    return new_config(run / "config.yaml", place, "train_classifier")


if __name__ == "__main__":
    run_script(main)
