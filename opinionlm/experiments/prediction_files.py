"""Label a file of any size in constant memory: read a window of records, label it, write it, go on."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tqdm import tqdm

from opinionlm.data.cleaning import Step, clean_text, saved_steps
from opinionlm.data.sources import Kind, Record, Reject, SourceNotes, read_stream
from opinionlm.data.spec import FileSpec
from opinionlm.errors import UserError
from opinionlm.experiments.labellers import Item, Labeller
from opinionlm.experiments.prediction_output import Sink, StandardOutput, csv_bytes, open_file_output
from opinionlm.experiments.prediction_platforms import check_platform, read_text
from opinionlm.experiments.prediction_words import conll_text, read_words

InputKind = Kind | Literal["conll"]
OutputKind = Literal["csv", "jsonl", "conll"]
STANDARD = "-"
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


@dataclass(frozen=True)
class Summary:
    """What a call of `predict_file` did.

    Attributes:
        rows: labelled rows in the output.
        rejects: records that could not be used.
        resumed_rows: those of the rows that an earlier call had written.
        seconds: time of this call after the model was loaded.
        notes: what the reader noticed.
    """

    rows: int
    rejects: int
    resumed_rows: int
    seconds: float
    notes: SourceNotes

    def describe(self, output: str) -> str:
        """One line for the person who called.

        Args:
            output: where the rows went, ``-`` for standard output.
        """
        new_rows = self.rows - self.resumed_rows
        counts = [f"labelled {self.rows:,} rows"]
        if self.resumed_rows:
            counts.append(f"{self.resumed_rows:,} of them before an interruption")
        if self.rejects:
            place = "" if output == STANDARD else f" (see {output}.rejects.csv)"
            counts.append(f"rejected {self.rejects:,} records{place}")
        if self.notes.blank_lines:
            counts.append(f"skipped {self.notes.blank_lines:,} blank lines between records")
        if self.notes.undecodable_records:
            counts.append(f"{self.notes.undecodable_records:,} records hold bytes that are no text (shown as \ufffd)")
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
        "format, column or window": f"{input_kind(request)} {columns} {request.window}",
    }


def input_kind(request: Request) -> InputKind:
    """The format of the input, by request or by its ending.

    Raises:
        UserError: the ending says nothing.
    """
    if request.format is not None:
        return request.format
    if request.input == STANDARD:
        return "lines"
    match Path(request.input.removesuffix(".gz")).suffix:
        case ".csv":
            return "csv"
        case ".tsv":
            return "tsv"
        case ".jsonl":
            return "jsonl"
        case ".txt":
            return "lines"
        case ".conll":
            return "conll"
        case suffix:
            raise UserError(
                f"--input: the ending {suffix!r} of {request.input} is none of .csv, .tsv, .jsonl, .txt and .conll "
                "(each also with .gz); say the format with --format"
            )


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


@contextmanager
def open_input(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file or of standard input.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 — closed below, where errors of the body are not mistaken for its own
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror}") from None
    with file:
        yield file


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


def predict_file(request: Request, load: Callable[[], Labeller]) -> Summary:
    """Label every record of the input.

    Args:
        request: what to label.
        load: gives the classifier; called after the first window was read, so that bad input is told at once.

    Returns:
        Counts of the whole output, earlier calls included.

    Raises:
        UserError: see `open_sink`, `open_input` and `opinionlm.data.sources.read_stream`; or the disk is full.
    """
    notes = SourceNotes()
    with open_input(request.input) as binary, closing(read_records(binary, request, notes)) as records:
        size = None if request.input == STANDARD else os.fstat(binary.fileno()).st_size
        sink = open_sink(request)
        resumed = sink.progress.rows
        try:
            windows = read_windows(records, sink.progress.records, request.window)
            window = next(windows, None)
            labeller = load()
            check_fit(labeller, request)
            start = time.monotonic()
            with tqdm(desc="Predicting", unit=" rows", initial=sink.progress.records, disable=None) as bar:
                while window is not None:
                    if size:
                        # How many rows there will be is only known from the share of bytes that are read.
                        bar.total = max(window[-1].number, round(window[-1].number * size / max(1, binary.tell())))
                    label_window(window, labeller, sink, request, bar)
                    window = next(windows, None)
            if not sink.progress.output_bytes:
                # No usable record at all: still a file with its header.
                sink.write(encode_rows([], [], labeller, request, header=True), 0, [], sink.progress.records)
        except BaseException:
            sink.abandon()
            raise
    sink.finish()
    return Summary(sink.progress.rows, sink.progress.rejects, resumed, time.monotonic() - start, notes)


def check_fit(labeller: Labeller, request: Request) -> None:
    """Refuse a request that asks for something else than the model does.

    Raises:
        UserError: pairs for a model that reads single texts, or the other way round; CoNLL without tags.
    """
    if labeller.reads == "pair" and request.pair_column is None:
        raise UserError("--pair_column: the model reads pairs of texts; name the column of the second ones")
    if labeller.reads not in ("pair", "context") and request.pair_column is not None:
        raise UserError("--pair_column: the model reads single texts; leave it out, or give a model trained on pairs")
    if labeller.reads != "words" and "conll" in (input_kind(request), output_kind(request.output)):
        raise UserError("--model: CoNLL holds tagged words, and this model tags none; give .csv or .jsonl files")
    check_platform(labeller, request.platform_column, request.platform)


def read_records(binary: IO[bytes], request: Request, notes: SourceNotes) -> Generator[Record | Reject, None, None]:
    """The records of the input with the canonical columns ``text`` and, where they exist, ``text_pair`` and ``id``.

    Raises:
        UserError: see `opinionlm.data.sources.read_stream`; or pairs are to be read where there are no columns.
    """
    name, kind = "standard input" if request.input == STANDARD else request.input, input_kind(request)
    if request.pair_column is not None and kind in ("lines", "conll"):
        raise UserError("--pair_column: the input has no columns; give a .csv, .tsv or .jsonl file, or --format")
    if request.platform_column is not None and kind in ("lines", "conll"):
        raise UserError("--platform_column: the input has no columns; give --platform for all of it")
    if kind == "conll":
        return read_words(binary, name, notes)
    columns = {"text": request.text_column, "id": request.id_column or "id"}
    if request.pair_column is not None:
        columns["text_pair"] = request.pair_column
    if request.platform_column is not None:
        columns["platform"] = request.platform_column
    return read_stream(
        binary,
        name,
        kind,
        FileSpec(request.input, columns),
        notes,
        optional=("id",) if request.id_column is None else (),
        remedy="name the columns with --text_column, --pair_column, --platform_column and --id_column",
    )


def item_of(record: Record, labeller: Labeller, request: Request, steps: list[Step]) -> Item:
    """What the model reads of a record: its texts, cleaned by the steps that its training texts were cleaned by."""
    match labeller.reads:
        case "text":
            return read_text(record, request.platform, steps)
        case "pair":
            return read_text(record, request.platform, steps), clean_text(record.fields["text_pair"], steps)[0]
        case "context":
            context = "" if request.pair_column is None else clean_text(record.fields["text_pair"], steps)[0]
            return clean_text(record.fields["text"], steps)[0], context
        case "words":
            return tuple(record.lists["tokens"] if "tokens" in record.lists else record.fields["text"].split())


def label_window(window: list[Record | Reject], labeller: Labeller, sink: Sink, request: Request, bar: tqdm) -> None:
    """Label the records of one window, write them in their order, and report the rejected ones."""
    records = [record for record in window if isinstance(record, Record)]
    rejects = [record for record in window if isinstance(record, Reject)]
    for position, reject in enumerate(rejects, start=sink.progress.rejects):
        if position < SHOWN_REJECTS:
            bar.write(f"{request.input}:{reject.line}: rejected, {reject.reason}: {reject.detail}", file=sys.stderr)
    steps = saved_steps(labeller.cleaning)
    items = [item_of(record, labeller, request, steps) for record in records]
    answers = labeller.answers(items, bar.update)
    labelled = [
        [record.fields.get("id") or str(record.number), record.fields["text"], *pair_cells(record, request), *cells]
        for record, cells in zip(records, answers, strict=True)
    ]
    content = encode_rows(labelled, items, labeller, request, header=sink.progress.output_bytes == 0)
    try:
        sink.write(content, len(records), rejects, window[-1].number)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"--output: cannot write {request.output}: {error.strerror}; make room and give the same command again, "
            f"{sink.progress.rows:,} rows are safe"
        ) from None
    bar.update(len(rejects))


def pair_cells(record: Record, request: Request) -> list[str]:
    """The second text of a pair, where pairs are read."""
    return [] if request.pair_column is None else [record.fields["text_pair"]]


def encode_rows(
    rows: list[list[str]], items: Sequence[Item], labeller: Labeller, request: Request, header: bool
) -> bytes:
    """Rows as the output's format holds them; CSV with its header line where asked for.

    Args:
        rows: id, text, the second text of a pair, and the cells of the answer.
        items: what the model read of them.
        labeller: names the answer's columns.
        request: names the output.
        header: whether nothing was written yet.
    """
    names = ["id", "text", *([] if request.pair_column is None else ["text_pair"]), *labeller.columns]
    first = len(names) - len(labeller.columns)
    match output_kind(request.output):
        case "csv":
            return csv_bytes([names, *rows] if header else rows, request.neutralise_formulas)
        case "jsonl":
            objects = (
                {
                    name: cell if at < first else labeller.json_value(name, cell)
                    for at, (name, cell) in enumerate(zip(names, row, strict=True))
                }
                for row in rows
            )
            return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects).encode()
        case "conll":
            tags = [row[names.index("tags")].split() for row in rows]
            return "".join(conll_text(words, row) for words, row in zip(items, tags, strict=True)).encode()
