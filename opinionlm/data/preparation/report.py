"""What happened to every record: the ledger kept while preparing, and the report, figures and summary made from it.

The ledger's promise is arithmetic: records in = posts kept + records rejected, in total and for every file.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.preparation.ledger import EXPLANATIONS, Ledger
from opinionlm.data.spec import SPLITS
from opinionlm.errors import UserError
from opinionlm.utils.figure_text import make_readable
from opinionlm.utils.markdown import cell, table


def write_report(folder: Path, ledger: Ledger, splits: np.ndarray, fingerprint: str) -> None:
    """Write report.json, report.md and token_lengths.png.

    Raises:
        UserError: the counts do not add up, which would be an error of ours and must never pass in silence.
    """
    report = build_report(ledger, splits, fingerprint)
    save_report(folder, ledger, report, render_report(report))


def save_report(folder: Path, ledger: Ledger, report: dict[str, Any], markdown: str) -> None:
    """Write a report in both forms and the figure; the errors are those of `write_report`."""
    totals = report["totals"]
    if totals["in"] != totals["kept"] + totals["rejected"] or any(
        source["records"] != source["kept"] + sum(source["rejected"].values()) for source in report["files"]
    ):
        raise UserError(f"{ledger.spec.source}: the counts do not add up ({totals}); please report this as a bug")
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    draw_token_lengths(folder / "token_lengths.png", _tokens_by_platform(ledger))


def build_report(ledger: Ledger, splits: np.ndarray, fingerprint: str) -> dict[str, Any]:
    """Everything worth knowing about a prepared data set, as plain values."""
    return common_report(ledger, fingerprint) | {
        "classes": _class_counts(ledger, splits),
        "conflicts": list(ledger.conflicts.values()),
        "warnings": ledger.warnings,
    }


def common_report(ledger: Ledger, fingerprint: str) -> dict[str, Any]:
    """What a report of any task holds: files, steps, reasons, lengths."""
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


def _class_counts(ledger: Ledger, splits: np.ndarray) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """Platform → split → level → label → posts; the platform ``all`` sums up."""
    taxonomy, counts = ledger.spec.labels, {}
    masks = {name or "all": ledger.table.platform == index for index, name in enumerate(ledger.table.platforms)}
    for platform, mask in (masks | {"all": np.ones_like(ledger.kept)}).items():
        counts[platform] = {}
        for number, split in enumerate(SPLITS):
            leaves = np.bincount(ledger.label[ledger.kept & mask & (splits == number)], minlength=len(taxonomy.leaves))
            levels = {"label": dict(zip(taxonomy.leaves, leaves.tolist(), strict=True))}
            for level in range(1, taxonomy.depth + 1):
                names, places = taxonomy.level_labels(level), np.array(taxonomy.leaf_to_level(level))
                levels[f"level{level}"] = {n: int(leaves[places == i].sum()) for i, n in enumerate(names)}
            counts[platform][split] = levels
    return counts


def render_report(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [*render_steps(report), "", "## Classes", ""]
    for platform, splits in report["classes"].items():
        levels = next(iter(splits.values()))
        rows = [
            [level, label, *(splits[split][level][label] for split in SPLITS)]
            for level in levels
            for label in levels[level]
        ]
        lines += [f"### {cell(platform)}", "", *table(["level", "label", *SPLITS], rows), ""]
    return "\n".join(lines + render_conflicts(report)).rstrip() + "\n"


def render_conflicts(report: dict[str, Any]) -> list[str]:
    """The section with examples of contradictions, as Markdown lines."""
    if not report["conflicts"]:
        return []
    rows = [[conflict["text"], _pairs(conflict["labels"])] for conflict in report["conflicts"]]
    return ["## Examples of contradictory labels", "", *table(["text", "labels of the copies that went"], rows)]


def render_steps(report: dict[str, Any]) -> list[str]:
    """The part that reports of all tasks share, as Markdown lines."""
    totals = report["totals"]
    lines = [f"# Data report: {report['name']}", ""]
    lines += [f"{totals['in']:,} records in = {totals['kept']:,} kept + {totals['rejected']:,} rejected.", ""]
    lines += [f"- warning: {warning}" for warning in report["warnings"]] + [""] * bool(report["warnings"])
    lines += ["## Every step", ""]
    lines += table(
        ["step", "in", "changed", "relabelled", "removed", "out", "reasons"],
        [
            [
                s["name"],
                s["rows_in"],
                s["changed"],
                s["relabelled"],
                sum(s["removed"].values()),
                s["rows_out"],
                _pairs(s["removed"]),
            ]
            for s in report["steps"]
        ],
    )
    lines += ["", "## Every file", ""]
    lines += table(
        ["file", "records", "kept", "rejected", "blank lines", "undecodable", "columns not used"],
        [
            [
                f["path"],
                f["records"],
                f["kept"],
                sum(f["rejected"].values()),
                f["blank_lines"],
                f["undecodable_records"],
                ", ".join(name or "(no name)" for name in f["dropped_columns"]),
            ]
            for f in report["files"]
        ],
    )
    lines += ["", "## Rejected by reason", "", "All of them are in `rejects.csv`.", ""]
    lines += table(
        ["reason", "meaning", *(f["path"].rsplit("/")[-1] for f in report["files"]), "total"],
        [
            [reason, EXPLANATIONS[reason], *(f["rejected"].get(reason, 0) for f in report["files"]), total]
            for reason, total in report["rejected"].items()
        ],
    )
    lines += ["", "## Length in tokens", "", f"Of the cleaned posts, by `{report['tokenizer']}`.", ""]
    names = ["count", "mean", "std", "min", "25%", "50%", "75%", "max"]
    lines += table(["platform", *names], [[p, *(s[n] for n in names)] for p, s in report["tokens"].items()])
    return [*lines, "", "![Histogram of lengths per platform](token_lengths.png)"]


def summary(report: dict[str, Any]) -> str:
    """The few lines that `preprocess.py` ends with."""
    classes = report["classes"]["all"]
    lines = rejected_lines(report)
    labels = list(classes["train"]["label"])
    width = max(len(label) for label in [*labels, "total"])
    lines += ["", f"{'label':<{width}} " + "".join(f"{split:>12}" for split in SPLITS)]
    for label in labels:
        lines.append(f"{label:<{width}} " + "".join(f"{classes[split]['label'][label]:>12,}" for split in SPLITS))
    lines.append(f"{'total':<{width}} " + "".join(f"{sum(classes[split]['label'].values()):>12,}" for split in SPLITS))
    return "\n".join(lines)


def rejected_lines(report: dict[str, Any]) -> list[str]:
    """How many records were kept, and why the others were not."""
    totals = report["totals"]
    lines = [f"{totals['in']:,} records in = {totals['kept']:,} kept + {totals['rejected']:,} rejected"]
    width = max((len(reason) for reason in report["rejected"]), default=0)
    lines += [
        f"  {reason:<{width}} {count:>8,}  {EXPLANATIONS[reason]}" for reason, count in report["rejected"].items()
    ]
    return lines


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def draw_token_lengths(path: Path, parts: list[tuple[str, np.ndarray]]) -> None:
    """One histogram per platform, on a common logarithmic axis, with the median marked.

    Args:
        path: the PNG file to write.
        parts: lengths in tokens by platform; where there are several, the last one is all of them together.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    if len(parts) > 1:
        parts = parts[:-1]
    longest = max(int(tokens.max()) for _, tokens in parts)
    bins = np.unique(np.round(np.geomspace(1, max(longest, 2) + 1, 40)).astype(int))
    # A Figure of its own instead of pyplot: no global state, no window system.
    figure = Figure(figsize=(7, 0.8 + 1.7 * len(parts)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, tokens) in zip(axes, parts, strict=True):
        axis.hist(np.maximum(tokens, 1), bins=bins, color="#0072B2", edgecolor="white", linewidth=0.4)
        axis.axvline(np.median(tokens), color="#D55E00", linestyle="--", linewidth=1.5)
        title = f"{name}: {len(tokens):,} posts, median {np.median(tokens):g}, longest {int(tokens.max()):,} tokens"
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.set_ylabel("posts")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].set_xlabel("length in tokens (logarithmic); dashed: median")
    make_readable(figure).savefig(path)
