"""The results of a grid as Markdown, CSV and LaTeX, with the published values beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opinionlm.experiments.answers import Answers, read_answers, way_of
from opinionlm.experiments.cells import Cell
from opinionlm.experiments.claims import claim_lines
from opinionlm.experiments.compare import compare_folders, write_comparison
from opinionlm.experiments.costs import Cost, cost_lines, cost_of
from opinionlm.experiments.differences import difference_line
from opinionlm.experiments.grid import Table, marked_title
from opinionlm.experiments.grid_runner import Run
from opinionlm.experiments.run_numbers import measured_text, number, number_at, signed
from opinionlm.experiments.table_parts import (
    Result,
    epoch_lines,
    epochs_of,
    mean_lines,
    score_beside_cost,
    write_epochs,
    write_means,
)
from opinionlm.experiments.ways import Way
from opinionlm.runs.seeds import mean_and_interval
from opinionlm.runs.tuning_report import tuning_lines
from opinionlm.utils.files import write_csv, write_text
from opinionlm.utils.markdown import pipe_table

SMOKE = "Smoke test on bundled samples: **not comparable** with anything, least of all with the published values."


def collect(table: Table, runs: Sequence[Run]) -> list[Result]:
    """Read the metrics of every finished run."""
    results = []
    for cell in table.cells:
        finished = [(run, metrics) for run in runs if run.cell is cell and (metrics := run.metrics) is not None]
        measured = {}
        for name, place in table.measures.items():
            found = [number_at(run.folder, metrics, place) for run, metrics in finished]
            values = [value for value in found if value is not None]
            # A mean over some of the seeds would stand beside the number of all of them.
            if finished and len(values) == len(finished):
                measured[name] = mean_and_interval(values, place)
        epochs = epochs_of([run.folder for run, _ in finished], table.epochs) if table.epochs else {}
        results.append(Result(cell, len(finished), measured, epochs, cost_in(table, cell, measured, finished)))
    return results


def cost_in(
    table: Table, cell: Cell, measured: Mapping[str, Mapping[str, Any]], finished: Sequence[tuple[Run, dict[str, Any]]]
) -> Cost | None:
    """What a cell's finished runs took, beside the first of the table's scores of which more is better."""
    # One for all cells: another score of a cell that lacks it would be no number beside those of the others.
    score = score_beside_cost(table)
    if score is None or score not in measured or not table.comparable or measured[score]["mean"] > 1:
        return None
    tuning = table.tuned[cell.name].seconds if cell.name in table.tuned else 0.0
    name = ", ".join(cell.labels.values())
    runs = [metrics for _, metrics in finished]
    scored_on = str([cell.options.get(option) for option in ("dataset", "eval_platforms")])
    return cost_of(name, measured[score]["mean"], tuning, runs, data=scored_on)


def header(table: Table) -> list[str]:
    """Column titles; published values and differences only where the paper gives some."""
    columns = [*table.axes, "seeds"]
    for measure in table.measures:
        columns.append(measure)
        if has_published(table, measure):
            columns += [f"{measure}, published", "difference"]
    return columns


def has_published(table: Table, measure: str) -> bool:
    """Whether published values stand beside a measure: never in a smoke test, whose numbers mean nothing there."""
    return table.comparable and any(measure in cell.published for cell in table.cells)


def body(table: Table, results: Sequence[Result]) -> list[list[str]]:
    """One row of texts per cell."""
    rows = []
    for result in results:
        row = [*result.cell.labels.values(), f"{result.seeds}/{len(table.seeds)}"]
        for measure in table.measures:
            row.append(measured_text(result.measured.get(measure)))
            if has_published(table, measure):
                difference = result.difference(measure)
                row += [number(result.cell.published.get(measure)), "" if difference is None else signed(difference)]
        rows.append(row)
    return rows


def heading(title: str, about: str, is_smoke: bool, note: str) -> list[str]:
    """What stands above a table in Markdown: its title, where it is from, and what a reader must know."""
    return [f"## {title}", "", about, *(["", SMOKE] if is_smoke else []), *(["", note] if note else [])]


def markdown(table: Table, results: Sequence[Result], claims: Sequence[str] = ()) -> str:
    """The table as Markdown, with what `claims_of` says of its differences."""
    about = f"{table.source}. Scale: {table.scale}. Mean ± standard deviation over seeds."
    lines = [*heading(table.title, about, not table.comparable, table.note), ""]
    if table.layout == "matrix":
        lines += matrix(table, results)[:-1]
    else:
        lines += pipe_table(header(table), body(table, results))
    lines += mean_lines(table, results) + epoch_lines(table, results)
    if claims:
        lines += ["", *claims]
    if costs := cost_lines([one.cost for one in results if one.cost is not None], table.price_per_hour):
        lines += ["", *costs]
    if table.tuned:
        labels = {cell.name: ", ".join(cell.labels.values()) for cell in table.cells}
        lines += ["", *tuning_lines({labels[name]: found for name, found in table.tuned.items()})]
    return "\n".join([*lines, "", difference_line(table.source, table.differences)]) + "\n"


def matrix(table: Table, results: Sequence[Result]) -> list[str]:
    """One small table per measure: the first axis down, the other axes across."""
    rows = list(dict.fromkeys(result.cell.labels[table.axes[0]] for result in results))
    across = list(dict.fromkeys(tuple(list(result.cell.labels.values())[1:]) for result in results))
    by_place = {
        (result.cell.labels[table.axes[0]], tuple(list(result.cell.labels.values())[1:])): result for result in results
    }
    lines: list[str] = []
    for measure in table.measures:
        cells = []
        for row in rows:
            found = [by_place[row, column] for column in across]
            texts = [measured_text(one.measured.get(measure)) for one in found]
            if has_published(table, measure):
                published = [number(one.cell.published.get(measure)) for one in found]
                texts = [f"{text} ({old})" if old else text for text, old in zip(texts, published, strict=True)]
            cells.append([row, *texts])
        title = f"{measure} (published)" if has_published(table, measure) else measure
        lines += [f"**{title}**", "", *pipe_table([table.axes[0], *[" / ".join(c) for c in across]], cells), ""]
    return lines


def latex(table: Table, results: Sequence[Result]) -> str:
    """The table as LaTeX (booktabs)."""
    caption = f"{marked_title(table.title, not table.comparable)} ({table.source})"
    return latex_table(caption, header(table), body(table, results), len(table.axes))


def latex_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A LaTeX table whose first columns, as many as ``texts``, hold text."""
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * texts}{'r' * (len(columns) - texts)}}}", r"\toprule"]
    lines.append(" & ".join(escape(column) for column in columns) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(escape(cell) for cell in row) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
}


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    return "".join(LATEX.get(character, character) for character in text)


