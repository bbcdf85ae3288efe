"""What happened to every record: report, figure and summary, made from the ledger that was kept while preparing.

The ledger's promise is arithmetic: records in = posts kept + records rejected, in total and for every file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opinionlm.data.preparation.ledger import EXPLANATIONS, Ledger
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError
from opinionlm.utils.figure_text import make_readable
from opinionlm.utils.files import write_json
from opinionlm.utils.markdown import cell, pipe_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the figure of lengths.
MOST_BARS = 40
MAX_LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
# Of a table in a terminal.
SHOWN_ROWS = 30
# What `token_statistics` tells.
LENGTHS = ("count", "mean", "std", "min", "25%", "50%", "75%", "max")
# Title → row → split → number.
Statistics = dict[str, dict[str, dict[str, float]]]


def write_report(folder: Path, ledger: Ledger, statistics: dict[str, Any], fingerprint: str) -> None:
    """Write report.json, report.md and token_lengths.png.

    Raises:
        UserError: the counts do not add up, which would be an error of ours and must never pass in silence.
    """
    report = build_report(ledger, fingerprint) | statistics
    report |= {"conflicts": list(ledger.conflicts.values()), "warnings": ledger.warnings}
    totals = report["totals"]
    if totals["in"] != totals["kept"] + totals["rejected"] or any(
        source["records"] != source["kept"] + sum(source["rejected"].values()) for source in report["files"]
    ):
        raise UserError(f"{ledger.spec.source}: the counts do not add up ({totals}); please report this as a bug")
    write_json(folder / "report.json", report)
    (folder / "report.md").write_text(render_report(report), encoding="utf-8")
    draw_token_lengths(folder / "token_lengths.png", _tokens_by_platform(ledger))


def build_report(ledger: Ledger, fingerprint: str) -> dict[str, Any]:
    """What a report of any task holds, as plain values: files, steps, reasons, lengths."""
    spec, table, kept = ledger.spec, ledger.table, ledger.kept
    files = [
        {
            "path": source.name,
            "records": source.records,
            "kept": int(kept[table.source == index].sum()),
            "rejected": dict(source.rejected.most_common()),
            "blank_lines": source.notes.blank_lines,
            "undecodable_records": source.notes.undecodable_records,
            "dropped_columns": source.notes.dropped_columns,
        }
        for index, source in enumerate(ledger.sources)
    ]
    rejected: Counter[str] = sum((source.rejected for source in ledger.sources), Counter())
    return {
        "name": spec.name,
        "fingerprint": fingerprint,
        "tokenizer": spec.tokenizer_name_or_path,
        "totals": {"in": sum(f["records"] for f in files), "kept": int(kept.sum()), "rejected": rejected.total()},
        "rejected": dict(rejected.most_common()),
        "files": files,
        "steps": [asdict(step) for step in ledger.steps],
        "tokens": {name: token_statistics(tokens) for name, tokens in _tokens_by_platform(ledger)},
        "longer": longer_texts(ledger.findings.tokens[kept]),
    }


def _tokens_by_platform(ledger: Ledger) -> list[tuple[str, np.ndarray]]:
    """Lengths of the kept posts per platform, and of all of them where there are several platforms."""
    tokens, kept = ledger.findings.tokens, ledger.kept
    parts = [
        (name or "all", tokens[kept & (ledger.table.platform == index)])
        for index, name in enumerate(ledger.table.platforms)
    ]
    parts = [(name, values) for name, values in parts if len(values)]
    return [*parts, ("all", tokens[kept])] if len(parts) > 1 else parts


def token_statistics(tokens: np.ndarray) -> dict[str, float]:
    """The statistics of the paper's section 5; the standard deviation is the sample's, as pandas gives it."""
    low, median, high = (float(value) for value in np.percentile(tokens, [25, 50, 75]))
    return {
        "count": len(tokens),
        "mean": round(float(tokens.mean()), 3),
        "std": round(float(tokens.std(ddof=1)), 3) if len(tokens) > 1 else 0.0,
        "min": int(tokens.min()),
        "25%": low,
        "50%": median,
        "75%": high,
        "max": int(tokens.max()),
    }


def longer_texts(tokens: np.ndarray) -> list[dict[str, float]]:
    """What every ``max_length`` would cut, up to the first that cuts nothing; special tokens are not counted."""
    rows: list[dict[str, float]] = []
    for length in MAX_LENGTHS:
        beyond = tokens[tokens > length] - length
        lost, share = int(beyond.sum()), round(float(beyond.sum() / max(1, tokens.sum())), 4)
        rows.append({"max_length": length, "texts": len(beyond), "tokens": lost, "share": share})
        if not len(beyond):
            break
    return rows


def _table(columns: list[str], rows: list[list[Any]]) -> list[str]:
    return pipe_table(columns, rows, cell)


def render_report(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = render_steps(report)
    if "classes" in report:
        lines += render_classes(report["classes"])
    else:
        lines += render_statistics(report["details"], report["statistics"])
    if report["conflicts"]:
        rows = [[conflict["text"], _pairs(conflict["labels"])] for conflict in report["conflicts"]]
        lines += ["", "## Examples of contradictory labels", ""]
        lines += _table(["text", "labels of the copies that went"], rows)
    return "\n".join(lines).rstrip() + "\n"


def render_classes(classes: dict[str, Any]) -> list[str]:
    """Posts of every label by platform and split, as Markdown lines."""
    lines = ["", "## Classes"]
    for platform, splits in classes.items():
        levels = next(iter(splits.values()))
        rows = [
            [level, label, *(splits[split][level][label] for split in SPLITS)]
            for level in levels
            for label in levels[level]
        ]
        lines += ["", f"### {cell(platform)}", "", *_table(["level", "label", *SPLITS], rows)]
    return lines


def render_statistics(details: dict[str, dict[str, int]], statistics: Statistics) -> list[str]:
    """What was found on the way, and the tables of a task without classes, as Markdown lines."""
    lines: list[str] = []
    if notes := sorted({name for found in details.values() for name in found}):
        lines += ["", "## What was found on the way", ""]
        lines += _table(["file", *notes], [[f, *(d.get(n, 0) for n in notes)] for f, d in details.items()])
    for title, rows in statistics.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += _table(["", *SPLITS], [[name, *(values[split] for split in SPLITS)] for name, values in rows.items()])
    return lines


def render_steps(report: dict[str, Any]) -> list[str]:
    """The part that reports of all tasks share, as Markdown lines."""
    warnings = [f"- warning: {warning}" for warning in report["warnings"]]
    lines = [
        f"# Data report: {report['name']}",
        "",
        f"{_balance(report)}.",
        "",
        *warnings,
        *([""] if warnings else []),
    ]
    steps = [_step_row(step) for step in report["steps"]]
    columns = ["step", "in", "changed", "relabelled", "removed", "out", "reasons"]
    lines += ["## Every step", "", *_table(columns, steps)]
    files = [_file_row(file) for file in report["files"]]
    columns = ["file", "records", "kept", "rejected", "blank lines", "undecodable", "columns not used"]
    lines += ["", "## Every file", "", *_table(columns, files)]
    lines += ["", "## Rejected by reason", "", "All of them are in `rejects.csv`.", ""]
    reasons = [
        [reason, EXPLANATIONS[reason], *(file["rejected"].get(reason, 0) for file in report["files"]), total]
        for reason, total in report["rejected"].items()
    ]
    names = [file["path"].rsplit("/")[-1] for file in report["files"]]
    lines += _table(["reason", "meaning", *names, "total"], reasons)
    return lines + render_lengths(report)


def _step_row(step: dict[str, Any]) -> list[Any]:
    numbers = [step[name] for name in ("rows_in", "changed", "relabelled")]
    return [step["name"], *numbers, sum(step["removed"].values()), step["rows_out"], _pairs(step["removed"])]


def _file_row(file: dict[str, Any]) -> list[Any]:
    numbers = [file["records"], file["kept"], sum(file["rejected"].values())]
    unused = ", ".join(name or "(no name)" for name in file["dropped_columns"])
    return [file["path"], *numbers, file["blank_lines"], file["undecodable_records"], unused]


def render_lengths(report: dict[str, Any]) -> list[str]:
    """Lengths in tokens by platform, and what truncating would lose, as Markdown lines."""
    lines = ["", "## Length in tokens", "", f"Of the cleaned posts, by `{report['tokenizer']}`.", ""]
    lengths = [[name, *(found[one] for one in LENGTHS)] for name, found in report["tokens"].items()]
    lines += _table(["platform", *LENGTHS], lengths)
    lines += ["", "Texts longer than a `max_length`, and the tokens that truncating them would lose:", ""]
    cuts = [[row["max_length"], row["texts"], row["tokens"], f"{row['share']:.1%}"] for row in report["longer"]]
    lines += _table(["max_length", "texts", "tokens", "of all tokens"], cuts)
    return [*lines, "", "![Histogram of lengths per platform](token_lengths.png)"]


def summary(report: dict[str, Any]) -> str:
    """The few lines that `preprocess.py` ends with: records by reason, rows by split."""
    tables: Statistics = report["statistics"] if "statistics" in report else {"label": _label_totals(report)}
    reasons = report["rejected"]
    width = max(map(len, reasons), default=0)
    lines = [_balance(report)]
    lines += [f"  {reason:<{width}} {count:>8,}  {EXPLANATIONS[reason]}" for reason, count in reasons.items()]
    for title, rows in tables.items():
        width = max(len(name) for name in [*rows, title])
        lines += ["", f"{title:<{width}} " + "".join(f"{split:>12}" for split in SPLITS)]
        body = [f"{name:<{width}} " + "".join(f"{v[s]:>12,}" for s in SPLITS) for name, v in rows.items()]
        if (hidden := len(body) - SHOWN_ROWS) > 1:
            body[SHOWN_ROWS - 1 : -1] = [f"… {hidden:,} more in report.md"]
        lines += body
    return "\n".join(lines)


def _label_totals(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Posts of every label in every split, and of all labels together."""
    counts = {split: levels["label"] for split, levels in report["classes"]["all"].items()}
    rows = {label: {split: counts[split][label] for split in SPLITS} for label in counts["train"]}
    return rows | {"total": {split: sum(counts[split].values()) for split in SPLITS}}


