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
from opinionlm.inference.output import NO_TEXT, Sink, StandardOutput, open_file_output
from opinionlm.inference.predictors import Item, Predictor
from opinionlm.inference.rows import OtherColumns, conll_lines, item_of, json_lines, no_answer, table_bytes
from opinionlm.utils.names import counted
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
        text_column: column or key of the texts.
        pair_column: column or key of the second texts, for a model that reads pairs or contexts.
        id_column: column or key of the ids; None takes ``id`` where there is one. Rows without get their number.
        platform_column: column or key of the platforms, for a model that reads them.
        platform: that all records are from, where there is no such column.
        window: records per window.
        overwrite: replace a finished output, and drop an unfinished one that was made from something else.
        neutralise_formulas: write no cell of a CSV that a spreadsheet would take for a formula.
        identity: fingerprint of model and options; an unfinished output of another one is not continued.
        form: encoding, separator and quotes of the input.
    """

    input: str
    output: str
    format: InputKind | None = None
    text_column: str = "text"
    pair_column: str | None = None
    id_column: str | None = None
    platform_column: str | None = None
    platform: str = ""
    window: int = 8192
    overwrite: bool = False
    identity: str = ""
    neutralise_formulas: bool = False
    form: InputForm = InputForm()


@dataclass(frozen=True)
class Summary:
    """What a call of `predict_file` did.

    Attributes:
        rows: rows in the output.
        rejects: records that could not be used.
        unanswered: rows whose texts are empty, and whose answers therefore are.
        resumed_rows: those of the rows that an earlier call had written.
        seconds: time of this call after the model was loaded.
        notes: what the reader noticed.
    """

    rows: int
    rejects: int
    unanswered: int
    resumed_rows: int
    seconds: float
    notes: SourceNotes

    def describe(self, output: str) -> str:
        """One line for the person who called.

        Args:
            output: where the rows went, ``-`` for standard output.
        """
        new_rows = self.rows - self.resumed_rows
        counts = [f"labelled {counted(self.rows, 'row')}"]
        if self.resumed_rows:
            counts.append(f"{self.resumed_rows:,} of them before an interruption")
        place = "" if output == STANDARD else f" (see {output}.rejects.csv)"
        if self.unanswered:
            counts.append(f"{self.unanswered:,} of them without an answer, as their texts are empty{place}")
        if self.rejects:
            counts.append(f"rejected {counted(self.rejects, 'record')}{place}")
        if self.notes.blank_lines:
            counts.append(f"skipped {counted(self.notes.blank_lines, 'blank line')} between records")
        if self.notes.undecodable_records:
            counts.append(
                f"{self.notes.undecodable_records:,} records hold bytes that are no text (shown as \ufffd; give "
                "--encoding if the file has another one)"
            )
        speed = f"{new_rows / self.seconds:,.0f} rows/s" if new_rows else "nothing was left to do"
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
    columns = f"{request.text_column} {request.pair_column} {request.id_column}"
    if request.platform_column is not None or request.platform:
        columns += f" {request.platform_column} {request.platform}"
    return {
        "input": f"{status.st_size} bytes, changed at {status.st_mtime_ns} ns, sha256 of the first MiB {head}",
        "model or precision": request.identity,
        "format, column or window": f"{kind_of(request)} {columns} {request.window} {request.form}",
    }


def kind_of(request: Request) -> InputKind:
    """The format of a request's input."""
    return input_kind(request.input, request.format)


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
    with open_input(request.input) as binary, closing(read_records(binary, request, notes)) as records:
        size = None if request.input == STANDARD else os.fstat(binary.fileno()).st_size
        sink = open_sink(request)
        resumed = sink.progress.rows
        try:
            windows = read_windows(records, sink.progress.records, request.window)
            window = next(windows, None)
            predictor = load()
            check_fit(predictor, request)
            others = other_columns(request, notes, window or [])
            reader = FeatureReader(predictor.features, saved_steps(predictor.cleaning), request.platform)
            start = time.monotonic()
            with progress_bar(desc="predicting", unit="rows", initial=sink.progress.records) as bar:
                while window is not None:
                    if size:
                        # How many rows there will be is only known from the share of bytes that are read.
                        bar.total = max(window[-1].number, round(window[-1].number * size / max(1, binary.tell())))
                    label_window(window, predictor, sink, request, others, reader, bar)
                    window = next(windows, None)
            if not sink.progress.output_bytes:
                # No usable record at all: still a file with its header.
                empty = encode_rows([], [], [], predictor, request, others, header=True)
                sink.write(empty, 0, [], sink.progress.records)
        except BaseException:
            sink.abandon()
            raise
    sink.finish()
    for line in reader.warnings():
        print(f"{request.input}: warning: {line}", file=sys.stderr)
    progress = sink.progress
    rejects = progress.rejects - progress.unanswered
    return Summary(progress.rows, rejects, progress.unanswered, resumed, time.monotonic() - start, notes)


