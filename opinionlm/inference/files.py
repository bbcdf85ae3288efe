"""Label a file of any size in constant memory: read a window of records, label it, write it, go on."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tqdm import tqdm

from opinionlm.data.cleaning import saved_steps
from opinionlm.data.encoding.features import FeatureReader
from opinionlm.data.readers.records import ColumnRules, Record, Reject, SourceNotes, read_stream
from opinionlm.errors import UserError
from opinionlm.inference.input_files import STANDARD, InputKind, input_kind, open_input
from opinionlm.inference.input_forms import InputForm
from opinionlm.inference.inputs import check_features, check_platform, read_words
from opinionlm.inference.output import NO_TEXT, Progress, Sink, StandardOutput, open_file_output
from opinionlm.inference.predictors import Item, Predictor
from opinionlm.inference.rows import (
    OtherColumns,
    OutputRows,
    conll_lines,
    count_less_likely,
    item_of,
    no_answer,
    writable_as_conll,
)
from opinionlm.utils.names import counted, short
from opinionlm.utils.progress import progress_bar

OutputKind = Literal["csv", "jsonl", "conll"]
# A window also ends at so many characters, so that long posts cannot exhaust memory.
WINDOW_CHARACTERS = 16_000_000
SHOWN_REJECTS = 10


@dataclass(frozen=True)
class Request:
    """What to label.

    Attributes:
        input: path, or ``-`` for standard input.
        output: path ending in .csv, .jsonl or (tags) .conll, or ``-`` for standard output (CSV).
        format: of the input; None goes by its ending, and standard input then holds plain lines.
        form: how the input is written, and its columns or keys: ``text``; ``pair`` for a model that reads pairs or
            contexts; ``id``, where None takes one of that name if it is there, and rows without get their number;
            ``platform`` and features for a model that reads them.
        platform: that all records are from, where there is no such column.
        window: records per window.
        overwrite: replace a finished output, and drop an unfinished one that was made from something else.
        neutralise_formulas: write no cell of a CSV that a spreadsheet would take for a formula.
        identity: fingerprint of model and options; an unfinished output of another one is not continued.
    """

    input: str
    output: str
    format: InputKind | None = None
    form: InputForm = InputForm(text="text")
    platform: str = ""
    window: int = 8192
    overwrite: bool = False
    identity: str = ""
    neutralise_formulas: bool = False

    @property
    def kind(self) -> InputKind:
        """The format of the input."""
        return input_kind(self.input, self.format)

    @property
    def has_columns(self) -> bool:
        """Whether the input is a table, or JSON objects."""
        return self.kind not in ("lines", "conll")

    @property
    def has_pairs(self) -> bool:
        """Whether second texts, or contexts, are read."""
        return self.form.pair is not None


@dataclass(frozen=True)
class Summary:
    """What a call of `predict_file` did.

    Attributes:
        progress: rows of the whole output, and records that could not be used.
        resumed_rows: those of the rows that an earlier call had written.
        seconds: time of this call after the model was loaded.
        notes: what the reader noticed.
        less_likely: answers of this call whose label is not the likeliest one.
    """

    progress: Progress
    resumed_rows: int
    seconds: float
    notes: SourceNotes
    less_likely: int

    def describe(self, output: str) -> str:
        """One line for the person who called.

        Args:
            output: where the rows went, ``-`` for standard output.
        """
        rows, unanswered = self.progress.rows, self.progress.unanswered
        new_rows, rejects = rows - self.resumed_rows, self.progress.rejects - unanswered
        counts = [f"labelled {counted(rows, 'row')}"]
        if self.resumed_rows:
            counts.append(f"{self.resumed_rows:,} of them before an interruption")
        place = "" if output == STANDARD else f" (see {output}.rejects.csv)"
        if unanswered:
            counts.append(f"{unanswered:,} of them without an answer, as their texts are empty{place}")
        if self.less_likely:
            counts.append(f"{self.less_likely:,} of them with another label than the likeliest (docs/trust.md)")
        if rejects:
            counts.append(f"rejected {counted(rejects, 'record')}{place}")
        if self.notes.blank_lines:
            counts.append(f"skipped {counted(self.notes.blank_lines, 'blank line')} between records")
        if self.notes.undecodable_records:
            counts.append(
                f"{self.notes.undecodable_records:,} records hold bytes that are no text (shown as \ufffd; give "
                "--encoding if the file has another one)"
            )
        speed = f"{short(new_rows / self.seconds)} rows/s" if new_rows else "nothing was left to do"
        place = "" if output == STANDARD else f" → {output}"
        return f"{'; '.join(counts)}; {self.seconds:.1f} s, {speed}{place}"


def open_sink(request: Request) -> Sink:
    """Where the rows of a request go.

    Raises:
        UserError: see `open_file_output`; or the output is a folder, the input itself, or has an unknown ending.
    """
    if request.output == STANDARD:
        return StandardOutput()
    output = Path(request.output)
    if output.is_dir():
        raise UserError(f"--output: {output} is a folder; give a file name ending in .csv or .jsonl")
    output_kind(request.output)
    if request.input == STANDARD:
        return open_file_output(output, {}, request.overwrite, request.neutralise_formulas)
    if output.exists() and output.samefile(request.input):
        raise UserError(f"--output: {output} is the input itself; give another name")
    return open_file_output(output, made_from(request), request.overwrite, request.neutralise_formulas)


def made_from(request: Request) -> dict[str, str]:
    """All that decides the rows of an output: it has to be the same for an unfinished one to be continued."""
    path = Path(request.input)
    status = path.stat()
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(1 << 20)).hexdigest()
    form = request.form
    columns = f"{form.text} {form.pair} {form.id}"
    if form.platform is not None or request.platform:
        columns += f" {form.platform} {request.platform}"
    return {
        "input": f"{status.st_size} bytes, changed at {status.st_mtime_ns} ns, sha256 of the first MiB {head}",
        "model or precision": request.identity,
        "format, column or window": f"{request.kind} {columns} {request.window} {form}",
    }


def output_kind(output: str) -> OutputKind:
    """The format of the output by its ending.

    Raises:
        UserError: the ending says nothing.
    """
    if output == STANDARD or output.endswith(".csv"):
        return "csv"
    if output.endswith(".jsonl"):
        return "jsonl"
    if output.endswith(".conll"):
        return "conll"
    raise UserError(f"--output: {output} ends in neither .csv nor .jsonl nor .conll; the ending decides the format")


def read_windows(records: Iterator[Record | Reject], done: int, size: int) -> Iterator[list[Record | Reject]]:
    """Group the records behind the first ``done`` ones into windows of bounded length and size."""
    window: list[Record | Reject] = []
    characters = 0
    for record in records:
        if record.number <= done:
            continue
        window.append(record)
        characters += len(record.raw)
        if len(window) >= size or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def predict_file(request: Request, load: Callable[[], Predictor]) -> Summary:
    """Label every record of the input.

    Args:
        request: what to label.
        load: gives the classifier; called after the first window was read, so that bad input is told at once.

    Returns:
        Counts of the whole output, earlier calls included.

    Raises:
        UserError: see `open_sink`, `open_input` and `opinionlm.data.readers.records.read_stream`; or the disk is full.
    """
    notes = SourceNotes()
    with open_input(request.input) as binary, closing(read_records(binary, request, notes)) as found:
        size = None if request.input == STANDARD else os.fstat(binary.fileno()).st_size
        sink = open_sink(request)
        records = writable_as_conll(found) if output_kind(request.output) == "conll" else found
        resumed = sink.progress.rows
        try:
            windows = read_windows(records, sink.progress.records, request.window)
            window = next(windows, None)
            predictor = load()
            check_fit(predictor, request)
            rows = OutputRows(predictor, other_columns(request, notes, window or []), request.has_pairs)
            reader = FeatureReader(predictor.features, saved_steps(predictor.cleaning), request.platform)
            job, less_likely = Job(request, rows, reader, sink), 0
            start = time.monotonic()
            with progress_bar(desc="predicting", unit="rows", initial=sink.progress.records) as bar:
                while window is not None:
                    if size:
                        # How many rows there will be is only known from the share of bytes that are read.
                        bar.total = max(window[-1].number, round(window[-1].number * size / max(1, binary.tell())))
                    less_likely += job.label(window, bar)
                    window = next(windows, None)
            if not sink.progress.output_bytes:
                # No usable record at all: still a file with its header.
                sink.write(job.encoded([], [], []), 0, [], sink.progress.records)
        except BaseException:
            sink.abandon()
            raise
    sink.finish()
    if left_out := rows.others.left_out:
        keys = ", ".join(sorted(left_out)[:SHOWN_REJECTS])
        print(
            f"standard input: warning: {keys}: not in the output, whose header was "
            "written before such a key came; give a file as --input, or a name ending in .jsonl as --output",
            file=sys.stderr,
        )
    for line in reader.warnings():
        print(f"{request.input}: warning: {line}", file=sys.stderr)
    return Summary(sink.progress, resumed, time.monotonic() - start, notes, less_likely)


def other_columns(request: Request, notes: SourceNotes, window: Sequence[Record | Reject]) -> OtherColumns:
    """The columns of the input that nobody asked for: they are kept.

    Of JSON lines every object has its own; for the columns of a CSV file all of them are read once. Of standard input
    only the first window can be known.
    """
    is_json = request.kind == "jsonl"
    columns = request.form.columns
    used = frozenset(columns.pop(name) for name in ("text", "text_pair", "id") if name in columns)
    # A key with dots in it reaches into an object, which then stays.
    others = OtherColumns([], used, columns if request.has_columns else {}, is_json)
    if not is_json:
        others.note(notes, [])
    elif output_kind(request.output) == "csv":
        if request.input == STANDARD:
            others.note(notes, [record for record in window if isinstance(record, Record)])
        else:
            with open_input(request.input) as binary:
                for record in read_records(binary, request, SourceNotes()):
                    others.note(notes, [record] if isinstance(record, Record) else [])
    return others


def check_fit(predictor: Predictor, request: Request) -> None:
    """Refuse a request that asks for something else than the model does.

    Raises:
        UserError: pairs for a model that reads single texts, or the other way round; CoNLL without tags.
    """
    if predictor.reads == "pair" and not request.has_pairs:
        raise UserError("--pair_column: the model reads pairs of texts; name the column of the second ones")
    if predictor.reads not in ("pair", "context") and request.has_pairs:
        raise UserError("--pair_column: the model reads single texts; leave it out, or give a model trained on pairs")
    if predictor.reads != "words" and "conll" in (request.kind, output_kind(request.output)):
        raise UserError("--model: CoNLL holds tagged words, and this model tags none; give .csv or .jsonl files")
    check_platform(predictor, request.form.platform, request.platform)
    check_features(predictor, dict(request.form.features) if request.has_columns else (), request.input)


def read_records(binary: IO[bytes], request: Request, notes: SourceNotes) -> Generator[Record | Reject, None, None]:
    """The records of the input with the canonical columns ``text`` and, where they exist, ``text_pair`` and ``id``.

    Raises:
        UserError: see `opinionlm.data.readers.records.read_stream`; or pairs are to be read where there are
            no columns.
    """
    name, form = "standard input" if request.input == STANDARD else request.input, request.form
    if request.has_pairs and not request.has_columns:
        raise UserError("--pair_column: the input has no columns; give a .csv, .tsv or .jsonl file, or --format")
    if form.platform is not None and not request.has_columns:
        raise UserError("--platform_column: the input has no columns; give --platform for all of it")
    if request.kind == "conll":
        return read_words(binary, name, notes, form)
    remedy = "name the columns with --text_column, --pair_column, --platform_column and --id_column"
    if beside := [column for _, column in form.features]:
        remedy += f"; what the model reads beside the text has no option: add or rename {', '.join(beside)}"
    rules = ColumnRules(optional=("id",) if form.id is None else (), remedy=remedy, keep_others=True)
    spec = form.spec(request.input, request.kind)
    return with_texts(read_stream(binary, name, request.kind, spec, notes, rules))


def with_texts(records: Generator[Record | Reject, None, None]) -> Generator[Record | Reject, None, None]:
    """Records whose text may be a list: joined by blanks, as training joins sentences and words."""
    with closing(records):
        for record in records:
            if isinstance(record, Record) and "tokens" in record.lists:
                record.fields["text"] = " ".join(record.lists["tokens"])
            elif isinstance(record, Record) and "tokens" in record.fields:
                record.fields["text"] = record.fields.pop("tokens")
            yield record


@dataclass(frozen=True)
class Job:
    """A request with all that answers it.

    Attributes:
        request: what to label.
        rows: of the output, with the model whose answers they hold.
        reader: of what stands in front of texts.
        sink: where the rows go.
    """

    request: Request
    rows: OutputRows
    reader: FeatureReader
    sink: Sink

    def label(self, window: list[Record | Reject], bar: tqdm) -> int:
        """Label the records of one window, write them in their order, and report the rejected ones.

        Returns:
            How many labels are not the likeliest ones.
        """
        predictor, sink, has_pairs = self.rows.predictor, self.sink, self.request.has_pairs
        records = [record for record in window if isinstance(record, Record)]
        items = [item_of(record, predictor, self.reader, has_pairs) for record in records]
        read = [item for item in items if item is not None]
        found = iter(predictor.answers(read, bar.update) if read else [])
        answers = [[""] * len(predictor.columns) if item is None else next(found) for item in items]
        empty = {id(record) for record, item in zip(records, items, strict=True) if item is None}
        rejects = [
            no_answer(record, has_pairs) if isinstance(record, Record) else record
            for record in window
            if isinstance(record, Reject) or id(record) in empty
        ]
        for position, reject in enumerate(rejects, start=sink.progress.rejects):
            # Empty texts are many and all alike; the summary counts them.
            if position < SHOWN_REJECTS and reject.reason != NO_TEXT:
                place = f"{self.request.input}:{reject.line}"
                bar.write(f"{place}: rejected, {reject.reason}: {reject.detail}", file=sys.stderr)
        try:
            sink.write(self.encoded(records, items, answers), len(records), rejects, window[-1].number)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(
                f"--output: cannot write {self.request.output}: {error.strerror}; make room and give the same command "
                f"again, {sink.progress.rows:,} rows are safe"
            ) from None
        bar.update(len(window) - len(read))
        return count_less_likely(predictor.columns, answers)

    def encoded(self, records: Sequence[Record], items: Sequence[Item | None], answers: Sequence[list[str]]) -> bytes:
        """Rows as the output's format holds them; the first of a CSV with its header line.

        Args:
            records: what was read.
            items: what the model read of them, None for nothing.
            answers: the cells of every record's answer.
        """
        match output_kind(self.request.output):
            case "csv":
                header = self.sink.progress.output_bytes == 0
                return self.rows.table(records, answers, header, self.request.neutralise_formulas)
            case "jsonl":
                return self.rows.json_lines(records, answers)
            case "conll":
                return conll_lines(items, answers, self.rows.predictor)
