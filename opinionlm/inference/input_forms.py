"""How the files of a model's training were read, kept beside the model, so that predict.py reads alike.

A file is read by the first form that fits it: the encoding, separator, quotes and columns of the training files, then
plain UTF-8 with a column ``text``. What the command line says goes before all of them.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any, Literal

from opinionlm.data.encoding.features import PLATFORM
from opinionlm.data.prepared import PreparedDataset, read_manifest
from opinionlm.data.readers.encodings import ENCODINGS, decodes, head_text
from opinionlm.data.readers.lines import decoded
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_checks import CONLL_ENDINGS
from opinionlm.errors import UserError, one_line
from opinionlm.utils.files import write_json
from opinionlm.utils.names import INPUT_FORMS

# The header, or keys, are looked for in so many characters; other separators that are tried for a hint.
HEAD_CHARACTERS = 100_000
SEPARATORS = {",": '","', ";": '";"', "\t": "$'\\t'", "|": '"|"'}
# Canonical columns of training that a model reads as its text, and as its second text.
TEXT_COLUMNS, PAIR_COLUMNS = ("text", "tokens", "sentences"), ("text_pair", "context")
BLOCK = 1 << 20


@dataclass(frozen=True)
class InputForm:
    """How a file is written and what its columns are called; None where training had no such column.

    Attributes:
        encoding: of the text.
        delimiter: between the fields of a line; None by the format: a comma, or a tab.
        quoting: as in `FileSpec`.
        text: column or key of the texts, or of the words that are tagged.
        pair: of the second texts, or contexts.
        id: of the ids.
        platform: of the platforms.
        features: of what a model reads beside the text: its name, and the column.
        field_names: columns of a file without a header line.
        lists: the text may be a list: of words, or of sentences.
        is_conll: words stand one on a line, in the column ``text`` of ``field_names``, or in the first or last one.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    text: str | None = None
    pair: str | None = None
    id: str | None = None
    platform: str | None = None
    features: tuple[tuple[str, str], ...] = ()
    field_names: tuple[str, ...] = ()
    lists: bool = False
    is_conll: bool = False

    def told(self, kind: str, asked: Collection[str]) -> str:
        """What of it nobody asked for and differs from plain files, for a person; blank where nothing does."""
        plain = {"encoding": "utf-8", "delimiter": default_separator(kind), "quoting": "minimal", "text": "text"}
        found = {name: getattr(self, name) for name in plain} | {"delimiter": self.delimiter or plain["delimiter"]}
        names = ["encoding", *(["delimiter", "quoting"] if kind in ("csv", "tsv") else [])]
        names += [] if kind in ("lines", "conll") and not self.field_names else ["text"]
        told = {name: found[name] for name in names if name not in asked and found[name] != plain[name]}
        return ", ".join(f"{name if name != 'text' else 'text column'} {value!r}" for name, value in told.items())

    @property
    def columns(self) -> dict[str, str]:
        """Column by canonical name; that of the ids is ``id`` where none is named."""
        named = {"text": self.text or "text", "id": self.id or "id", "text_pair": self.pair, PLATFORM: self.platform}
        return {name: column for name, column in named.items() if column is not None} | dict(self.features)

    def spec(self, path: str, kind: str) -> FileSpec:
        """What the readers of `opinionlm.data` take."""
        text = "tokens" if self.lists and kind == "jsonl" else "text"
        return FileSpec(
            path,
            {text if name == "text" else name: column for name, column in self.columns.items()},
            field_names=self.field_names,
            delimiter=self.delimiter,
            quoting=self.quoting,
            encoding=self.encoding,
        )


def save_input_forms(folder: Path, prepared: PreparedDataset, pairs: bool, features: Sequence[str] = ()) -> None:
    """Write how the training files were read into the folder of a model; nothing for data that do not say it.

    Args:
        folder: of the model.
        prepared: its data.
        pairs: whether the model reads second texts or contexts.
        features: names of what it reads beside the text.
    """
    spec = (read_manifest(prepared.path) or {}).get("spec") or {}
    sources = [*(spec.get("files") or ()), *([spec["hub"]] if spec.get("hub") else ())]
    forms = [_form_of(source, pairs, features) for source in sources]
    if forms:
        write_json(folder / INPUT_FORMS, {"forms": [asdict(form) for form in dict.fromkeys(forms)]})