def other_columns(request: Request, notes: SourceNotes, window: Sequence[Record | Reject]) -> OtherColumns:
    """The columns of the input that nobody asked for: they are kept.

    Of JSON lines every object has its own; for the columns of a CSV file all of them are read once. Of standard input
    only the first window can be known.
    """
    is_json = kind_of(request) == "jsonl"
    mapped = [request.text_column, request.pair_column, request.id_column or "id"]
    # A key with dots in it reaches into an object, which then stays.
    shown = dict(request.form.features)
    if request.platform_column is not None:
        shown = {"platform": request.platform_column} | shown
    if kind_of(request) in ("lines", "conll"):
        shown = {}
    others = OtherColumns([], frozenset(name for name in mapped if name), shown, is_json)
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
    if predictor.reads == "pair" and request.pair_column is None:
        raise UserError("--pair_column: the model reads pairs of texts; name the column of the second ones")
    if predictor.reads not in ("pair", "context") and request.pair_column is not None:
        raise UserError("--pair_column: the model reads single texts; leave it out, or give a model trained on pairs")
    if predictor.reads != "words" and "conll" in (kind_of(request), output_kind(request.output)):
        raise UserError("--model: CoNLL holds tagged words, and this model tags none; give .csv or .jsonl files")
    check_platform(predictor, request.platform_column, request.platform)
    check_features(
        predictor, () if kind_of(request) in ("lines", "conll") else dict(request.form.features), request.input
    )


def read_records(binary: IO[bytes], request: Request, notes: SourceNotes) -> Generator[Record | Reject, None, None]:
    """The records of the input with the canonical columns ``text`` and, where they exist, ``text_pair`` and ``id``.

    Raises:
        UserError: see `opinionlm.data.readers.records.read_stream`; or pairs are to be read where there are
            no columns.
    """
    name, kind = "standard input" if request.input == STANDARD else request.input, kind_of(request)
    if request.pair_column is not None and kind in ("lines", "conll"):
        raise UserError("--pair_column: the input has no columns; give a .csv, .tsv or .jsonl file, or --format")
    if request.platform_column is not None and kind in ("lines", "conll"):
        raise UserError("--platform_column: the input has no columns; give --platform for all of it")
    if kind == "conll":
        return read_words(binary, name, notes, request.form.encoding)
    columns = {"tokens" if request.form.lists and kind == "jsonl" else "text": request.text_column}
    columns["id"] = request.id_column or "id"
    if request.pair_column is not None:
        columns["text_pair"] = request.pair_column
    if request.platform_column is not None:
        columns["platform"] = request.platform_column
    columns |= dict(request.form.features)
    remedy = "name the columns with --text_column, --pair_column, --platform_column and --id_column"
    if beside := [column for _, column in request.form.features]:
        remedy += f"; what the model reads beside the text has no option: add or rename {', '.join(beside)}"
    rules = ColumnRules(
        optional=("id",) if request.id_column is None else (),
        remedy=remedy,
        keep_others=True,
    )
    spec = request.form.spec(request.input, columns)
    return with_texts(read_stream(binary, name, kind, spec, notes, rules))


def with_texts(records: Generator[Record | Reject, None, None]) -> Generator[Record | Reject, None, None]:
    """Records whose text may be a list: joined by blanks, as training joins sentences and words."""
    with closing(records):
        for record in records:
            if isinstance(record, Record) and "tokens" in record.lists:
                record.fields["text"] = " ".join(record.lists["tokens"])
            elif isinstance(record, Record) and "tokens" in record.fields:
                record.fields["text"] = record.fields.pop("tokens")
            yield record


def label_window(
    window: list[Record | Reject],
    predictor: Predictor,
    sink: Sink,
    request: Request,
    others: OtherColumns,
    reader: FeatureReader,
    bar: tqdm,
) -> None:
    """Label the records of one window, write them in their order, and report the rejected ones."""
    records = [record for record in window if isinstance(record, Record)]
    has_pairs = request.pair_column is not None
    items = [item_of(record, predictor, reader, has_pairs) for record in records]
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
            bar.write(f"{request.input}:{reject.line}: rejected, {reject.reason}: {reject.detail}", file=sys.stderr)
    content = encode_rows(records, items, answers, predictor, request, others, sink.progress.output_bytes == 0)
    try:
        sink.write(content, len(records), rejects, window[-1].number)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"--output: cannot write {request.output}: {error.strerror}; make room and give the same command again, "
            f"{sink.progress.rows:,} rows are safe"
        ) from None
    bar.update(len(window) - len(read))


def encode_rows(
    records: Sequence[Record],
    items: Sequence[Item | None],
    answers: Sequence[list[str]],
    predictor: Predictor,
    request: Request,
    others: OtherColumns,
    header: bool,
) -> bytes:
    """Rows as the output's format holds them; CSV with its header line where asked for.

    Args:
        records: what was read.
        items: what the model read of them, None for nothing.
        answers: the cells of every record's answer.
        predictor: names the answer's columns.
        request: names the output.
        others: the input's other columns.
        header: whether nothing was written yet.
    """
    has_pairs = request.pair_column is not None
    match output_kind(request.output):
        case "csv":
            return table_bytes(records, answers, predictor, others, has_pairs, header, request.neutralise_formulas)
        case "jsonl":
            return json_lines(records, answers, predictor, others, has_pairs)
        case "conll":
            return conll_lines(items, answers, predictor)
