"""Reproduce tables of papers: run what is missing of a grid, then put the numbers beside the published ones.

    python reproduce.py configs/tables/methods_bert_emotion.yaml --scale small
    python reproduce.py configs/tables/*.yaml --scale smoke --dry_run

A table is a base config × axes × seeds (see opinionlm/experiments/grid.py). Every run has its own process and its own
folder; what is finished is not run again, so the same command continues an interrupted grid. `paper` names the hub
models and full data, `small` fits two CPU cores, `smoke` takes minutes and is comparable with nothing. Further
--option value pairs go to every run, as to train_classifier.py.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.config.parser import pair_up, require_known
from opinionlm.errors import UserError, stopped
from opinionlm.runs.cluster_jobs import Cluster, read_resources
from opinionlm.utils.command_line import Parser, whole_number
from opinionlm.utils.loading import libraries_loading
from opinionlm.utils.names import counted, nearest
from opinionlm.utils.progress import show_lines_at_once
from opinionlm.utils.shipped import find_shipped, shipped_root
from opinionlm.utils.typed_values import read_scalar

if TYPE_CHECKING:
    from opinionlm.experiments.grid import Table
    from opinionlm.experiments.grid_runner import Run


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Read the command line; what is not ours are options of the runs, some script's at least."""
    parser = Parser(__doc__)
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE", help="YAML in configs/tables/")
    parser.add_argument("--scale", default="small", metavar="smoke|small|paper", help="[small]")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("outputs/tables"), metavar="FOLDER", help="[%(default)s]"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="AXIS=LABEL",
        help="run the cells with these labels alone; labels of one axis are alternatives [all cells]",
    )
    parser.add_argument(
        "--jobs", type=whole_number, metavar="N", help="runs at a time [1], or jobs in the queue of SLURM [all]"
    )
    parser.add_argument(
        "--launcher", choices=("local", "slurm"), default="local", help="where runs are started [%(default)s]"
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        metavar="NAME=VALUE",
        help="of every job: time=MINUTES partition account qos constraint mem cpus_per_task gpus_per_node",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="check every run and show its data and parameters, without a network; run nothing",
    )
    parser.add_argument(
        "--price_per_hour", type=price, metavar="PRICE", help="of this machine: prices stand beside times [none]"
    )
    parser.add_argument("--force", action="store_true", help="run again what is there, replacing it")
    arguments, rest = parser.parse_known_args(argv)
    pairs = pair_up(rest)
    for name in pairs:
        require_known(name, f"--{name}", None, vars(arguments))
    if arguments.launcher == "local" and arguments.slurm:
        raise UserError("--slurm: is of no use without --launcher slurm")
    arguments.resources = read_resources(arguments.slurm or ()) if arguments.launcher == "slurm" else None
    return arguments, {name: read_scalar(value) for name, value in pairs.items()}


def price(text: str) -> float:
    """A price above 0, in any currency."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no price above 0")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run one table after another.

    Returns:
        0, or 1 when a run failed.
    """
    arguments, overrides = parse_arguments(argv)
    show_lines_at_once()
    if arguments.scale == "smoke" and "data_dir" in overrides and "dataset" not in overrides:
        del overrides["data_dir"]
        print("smoke runs on the bundled samples: --data_dir is not used")
    tables = list(dict.fromkeys(find_shipped(table, "configs/tables") for table in arguments.tables))
    for table in tables:
        if not table.is_file():
            shipped = shipped_root() / "configs" / "tables"
            meant = nearest(table.stem, [path.stem for path in shipped.glob("*.yaml")])
            raise UserError(f"TABLE: no such file: {table}{meant}; the shipped ones are in {shipped}")
    places: dict[str, Path] = {}
    for table in tables:
        if (other := places.setdefault(table.stem, table)) is not table:
            raise UserError(f"{table}: writes the folder of {other}, which has its name; rename one of them")
    refuse_start_options(arguments, tables)
    try:
        return max([run_table(table, arguments, overrides) for table in tables])
    except KeyboardInterrupt as interruption:
        raise stopped(interruption, "; what is finished is kept, and the same command goes on") from None


def refuse_start_options(arguments: argparse.Namespace, tables: Sequence[Path]) -> None:
    """Refuse what says which runs are started, and how, where no table has any; beside others, those read it.

    Raises:
        UserError: such an option is given.
    """
    from opinionlm.experiments.data_tables import kind_of

    given = {
        "jobs": arguments.jobs is not None,
        "launcher": arguments.launcher != "local",
        "price_per_hour": arguments.price_per_hour is not None,
        "force": arguments.force,
        "only": bool(arguments.only),
    }
    if any(given.values()) and all(kind_of(table) != "runs" for table in tables):
        name = next(name for name, is_given in given.items() if is_given)
        raise UserError(f"--{name}: tables without runs are made anew each time and do not read it; leave it out")


