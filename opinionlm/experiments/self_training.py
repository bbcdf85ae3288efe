"""Semi-supervised learning: soft labels for the training texts whose labels a run was not shown.

    python train_classifier.py --config configs/minilm.yaml --max_train_samples 500 --run_name teacher
    python -m opinionlm.experiments.self_training outputs/teacher
    python train_classifier.py --config configs/minilm.yaml --soft_labels outputs/teacher-soft_labels.csv \
        --soft_label_share 1 --class_weights none --run_name student

The teacher is a finished run with ``max_train_samples``: the other training texts stand for posts that nobody
labelled. They get the teacher's calibrated probabilities, those that it learned from their labels. With a share of 1
the student learns from nothing else; class weights would count labels that it must not know. The teacher itself is the
row to compare with, and a run on all labels the upper end.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import yaml

from opinionlm.config.options import DataConfig
from opinionlm.errors import UserError, run_script
from opinionlm.experiments.answers import read_run
from opinionlm.experiments.changed_texts import saved_predictor
from opinionlm.experiments.cross_fit import soft_labels_file, write_soft_labels
from opinionlm.utils.command_line import Parser


def label_the_rest(folder: Path) -> tuple[Path, int, float]:
    """Write ``<run folder>-soft_labels.csv``: one line per training text of the teacher's data set.

    Returns:
        The file, the texts that the teacher labelled, and the share of them that it got right.

    Raises:
        UserError: no finished run, one that learned from every training text, or one whose texts have several labels.
    """
    from opinionlm.data.encoding.columns import subset
    from opinionlm.data.loading import load_data
    from opinionlm.inference.predictions import LabelPrediction

    run = read_run(folder, "test")
    if run.has_sets:
        raise UserError(f"{folder}: gives texts any number of labels; soft labels are those of texts with one each")
    taxonomy = run.taxonomy
    options = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    data = DataConfig(**{one.name: options[one.name] for one in fields(DataConfig) if one.name in options})
    texts = load_data(data).dataset["train"]
    labelled = set(subset(texts, data.max_train_samples, options["seed"])["id"])
    rest = np.array([name not in labelled for name in texts["id"]])
    if not rest.any():
        raise UserError(
            f"{folder}: learned from all {len(texts):,} training texts, so that none is left to label; train it with "
            "max_train_samples"
        )
    unlabelled = texts.select(np.flatnonzero(rest))
    found = saved_predictor(folder).predict(unlabelled.to_list(), are_prepared=True)
    said = [one.probabilities for one in found if isinstance(one, LabelPrediction) and one.probabilities]
    if len(said) < len(found):
        raise UserError(f"{folder}: best/ gives no probabilities of labels; only a classifier can be a teacher")
    probabilities = np.eye(len(taxonomy.leaves))[np.asarray(texts["label"])]
    probabilities[rest] = [[of_leaf[leaf] for leaf in taxonomy.leaves] for of_leaf in said]
    path = soft_labels_file(folder)
    write_soft_labels(path, list(texts["id"]), probabilities, taxonomy)
    right = probabilities[rest].argmax(axis=1) == np.asarray(unlabelled["label"])
    return path, len(unlabelled), float(right.mean())


def main(argv: list[str] | None = None) -> None:
    """Label, and say what to train next."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="TEACHER", help="folder of a finished run with max_train_samples")
    path, count, right = label_the_rest(parser.parse(argv).folder)
    print(
        f"{count:,} training texts labelled by what learned from the others, {right:.1%} of them rightly\n"
        f"Train the student on all of them with\n"
        f"  --soft_labels {path} --soft_label_share 1 --class_weights none"
    )


if __name__ == "__main__":
    run_script(main)
