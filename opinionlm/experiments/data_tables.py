"""Tables about data instead of runs: tokens per post and posts per class, from the report of a prepared data set.

A table YAML of ``kind: data`` holds::

    kind: data
    title: …
    source: …
    note: …
    scales:
      small: {dataset: configs/datasets/cryptoqa.yaml}
    published:
      reddit: {count: 5000, mean: 186.085}      # platform → statistic → value
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opinionlm.config.parser import read_yaml
from opinionlm.data.accounting import print_account
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError
from opinionlm.experiments.differences import difference_line, shown, stated_differences
from opinionlm.experiments.grid import marked_title, require_parts
from opinionlm.experiments.run_numbers import number
from opinionlm.experiments.tables import heading, latex_table
from opinionlm.utils.files import write_csv, write_text
from opinionlm.utils.markdown import pipe_table
from opinionlm.utils.names import nearest
from opinionlm.utils.typed_values import check_keys

KEYS = {"kind", "title", "source", "note", "scales", "published", "differs"}
STATISTICS = ("count", "mean", "std", "min", "25%", "50%", "75%", "max")
OPTIONS = ("data_dir", "prepared_dir")


@dataclass(frozen=True)
class DataTable:
    """A table about one data set.

    Attributes:
        name: of the file.
        title: heading.
        source: where it was published.
        note: what a reader must know.
        scale: which scale.
        dataset: dataset YAML or prepared folder.
        published: platform → statistic of tokens → value.
        differences: what its numbers differ from the paper's in.
    """

    name: str
    title: str
    source: str
    note: str
    scale: str
    dataset: str
    published: Mapping[str, Mapping[str, float]]
    differences: tuple[str, ...] = ()


def kind_of(path: Path) -> str:
    """What a table YAML is about: ``runs``, or as its ``kind`` says ``data`` or ``sequences``."""
    return str(read_yaml(path).get("kind", "runs"))


def load_data_table(path: Path, scale: str, options: Mapping[str, Any]) -> DataTable:
    """Read a table YAML of ``kind: data``.

    Raises:
        UserError: unknown keys, missing parts, no such scale, or an option of the command line that it does not take.
    """
    for name in options:
        if name not in OPTIONS:
            raise UserError(f"--{name}: a table about data takes only {', '.join(OPTIONS)}{nearest(name, OPTIONS)}")
    raw = read_yaml(path)
    chosen = require_parts(raw, KEYS, scale, path)
    check_keys(chosen, {"dataset", "differs"}, f"{path}: scales.{scale}")
    published = raw.get("published") or {}
    for platform, values in published.items():
        check_keys(values, set(STATISTICS), f"{path}: published.{platform}")
    differences = stated_differences(raw, scale)
    if scale != "paper" and "paper" in raw["scales"]:
        differences.append(f"data {shown(chosen['dataset'])} instead of {shown(raw['scales']['paper']['dataset'])}")
    return DataTable(
        path.stem,
        raw["title"],
        raw["source"],
        raw.get("note", ""),
        scale,
        chosen["dataset"],
        published,
        tuple(differences),
    )


def write_data_table(table: DataTable, folder: Path, options: Mapping[str, Any]) -> list[Path]:
    """Prepare the data set if need be, then write the table in all its forms.

    Returns:
        The files.

    Raises:
        UserError: data that cannot be prepared.
    """
    # Loaded late, so that a mistake is answered at once.
    from opinionlm.data.preparation.pipeline import prepare_or_load
    from opinionlm.experiments.table_figures import class_count_figure, save_both

    data_dir = Path(options.get("data_dir", "data"))
    prepared = prepare_or_load(table.dataset, data_dir, Path(options.get("prepared_dir", "outputs/data")))
    print_account(prepared.path)
    report = json.loads((prepared.path / "report.json").read_text(encoding="utf-8"))
    if "classes" not in report:
        raise UserError(f"{table.dataset}: has no classes to count; a table about data needs task: sequence")
    tokens, classes = token_rows(report, table), class_rows(report)
    about = f"{table.source}. Data: {report['name']}, tokenizer {report['tokenizer']}."
    lines = [
        *heading(table.title, about, table.scale == "smoke", table.note),
        "",
        "**Tokens per post**",
        "",
        *pipe_table(*tokens),
        "",
        "**Posts per class**",
        "",
        *pipe_table(*classes),
        "",
        difference_line(table.source, table.differences),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"table.{ending}" for ending in ("md", "csv", "tex")]
    write_text(paths[0], "\n".join(lines) + "\n")
    write_csv(paths[1], ["platform", "split", "level", "label", "posts"], long_rows(report))
    caption = f"{marked_title(table.title, table.scale == 'smoke')} ({table.source})"
    write_text(paths[2], latex_table(caption, *tokens, 1) + "\n" + latex_table(caption, *classes, 1))
    figure = class_count_figure(totals(report))
    return [*paths, *save_both(figure, folder / "class_counts")]


def token_rows(report: Mapping[str, Any], table: DataTable) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: one row per platform, below it, but in a smoke test, what was published of it."""
    rows = []
    for platform, found in report["tokens"].items():
        rows.append([platform, *[statistic(found[name]) for name in STATISTICS]])
        if table.scale != "smoke" and platform in table.published:
            values = table.published[platform]
            rows.append([f"{platform}, published", *[statistic(values.get(name)) for name in STATISTICS]])
    return ["posts", *STATISTICS], rows


def statistic(value: float | None) -> str:
    """A statistic to read, whole numbers whole."""
    return f"{value:,.0f}" if value is not None and float(value).is_integer() else number(value)


def totals(report: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Platform → label → posts, all splits together."""
    return {
        platform: {label: sum(splits[split]["label"][label] for split in SPLITS) for label in splits["train"]["label"]}
        for platform, splits in report["classes"].items()
    }


def class_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: labels down, platforms across, posts with their share of the platform."""
    counts = totals(report)
    sums = {platform: max(sum(labels.values()), 1) for platform, labels in counts.items()}
    rows = [
        [label, *[f"{counts[name][label]:,} ({counts[name][label] / sums[name]:.1%})" for name in counts]]
        for label in next(iter(counts.values()))
    ]
    return ["label", *counts], rows


def long_rows(report: Mapping[str, Any]) -> list[list[str | int]]:
    """Every count of the report, one per row."""
    return [
        [platform, split, level, label, posts]
        for platform, splits in report["classes"].items()
        for split, levels in splits.items()
        for level, labels in levels.items()
        for label, posts in labels.items()
    ]
