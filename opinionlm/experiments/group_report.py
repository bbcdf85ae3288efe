"""A report that compares the runs of a group: what differs between them, what came of it, what it cost.

    python -m opinionlm.experiments.group_report opinion_runs-small outputs/
    python -m opinionlm.experiments.group_report opinion_runs-small outputs/ --wandb my-team/opinionlm

Runs of a table share the group ``<table>-<scale>``, other runs have the one of ``wandb_group``. The report is
Markdown, made from run folders alone; with --wandb it is also published at W&B, which needs a network, an account and
the package wandb-workspaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opinionlm.config.chosen_metric import direction
from opinionlm.errors import UserError, one_line, run_script
from opinionlm.experiments.run_numbers import look_up, measured_text
from opinionlm.runs.seed_families import (
    NOT_COMPARED,
    family_of,
    independent,
    members_of,
    models_of,
    option_key,
    option_of,
)
from opinionlm.runs.seeds import SHOWN, mean_and_interval
from opinionlm.utils.command_line import Parser
from opinionlm.utils.files import read_object, write_text
from opinionlm.utils.markdown import pipe_table
from opinionlm.utils.names import counted

SCORES = (*SHOWN, "rouge1", "rougeL", "exact_match", "f1", "perplexity", "loss")
COSTS = {
    "seconds in all": "cost.total_seconds",
    "of training": "cost.train_seconds",
    "memory (MB)": "cost.peak_memory_mb",
    "trains": "model.trainable_parameters",
}


@dataclass(frozen=True)
class GroupRun:
    """A finished run of the group.

    Attributes:
        folder: its folder.
        options: every option.
        metrics: content of ``metrics.json``.
        data_fingerprint: of the prepared data; blank where the run does not tell.
    """

    folder: Path
    options: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data_fingerprint: str = ""

    @property
    def members(self) -> int | None:
        """Of an ensemble, how many runs it is made of."""
        return members_of(self.metrics)


def find_runs(group: str, folders: Sequence[Path]) -> tuple[list[GroupRun], list[Path]]:
    """The runs of a group below some folders.

    Returns:
        Finished runs by name, and folders of the group without metrics.

    Raises:
        UserError: a file that cannot be read, or no finished run of the group.
    """
    runs, unfinished, groups = [], [], set()
    for path in sorted(file for folder in folders for file in folder.rglob("config.yaml")):
        if any((place / "wandb_run_id").is_file() for place in path.parents[1:]):
            continue  # W&B's own file within a run folder
        try:
            options = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(options, dict) or "wandb_group" not in options:
                continue
            groups.add(str(options["wandb_group"]))
            if options["wandb_group"] != group:
                continue
            metrics = path.with_name("metrics.json")
            if metrics.is_file():
                content = read_object(metrics)
                runs.append(GroupRun(path.parent, options, content, fingerprint_of(path.parent)))
            else:
                unfinished.append(path.parent)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path.parent}: damaged run folder ({one_line(error)})") from None
    if not runs:
        found = ", ".join(sorted(groups - {"None"})) or "none"
        raise UserError(f"group: no finished run of {group!r} below these folders; groups there: {found}")
    return runs, unfinished


def fingerprint_of(folder: Path) -> str:
    """Of the data that a run was trained on; blank where its folder does not tell."""
    path = folder / "environment.json"
    return str(read_object(path).get("data_fingerprint") or "") if path.is_file() else ""


def differing_options(runs: Sequence[GroupRun]) -> list[str]:
    """Options that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    return [n for n in names if n not in NOT_COMPARED and len({option_key(run.options, n) for run in runs}) > 1]


