"""What a config's models say of training texts that they did not learn from: soft labels for training once more.

    python -m opinionlm.experiments.cross_fit --config configs/minilm.yaml --folds 3
    python train_classifier.py --config configs/minilm.yaml --soft_labels outputs/minilm-seed42-crossfit/<file>

The training split is cut into folds (``--folds``, 3 by default), the rows of a label shared out equally. Every fold is
labelled by a model that `train_classifier.py` trained on the others, chosen and calibrated on validation as always;
test is never read. The folder outputs/<run_name>-crossfit gets a data set and a run folder per fold, soft_labels.csv
and, last of all, cross_validation.json with the scores over all folds. Given again, the command does what is missing.
With ``tune`` every fold has trials of its own, which choose on the same validation texts.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from opinionlm.config.config import Config
from opinionlm.config.method_options import RobustConfig
from opinionlm.config.options import ModelConfig
from opinionlm.config.parser import ConfigParser
from opinionlm.config.training_options import TrainingConfig
from opinionlm.errors import UserError, run_script
from opinionlm.runs.lock import locked
from opinionlm.runs.processes import ConsoleProcess
from opinionlm.runs.tuning_report import seconds_of_trials
from opinionlm.runs.tuning_spaces import checked_tuning
from opinionlm.utils.shipped import model_file, script_environment

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from opinionlm.data.prepared import PreparedDataset
    from opinionlm.data.taxonomy import Taxonomy

SOFT_LABELS = "soft_labels.csv"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train on all folds but one, in turn; returns the content of ``cross_validation.json``."""
    parser = ConfigParser(__doc__, "train_classifier")
    parser.add_argument("--folds", metavar="int", type=int, default=3, help="parts of the training split [3]")
    own, config = parser.parse_config(argv)
    if own.folds < 2:
        raise UserError(f"--folds: {own.folds} must be at least 2")
    if config.training.seeds is not None:
        raise UserError(f"{config.source}: seeds: soft labels are made with one seed; give seed instead")
    if config.training.tune is not None:
        checked_tuning(config)
    with locked(crossfit_folder(config.training)):
        return cross_fit(config, own.folds)


def crossfit_folder(training: TrainingConfig) -> Path:
    """Where the folds and what comes of them lie."""
    return training.run_folder.with_name(f"{training.run_name}-crossfit")


def soft_labels_file(folder: Path) -> Path:
    """Where the labels of a teacher's run folder lie: beside it."""
    return folder.with_name(f"{folder.name}-soft_labels.csv")


def cross_fit(config: Config, number: int) -> dict[str, Any]:
    """Train and label fold by fold, and put the labels together.

    Args:
        config: of `train_classifier.py`, with one seed.
        number: of folds.

    Raises:
        UserError: a task without labels of texts, a model that learned from labels of these texts, or a run failed.
    """
    import numpy as np

    from opinionlm.data.contamination import seen_among
    from opinionlm.data.encoding.columns import subset
    from opinionlm.data.loading import load_data
    from opinionlm.evaluation.metrics import classification_scores
    from opinionlm.utils.files import write_json

    folder, model = crossfit_folder(config.training), config.model
    prepared = load_data(config.data)
    taxonomy = prepared.taxonomy
    if prepared.task != "sequence" or taxonomy is None:
        raise UserError(
            f"{config.data.dataset}: task {prepared.task} has no single labels of texts, so there are none to soften"
        )
    refuse_taught(model)
    texts = subset(prepared.dataset["train"], config.data.max_train_samples, config.training.seed)
    runs = write_folds(config, prepared, texts, number)
    if config.data.max_eval_samples is not None:
        print("max_eval_samples: not used, as every training text gets a label; validation is whole in every fold")

    labels, row_of = np.asarray(texts["label"]), {name: row for row, name in enumerate(texts["id"])}
    probabilities, decided = np.full((len(labels), len(taxonomy.leaves)), np.nan), labels.copy()
    for fold, run in enumerate(runs):
        print(f"\nFold {fold + 1} of {number}; what the run calls test is that part of the training split", flush=True)
        ids, said, predicted = labelled_fold(run, folder, taxonomy)
        rows = [row_of[name] for name in ids]
        probabilities[rows], decided[rows] = said, predicted
    write_soft_labels(folder / SOFT_LABELS, texts["id"], probabilities, taxonomy)
    summary: dict[str, Any] = {
        "folds": number,
        "texts": len(labels),
        # Without their labels, which is no harm to soft labels; but a score of texts that were read flatters a little.
        "seen_in_pretraining": seen_among(model, texts["text"]),
        "cross_validated": classification_scores(labels, decided, taxonomy),
        "cost": cost_of_folds(runs),
    }
    # Not metrics.json: that would make the folder a run, which it is not.
    write_json(folder / "cross_validation.json", summary)
    print(closing_lines(summary, folder))
    return summary


def write_folds(config: Config, prepared: PreparedDataset, texts: Dataset, number: int) -> list[Config]:
    """Write the data set of every fold and the config of its run; what is there already stays.

    Returns:
        The configs of the runs.
    """
    import numpy as np

    from opinionlm.data.preparation.folds import fold_numbers, write_fold

    folder = crossfit_folder(config.training)
    fold_of = fold_numbers(np.asarray(texts["label"]), number, config.training.seed)
    # Other folds or texts lie elsewhere: runs over another folder have other options, so they are not taken for these.
    content = json.dumps([prepared.fingerprint, list(texts["id"]), fold_of.tolist()])
    data_folder = folder / "data" / hashlib.sha256(content.encode()).hexdigest()[:12]
    runs = [fold_config(config, folder, data_folder, fold) for fold in range(number)]
    for fold, run in enumerate(runs):
        write_fold(prepared, texts, fold_of == fold, Path(run.data.dataset))
        text = yaml.safe_dump(run.flat(), sort_keys=False, allow_unicode=True)
        (folder / f"{run.training.run_name}.yaml").write_text(text, encoding="utf-8")
    return runs


