"""Put finished runs side by side, as the opinion paper's result table does (section 13).

    python -m opinionlm.experiments.compare outputs/gemma3_mini-seed42 outputs/gemma3_mini_instruct-seed42

Runs that differ in nothing but their seed are one way of training, shown by its means. For every platform and level it
prints the share of each class among the gold labels and among the predictions of every way, with the F1 of the class,
and below it whether the ways differ beyond chance of posts and seeds, corrected for the number of pairs, and which
cannot be told apart from the best; of taggers and scorers of pairs scores instead of shares. Given --output, the same
goes to a Markdown and a CSV file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from opinionlm.config.chosen_metric import score_title
from opinionlm.errors import UserError, run_script
from opinionlm.evaluation.metrics import f1_from_confusion, level_confusion, level_scores
from opinionlm.evaluation.multi_label import at_level, f1_per_label, written_list_scores
from opinionlm.evaluation.significance import mcnemar
from opinionlm.experiments.answers import Answers, RunPredictions, read_answers, require_same_posts, way_of
from opinionlm.experiments.claims import (
    Pair,
    best_line,
    compare_ways,
    difference_text,
    seeds_line,
    shown_p,
    spread_text,
)
from opinionlm.runs.seed_families import family_of, independent, models_of
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import read_object, write_csv, write_text
from opinionlm.utils.markdown import pipe_table

COLUMNS = ["platform", "posts", "level", "class", "gold"]

A = TypeVar("A", bound=Answers)


def group_runs(runs: Sequence[A], folders: Sequence[Path]) -> dict[str, list[A]]:
    """Name of a way of training → its runs: those whose options agree but for the seed; each model counts once.

    Args:
        runs: with names of their own, see `distinct_names`.
        folders: of the runs.
    """
    families: dict[tuple[Any, ...], list[tuple[frozenset[str], A]]] = {}
    for run, folder in zip(runs, folders, strict=True):
        options, metrics = read_options(folder), read_object(folder / "metrics.json")
        key = family_of(options, metrics, str(folder)) if options else (str(folder),)
        families.setdefault(key, []).append((models_of(options, metrics), run))
    groups: dict[str, list[A]] = {}
    for family in families.values():
        kept = independent(family)
        name = kept[0].name if len(kept) == 1 else re.sub(r"[-_]?(seed)?\d+$", "", kept[0].name) or kept[0].name
        # A name without its seed may be that of another way; the names of the runs are all different.
        others = {run.name for run in runs} - {run.name for run in kept}
        groups[kept[0].name if name in groups or name in others else name] = kept
    return groups


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """A name for each of several folders: the fewest last parts of their paths that tell all of them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError("the same folder is there twice")


def read_options(folder: Path) -> dict[str, Any]:
    """The options of a run; none where its folder does not tell."""
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    return yaml.safe_load(path.read_text(encoding="utf-8"))


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
    lines += difference_lines(groups)
    return "\n".join(lines) + "\n"


def difference_lines(groups: Mapping[str, Sequence[Answers]]) -> list[str]:
    """Whether the ways differ, which is best, and what few seeds leave open; empty of one way."""
    ways = [way_of(name, runs) for name, runs in groups.items()]
    if len(ways) == 1:
        return []
    (pairs,) = compare_ways([ways])
    lines = [difference_line(pair, groups) for pair in pairs]
    return [*lines, "", best_line(ways, pairs, len(pairs)), *filter(None, [seeds_line(ways)])]


def compare_without_labels(
    runs: Sequence[Answers], folders: Sequence[Path]
) -> tuple[str, list[str], list[list[str | int | float]]]:
    """As `compare_folders`, of taggers and scorers of pairs: scores in the place of shares of classes."""
    groups = group_runs(runs, folders)
    ways = [way_of(name, own) for name, own in groups.items()]
    columns = ["way", "runs", "texts", ways[0].metric, "standard deviation"]
    rows: list[list[str | int | float]] = []
    for way in ways:
        spread = float(way.scores.std(ddof=1)) if len(way.scores) > 1 else ""
        rows.append([way.name, len(way.scores), way.rows, float(way.scores.mean()), spread])
    table = pipe_table(columns, [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows])
    text = "\n".join([*table, "", *difference_lines(groups)]) + "\n"
    return text + left_out_text(runs, groups), columns, rows


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
    return f"- {name}{seeds_text(runs)}: macro-F1 {macro} ({', '.join(levels)}), accuracy {accuracy}{note}"


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
    return f"- {name}{seeds_text(runs)}: {', '.join(shown)}{note}"


def seeds_text(runs: Sequence[Answers]) -> str:
    """Which runs stand together as one way, since they differ in nothing but the seed; empty of a single run."""
    return f" ({len(runs)} seeds: {', '.join(run.name for run in runs)})" if len(runs) > 1 else ""


def difference_line(pair: Pair, groups: Mapping[str, Sequence[Answers]]) -> str:
    """Whether two ways differ beyond chance; of single runs, also how often only one of them is right."""
    text = f"- {pair.second.name} minus {pair.first.name}: {difference_text(pair)}"
    one, other = (groups[way.name] for way in (pair.first, pair.second))
    if len(one) > 1 or len(other) > 1:
        return text
    if not isinstance(one[0], RunPredictions) or not isinstance(other[0], RunPredictions):
        return text
    first, second = one[0].right, other[0].right
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
        UserError: a folder that is no finished run, runs on different posts, or runs that write texts.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("runs: give each folder once")
    read = [read_answers(folder, split) for folder in folders]
    if None in read:
        raise UserError(
            f"{folders[read.index(None)]}: its answers are texts (or tags with blanks); runs that give labels, tags "
            "or scores are compared"
        )
    answers = [one for one in read if one is not None]
    require_same_posts(answers)
    # Folders of one name in several places are several runs.
    answers = [replace(one, name=name) for one, name in zip(answers, distinct_names(folders), strict=True)]
    runs = [one for one in answers if isinstance(one, RunPredictions)]
    if not runs:
        return compare_without_labels(answers, folders)
    groups = group_runs(runs, folders)
    platforms = sorted(set(runs[0].platforms.tolist()) - {""})
    rows = [row for platform in [*platforms, None] for row in share_rows(list(groups.values()), platform)]
    columns = [title for name in groups for title in (f"{name}_share", f"{name}_f1")]
    return markdown(groups, rows) + left_out_text(runs, groups), [*COLUMNS, *columns], rows


def left_out_text(runs: Sequence[Answers], groups: Mapping[str, Sequence[Answers]]) -> str:
    """Which runs are no samples of their own; empty where all are."""
    kept = {id(run) for own in groups.values() for run in own}
    names = [run.name for run in runs if id(run) not in kept]
    return f"\nLeft out, since another run is of the same trained model: {', '.join(names)}.\n" if names else ""


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
