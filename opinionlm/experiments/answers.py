"""What finished runs answered, read back from their prediction files, and the ways of training that they make up."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opinionlm.data.iob2 import is_tag
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError, one_line
from opinionlm.evaluation.multi_label_predictions import label_sets
from opinionlm.experiments.ways import LabelWay, ScoreWay, TagWay, Way
from opinionlm.utils.files import read_csv, read_json


@dataclass(frozen=True)
class RunPredictions:
    """What a finished run predicted for one split.

    Attributes:
        name: of the run.
        taxonomy: its label tree.
        ids: of the posts, in the file's order.
        platforms: of the posts; blank where there are none.
        gold: leaf ids ``(rows,)``; where texts have any number of labels, bool ``(rows, leaves)``.
        predicted: the same; as an id the number of leaves stands for an answer that is no label.
        readable: of written sets, which answers are lists, bool ``(rows,)``; None for all.
    """

    name: str
    taxonomy: Taxonomy
    ids: list[str]
    platforms: np.ndarray
    gold: np.ndarray
    predicted: np.ndarray
    readable: np.ndarray | None = None

    @property
    def posts(self) -> str:
        """What runs that can be compared have in common: texts, gold answers, labels."""
        return repr((self.ids, self.gold.tolist(), self.taxonomy.leaves))

    @property
    def has_sets(self) -> bool:
        """Whether texts have any number of labels."""
        return self.gold.ndim == 2

    @property
    def right(self) -> np.ndarray:
        """Which posts have all their labels right, bool ``(rows,)``; an answer that cannot be read never is."""
        if not self.has_sets:
            return self.gold == self.predicted
        right = (self.gold == self.predicted).all(axis=1)
        return right if self.readable is None else right & self.readable


@dataclass(frozen=True)
class TagAnswers:
    """The tags that a finished run gave to the words of one split.

    Attributes:
        name: of the run.
        ids: of the sentences, in the file's order.
        gold: tags in IOB2 per sentence.
        predicted: the same.
    """

    name: str
    ids: list[str]
    gold: list[list[str]]
    predicted: list[list[str]]

    @property
    def posts(self) -> str:
        """See `RunPredictions.posts`."""
        return repr((self.ids, self.gold))

    @property
    def types(self) -> set[str]:
        """Types of the entities in gold and predicted tags."""
        return {tag[2:] for tags in (self.gold, self.predicted) for row in tags for tag in row if tag != "O"}


@dataclass(frozen=True)
class ScoreAnswers:
    """The scores that a finished run gave to the pairs of one split.

    Attributes:
        name: of the run.
        ids: of the pairs, in the file's order.
        gold: scores ``(rows,)``.
        predicted: scores ``(rows,)``.
    """

    name: str
    ids: list[str]
    gold: np.ndarray
    predicted: np.ndarray

    @property
    def posts(self) -> str:
        """See `RunPredictions.posts`."""
        return repr((self.ids, self.gold.tolist()))


Answers = RunPredictions | TagAnswers | ScoreAnswers


def read_answers(folder: Path, split: str) -> Answers | None:
    """Read ``predictions/<split>.csv`` of a finished run that gives labels, tags or scores.

    None of one that writes texts, and of one whose tags hold blanks, which the file does not keep apart.

    Raises:
        UserError: not a finished run, or a damaged file.
    """
    if (folder / "labels.json").is_file():
        return read_run(folder, split)
    table = folder / "predictions" / f"{split}.csv"
    for needed in (folder / "metrics.json", table):
        if not needed.is_file():
            raise UserError(f"{folder}: {needed.relative_to(folder)} is missing; give the folder of a finished run")
    if not (rows := read_rows(folder, split)):
        raise UserError(f"{table}: holds no answer")
    ids, columns = [row["id"] for row in rows], rows[0].keys()
    if {"tokens", "gold", "predicted"} <= columns:
        gold, predicted = ([row[name].split(" ") for row in rows] for name in ("gold", "predicted"))
        # Tags with blanks cannot be told apart again. Words may hold some in files of before they were kept together.
        whole = all(
            len(one) == len(two) and all(map(is_tag, (*one, *two))) for one, two in zip(gold, predicted, strict=True)
        )
        return TagAnswers(folder.name, ids, gold, predicted) if whole else None
    if {"text_pair", "gold", "predicted"} <= columns:
        try:
            scores = (np.array([float(row[name]) for row in rows]) for name in ("gold", "predicted"))
            return ScoreAnswers(folder.name, ids, *scores)
        except ValueError as error:
            raise UserError(f"{table}: expected scores: {error}") from None
    return None


def read_run(folder: Path, split: str) -> RunPredictions:
    """Read ``predictions/<split>.csv`` of a finished run that gives labels.

    Raises:
        UserError: not a finished run, not one that predicts labels, or a damaged file.
    """
    table, labels = folder / "predictions" / f"{split}.csv", folder / "labels.json"
    for needed in (folder / "metrics.json", table):
        if not needed.is_file():
            raise UserError(f"{folder}: {needed.relative_to(folder)} is missing; give the folder of a finished run")
    if not labels.is_file():
        raise UserError(f"{folder}: has no labels.json, since its task gives texts no labels; give a run that does")
    taxonomy = Taxonomy.from_tree(read_json(labels))
    rows = read_rows(folder, split)
    if not rows or not {"id", "platform", "gold", "predicted"} <= rows[0].keys():
        raise UserError(f"{table}: expected the columns id, platform, gold and predicted, and at least one row")
    number = {leaf: index for index, leaf in enumerate(taxonomy.leaves)}
    platforms = np.array([row["platform"] for row in rows])
    if label_sets([row["gold"] for row in rows]) is not None:
        gold, predicted = (members([row[name] for row in rows], taxonomy) for name in ("gold", "predicted"))
        readable = np.array([row["predicted"] != "" for row in rows])
        return RunPredictions(folder.name, taxonomy, [row["id"] for row in rows], platforms, gold, predicted, readable)
    for place, row in enumerate(rows, start=1):
        if row["gold"] not in number:
            raise UserError(f"{table}: row {place}: gold {row['gold']!r} is none of the labels in labels.json")
    gold = np.array([number[row["gold"]] for row in rows])
    predicted = np.array([number.get(row["predicted"], len(number)) for row in rows])
    return RunPredictions(folder.name, taxonomy, [row["id"] for row in rows], platforms, gold, predicted)


def read_rows(folder: Path, split: str) -> list[dict[str, str]]:
    """The rows of a run's prediction file, column → text.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "predictions" / f"{split}.csv"
    try:
        rows = read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)})") from None
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UserError(f"{path}: row {number} has not as many cells as the header; the file is damaged")
    return rows