def _form_of(source: dict[str, Any], pairs: bool, features: Sequence[str]) -> InputForm:
    """The form of one source of a prepared data set."""
    columns = source["columns"]

    def named(names: Sequence[str], wanted: bool = True) -> str | None:
        return next((columns[name] for name in names if name in columns), None) if wanted else None

    return InputForm(
        encoding=source.get("encoding", "utf-8"),
        delimiter=source.get("delimiter"),
        quoting=source.get("quoting", "minimal"),
        text=named(TEXT_COLUMNS),
        pair=named(PAIR_COLUMNS, pairs),
        id=named(("id",)),
        platform=named((PLATFORM,), PLATFORM in features),
        features=tuple((name, columns[name]) for name in features if name != PLATFORM),
        field_names=tuple(source.get("field_names") or ()),
        lists="text" not in columns,
        is_conll=set(columns) == {"tokens", "tags"} and str(source["path"]).endswith(CONLL_ENDINGS),
    )


def load_input_forms(folder: Path) -> list[InputForm]:
    """What `save_input_forms` wrote; none for models that were saved before it did.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / INPUT_FORMS
    if not path.is_file():
        return []
    known = {option.name for option in fields(InputForm)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["forms"]
        forms = [InputForm(**{k: v for k, v in form.items() if k in known}) for form in content]
        # JSON has no tuples.
        features = [tuple((name, column) for name, column in form.features) for form in forms]
        return [
            replace(form, field_names=tuple(form.field_names), features=read)
            for form, read in zip(forms, features, strict=True)
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"--model: {path} is damaged ({one_line(error)}); copy the folder anew") from None


def choose_form(
    name: str, kind: str, binary: IO[bytes], known: Sequence[InputForm], asked: Mapping[str, Any]
) -> InputForm:
    """The form that an input is read by.

    Args:
        name: what messages call the input; with the ending ``.gz`` it is decompressed.
        kind: ``csv``, ``tsv``, ``jsonl``, ``lines`` or ``conll``.
        binary: the input, seekable or with a ``peek`` that shows its beginning.
        known: of training; the first that fits is taken.
        asked: fields of the form that the command line gives.

    Raises:
        UserError: an encoding that does not exist, or a column that another separator would find.
    """
    if "encoding" in asked:
        _require_encoding(asked["encoding"])
    plain = InputForm()
    if known:
        features = tuple((name, name) for name, _ in known[0].features)
        plain = InputForm(features=features, platform=PLATFORM if known[0].platform else None, pair=known[0].pair)
    forms = [replace(form, **{"text": form.text or "text", **asked}) for form in (*known, plain)]
    head = _head(binary, name)
    # The mark of UTF-32 begins like that of UTF-16.
    if "encoding" not in asked and head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        forms = [replace(form, encoding="utf-32") for form in forms]
    elif "encoding" not in asked and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        forms = [replace(form, encoding="utf-16") for form in forms]
    elif "encoding" not in asked and not head.isascii() and decodes(head, "utf-8"):
        # Almost no other text is UTF-8 by its bytes, while bytes of UTF-8 are text in most encodings of one byte.
        forms = [replace(form, encoding=form.encoding if is_wide(form.encoding) else "utf-8") for form in forms]
    if kind in ("lines", "conll"):
        fitting = [form for form in forms if decodes(head, form.encoding)] or forms[:1]
        plain = replace(fitting[0], delimiter=None, field_names=(), is_conll=False)
        form = next((form for form in fitting if form.is_conll), plain) if kind == "conll" else plain
        return replace(_with_columns(form, (), asked), field_names=form.field_names)
    if kind == "jsonl":
        for form in forms:
            keys = _json_keys(head, form.encoding)
            if form.text in keys:
                return _with_columns(form, keys, asked)
        return _with_columns(forms[0], (), asked)
    for form in forms:
        header = header_of(head, form, kind)
        if form.text in header:
            return _with_columns(form, header, asked)
        if form.field_names and len(header) == len(form.field_names):
            return form
    separator = forms[0].delimiter or default_separator(kind)
    # The reader says what is missing; here only what it cannot know: that another separator finds the column.
    for other, shown in SEPARATORS.items():
        for form in forms:
            if other != separator and form.text in header_of(head, replace(form, delimiter=other), kind):
                raise UserError(
                    f"{name}: the column {form.text!r} is not there where {separator!r} parts the fields, but it is "
                    f"with {other!r}; give --delimiter {shown}"
                )
    return _with_columns(forms[0], (), asked)


def _with_columns(form: InputForm, header: Collection[str], asked: Mapping[str, Any]) -> InputForm:
    """The form for a file with these columns: without those of training that it lacks; what is asked for stays.

    Platforms and features, which a model needs, are read from columns of their own names where those of training are
    not there, and so are second texts and contexts, as in the files of ``predictions/``.
    """
    if "pair" not in asked and form.pair is not None and form.pair not in header:
        form = replace(form, pair=next((name for name in PAIR_COLUMNS if name in header), form.pair))
    if "platform" not in asked and form.platform is not None and form.platform not in header:
        form = replace(form, platform=PLATFORM)
    absent: dict[str, Any] = {
        name: None for name in ("pair", "id", "platform") if name not in asked and getattr(form, name) not in header
    }
    features = tuple(
        (name, name if name in header and column not in header else column) for name, column in form.features
    )
    return replace(form, field_names=(), features=features, **absent)


def default_separator(kind: str) -> str:
    """What parts fields where nothing is said."""
    return "\t" if kind == "tsv" else ","


def is_wide(encoding: str) -> bool:
    """Whether an encoding takes two bytes or more for every character: its texts are none in UTF-8."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def header_of(head: bytes, form: InputForm, kind: str) -> list[str]:
    """The first line with anything in it, as a form parts it; nothing where it cannot be read so."""
    text = head_text(head, form.encoding)
    if text is None:
        return []
    quoting: Literal[0, 3] = csv.QUOTE_NONE if form.quoting == "none" else csv.QUOTE_MINIMAL
    separator = form.delimiter or default_separator(kind)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                return [cell.strip().strip("\ufeff") for cell in row]
    except csv.Error:
        pass
    return []


