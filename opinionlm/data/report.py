"""What happened to every record: the ledger kept while preparing, and the report, figures and summary made from it.

The ledger's promise is arithmetic: records in = posts kept + records rejected, in total and for every file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.clean_rows import Cleaned
from opinionlm.data.cleaning import text_steps
from opinionlm.data.length_figure import draw_token_lengths
from opinionlm.data.rows import LABEL_REASONS, NULL_REASONS, READER_REASONS, RejectWriter, Source, Table
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.errors import UserError

CONFLICT_EXAMPLES = 20

# One sentence per reason code, for people; `detail` in rejects.csv adds what is particular to a record.
EXPLANATIONS = {
    "bad_quoting": "quotes open and do not close, or close in the middle of a field",
    "too_many_fields": "more fields than the header has",
    "too_few_fields": "fewer fields than the header has",
    "oversized_record": "longer than max_record_characters",
    "invalid_json": "the line is not a JSON object",
    "missing_field": "a key is missing",
    "not_text": "a list or object where text belongs",
    "bad_time": "the time is neither an ISO 8601 date nor seconds since 1970",
    "missing_label": "the label is blank",
    "unknown_code": "the label is not in the label tree",
    "ambiguous_label": "the label is the name of several leaves",
    "several_labels": "more than one label",
    "incomplete_label": "the label stops above a leaf of the tree",
    "contradictory_label": "a deeper level is filled below a leaf of the tree",
    "empty_text": "there is no text",
    "conflicting_labels_raw": "the same text occurs with another label",
    "duplicate_raw": "a copy of an earlier post",
    "empty_after_cleaning": "nothing is left after cleaning",
    "no_letters": "not a single letter",
    "repeated_pattern": "at least half of it is one pattern repeated",
    "gibberish": "too few letters",
    "too_short": "fewer than min_tokens tokens",
    "too_long": "more than max_tokens tokens",
    "conflicting_labels_cleaned": "after cleaning the same text occurs with another label",
    "duplicate_cleaned": "after cleaning a copy of an earlier post",
    "duplicate": "a copy of an earlier row",
    "conflicting_answers": "the same tokens or texts occur with other tags or another score",
    "unequal_lists": "not as many tags as tokens",
    "bad_tag": "a tag that is not O, B-…, I-… or of BIOES or BILOU",
    "no_tokens": "no token that can be seen",
    "bad_score": "the score is no number",
    "score_out_of_range": "the score is outside score_range",
    "no_answer": "there is no answer",
    "group_in_another_split": "its group is also in a split that matters more (test before validation before train)",
    "in_another_split": "the post is also in a split that matters more (test before validation before train)",
    "not_drawn": "not drawn into the balanced subset",
}


@dataclass
class LedgerStep:
    """One line of the report's main table."""

    name: str
    rows_in: int
    rows_out: int
    removed: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    relabelled: int = 0


READING_STEPS = (("reading", READER_REASONS), ("label tree", LABEL_REASONS), ("null texts", NULL_REASONS))