def members(cells: Sequence[str], taxonomy: Taxonomy) -> np.ndarray:
    """Which leaves texts have, bool ``(rows, leaves)``, from cells that `label_sets` can read."""
    sets = label_sets(cells)
    if sets is None:
        raise UserError("predicted: expected lists of labels, as in gold; the file is damaged")
    return np.array([[leaf in names for leaf in taxonomy.leaves] for names in sets])


def require_same_posts(runs: Sequence[Answers]) -> None:
    """Runs are compared post by post.

    Raises:
        UserError: the runs were evaluated on other posts, with another label tree, or give another kind of answer.
    """
    first = runs[0]
    for other in runs[1:]:
        if type(other) is not type(first):
            raise UserError(f"{other.name} and {first.name} give different kinds of answers; they cannot be compared")
        if (
            isinstance(other, RunPredictions)
            and isinstance(first, RunPredictions)
            and other.taxonomy.to_lists() != first.taxonomy.to_lists()
        ):
            raise UserError(f"{other.name} and {first.name} have different label trees; they cannot be compared")
        if first.posts != other.posts:
            shared = len(set(other.ids) & set(first.ids))
            raise UserError(
                f"{other.name} and {first.name} were evaluated on different posts ({len(other.ids)} and "
                f"{len(first.ids)}, {shared} of them the same); compare runs on the same prepared data"
            )


def way_of(name: str, runs: Sequence[Answers]) -> Way:
    """Runs of one way of training, all over the same posts, as they are compared."""
    first = runs[0]
    match first:
        case RunPredictions():
            return label_way(name, [run for run in runs if isinstance(run, RunPredictions)])
        case ScoreAnswers():
            return ScoreWay(name, first.gold, np.stack([np.asarray(run.predicted) for run in runs]))
        case TagAnswers():
            return tag_way(name, [run for run in runs if isinstance(run, TagAnswers)])


def label_way(name: str, runs: Sequence[RunPredictions]) -> LabelWay:
    """See `way_of`."""
    first = runs[0]
    return LabelWay(name, first.gold, np.stack([run.predicted for run in runs]), len(first.taxonomy.leaves))


def tag_way(name: str, runs: Sequence[TagAnswers]) -> TagWay:
    """See `way_of`."""
    # Loaded late: it imports seqeval, and with it scikit-learn.
    from opinionlm.evaluation.tagging import entity_counts

    counts = [entity_counts(run.gold, run.predicted, sorted(run.types)).sum(axis=2) for run in runs]
    return TagWay(name, np.stack(counts))