def run_table(path: Path, arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    """One table; arguments and result as of `run_cells`."""
    from opinionlm.experiments.data_tables import kind_of

    arguments = argparse.Namespace(**vars(arguments), table=path)
    folder = arguments.output_dir / arguments.table.stem / arguments.scale
    match kind_of(arguments.table):
        case "data":
            return show_data(arguments, folder, overrides)
        case "sequences":
            return show_sequences(arguments, folder, overrides)
        case _:
            return run_cells(arguments, folder, overrides)


def show_data(arguments: argparse.Namespace, folder: Path, overrides: Mapping[str, Any]) -> int:
    """A table about data instead of runs; arguments and result as of `run_cells`."""
    from opinionlm.experiments.data_tables import load_data_table, write_data_table

    table = load_data_table(arguments.table, arguments.scale, overrides)
    print(f"{table.title} ({table.source}), scale {table.scale}: {table.dataset}, no runs")
    if arguments.dry_run:
        from opinionlm.config.options import DataConfig
        from opinionlm.data.preparation.sources import source_of
        from opinionlm.experiments.differences import difference_line

        data_dir = str(overrides.get("data_dir", DataConfig.data_dir))
        print(f"data    {table.dataset}: {source_of(DataConfig(dataset=table.dataset, data_dir=data_dir))}")
        print(difference_line(table.source, table.differences))
        return 0
    paths = write_data_table(table, folder, overrides)
    print(paths[0].read_text(encoding="utf-8") + f"Written: {', '.join(map(str, paths))}")
    return 0


def show_sequences(arguments: argparse.Namespace, folder: Path, overrides: Mapping[str, Any]) -> int:
    """A table about mined sequences; arguments and result as of `run_cells`."""
    from opinionlm.experiments.sequence_tables import load_sequence_table, write_sequence_table

    table = load_sequence_table(arguments.table, arguments.scale, overrides)
    print(f"{table.title} ({table.source}), scale {table.scale}: {', '.join(table.tasks)}, no runs")
    if arguments.dry_run:
        from opinionlm.experiments.differences import difference_line
        from opinionlm.experiments.dry_run import data_lines

        print("\n".join([*data_lines(list(table.tasks.values())), difference_line(table.source, table.differences)]))
        return 0
    paths = write_sequence_table(table, folder)
    print(paths[0].read_text(encoding="utf-8") + f"Written: {', '.join(map(str, paths))}")
    return 0


def cluster_of(arguments: argparse.Namespace, table: Table, folder: Path) -> Cluster | None:
    """Where the runs of a table become jobs; None for this machine.

    Raises:
        UserError: the table asks for `tune`, or there is no SLURM here.
    """
    if arguments.launcher == "local":
        return None
    if table.tuning is not None:
        raise UserError(f"{arguments.table}: tune: its trials run on this machine; leave --launcher slurm out")
    return None if arguments.dry_run else Cluster(arguments.resources, folder / "slurm")


def run_cells(arguments: argparse.Namespace, folder: Path, overrides: Mapping[str, Any]) -> int:
    """A table of runs.

    Args:
        arguments: of the command line. ``only`` says which cells run; the table shows all that are finished.
        folder: gets the table and its runs.
        overrides: options for every run.

    Returns:
        0, or 1 when a run failed.
    """
    from opinionlm.experiments.grid import load_table
    from opinionlm.experiments.grid_runner import (
        account_for_data,
        check_options,
        plan_text,
        require_same_options,
        run_all,
        runs_of,
    )
    from opinionlm.experiments.selection import selected_cells

    table = load_table(arguments.table, arguments.scale, overrides)
    table = replace(table, price_per_hour=arguments.price_per_hour)
    runs = runs_of(table, folder)
    configs = check_options(runs, arguments.table)
    selected = selected_cells(arguments.only, table.axes, table.cells, str(arguments.table))
    cluster = cluster_of(arguments, table, folder)
    jobs = arguments.jobs or (1 if arguments.launcher == "local" else len(selected) * len(table.seeds))
    if table.tuning is not None:
        from opinionlm.experiments.grid_tuning import require_untuned, tune_rows

        require_untuned(overrides, table.tuning, configs, arguments.table)
        if not arguments.dry_run:
            # The runs of rows that were tuned in an earlier call have values that their studies hold.
            rows = selected | {run.cell.name for run in runs if run.folder.is_dir()}
            table = tune_rows(table, rows, configs, arguments.table, folder, jobs)
            runs = runs_of(table, folder)
            configs = check_options(runs, arguments.table)
    if table.tuning is None or table.tuned:
        require_same_options(runs, configs, arguments.force)
    chosen = [run for run in runs if run.cell.name in selected]
    print(plan_text(table, chosen, jobs), flush=True)
    if arguments.dry_run:
        # Loaded late: it builds models.
        with libraries_loading():
            from opinionlm.experiments.dry_run import dry_run_text

        print(dry_run_text(table, {name: configs[name] for name in configs if name in selected}, arguments.table))
        return 0
    account_for_data(chosen, arguments.force)
    failed = run_all(chosen, jobs, arguments.force, cluster)
    print(f"Written to {folder}: {files_text(folder, report(folder, table, runs))}; the runs are in runs/")
    for name, error in failed.items():
        print(f"failed: {name}: {error}")
    return 1 if failed else 0


def files_text(folder: Path, paths: Sequence[Path]) -> str:
    """Files of a folder by name, those of its own folders by their number: a table has dozens of comparisons."""
    names = [path.name for path in paths if path.parent == folder]
    inner = Counter(path.parent.name for path in paths if path.parent != folder)
    return ", ".join([*names, *(f"{name}/ ({counted(number, 'file')})" for name, number in inner.items())])


def report(folder: Path, table: Table, runs: Sequence[Run]) -> list[Path]:
    """Print a table of finished runs, and write it, its figures and its comparisons; returns the files."""
    from opinionlm.experiments.learning_curve_report import beyond_lines, curve_lines, curves_of, write_curves
    from opinionlm.experiments.table_figures import write_figures
    from opinionlm.experiments.tables import claims_of, collect, markdown, write_comparisons, write_table

    results, claims, drawn = collect(table, runs), claims_of(table, runs), []
    if table.learning_curve is not None and (curves := curves_of(table, runs)):
        said = [*curve_lines(curves, table.learning_curve), *beyond_lines(table, runs, curves)]
        claims = [*claims, *([""] if claims else []), *said]
        drawn = write_curves(folder, table, curves)
    print(markdown(table, results, claims))
    paths = write_table(folder, table, results, claims) + write_figures(folder, table, results)
    return paths + drawn + write_comparisons(folder, table, runs)