def check_encoding(path: str, encoding: str) -> None:
    """Refuse a file in another encoding before anything is computed.

    A file in the wrong encoding would be labelled with replacement characters in place of its letters. A few damaged
    bytes in a file that is otherwise right are no reason to refuse all of it: they are reported with their records.

    Raises:
        UserError: more of the lines with bytes beyond ASCII are no text than are: the first such line, and an encoding
            that fits.
    """
    try:
        if not (fault := _fault(path, encoding)):
            return
        fitting = [name for name in ENCODINGS if name != encoding and not _fault(path, name)]
    except (OSError, EOFError, zlib.error, LookupError):
        # Damage of another kind, which the reader names.
        return
    hint = f"its bytes fit {fitting[0]}: --encoding {fitting[0]}" if fitting else "such as --encoding cp1252"
    raise UserError(f"{path}:{fault}: these bytes are no {encoding} text; give the file's encoding ({hint})")


def _fault(path: str, encoding: str) -> int:
    """The first line that does not decode, where more lines beyond ASCII are like it than are text; else 0."""
    with open(path, "rb") as binary:
        # A mark of UTF-8 at the beginning says what the file is.
        first, good, bad = 0, int(binary.peek(3).startswith(codecs.BOM_UTF8)), 0
        stream = decoded(binary, path, FileSpec(path, {}, encoding=encoding))
        try:
            if is_wide(encoding):
                return _wide_fault(stream.buffer, encoding)
            number = 0
            while line := stream.buffer.readline(BLOCK):
                number += 1
                if not line.isascii():
                    fits = decodes(line, encoding)
                    good, bad, first = good + fits, bad + (not fits), first or (0 if fits else number)
        finally:
            stream.detach()
    return first if bad > good else 0


def _wide_fault(buffer: IO[bytes], encoding: str) -> int:
    """The line in which a text of wide characters breaks off, 0 for none."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    while block := buffer.read(BLOCK):
        try:
            line += decoder.decode(block).count("\n")
        except UnicodeError:
            return line
    return 0


def _require_encoding(encoding: str) -> None:
    try:
        if not getattr(codecs.lookup(encoding), "_is_text_encoding", True):
            raise LookupError
    except LookupError:
        raise UserError(
            f"--encoding: there is no text encoding {encoding!r}; such as utf-8, utf-16, cp1252, latin-1, gb18030"
        ) from None


def _head(binary: IO[bytes], name: str) -> bytes:
    """The beginning of an input, decompressed; a seekable one is left where it was."""
    if isinstance(binary, io.BufferedReader) and not binary.seekable():
        return binary.peek(HEAD_CHARACTERS)[:HEAD_CHARACTERS]
    start = binary.tell()
    try:
        if not name.endswith(".gz"):
            return binary.read(HEAD_CHARACTERS)
        try:
            with gzip.GzipFile(fileobj=binary) as unpacked:
                return unpacked.read(HEAD_CHARACTERS)
        except (OSError, EOFError, zlib.error):
            return b""
    finally:
        binary.seek(start)


def _json_keys(head: bytes, encoding: str) -> set[str]:
    """The keys of the objects at the beginning, those of objects within them by dotted path."""
    keys: set[str] = set()
    for line in (head_text(head, encoding) or "").split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            keys |= {
                *row,
                *(f"{key}.{inner}" for key, value in row.items() if isinstance(value, dict) for inner in value),
            }
    return keys