def _balance(report: dict[str, Any]) -> str:
    totals = report["totals"]
    return f"{totals['in']:,} records in = {totals['kept']:,} kept + {totals['rejected']:,} rejected"


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def draw_token_lengths(path: Path, parts: list[tuple[str, np.ndarray]]) -> None:
    """One histogram per platform over whole lengths, all on one axis, with the median marked.

    Bars are equally many tokens wide, so that their heights can be compared; the last one holds all that is longer
    than 99 % of the posts.

    Args:
        path: the PNG file to write.
        parts: lengths in tokens by platform; where there are several, the last one is all of them together.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    every = np.concatenate([tokens for _, tokens in parts])
    if len(parts) > 1:
        parts = parts[:-1]
    width = max(1, int(np.ceil(np.percentile(every, 99) / MOST_BARS)))
    bars = int(np.percentile(every, 99)) // width + 1
    # A Figure of its own instead of pyplot: no global state, no window system.
    figure = Figure(figsize=(7, 0.8 + 1.7 * len(parts)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, tokens) in zip(axes, parts, strict=True):
        _draw_lengths(axis, tokens, width, bars)
        title = f"{name}: {len(tokens):,} posts, median {np.median(tokens):g}, longest {int(tokens.max()):,} tokens"
        axis.set_title(title, loc="left", fontsize=10)
    covers = "one length" if width == 1 else f"{width} lengths"
    axes[-1].set_xlabel(f"length in tokens (a bar covers {covers}); dashed: median")
    make_readable(figure).savefig(path)


def _draw_lengths(axis: Axes, tokens: np.ndarray, width: int, bars: int) -> None:
    """One histogram: so many bars of a width in tokens, and behind them one of all that is longer."""
    from matplotlib.ticker import MaxNLocator

    heights = np.bincount(np.minimum(tokens // width, bars), minlength=bars + 1)
    # A bar covers the lengths k·width to k·width + width - 1: its edges lie between two whole numbers.
    starts = np.arange(bars + 1) * width - 0.5
    colours = ["#0072B2"] * bars + ["#6E6E6E"]
    axis.bar(starts, heights, width=width, align="edge", color=colours, edgecolor="white", linewidth=0.4)
    if heights[-1]:
        axis.annotate(f"{heights[-1]:,} longer", (starts[-1] + width, heights[-1]), ha="right", va="bottom", size=8)
    axis.axvline(min(np.median(tokens), starts[-1]), color="#D55E00", linestyle="--", linewidth=1.5)
    axis.set_ylabel("posts")
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axis.set_xlim(-0.5, None)
    axis.spines[["top", "right"]].set_visible(False)