class Ledger:
    """Which rows are kept, why the others go, and what each step did.

    Attributes:
        kept: (rows,) of bool.
        label: (rows,) class ids, as relabelled so far.
        steps: what was done, in order.
        warnings: for the user.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        sources: list[Source],
        table: Table,
        findings: Cleaned,
        reading_steps: Sequence[tuple[str, Sequence[str]]] = READING_STEPS,
    ) -> None:
        """Start with everything that could be read; `reading_steps` sort the reasons of what could not."""
        self.spec, self.sources, self.table, self.findings = spec, sources, table, findings
        self.kept = np.ones(len(table.label), dtype=bool)
        self.label = table.label.copy()
        self.text_steps = [name for name, _ in text_steps(spec.cleaning)]
        self.steps: list[LedgerStep] = []
        self.warnings: list[str] = []
        self.conflicts: dict[bytes, dict[str, Any]] = {}
        self._reasons = [""]
        self._reason = np.zeros(len(table.label), dtype=np.int8)
        self._partner = np.full(len(table.label), -1, dtype=np.int64)
        rejected: Counter[str] = sum((source.rejected for source in sources), Counter())
        rows = sum(source.records for source in sources)
        for name, codes in reading_steps:
            removed = {code: rejected[code] for code in codes if rejected[code]}
            self.steps.append(LedgerStep(name, rows, rows - sum(removed.values()), removed))
            rows -= sum(removed.values())

    def drop(self, step: str, reasons: Iterable[tuple[np.ndarray, str, np.ndarray | None]]) -> None:
        """Remove rows: for every reason a mask, a code, and the rows to compare with (-1 or None for none)."""
        before, removed = int(self.kept.sum()), {}
        for mask, reason, partners in reasons:
            rows = np.flatnonzero(mask & self.kept)
            if len(rows):
                self._reasons.append(reason)
                self._reason[rows] = len(self._reasons) - 1
                self.kept[rows] = False
                removed[reason] = len(rows)
                if partners is not None:
                    self._partner[rows] = partners[rows]
        self.steps.append(LedgerStep(step, before, int(self.kept.sum()), removed))

    def removed(self, rows: np.ndarray) -> Counter[str]:
        """How many of some rows, given as a mask, went for which reason."""
        return Counter(self._reasons[number] for number in self._reason[rows & ~self.kept])

    def note_changed(self, step: str, changed: np.ndarray) -> None:
        """Record how many of the kept posts a text step changed."""
        rows = int(self.kept.sum())
        self.steps.append(LedgerStep(step, rows, rows, changed=int(changed[self.kept].sum())))

    def relabel(self, reason: str, mask: np.ndarray, label: int | None) -> None:
        """Give the rows under the mask another label."""
        if not mask.any() or label is None:
            return
        kept = int(self.kept.sum())
        relabelled = int((mask & self.kept & (self.label != label)).sum())
        self.label[mask] = label  # also of copies that went before, which still bear witness
        self.steps.append(LedgerStep(f"{reason} becomes noise", kept, kept, relabelled=relabelled))

    def explain(self, row: int, text: str) -> tuple[str, str]:
        """Reason code and sentence for a row that went; contradictions are also noted as examples."""
        reason = self._reasons[self._reason[row]]
        detail = EXPLANATIONS[reason]
        partner = self._partner[row]
        if partner >= 0:
            where = f"{self.sources[self.table.source[partner]].name}:{self.table.line[partner]}"
            detail += f": see {where}{self.describe(partner)}"
        if reason.startswith("conflicting"):
            self._note_conflict(row, text)
        return reason, detail

    def describe(self, row: int) -> str:
        """What a row says that another one may contradict, as the end of a sentence."""
        return f", labelled {self.label_name(row)}"

    def write_reject(self, row: int, raw: str, rejects: RejectWriter) -> None:
        """Write a row that went into ``rejects.csv``, with what it looked like."""
        reason, detail = self.explain(row, raw)
        line, number = int(self.table.line[row]), int(self.table.number[row])
        rejects.write(self.sources[self.table.source[row]], line, number, reason, detail, raw)

    def label_name(self, row: int) -> str:
        """The label of a row."""
        assert self.spec.labels is not None
        return self.spec.labels.leaves[self.label[row]]

    def _note_conflict(self, row: int, text: str) -> None:
        key = self.findings.digest[row]
        if key in self.conflicts or len(self.conflicts) < CONFLICT_EXAMPLES:
            entry = self.conflicts.setdefault(key, {"text": text[:200], "labels": {}})
            label = self.label_name(row)
            entry["labels"][label] = entry["labels"].get(label, 0) + 1


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


def table(header: list[str], rows: list[list[Any]]) -> list[str]:
    """Markdown table lines."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]


def cell(value: Any) -> str:
    """A value as Markdown: thousands separated, text from posts harmless."""
    if not isinstance(value, str):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}" if value < 1e5 else f"{value:,.0f}"
    text = "".join(char if char.isprintable() else " " for char in value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
