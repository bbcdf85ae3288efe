"""Put finished runs side by side, as the opinion paper's result table does (section 13).

    python -m opinionlm.experiments.compare outputs/gemma3_mini-seed42 outputs/gemma3_mini_instruct-seed42

Runs that differ in nothing but their seed are one way of training, shown by its means. For every platform and level it
prints the share of each class among the gold labels and among the predictions of every way, with the F1 of the class,
and below it whether the ways differ beyond chance of posts and seeds, corrected for the number of pairs, and which
cannot be told apart from the best. Given --output, the same goes to a Markdown and a CSV file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opinionlm.config.chosen_metric import score_title
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError, run_script
from opinionlm.evaluation.metrics import f1_from_confusion, level_confusion, level_scores
from opinionlm.evaluation.multi_label import at_level, f1_per_label, written_list_scores
from opinionlm.evaluation.multi_label_predictions import label_sets
from opinionlm.evaluation.significance import mcnemar
from opinionlm.experiments.claims import (
    Pair,
    Way,
    best_line,
    compare_ways,
    difference_text,
    seeds_line,
    shown_p,
    spread_text,
)
from opinionlm.experiments.seed_families import NOT_COMPARED, members_of, one_per_seed
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import read_csv, write_csv, write_text
from opinionlm.utils.markdown import pipe_table

COLUMNS = ["platform", "posts", "level", "class", "gold"]


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


def read_run(folder: Path, split: str) -> RunPredictions:
    """Read ``predictions/<split>.csv`` of a finished run.

    Raises:
        UserError: not a finished run, or not one that predicts labels.
    """
    table, labels = folder / "predictions" / f"{split}.csv", folder / "labels.json"
    for needed in (folder / "metrics.json", labels, table):
        if not needed.is_file():
            raise UserError(f"{folder}: {needed.relative_to(folder)} is missing; give the folder of a finished run")
    taxonomy = Taxonomy.from_tree(json.loads(labels.read_text(encoding="utf-8")))
    rows = read_rows(folder, split)
    if not rows or not {"id", "platform", "gold", "predicted"} <= rows[0].keys():
        raise UserError(f"{table}: expected the columns id, platform, gold and predicted, and at least one row")
    number = {leaf: index for index, leaf in enumerate(taxonomy.leaves)}
    platforms = np.array([row["platform"] for row in rows])
    if label_sets([row["gold"] for row in rows]) is not None:
        gold, predicted = (members([row[name] for row in rows], taxonomy) for name in ("gold", "predicted"))
        readable = np.array([row["predicted"] != "" for row in rows])
        return RunPredictions(folder.name, taxonomy, [row["id"] for row in rows], platforms, gold, predicted, readable)
    gold = np.array([number[row["gold"]] for row in rows])
    predicted = np.array([number.get(row["predicted"], len(number)) for row in rows])
    return RunPredictions(folder.name, taxonomy, [row["id"] for row in rows], platforms, gold, predicted)


def read_rows(folder: Path, split: str) -> list[dict[str, str]]:
    """The rows of a run's prediction file, column → text."""
    return read_csv(folder / "predictions" / f"{split}.csv")


def members(cells: Sequence[str], taxonomy: Taxonomy) -> np.ndarray:
    """Which leaves texts have, bool ``(rows, leaves)``, from cells that `label_sets` can read."""
    sets = label_sets(cells)
    assert sets is not None
    return np.array([[leaf in names for leaf in taxonomy.leaves] for names in sets])