def labelled_fold(run: Config, folder: Path, taxonomy: Taxonomy) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """Train the run of a fold unless it is finished, and read what it says of the fold's texts.

    Returns:
        Their ids, the probabilities ``(rows, leaves)`` and the leaves decided on ``(rows,)``.
    """
    from opinionlm.experiments.answers import read_run
    from opinionlm.runs.ensembles import read_probabilities
    from opinionlm.runs.folder import is_finished

    # One that tunes is finished under the values that its trials chose, which only the training script knows.
    if run.training.tune is not None or not is_finished(run):
        train(folder / f"{run.training.run_name}.yaml")
    answers = read_run(run.run_folder, "test")
    _, probabilities = read_probabilities(run.run_folder / "predictions" / "test.csv", taxonomy)
    # A fold is never resumed once it has given its labels, and optimizer states of many folds fill a disk.
    shutil.rmtree(run.run_folder / "checkpoints", ignore_errors=True)
    return answers.ids, probabilities, answers.predicted


def cost_of_folds(runs: Sequence[Config]) -> dict[str, Any]:
    """What soft labels cost before the run that learns from them: a training per fold, and its trials."""
    from opinionlm.runs.seeds import stored_metrics
    from opinionlm.training.spending import members_cost

    cost = members_cost([stored_metrics(run.run_folder)["cost"] for run in runs])
    if runs[0].training.tune is not None:
        cost["tuning_seconds"] = sum(seconds_of_trials(run.run_folder) for run in runs)
        cost["total_seconds"] += cost["tuning_seconds"]
    return cost


def closing_lines(summary: Mapping[str, Any], folder: Path) -> str:
    """What came of it and what to type next, for the terminal."""
    from opinionlm.training.spending import seconds_text

    scores, cost, seen = summary["cross_validated"], summary["cost"], summary["seen_in_pretraining"]
    warning = (
        f"\nThe model read {seen:,} of these texts before, without labels: compare its scores with those of models "
        "that did, too\n"
    )
    tuning = f", {seconds_text(cost['tuning_seconds'])} of them in trials" if "tuning_seconds" in cost else ""
    return (
        f"{warning if seen else ''}\n"
        f"{summary['texts']:,} training texts, each labelled by a model of the other folds: macro-F1 "
        f"{scores['macro_f1']:.3f}, accuracy {scores['accuracy']:.3f}\n"
        f"The folds took {seconds_text(cost.get('total_seconds', cost['train_seconds']))}{tuning}\n"
        f"Train on what they say beside the labels with\n"
        f"  --soft_labels {folder / SOFT_LABELS}"
    )


def fold_config(config: Config, folder: Path, data_folder: Path, fold: int) -> Config:
    """The config of a fold's run: the same options over the fold's data set, which is already cut to size."""
    one = copy.deepcopy(config)
    one.data.dataset = str(data_folder / f"fold{fold}")
    one.data.train_platforms = one.data.eval_platforms = one.data.max_train_samples = one.data.max_eval_samples = None
    one.training.output_dir, one.training.run_name = str(folder), f"{config.training.run_name}-fold{fold}"
    one.tracking.wandb_group = config.tracking.wandb_group or folder.name
    # Soft labels of an earlier round must not come back as those of this one.
    one.robust.soft_labels, one.robust.soft_label_share = None, RobustConfig().soft_label_share
    return one


def refuse_taught(model: ModelConfig) -> None:
    """Refuse a classifier's backbone that was trained on noted texts: it may have learned the labels of a fold.

    Pretraining on the texts alone is no harm; it notes them too (`opinionlm.data.contamination`).

    Raises:
        UserError: it is one.
    """
    from opinionlm.data.contamination import SEEN_TEXTS

    name, revision = model.model_name_or_path, model.model_revision
    noted, settings = (model_file(name, file, revision) for file in (SEEN_TEXTS, "config.json"))
    if noted is not None and settings is not None and "opinionlm_" in settings.read_text(encoding="utf-8"):
        raise UserError(
            f"model_name_or_path: '{name}' was trained on labels, so what it says of training texts may repeat "
            "them; start from a pretrained model"
        )


def train(path: Path) -> None:
    """Run `train_classifier.py` on a config, in a process of its own.

    Raises:
        UserError: it failed; what it printed says why.
    """
    code = ConsoleProcess(["train_classifier", "--config", str(path)], script_environment()).wait()
    if code != 0:
        raise UserError(f"{path}: training ended with exit code {code}, see above; give the command again to go on")


def write_soft_labels(path: Path, ids: list[str], probabilities: np.ndarray, taxonomy: Taxonomy) -> None:
    """One line per training text: its id and a probability per leaf, as in a run's prediction files."""
    from opinionlm.utils.files import write_csv

    header = ["id", *(f"probability_{leaf}" for leaf in taxonomy.leaves)]
    rows = [[name, *(f"{p:.6f}" for p in row)] for name, row in zip(ids, probabilities, strict=True)]
    write_csv(path, header, rows)


if __name__ == "__main__":
    run_script(main)
