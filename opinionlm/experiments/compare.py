"""Put finished runs side by side, as the opinion paper's result table does (section 13).

    python -m opinionlm.experiments.compare outputs/gemma3_mini-seed42 outputs/gemma3_mini_instruct-seed42

For every platform and level it prints the share of each class among the gold labels and among the predictions of
every run, with the F1 of the class, and below it whether the runs differ beyond chance. Given --output, the same goes
to a Markdown and a CSV file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError, run_script
from opinionlm.evaluation.confusion import confusion_matrix
from opinionlm.evaluation.metrics import f1_from_confusion, gold_classes, level_confusion, level_scores
from opinionlm.evaluation.significance import mcnemar, paired_bootstrap
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import write_csv, write_text
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
        gold: leaf ids ``(rows,)``.
        predicted: leaf ids ``(rows,)``; the number of leaves stands for an answer that is no label.
    """

    name: str
    taxonomy: Taxonomy
    ids: list[str]
    platforms: np.ndarray
    gold: np.ndarray
    predicted: np.ndarray


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
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"id", "platform", "gold", "predicted"} <= rows[0].keys():
        raise UserError(f"{table}: expected the columns id, platform, gold and predicted, and at least one row")
    number = {leaf: index for index, leaf in enumerate(taxonomy.leaves)}
    gold = np.array([number[row["gold"]] for row in rows])
    predicted = np.array([number.get(row["predicted"], len(number)) for row in rows])
    platforms = np.array([row["platform"] for row in rows])
    return RunPredictions(folder.name, taxonomy, [row["id"] for row in rows], platforms, gold, predicted)


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


def share_rows(runs: Sequence[RunPredictions], platform: str | None) -> list[list[str | int | float]]:
    """Rows of the table for one platform, None for all posts together.

    Shares at a level are among the posts that have a label there, by gold or by the run itself; F1 is end to end, over
    all posts of the platform.
    """
    first = runs[0]
    chosen = np.ones(len(first.ids), dtype=bool) if platform is None else first.platforms == platform
    rows: list[list[str | int | float]] = []
    for level in range(1, first.taxonomy.depth + 1):
        confusions = [level_confusion(run.gold[chosen], run.predicted[chosen], first.taxonomy, level) for run in runs]
        names = first.taxonomy.level_labels(level)
        gold = shares(confusions[0].sum(axis=1)[: len(names)])
        predicted = [shares(confusion.sum(axis=0)[: len(names)]) for confusion in confusions]
        f1 = [f1_from_confusion(confusion) for confusion in confusions]
        for index, name in enumerate(names):
            cells = [value for run in range(len(runs)) for value in (predicted[run][index], float(f1[run][index]))]
            rows.append([platform or "all", int(chosen.sum()), level, name, gold[index], *cells])
    return rows


def shares(counts: np.ndarray) -> list[float]:
    """Counts as shares of their sum."""
    return [float(share) for share in counts / max(int(counts.sum()), 1)]


def markdown(runs: Sequence[RunPredictions], rows: Sequence[Sequence[str | int | float]]) -> str:
    """The table and the tests as Markdown."""
    header = [*COLUMNS, *[title for run in runs for title in (f"{run.name} share", f"{run.name} F1")]]
    table = []
    for platform, posts, level, name, gold, *cells in rows:
        shown = [f"{cell:.1%}" if index % 2 == 0 else f"{cell:.3f}" for index, cell in enumerate(cells)]
        table.append([platform, posts, level, name, f"{gold:.1%}", *shown])
    lines = pipe_table(header, table)
    lines += ["", *[score_line(run) for run in runs]]
    for other in runs[1:]:
        lines.append(difference_line(runs[0], other))
    return "\n".join(lines) + "\n"


def score_line(run: RunPredictions) -> str:
    """The main scores of a run over all posts."""
    leaves = len(run.taxonomy.leaves)
    confusion = confusion_matrix(run.gold, run.predicted, leaves + 1)
    macro = float(f1_from_confusion(confusion)[:leaves][gold_classes(confusion)[:leaves]].mean())
    accuracy = float((run.gold == run.predicted).mean())
    levels = ", ".join(
        f"level {level} {level_scores(run.gold, run.predicted, run.taxonomy, level)[f'level{level}_macro_f1']:.3f}"
        for level in range(1, run.taxonomy.depth + 1)
    )
    invalid = int((run.predicted == leaves).sum())
    note = f", {invalid} answers that are no label" if invalid else ""
    return f"- {run.name}: macro-F1 {macro:.3f} ({levels}), accuracy {accuracy:.3f}{note}"


def difference_line(first: RunPredictions, second: RunPredictions) -> str:
    """Whether two runs differ beyond chance."""
    only_first, only_second, p_value = mcnemar(first.gold, first.predicted, second.predicted)
    macro = paired_bootstrap(first.gold, first.predicted, second.predicted, len(first.taxonomy.leaves))
    return (
        f"- {second.name} minus {first.name}: macro-F1 {macro.value:+.3f} (95 % interval {macro.low:+.3f} to "
        f"{macro.high:+.3f}, paired bootstrap p {shown_p(macro.p_value)}); only the first is right on {only_first} "
        f"posts, only the second on {only_second} (McNemar p {shown_p(p_value)})"
    )


def shown_p(value: float) -> str:
    """A p-value to read."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def compare_folders(folders: Sequence[Path], split: str) -> tuple[str, list[str], list[list[str | int | float]]]:
    """Compare finished runs.

    Returns:
        The comparison as Markdown, and columns and rows of its table.

    Raises:
        UserError: a folder that is no finished run, or runs on different posts.
    """
    runs = [read_run(folder, split) for folder in folders]
    require_same_posts(runs)
    platforms = sorted(set(runs[0].platforms.tolist()) - {""})
    rows = [row for platform in [*platforms, None] for row in share_rows(runs, platform)]
    columns = [title for run in runs for title in (f"{run.name}_share", f"{run.name}_f1")]
    return markdown(runs, rows), [*COLUMNS, *columns], rows


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
