"""Rows whose label is likely wrong, by confident learning (Northcutt et al. 2021, through cleanlab).

    python preprocess.py --config configs/datasets/cryptoqa_tidy.yaml --suspects
    python -m opinionlm.experiments.label_suspects outputs/<run> --split validation

The first checks the training rows of a prepared data set by the baseline of every table, TF-IDF and logistic
regression, each row by a model that never saw it. The second checks validation or test by what a finished run
predicted for it. Both write a CSV, the likeliest mistakes first. Nothing is dropped: a person has to look.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opinionlm.data.preparation.folds import fold_numbers
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError, run_script
from opinionlm.evaluation.metrics import softmax, weighted_log_loss
from opinionlm.evaluation.multi_label import sigmoid
from opinionlm.experiments.answers import RunPredictions, read_rows, read_run
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import write_csv
from opinionlm.utils.progress import progress_bar

if TYPE_CHECKING:
    from datasets import Dataset

FILE = "label_suspects.csv"
HEADER = ["rank", "id", "platform", "text", "label", "suggested", "quality"]
FOLDS, SEED = 5, 0
# Inverse regularisation by the likelihood of validation: unlike macro-F1 it rewards believable probabilities.
GRID = tuple(float(c) for c in 10.0 ** np.arange(-0.5, 2.0, 0.5))


@dataclass(frozen=True)
class Suspect:
    """One row that is likely mislabelled.

    Attributes:
        row: its number in the split.
        label: leaf id that it was given.
        suggested: the likeliest leaf id.
        quality: probability of the given label, cleanlab's default score; low is suspicious.
    """

    row: int
    label: int
    suggested: int
    quality: float


def find_suspects(labels: np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """Rows that confident learning takes for mislabelled, worst quality first.

    Args:
        labels: given leaf ids ``(rows,)``.
        probabilities: by models that did not learn from the row, ``(rows, leaves)``.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    # A label that only one row has cannot be learned without that row, so nothing is known about it.
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    known = np.flatnonzero(counts[labels] > 1)
    # One class alone, such as "not there" of a label that a split never shows, is wrong nowhere.
    if len(np.unique(labels[known])) < 2:
        return []
    given, believed = labels[known], probabilities[known]
    quality = get_label_quality_scores(given, believed)
    # One process: faster than starting several, and the same on every machine.
    flagged = np.flatnonzero(find_label_issues(given, believed, n_jobs=1))
    order = flagged[np.argsort(quality[flagged], kind="stable")]
    suggested = believed.argmax(axis=1)
    return [Suspect(int(known[at]), int(given[at]), int(suggested[at]), float(quality[at])) for at in order]


def held_out_probabilities(
    texts: Sequence[str], labels: np.ndarray, validation: tuple[Sequence[str], np.ndarray], classes: int
) -> np.ndarray:
    """Probabilities of every training row by a model of the other folds, ``(rows, classes)``.

    Args:
        texts: of the training split.
        labels: leaf ids ``(rows,)``, or zeros and ones ``(rows, classes)``.
        validation: texts and labels; the strength of regularisation is chosen on them, once.
        classes: number of leaves.
    """
    from opinionlm.models.linear.tfidf import TfidfClassifier  # scikit-learn: --help does not wait for it

    several = labels.ndim == 2

    def likelihood(gold: np.ndarray, logits: np.ndarray) -> float:
        if several:
            return -float((np.logaddexp(0.0, logits) - gold * logits).mean())
        return -weighted_log_loss(gold, logits, np.ones(classes))

    whole = TfidfClassifier(False, likelihood, GRID).fit((texts, labels), validation, classes)
    # Of several labels the first shares the rows out.
    fold_of = fold_numbers(labels.argmax(axis=1) if several else labels, FOLDS, SEED)
    probabilities = np.empty((len(labels), classes))
    for fold in progress_bar(range(FOLDS), desc="label suspects", unit="folds"):
        inside, outside = np.flatnonzero(fold_of != fold).tolist(), np.flatnonzero(fold_of == fold).tolist()
        if not outside:
            continue
        model = TfidfClassifier(False, likelihood, (whole.regression.c,))
        model.fit(([texts[row] for row in inside], labels[inside]), validation, classes)
        logits = model.logits([texts[row] for row in outside])
        probabilities[outside] = sigmoid(logits) if several else softmax(logits)
    return probabilities


def write_training_suspects(prepared: PreparedDataset) -> str:
    """Write ``label_suspects.csv`` into a prepared folder and say what is in it.

    Raises:
        UserError: a task without labels of texts, or too few texts to learn from.
    """
    if prepared.taxonomy is None:
        raise UserError(f"--suspects: task {prepared.task} has no labels of texts; leave it out")
    from opinionlm.data.encoding.columns import multi_hot
    from opinionlm.models.linear.tfidf import word_texts

    train, held_out = prepared.dataset["train"], prepared.dataset["validation"]
    leaves, path = prepared.taxonomy.leaves, prepared.path / FILE

    def labels_of(rows: Dataset) -> np.ndarray:
        if prepared.task == "sequence":
            return np.asarray(rows["label"])
        return multi_hot(rows["labels"], len(leaves)).astype(bool)

    texts, labels = word_texts(train), labels_of(train)
    validation = (word_texts(held_out), labels_of(held_out))
    probabilities = held_out_probabilities(texts, labels, validation, len(leaves))
    if labels.ndim == 2:
        platforms = np.array(list(train["platform"]))
        rows = RunPredictions("train", prepared.taxonomy, list(train["id"]), platforms, labels, labels)
        return write_set_suspects(path, rows, probabilities, texts, "texts and labels of training")
    suspects = find_suspects(labels, probabilities)
    write_suspects(path, suspects, train["id"], train["platform"], texts, leaves)
    return describe_suspects(suspects, labels, leaves, "training rows", path)