def write_table(folder: Path, table: Table, results: Sequence[Result], claims: Sequence[str] = ()) -> list[Path]:
    """Write ``table.md``, ``table.csv`` (plain numbers, one line per cell and measure) and ``table.tex``.

    With them ``means.csv`` and ``epochs.csv`` where the table has means over an axis, and numbers of epochs.
    """
    paths = [folder / f"table.{ending}" for ending in ("md", "csv", "tex")]
    write_text(paths[0], markdown(table, results, claims))
    columns = [*table.axes, "measure", "seeds", "mean", "std", "ci95_low", "ci95_high", "published", "difference"]
    rows = []
    for result in results:
        for measure in table.measures:
            entry = result.measured.get(measure) or {"mean": "", "std": "", "ci95": None}
            low, high = entry["ci95"] or ("", "")
            compared = has_published(table, measure)
            published = result.cell.published.get(measure, "") if compared else ""
            difference = result.difference(measure) if compared else None
            values = [entry["mean"], entry["std"], low, high, published, "" if difference is None else difference]
            rows.append([*result.cell.labels.values(), measure, result.seeds, *values])
    write_csv(paths[1], [*columns, "comparable"], [[*row, table.comparable] for row in rows])
    write_text(paths[2], latex(table, results))
    return [*paths, *write_means(folder, table, results), *write_epochs(folder, table, results)]


def claims_of(table: Table, runs: Sequence[Run]) -> list[str]:
    """Which cells differ beyond chance, in Markdown: every two that were evaluated on the same posts."""
    if not table.comparable:
        return []
    groups: dict[str, dict[tuple[str, ...], list[Answers]]] = {}
    unread = dict[str, None]()
    for run in runs:
        if run.metrics is None or not (run.folder / "predictions" / "test.csv").is_file():
            continue
        labels = tuple(run.cell.labels.values())
        if (found := read_answers(run.folder, "test")) is not None:
            groups.setdefault(found.posts, {}).setdefault(labels, []).append(found)
        else:
            unread[", ".join(labels)] = None
    named: dict[str, list[Way]] = {}
    for place, ways in enumerate(groups.values(), start=1):
        shared = ", ".join(each[0] for each in zip(*ways, strict=True) if len(set(each)) == 1)
        # Two groups may have the same in common, where seeds were evaluated on other posts.
        key = shared if shared and shared not in named else " ".join(filter(None, [shared, f"({place})"]))
        named[key] = [way_of(", ".join(labels), found) for labels, found in ways.items()]
    lines = claim_lines(named if len(named) > 1 else dict(zip([""], named.values(), strict=False)))
    left_out = ["", f"Not compared, as their answers are texts: {'; '.join(unread)}."] if unread else []
    return [*lines, *left_out] if lines else []


def write_comparisons(folder: Path, table: Table, runs: Sequence[Run]) -> list[Path]:
    """One comparison for every seed and combination of the other axes' labels.

    Returns:
        The files.

    Raises:
        UserError: runs were evaluated on different posts.
    """
    if table.compare is None:
        return []
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        others = tuple(label for axis, label in run.cell.labels.items() if axis != table.compare)
        groups.setdefault((*others, f"seed{run.seed}"), []).append(run)
    paths: list[Path] = []
    for labels, members in groups.items():
        finished = [run.folder for run in members if run.metrics is not None]
        if len(finished) >= 2:
            stem = folder / "comparisons" / "-".join(labels).lower().replace(" ", "_").replace("/", "_")
            paths += write_comparison(stem, *compare_folders(finished, "test"))
    return paths