def report(group: str, runs: Sequence[GroupRun], unfinished: Sequence[Path]) -> str:
    """The report as Markdown: runs that differ in their seed alone share a row, an ensemble of them has its own."""
    names = differing_options(runs)
    several_data = len({run.data_fingerprint for run in runs}) > 1
    rows: dict[tuple[tuple[str, ...], int | None, tuple[Any, ...]], list[GroupRun]] = {}
    for run in runs:
        data = [run.data_fingerprint[:8]] if several_data else []
        values = [*(shown(option_of(run.options, name)) for name in names), *data]
        family = family_of(run.options, run.metrics, str(run.folder)) if run.members is not None else ()
        rows.setdefault((tuple(values), run.members, family), []).append(run)
    scores = [name for name in SCORES if any(look_up(run.metrics, f"test.{name}") is not None for run in runs)]
    costs = [name for name, place in COSTS.items() if any(look_up(run.metrics, place) is not None for run in runs)]
    lines, repeated = [], []
    for (shown_values, members, _), found in rows.items():
        samples = independent((models_of(run.options, run.metrics), run) for run in found)
        repeated += [run for run in found if run not in samples]
        places = [f"test.{name}" for name in scores] + [COSTS[name] for name in costs]
        count = str(len(samples)) if members is None else of_ensembles(len(samples), members)
        lines.append([*shown_values, count, *[mean_at(samples, place) for place in places]])
    trained = sum(run.members is None for run in runs)
    ensembles = f" and {counted(len(runs) - trained, 'ensemble')} of them" if trained < len(runs) else ""
    found_text = counted(trained, "finished run") + ensembles
    text = [f"# Runs of {group}", "", f"{found_text}. Test scores, mean ± standard deviation over seeds."]
    data = ["data"] if several_data else []
    text += ["", *pipe_table([*names, *data, "runs", *scores, *costs], lines), ""]
    text += [best_line(runs, name) for name in scores[:1]]
    text += [f"Left out, since a run above is of the same trained model: {run.folder}" for run in repeated]
    text += [f"Not finished: {path}" for path in unfinished]
    return "\n".join(text) + "\n"


def of_ensembles(count: int, members: int) -> str:
    """How many ensembles a row is of, and of how many runs each."""
    return f"ensemble of {members}" if count == 1 else f"{count} ensembles of {members}"


def best_line(runs: Sequence[GroupRun], name: str) -> str:
    """Which run is the best by its validation score; one without that score cannot be."""
    having = [(score, run) for run in runs if (score := look_up(run.metrics, f"validation.{name}")) is not None]
    if not having:
        return f"Best by validation {name}: no run has that score"
    _, best = (min if direction(name) == "lower" else max)(having, key=lambda one: one[0])
    return f"Best by validation {name}: {best.folder}"


def mean_at(runs: Sequence[GroupRun], place: str) -> str:
    """Mean and spread of a number over runs, and over how many where some lack it; blank where none has it."""
    values = [value for run in runs if (value := look_up(run.metrics, place)) is not None]
    if not values:
        return ""
    return measured_text(mean_and_interval(values, place)) + (
        f" ({len(values)} runs)" if len(values) < len(runs) else ""
    )


def shown(value: object) -> str:
    """An option in a table."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "–" if value is None else str(value)


def publish(group: str, project: str, text: str) -> str:
    """Publish the report at W&B, with the live charts of the group's runs below it.

    Returns:
        Its address.

    Raises:
        UserError: the package for reports is missing, or the server cannot be used.
    """
    entity, slash, name = project.partition("/")
    if not (entity and slash and name):
        raise UserError(f"--wandb: {project!r} must be ENTITY/PROJECT")
    try:
        import wandb_workspaces.reports.v2 as reports
    except ImportError:
        raise UserError("--wandb: needs the package wandb-workspaces, which is not installed here") from None
    runs = reports.Runset(entity=entity, project=name, filters=f'Metric("Group") == "{group}"')
    charts = reports.PanelGrid(
        runsets=[runs],
        panels=[
            reports.LinePlot(x="step", y=["validation/macro_f1"]),
            reports.LinePlot(x="step", y=["train/loss"]),
            reports.BarPlot(metrics=["test/macro_f1"]),
        ],
    )
    page = reports.Report(entity=entity, project=name, title=f"Runs of {group}")
    page.blocks = [reports.MarkdownBlock(text=text), charts]
    try:
        page.save()
    except Exception as error:
        raise UserError(f"--wandb: cannot be published ({one_line(error)})") from None
    return str(page.url)


def main(argv: list[str] | None = None) -> None:
    """Write the report."""
    parser = Parser(__doc__)
    parser.add_argument("group", metavar="GROUP", help="<table>-<scale>, or the wandb_group of the runs")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="where to look for run folders")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the Markdown here too")
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT", help="publish it at W&B too")
    arguments = parser.parse(argv)
    for folder in arguments.folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    text = report(arguments.group, *find_runs(arguments.group, arguments.folders))
    print(text, end="")
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.output, text)
    if arguments.wandb is not None:
        print(f"Published: {publish(arguments.group, arguments.wandb, text)}")


if __name__ == "__main__":
    run_script(main)