def require_same_posts(runs: Sequence[RunPredictions]) -> None:
    """Runs are compared post by post.

    Raises:
        UserError: the runs were evaluated on other posts or with another label tree.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.taxonomy.to_lists() != first.taxonomy.to_lists():
            raise UserError(f"{other.name} and {first.name} have different label trees; they cannot be compared")
        if other.ids != first.ids or not np.array_equal(other.gold, first.gold):
            shared = len(set(other.ids) & set(first.ids))
            raise UserError(
                f"{other.name} and {first.name} were evaluated on different posts ({len(other.ids)} and "
                f"{len(first.ids)}, {shared} of them the same); compare runs on the same prepared data"
            )


def group_runs(runs: Sequence[RunPredictions], folders: Sequence[Path]) -> dict[str, list[RunPredictions]]:
    """Name of a way of training → its runs: those whose options agree but for the seed; each seed counts once."""
    families: dict[str, list[tuple[Any, RunPredictions]]] = {}
    for run, folder in zip(runs, folders, strict=True):
        options = read_options(folder)
        own = {name: value for name, value in options.items() if name not in NOT_COMPARED}
        key = repr(sorted(own.items())) if own else str(folder)
        families.setdefault(key, []).append((options.get("seed"), run))
    groups: dict[str, list[RunPredictions]] = {}
    for family in families.values():
        kept = one_per_seed(family)
        name = kept[0].name if len(kept) == 1 else re.sub(r"[-_]?seed\d+$", "", kept[0].name)
        groups[name if name not in groups else kept[0].name] = kept
    return groups


def read_options(folder: Path) -> dict[str, Any]:
    """The options of a run; none where its folder does not tell, or is an ensemble, which is no run of a seed."""
    path = folder / "config.yaml"
    if not path.is_file() or members_of(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))) is not None:
        return {}
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def way_of(name: str, runs: Sequence[RunPredictions]) -> Way:
    """Runs of one way of training as they are compared."""
    return Way(name, runs[0].gold, np.stack([run.predicted for run in runs]), len(runs[0].taxonomy.leaves))


def share_rows(groups: Sequence[Sequence[RunPredictions]], platform: str | None) -> list[list[str | int | float]]:
    """Rows of the table for one platform, None for all posts together; of several runs of a way their means.

    Shares at a level are among the posts that have a label there, by gold or by the run itself; F1 is end to end, over
    all posts of the platform.
    """
    first = groups[0][0]
    chosen = np.ones(len(first.ids), dtype=bool) if platform is None else first.platforms == platform
    rows: list[list[str | int | float]] = []
    for level in range(1, first.taxonomy.depth + 1):
        if first.has_sets:
            rows += set_rows(groups, chosen, level, platform or "all")
            continue
        names = first.taxonomy.level_labels(level)
        confusions = [
            [level_confusion(run.gold[chosen], run.predicted[chosen], first.taxonomy, level) for run in runs]
            for runs in groups
        ]
        gold = shares(confusions[0][0].sum(axis=1)[: len(names)])
        predicted = [np.mean([shares(one.sum(axis=0)[: len(names)]) for one in found], axis=0) for found in confusions]
        f1 = [np.mean([f1_from_confusion(one) for one in found], axis=0) for found in confusions]
        for index, name in enumerate(names):
            cells = [float(value) for way in range(len(groups)) for value in (predicted[way][index], f1[way][index])]
            rows.append([platform or "all", int(chosen.sum()), level, name, gold[index], *cells])
    return rows


def set_rows(
    groups: Sequence[Sequence[RunPredictions]], chosen: np.ndarray, level: int, platform: str
) -> list[list[str | int | float]]:
    """Rows of a level where texts have any number of labels there: shares are among all posts."""
    tree = groups[0][0].taxonomy
    gold = at_level(groups[0][0].gold[chosen], tree, level)
    predicted = [[at_level(run.predicted[chosen], tree, level) for run in runs] for runs in groups]
    share = [np.mean([own.mean(axis=0) for own in found], axis=0) for found in predicted]
    f1 = [np.mean([f1_per_label(gold, own) for own in found], axis=0) for found in predicted]
    rows: list[list[str | int | float]] = []
    for index, name in enumerate(tree.level_labels(level)):
        cells = [float(value) for way in range(len(groups)) for value in (share[way][index], f1[way][index])]
        rows.append([platform, int(chosen.sum()), level, name, float(gold[:, index].mean()), *cells])
    return rows


def shares(counts: np.ndarray) -> list[float]:
    """Counts as shares of their sum."""
    return [float(share) for share in counts / max(int(counts.sum()), 1)]


def markdown(groups: Mapping[str, Sequence[RunPredictions]], rows: Sequence[Sequence[str | int | float]]) -> str:
    """The table and the tests as Markdown."""
    header = [*COLUMNS, *[title for name in groups for title in (f"{name} share", f"{name} F1")]]
    table = []
    for platform, posts, level, label, gold, *cells in rows:
        shown = [f"{cell:.1%}" if index % 2 == 0 else f"{cell:.3f}" for index, cell in enumerate(cells)]
        table.append([platform, posts, level, label, f"{gold:.1%}", *shown])
    lines = pipe_table(header, table)
    lines += ["", *[score_line(name, runs) for name, runs in groups.items()]]
    ways = [way_of(name, runs) for name, runs in groups.items()]
    if len(ways) > 1:
        (pairs,) = compare_ways([ways])
        lines += [difference_line(pair, groups) for pair in pairs]
        lines += ["", best_line(ways, pairs, len(pairs)), *filter(None, [seeds_line(ways)])]
    return "\n".join(lines) + "\n"


def score_line(name: str, runs: Sequence[RunPredictions]) -> str:
    """The main scores of a way over all posts, mean ± standard deviation over its runs."""
    if runs[0].has_sets:
        return set_score_line(name, runs)
    taxonomy, leaves = runs[0].taxonomy, len(runs[0].taxonomy.leaves)
    macro = spread_text(way_of(name, runs).scores)
    accuracy = spread_text(np.array([run.right.mean() for run in runs]))
    levels = []
    for level in range(1, taxonomy.depth + 1):
        found = [level_scores(run.gold, run.predicted, taxonomy, level)[f"level{level}_macro_f1"] for run in runs]
        levels.append(f"level {level} {np.mean(found):.3f}")
    invalid = sum(int((run.predicted == leaves).sum()) for run in runs)
    note = f", {invalid} answers that are no label" if invalid else ""
    seeds = f" ({len(runs)} seeds)" if len(runs) > 1 else ""
    return f"- {name}{seeds}: macro-F1 {macro} ({', '.join(levels)}), accuracy {accuracy}{note}"


def set_score_line(name: str, runs: Sequence[RunPredictions]) -> str:
    """The same where texts have any number of labels."""
    lists = [np.ones(len(run.ids), dtype=bool) if run.readable is None else run.readable for run in runs]
    found = [
        written_list_scores(run.gold, run.predicted, is_list, run.taxonomy)
        for run, is_list in zip(runs, lists, strict=True)
    ]
    invalid = sum(int((~is_list).sum()) for is_list in lists)
    note = f", {invalid} answers that are no list" if invalid else ""
    names = ("macro_f1", "micro_f1", "samples_f1", "hierarchical_f1", "subset_accuracy")
    shown = (f"{score_title(one)} {spread_text(np.array([scores[one] for scores in found]))}" for one in names)
    return f"- {name}{f' ({len(runs)} seeds)' if len(runs) > 1 else ''}: {', '.join(shown)}{note}"


def difference_line(pair: Pair, groups: Mapping[str, Sequence[RunPredictions]]) -> str:
    """Whether two ways differ beyond chance; of single runs, also how often only one of them is right."""
    text = f"- {pair.second.name} minus {pair.first.name}: {difference_text(pair.difference, pair.corrected)}"
    if len(pair.first.runs) > 1 or len(pair.second.runs) > 1:
        return text
    first, second = (groups[way.name][0].right for way in (pair.first, pair.second))
    only_first, only_second, p_value = mcnemar(np.ones(len(first), dtype=bool), first, second)
    return (
        f"{text}; only the first is right on {only_first} posts, only the second on {only_second} "
        f"(McNemar p {shown_p(p_value)})"
    )


def compare_folders(folders: Sequence[Path], split: str) -> tuple[str, list[str], list[list[str | int | float]]]:
    """Compare finished runs.

    Returns:
        The comparison as Markdown, and columns and rows of its table.

    Raises:
        UserError: a folder that is no finished run, or runs on different posts.
    """
    runs = [read_run(folder, split) for folder in folders]
    require_same_posts(runs)
    groups = group_runs(runs, folders)
    platforms = sorted(set(runs[0].platforms.tolist()) - {""})
    rows = [row for platform in [*platforms, None] for row in share_rows(list(groups.values()), platform)]
    columns = [title for name in groups for title in (f"{name}_share", f"{name}_f1")]
    return markdown(groups, rows), [*COLUMNS, *columns], rows


def write_comparison(stem: Path, text: str, columns: list[str], rows: list[list[str | int | float]]) -> list[Path]:
    """Write a comparison as ``stem.md`` and ``stem.csv``."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("md", "csv")]
    write_text(paths[0], text)
    write_csv(paths[1], columns, rows)
    return paths


def main(argv: list[str] | None = None) -> None:
    """Compare runs."""
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="folders of two or more finished runs")
    parser.add_argument("--split", choices=["validation", "test"], default="test", help="[test]")
    parser.add_argument("--output", type=Path, metavar="STEM", help="write STEM.md and STEM.csv too")
    arguments = parser.parse(argv)
    if len(arguments.runs) < 2:
        raise UserError("runs: give at least two folders to compare")
    text, columns, rows = compare_folders(arguments.runs, arguments.split)
    print(text, end="")
    if arguments.output is not None:
        paths = write_comparison(arguments.output, text, columns, rows)
        print(f"The table is in {paths[0]} and {paths[1]}")


if __name__ == "__main__":
    run_script(main)
