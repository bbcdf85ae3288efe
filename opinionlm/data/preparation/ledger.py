"""The ledger of a preparation: which row was kept, changed or dropped at which step, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opinionlm.data.cleaning import text_steps
from opinionlm.data.preparation.clean_rows import Cleaned
from opinionlm.data.preparation.sources import RejectWriter, Source
from opinionlm.data.spec import SPLITS, DatasetSpec

CONFLICT_EXAMPLES = 20
# Why a record is rejected while it is read: as a record, by its labels, tags or score, for want of a text.
READER_REASONS = (
    "bad_quoting",
    "too_many_fields",
    "too_few_fields",
    "repeated_header",
    "oversized_record",
    "invalid_json",
    "missing_field",
    "not_text",
    "bad_time",
)
PARSING_REASONS = (
    "missing_label",
    "unknown_code",
    "ambiguous_label",
    "several_labels",
    "incomplete_label",
    "contradictory_label",
    "repeated_label",
    "bad_label_list",
    "unequal_lists",
    "bad_tag",
    "bad_score",
    "score_out_of_range",
)
BLANK_REASONS = ("empty_text", "no_tokens", "no_answer")
# One sentence per reason code, for people; `detail` in rejects.csv adds what is particular to a record.
EXPLANATIONS = {
    "bad_quoting": "quotes open and do not close, or close in the middle of a field",
    "too_many_fields": "more fields than the header has",
    "too_few_fields": "fewer fields than the header has",
    "repeated_header": "the header line once more, as where files were joined",
    "oversized_record": "longer than max_record_characters",
    "invalid_json": "the line is not a JSON object",
    "missing_field": "a key is missing",
    "not_text": "a list or object where text belongs",
    "bad_feature": "a number of the features is none",
    "bad_time": "the time is neither an ISO 8601 date nor seconds since 1970",
    "missing_label": "the label is blank",
    "unknown_code": "the label is not in the label tree",
    "ambiguous_label": "the label is the name of several leaves",
    "several_labels": "more than one label",
    "incomplete_label": "the label stops above a leaf of the tree",
    "contradictory_label": "a deeper level is filled below a leaf of the tree",
    "repeated_label": "a label is there twice",
    "bad_label_list": "the labels open a bracket and are no JSON list of names",
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


@dataclass
class Table:
    """Numbers per readable row, of shape (rows,), in the order of the sources; `platform` indexes `platforms`.

    ``label`` is a class or an outcome: what copies of a row have to agree in. ``time`` holds seconds since 1970 in
    UTC; None where the data do not say when posts were written. ``group`` is equal for rows that have to stay
    together; empty where nothing has to.
    """

    source: np.ndarray
    line: np.ndarray
    number: np.ndarray
    label: np.ndarray
    platform: np.ndarray
    platforms: list[str]
    time: np.ndarray | None
    group: np.ndarray


class Ledger:
    """Which rows are kept, why the others go, and what each step did.

    Attributes:
        kept: (rows,) of bool.
        label: (rows,) classes or outcomes, as relabelled so far.
        names: what they stand for.
        steps: what was done, in order.
        warnings: for the user.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        sources: list[Source],
        table: Table,
        findings: Cleaned,
        names: Sequence[str],
    ) -> None:
        """Start with everything that could be read; `names` are what the labels of the table stand for."""
        self.spec, self.sources, self.table, self.findings, self.names = spec, sources, table, findings, names
        self.kept = np.ones(len(table.label), dtype=bool)
        self.label = table.label.copy()
        self.steps: list[LedgerStep] = []
        self.warnings: list[str] = []
        self.conflicts: dict[bytes, dict[str, Any]] = {}
        self._reasons = [""]
        self._reason = np.zeros(len(table.label), dtype=np.int8)
        self._partner = np.full(len(table.label), -1, dtype=np.int64)
        rejected: Counter[str] = sum((source.rejected for source in sources), Counter())
        rows = sum(source.records for source in sources)
        parsing = f"task {spec.task}" if spec.labels is None else "label tree"
        for name, codes in (("reading", READER_REASONS), (parsing, PARSING_REASONS), ("null texts", BLANK_REASONS)):
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

    def note_text_steps(self) -> None:
        """Record how many of the kept rows each text step changed."""
        rows = int(self.kept.sum())
        for bit, (name, _) in enumerate(text_steps(self.spec.cleaning)):
            changed = (self.findings.changed >> bit) & 1
            self.steps.append(LedgerStep(name, rows, rows, changed=int(changed[self.kept].sum())))

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
            detail += f": see {self.sources[self.table.source[partner]].name}:{self.table.line[partner]}"
            name = self.names[self.label[partner]]
            says = "which says" if self.spec.labels is None else "labelled"
            detail += f", {says} {name}" if name else ""
        if reason.startswith("conflicting"):
            self._note_conflict(row, text)
        return reason, detail

    def write_reject(self, row: int, raw: str, rejects: RejectWriter) -> None:
        """Write a row that went into ``rejects.csv``, with what it looked like."""
        reason, detail = self.explain(row, raw)
        line, number = int(self.table.line[row]), int(self.table.number[row])
        rejects.write(self.sources[self.table.source[row]], line, number, reason, detail, raw)

    def _note_conflict(self, row: int, text: str) -> None:
        key = self.findings.digest[row]
        if key in self.conflicts or len(self.conflicts) < CONFLICT_EXAMPLES:
            entry = self.conflicts.setdefault(key, {"text": text[:200], "labels": {}})
            label = self.names[self.label[row]]
            entry["labels"][label] = entry["labels"].get(label, 0) + 1


def split_numbers(sources: list[Source], table: Table) -> np.ndarray:
    """(rows,) the split each row comes with: 0 train, 1 validation, 2 test; all 0 where the sources have none."""
    return np.array([SPLITS.index(source.split or "train") for source in sources], dtype=np.int8)[table.source]
