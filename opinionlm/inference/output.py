"""The output of a prediction: safe after every window, continued after a kill.

Rows are appended to ``<output>.part`` and synced to disk, and then a small journal (``<output>.part.json``) is
replaced atomically. After a kill the part is cut back to the journal's length and reading goes on behind the journal's
last record, so no row is lost and none is written twice.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from opinionlm.data.readers.records import Reject
from opinionlm.errors import UserError
from opinionlm.utils.files import LineFeeds, clear_temporaries, write_text

# The reason of rows that are there and have no answer.
NO_TEXT = "empty_text"
REJECT_HEADER = ["line", "record", "reason", "detail", "content"]


@dataclass
class Progress:
    """How far an output has come; stored as its journal.

    Attributes:
        source: what the output is made from, by a name for messages; empty where that cannot be told.
        records: records of the input that are dealt with.
        rows: labelled ones among them.
        rejects: entries of the file of rejects: the others, and rows without an answer.
        unanswered: rows without an answer.
        output_bytes: length of the output so far.
        reject_bytes: length of the file of rejects so far.
    """

    source: dict[str, str]
    records: int = 0
    rows: int = 0
    rejects: int = 0
    output_bytes: int = 0
    reject_bytes: int = 0
    unanswered: int = 0

    def count(self, rows: bytes, count: int, rejects: Sequence[Reject], last_record: int) -> None:
        """Take in a window; see `Sink.write`."""
        self.output_bytes += len(rows)
        self.rows += count
        self.rejects += len(rejects)
        self.unanswered += sum(item.reason == NO_TEXT for item in rejects)
        self.records = last_record


class Sink(ABC):
    """Where labelled rows and rejected records go."""

    progress: Progress

    @abstractmethod
    def write(self, rows: bytes, count: int, rejects: Sequence[Reject], last_record: int) -> None:
        """Write one window; when this returns, the window is safe.

        Rejects with the reason `NO_TEXT` are rows without an answer, and are counted as such.
        """

    @abstractmethod
    def finish(self) -> None:
        """Everything is written."""

    @abstractmethod
    def abandon(self) -> None:
        """Leave nothing behind when nothing was written."""


@dataclass
class StandardOutput(Sink):
    """Rows to standard output; rejects are only reported."""

    progress: Progress = field(default_factory=lambda: Progress({}))

    def write(self, rows: bytes, count: int, rejects: Sequence[Reject], last_record: int) -> None:
        """Write and flush."""
        sys.stdout.buffer.write(rows)
        sys.stdout.buffer.flush()
        self.progress.count(rows, count, rejects, last_record)

    def finish(self) -> None:
        """Nothing is left to do."""

    def abandon(self) -> None:
        """Nothing can be taken back."""


@dataclass
class FileOutput(Sink):
    """Rows to ``<output>.part`` with a journal, renamed at the end; rejects to ``<output>.rejects.csv``.

    Attributes:
        output: the final path.
        progress: as the journal holds it.
        neutralise_formulas: in the file of rejects.
    """

    output: Path
    progress: Progress
    neutralise_formulas: bool = False

    @property
    def resumable(self) -> bool:
        """Whether a journal is kept: standard input cannot be read again."""
        return bool(self.progress.source)

    @property
    def part(self) -> Path:
        """The unfinished output."""
        return Path(f"{self.output}.part")

    @property
    def journal(self) -> Path:
        """How far it has come."""
        return Path(f"{self.output}.part.json")

    @property
    def rejects(self) -> Path:
        """The records that could not be used."""
        return Path(f"{self.output}.rejects.csv")

    def write(self, rows: bytes, count: int, rejects: Sequence[Reject], last_record: int) -> None:
        """Append to both files, sync them, then the journal: in this order a kill at any moment loses nothing."""
        progress = self.progress
        append(self.part, progress.output_bytes, rows)
        if rejects:
            header = [] if progress.rejects else [REJECT_HEADER]
            cells = [[item.line, item.number, item.reason, item.detail, item.raw] for item in rejects]
            content = csv_bytes([*header, *cells], self.neutralise_formulas)
            append(self.rejects, progress.reject_bytes, content)
            progress.reject_bytes += len(content)
        progress.count(rows, count, rejects, last_record)
        if self.resumable:
            write_text(self.journal, json.dumps(asdict(progress), indent=2) + "\n")

    def finish(self) -> None:
        """Give the output its name; the journal goes last."""
        if not self.progress.rejects:
            self.rejects.unlink(missing_ok=True)
        os.replace(self.part, self.output)
        self.journal.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove the part when it is empty."""
        if not self.progress.records:
            self.part.unlink(missing_ok=True)


def append(path: Path, offset: int, content: bytes) -> None:
    """Write at an offset, cut off whatever stood behind it, and wait until it is on disk."""
    with open(path, "r+b" if offset else "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def open_file_output(
    output: Path, source: dict[str, str], overwrite: bool, neutralise_formulas: bool = False
) -> FileOutput:
    """Check the output and find out how far an earlier call came.

    Args:
        output: the final path.
        source: see `Progress`.
        overwrite: replace a finished output, and drop an unfinished one that was made from something else.
        neutralise_formulas: in the file of rejects.

    Raises:
        UserError: output exists, belongs to something else, or cannot be written.
    """
    if output.exists() and not overwrite:
        raise UserError(f"--output: {output} exists already; give another name, or --overwrite to replace it")
    sink = FileOutput(output, Progress(source), neutralise_formulas)
    if sink.resumable and sink.journal.exists():
        sink.progress = read_journal(sink, overwrite)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        clear_temporaries(output.parent, glob.escape(sink.journal.name))
        if not sink.progress.records:
            sink.journal.unlink(missing_ok=True)
        # Fails here, and not after the first window, where the folder cannot be written to.
        with open(sink.part, "ab"):
            pass
    except OSError as error:
        raise UserError(f"--output: cannot write {sink.part}: {error.strerror}; give another place") from None
    return sink


def read_journal(sink: FileOutput, overwrite: bool) -> Progress:
    """The stored progress when it belongs to the same input, model and options; a fresh one with ``overwrite``.

    Raises:
        UserError: it belongs to others, or files were changed in between.
    """
    fresh = sink.progress
    try:
        stored = Progress(**json.loads(sink.journal.read_text(encoding="utf-8")))
        changed = [name for name in fresh.source if stored.source.get(name) != fresh.source[name]]
        problem = f"was made from another {', '.join(changed)}" if changed else ""
        sizes = ((sink.part, stored.output_bytes), (sink.rejects, stored.reject_bytes))
        for path, size in sizes:
            if size and (not path.exists() or path.stat().st_size < size):
                problem = problem or f"cannot be continued ({path} is shorter than its journal says)"
    except (OSError, ValueError, TypeError, AttributeError):
        problem = "has an unreadable journal"
    if problem and not overwrite:
        raise UserError(
            f"--output: the unfinished {sink.part} {problem}; give another --output, or --overwrite to start over"
        )
    return fresh if problem else stored


# What makes spreadsheets compute a cell instead of showing it (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def neutralised(cell: object) -> object:
    """A cell that spreadsheets show as text: an apostrophe goes before what would begin a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def csv_bytes(rows: Sequence[Sequence[object]], neutralise_formulas: bool = False) -> bytes:
    """Rows as UTF-8 CSV; where asked for, no cell is a formula to a spreadsheet."""
    if neutralise_formulas:
        rows = [[neutralised(cell) for cell in row] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(LineFeeds(text), lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8")
