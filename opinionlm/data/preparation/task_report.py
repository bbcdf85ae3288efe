"""The report of a task other than sequence: the shared tables, and statistics of the task's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.iob2 import entity_counts
from opinionlm.data.preparation.clean_rows import Cleaned
from opinionlm.data.preparation.ledger import Ledger
from opinionlm.data.preparation.report import (
    common_report,
    rejected_lines,
    render_conflicts,
    render_steps,
    save_report,
    token_statistics,
)
from opinionlm.data.preparation.rows import NULL_REASONS, READER_REASONS, Source, Table
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.utils.markdown import table

# Title → row → split → number.
Statistics = dict[str, dict[str, dict[str, float]]]

TASK_REASONS = ("unequal_lists", "bad_tag", "bad_score", "score_out_of_range")
BLANK_REASONS = (*NULL_REASONS, "no_tokens", "no_answer")
SCORE_BINS = 5


class TaskLedger(Ledger):
    """A `Ledger` whose labels are outcomes: what copies of a row have to agree in."""

    def __init__(
        self, spec: DatasetSpec, sources: list[Source], rows: Table, findings: Cleaned, outcomes: list[str]
    ) -> None:
        """`outcomes` are the names of the label numbers in the table."""
        steps = (("reading", READER_REASONS), (f"task {spec.task}", TASK_REASONS), ("null texts", BLANK_REASONS))
        super().__init__(spec, sources, rows, findings, steps)
        self._outcomes = outcomes

    def label_name(self, row: int) -> str:
        """The outcome of a row, shortened."""
        return self._outcomes[self.label[row]]

    def describe(self, row: int) -> str:
        """The outcome of a row, where the task has outcomes."""
        name = self.label_name(row)
        return f", which says {name}" if name else ""


class TaskStatistics:
    """Counts over the kept rows, collected while they are written."""

    def __init__(self, spec: DatasetSpec) -> None:
        """Start empty."""
        self._spec = spec
        self._counts: dict[str, Counter[tuple[str, str]]] = {}
        self._scores: dict[str, list[float]] = {split: [] for split in SPLITS}

    def add(self, split: str, values: dict[str, Any]) -> None:
        """Count one row; `values` are its canonical columns, tags as names."""
        match self._spec.task:
            case "token":
                self._count("size", "sentences", split)
                self._count("size", "tokens", split, len(values["tokens"]))
                for kind, number in entity_counts(values["tags"]).items():
                    self._count("entities", kind, split, number)
            case "similarity":
                self._scores[split].append(values["score"])
            case _:
                self._count("rows", "all", split)
                self._count("rows", "with a context", split, bool(values["context"]))
                self._count("rows", "with several answers", split, len(values["answers"]) > 1)

    def tables(self, splits: np.ndarray, prompt: np.ndarray, answer: np.ndarray) -> Statistics:
        """All tables.

        Args:
            splits: (rows,) split numbers, -1 for rows that went.
            prompt: (rows,) lengths in tokens of what the model reads.
            answer: (rows,) lengths in tokens of the longest answer; 0 where the task has none.
        """
        result: Statistics = {}
        for title, counts in self._counts.items():
            names = sorted({name for name, _ in counts}) if title == "entities" else {name: 0 for name, _ in counts}
            result[title] = {name: {split: counts[name, split] for split in SPLITS} for name in names}
        if self._spec.score_range is not None:
            result["rows by score"] = self._histogram(*self._spec.score_range)
        result["tokens read"] = _lengths(splits, prompt)
        if answer.any():
            result["tokens of the longest answer"] = _lengths(splits, answer)
        return result

    def _count(self, title: str, name: str, split: str, number: int = 1) -> None:
        self._counts.setdefault(title, Counter())[name, split] += number

    def _histogram(self, low: float, high: float) -> dict[str, dict[str, float]]:
        """Rows in equal parts of the range, then the mean score."""
        edges = np.linspace(low, high, SCORE_BINS + 1)
        counts = {split: np.histogram(scores, edges)[0].tolist() for split, scores in self._scores.items()}
        rows: dict[str, dict[str, float]] = {
            f"{edges[i]:g} to {edges[i + 1]:g}": {split: counts[split][i] for split in SPLITS}
            for i in range(SCORE_BINS)
        }
        means = {split: round(float(np.mean(scores)), 3) if scores else 0 for split, scores in self._scores.items()}
        return rows | {"mean score": means}


def _lengths(splits: np.ndarray, tokens: np.ndarray) -> dict[str, dict[str, float]]:
    """Row of statistics → split → number; a split without rows has zeros."""
    parts = {split: tokens[splits == number] for number, split in enumerate(SPLITS)}
    found = {split: token_statistics(values) if len(values) else {} for split, values in parts.items()}
    return {
        name: {split: found[split].get(name, 0) for split in SPLITS}
        for name in ("count", "mean", "std", "min", "25%", "50%", "75%", "max")
    }


def write_task_report(folder: Path, ledger: TaskLedger, statistics: Statistics, fingerprint: str) -> None:
    """Write report.json, report.md and token_lengths.png.

    Raises:
        UserError: the counts do not add up, which would be an error of ours.
    """
    report = common_report(ledger, fingerprint) | {
        "task": ledger.spec.task,
        "statistics": statistics,
        "details": {source.name: dict(source.notes.details) for source in ledger.sources},
        "conflicts": list(ledger.conflicts.values()),
        "warnings": ledger.warnings,
    }
    lines = render_steps(report)
    if notes := sorted({name for details in report["details"].values() for name in details}):
        lines += ["", "## What was found on the way", ""]
        lines += table(["file", *notes], [[f, *(d.get(n, 0) for n in notes)] for f, d in report["details"].items()])
    for title, rows in statistics.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += table(["", *SPLITS], [[name, *(values[split] for split in SPLITS)] for name, values in rows.items()])
    markdown = "\n".join([*lines, "", *render_conflicts(report)]).rstrip() + "\n"
    save_report(folder, ledger, report, markdown)


def task_summary(report: dict[str, Any]) -> str:
    """The few lines that `preprocess.py` ends with."""
    lines = rejected_lines(report)
    for title, rows in report["statistics"].items():
        width = max(len(name) for name in [*rows, title])
        lines += ["", f"{title:<{width}} " + "".join(f"{split:>12}" for split in SPLITS)]
        lines += [f"{name:<{width}} " + "".join(f"{v[s]:>12,}" for s in SPLITS) for name, v in rows.items()]
    return "\n".join(lines)
