"""The rows of a prediction: what a model reads of each record, its answer, and the columns that were there before.

An output row holds id, text (and second text), the cells of the answer, and then all other columns of the input in
their order. One whose name is taken gets ``input_`` before it. A post in which nothing is left to read gets no
answer: its cells are blank, null in JSON lines, and the rejects say why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from opinionlm.data.cleaning import clean_text, is_blank
from opinionlm.data.encoding.features import FeatureReader
from opinionlm.data.readers.conll import DOCUMENT_MARK
from opinionlm.data.readers.json_values import NotTextError, load_row, value_text
from opinionlm.data.readers.records import Record, Reject, SourceNotes
from opinionlm.errors import UserError
from opinionlm.inference.output import NO_TEXT, csv_bytes
from opinionlm.inference.predictors import Item, Predictor

# More keys of JSON objects than this are no columns of a table.
MOST_COLUMNS = 1_000


def item_of(record: Record, predictor: Predictor, reader: FeatureReader, has_pairs: bool) -> Item | None:
    """What the model reads of a record, cleaned as its training texts were; None where nothing of a text is left.

    Args:
        record: with the canonical fields.
        predictor: the model.
        reader: of what stands in front of texts.
        has_pairs: whether records have second texts.
    """
    steps = reader.steps
    if predictor.reads == "words":
        words = words_of(record)
        return tuple(words) if any(not is_blank(word) for word in words) else None
    if is_blank(clean_text(record.fields["text"], steps)[0]):
        return None
    match predictor.reads:
        case "pair":
            second = clean_text(record.fields["text_pair"], steps)[0]
            return None if is_blank(second) else (reader.read(record.fields), second)
        case "context":
            context = clean_text(record.fields["text_pair"], steps)[0] if has_pairs else ""
            return clean_text(record.fields["text"], steps)[0], context
        case _:
            return reader.read(record.fields)


def words_of(record: Record) -> list[str]:
    """The words of a sentence: those of its list, or what blanks part."""
    return record.lists["tokens"] if "tokens" in record.lists else record.fields["text"].split()


def no_answer(record: Record, has_pairs: bool) -> Reject:
    """Why a record has no answer."""
    texts = [record.fields["text"], *([record.fields["text_pair"]] if has_pairs else [])]
    which = "the text is" if len(texts) == 1 else "a text of the pair is"
    detail = f"{which} empty" if any(map(is_blank, texts)) else f"{which} empty after cleaning"
    return Reject(record.line, record.number, NO_TEXT, f"{detail}, so its answer is blank", record.raw)


def free_name(name: str, taken: Collection[str]) -> str:
    """A column's name in the output: its own, with ``input_`` before it as long as it is taken."""
    while name in taken:
        name = f"input_{name}"
    return name


@dataclass
class OtherColumns:
    """The columns of the input beside those that are mapped, as the output shows them.

    Attributes:
        names: in the input's order; of separated files those of `SourceNotes`, of JSON lines what was found first.
        used: keys of JSON objects that the output shows under another name.
        shown: columns that are mapped and still shown, by canonical name: of platforms and features.
        is_json: whether records are JSON objects.
        left_out: keys that first appeared behind the header of a CSV output, which has no column for them.
    """

    names: list[str]
    used: frozenset[str]
    shown: Mapping[str, str]
    is_json: bool
    left_out: set[str] = field(default_factory=set)

    def note(self, notes: SourceNotes, records: Sequence[Record]) -> None:
        """Learn the names: of a table's columns when its header is read, of JSON objects from record to record."""
        if not self.is_json:
            self.names = [*notes.dropped_columns, *self.shown.values()]
        else:
            for record in records:
                if len(self.names) <= MOST_COLUMNS:
                    self.names = list(dict.fromkeys([*self.names, *self.values(record)]))
            if len(self.names) > MOST_COLUMNS:
                raise UserError(
                    f"--output: the objects of the input have more than {MOST_COLUMNS:,} keys, too many for the "
                    "columns of a CSV file; give a name ending in .jsonl"
                )

    def shown_names(self, own: Sequence[str]) -> list[str]:
        """Their names in the output, in order."""
        taken, shown = set(own), []
        for name in self.names:
            shown.append(free_name(name, taken))
            taken.add(shown[-1])
        return shown

    def cells(self, record: Record) -> list[str]:
        """Their cells of a CSV row."""
        if not self.is_json:
            return [*record.others, *(record.fields[name] for name in self.shown)]
        row, written = self.values(record), load_row(record.raw)
        if len(self.left_out) <= MOST_COLUMNS:
            self.left_out.update(row.keys() - self.names)
        return [cell_of(row.get(name), written.get(name)) for name in self.names]

    def named(self, record: Record) -> Iterable[tuple[str, Any]]:
        """Names and values in order; columns of a table may share a name."""
        return self.values(record).items() if self.is_json else zip(self.names, self.cells(record), strict=True)

    def values(self, record: Record) -> dict[str, Any]:
        """Those of a JSON object, by their names."""
        row = json.loads(record.raw, parse_float=finite, parse_constant=lambda name: None)
        return {key: value for key, value in row.items() if key not in self.used}