def write_run_suspects(folder: Path, split: str) -> str:
    """The same for a split that a finished run predicted, from its ``predictions/<split>.csv``.

    Raises:
        UserError: not a finished run, or one whose labels have no probabilities.
    """
    run, rows = read_run(folder, split), read_rows(folder, split)
    leaves = run.taxonomy.leaves
    columns = [f"probability_{leaf}" for leaf in leaves]
    if not rows or columns[0] not in rows[0]:
        raise UserError(f"{folder}: its predictions have no probabilities to check labels by; give another run")
    probabilities = np.array([[float(row[column]) for column in columns] for row in rows])
    path = folder / f"label_suspects_{split}.csv"
    texts = [" ".join(filter(None, (row["text"], row.get("text_pair")))) for row in rows]
    if run.has_sets:
        return write_set_suspects(path, run, probabilities, texts, f"texts and labels of {split}")
    suspects = find_suspects(run.gold, probabilities / probabilities.sum(axis=1, keepdims=True))
    write_suspects(path, suspects, run.ids, run.platforms.tolist(), texts, leaves)
    return describe_suspects(suspects, run.gold, leaves, f"rows of {split}", path)


def write_set_suspects(
    path: Path, run: RunPredictions, probabilities: np.ndarray, texts: Sequence[str], what: str
) -> str:
    """Check every label of every text by itself, as there or not; say what is in the file.

    Args:
        path: of the CSV file; it suggests the text's labels with one more, or one less.
        run: its texts have any number of labels; what it predicted does not matter.
        probabilities: of it ``(rows, leaves)``.
        texts: of its rows.
        what: is checked, for the summary.
    """
    leaves, found = run.taxonomy.leaves, []
    for leaf, (given, own) in enumerate(zip(run.gold.T, probabilities.T, strict=True)):
        found += [(one, leaf) for one in find_suspects(given.astype(int), np.stack([1 - own, own], axis=1))]
    rows = []
    for rank, (one, leaf) in enumerate(sorted(found, key=lambda entry: entry[0].quality), start=1):
        sets = [
            np.flatnonzero(run.gold[one.row]).tolist(),
            np.flatnonzero(run.gold[one.row] ^ (np.arange(len(leaves)) == leaf)).tolist(),
        ]
        labels = [json.dumps([leaves[member] for member in one_set], ensure_ascii=False) for one_set in sets]
        rows.append([rank, run.ids[one.row], run.platforms[one.row], texts[one.row], *labels, f"{one.quality:.6f}"])
    write_csv(path, HEADER, rows)
    kinds = Counter((leaf, one.label) for one, leaf in found)
    lines = [f"{len(found):,} of {run.gold.size:,} {what} look mislabelled ({len(found) / run.gold.size:.1%}): {path}"]
    for (leaf, there), count in kinds.most_common(5):
        lines.append(
            f"  {count:>6,}  {leaves[leaf]} is {'there and looks wrong' if there else 'not there and looks right'}"
        )
    return "\n".join(lines)


def write_suspects(
    path: Path,
    suspects: Sequence[Suspect],
    ids: Sequence[str],
    platforms: Sequence[str],
    texts: Sequence[str],
    leaves: Sequence[str],
) -> None:
    """One line per suspect, the likeliest mistake first."""
    # Read once: a column of a data set is decoded anew with every access.
    ids, platforms, texts = list(ids), list(platforms), list(texts)
    rows = [
        [rank, ids[one.row], platforms[one.row], texts[one.row], leaves[one.label], leaves[one.suggested]]
        + [f"{one.quality:.6f}"]
        for rank, one in enumerate(suspects, start=1)
    ]
    write_csv(path, HEADER, rows)


def describe_suspects(
    suspects: Sequence[Suspect], labels: np.ndarray, leaves: Sequence[str], what: str, path: Path
) -> str:
    """How many labels look wrong, which ones and what they are taken for, and where the list is."""
    lines = [
        f"{len(suspects):,} of {len(labels):,} {what} look mislabelled ({len(suspects) / len(labels):.1%}): {path}"
    ]
    pairs = Counter((one.label, one.suggested) for one in suspects)
    lines += [
        f"  {count:>6,}  labelled {leaves[given]}, looks like {leaves[suggested]}"
        for (given, suggested), count in pairs.most_common(5)
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Check a split of a finished run."""
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, metavar="FOLDER", help="folder of a finished run")
    parser.add_argument("--split", choices=["validation", "test"], default="validation", help="[validation]")
    arguments = parser.parse(argv)
    print(write_run_suspects(arguments.run, arguments.split))


if __name__ == "__main__":
    run_script(main)