def finite(written: str) -> float | str:
    """A JSON number; one beyond the range of floats stays as it is written."""
    return float(written) if math.isfinite(float(written)) else written


def cell_of(value: Any, written: Any) -> str:
    """A JSON value as a cell: by the rule of `value_text`, lists and objects as JSON."""
    try:
        return value_text(written, is_name=True)
    except NotTextError:
        return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class OutputRows:
    """The rows of an output: id, text or texts, answer, and the other columns of the input.

    Attributes:
        predictor: names the answer's columns.
        others: the input's other columns.
        has_pairs: whether there are second texts.
    """

    predictor: Predictor
    others: OtherColumns
    has_pairs: bool

    @property
    def names(self) -> list[str]:
        """The columns of an output that are ours, in order."""
        return ["id", "text", *(["text_pair"] if self.has_pairs else []), *self.predictor.columns]

    def texts(self, record: Record) -> list[str]:
        """Id, or number, and text, or texts, of a record."""
        pair = [record.fields["text_pair"]] if self.has_pairs else []
        return [record.fields.get("id") or str(record.number), record.fields["text"], *pair]

    def table(self, records: Sequence[Record], answers: Sequence[list[str]], header: bool, neutralise: bool) -> bytes:
        """Rows of CSV, with the header line where asked for."""
        rows = [
            [*self.texts(record), *cells, *self.others.cells(record)]
            for record, cells in zip(records, answers, strict=True)
        ]
        names = [*self.names, *self.others.shown_names(self.names)]
        return csv_bytes([names, *rows] if header else rows, neutralise)

    def json_lines(self, records: Sequence[Record], answers: Sequence[list[str]]) -> bytes:
        """One object per row; the cells of a blank answer are null."""
        names, columns, others, lines = self.names, self.predictor.columns, self.others, []
        for record, cells in zip(records, answers, strict=True):
            row: dict[str, Any] = dict(zip(names, self.texts(record), strict=False))
            blank = not any(cells)
            for name, cell in zip(columns, cells, strict=True):
                row[name] = None if blank else self.predictor.json_value(name, cell)
            for name, value in others.named(record):
                row[free_name(name, row)] = value
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        return "".join(lines).encode()


def count_less_likely(columns: Sequence[str], answers: Sequence[Sequence[str]]) -> int:
    """How many answers are a label whose probability is not the largest; 0 of answers of another kind."""
    if "confidence" not in columns:
        return 0
    given, own = columns.index("predicted"), columns.index("confidence")
    places = [place for place, name in enumerate(columns) if name.startswith("probability_")]
    labelled = (cells for cells in answers if cells[given])
    return sum(float(cells[own]) < max(float(cells[place]) for place in places) for cells in labelled)


def writable_as_conll(records: Generator[Record | Reject, None, None]) -> Generator[Record | Reject, None, None]:
    """Sentences to be written as CoNLL; one with a word that would end its line or its sentence is rejected."""
    detail = "a word is blank, a document mark, or holds a tab or a line break: give an --output ending in .jsonl"
    with closing(records):
        for record in records:
            words = words_of(record) if isinstance(record, Record) else ()
            if isinstance(record, Record) and not all(map(is_blank, words)) and not all(map(is_conll_word, words)):
                yield Reject(record.line, record.number, "no_conll_word", detail, record.raw)
            else:
                yield record


def is_conll_word(word: str) -> bool:
    """Whether a line of CoNLL can hold a word as its first column."""
    return bool(word.strip()) and word != DOCUMENT_MARK and not any(mark in word for mark in "\t\n\r")


def conll_lines(items: Sequence[Item | None], answers: Sequence[list[str]], predictor: Predictor) -> bytes:
    """A word, a tab and its tag per line, a blank line behind every sentence; one without words is an empty one."""
    at = predictor.columns.index("tags")
    tagged = [zip(item or (), cells[at].split(), strict=True) for item, cells in zip(items, answers, strict=True)]
    return "".join("".join(f"{word}\t{tag}\n" for word, tag in sentence) + "\n" for sentence in tagged).encode()
