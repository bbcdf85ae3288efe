"""What any bytes have to end in: rows and rejects that hold all of the input, or a `UserError`; never a traceback."""

from __future__ import annotations

import io
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from opinionlm.config.parser import parse_config
from opinionlm.data.cleaning import PROFILES, clean_text, quality_action, text_steps
from opinionlm.data.readers.conll import read_conll
from opinionlm.data.readers.records import Kind, Record, Reject, SourceNotes, read_stream
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError

# No input of a few kilobytes may take longer; a case takes a millisecond.
SECONDS = 5.0
FOLDER = Path(tempfile.mkdtemp(prefix="opinionlm-fuzz-"))


def squeezed(text: str) -> str:
    """Text without white space: what readers must not lose."""
    return re.sub(r"\s", "", text)


def decoded(content: bytes) -> str:
    """As the readers decode it; a byte order mark is no text."""
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def read(kind: Kind, content: bytes) -> None:
    """A text format: with a header; without one, where every character has to come out again; with a tiny limit."""
    header = {"text": "text", "label": "label"} if kind != "lines" else {}
    names = ("text", "label") if kind in ("csv", "tsv") else ()
    quoting = "none" if content[:1] > b"\x7f" else "minimal"
    for spec in (
        FileSpec("x", header, quoting=quoting),
        FileSpec("x", header, field_names=names, quoting=quoting),
        FileSpec("x", header, field_names=names, max_record_characters=20),
    ):
        items: list[Record | Reject] = []
        try:
            items += read_stream(io.BufferedReader(io.BytesIO(content)), "x", kind, spec, SourceNotes())
        except UserError as error:
            if "no record has all the columns" not in str(error):  # which is said at the end, after every record
                continue
        assert [item.number for item in items] == list(range(1, len(items) + 1))
        for item in items:
            assert item.line >= 1
            text = "".join(item.fields.values()) if isinstance(item, Record) else item.reason + item.detail
            (text + item.raw).encode("utf-8")
        if spec.max_record_characters > 20 and (spec.field_names or kind in ("jsonl", "lines")):
            assert squeezed("".join(item.raw for item in items)) == squeezed(decoded(content))


def read_sentences(content: bytes) -> None:
    """CoNLL: every line with something on it is in a sentence, kept or rejected, but for document marks."""
    path = FOLDER / "x.conll"
    path.write_bytes(content)
    notes = SourceNotes()
    try:
        items = list(read_conll(path, FileSpec("x", {"tokens": "first", "tags": "last"}), notes))
    except UserError:
        return
    for item in items:
        if isinstance(item, Record):
            assert len(item.lists["tokens"]) == len(item.lists["tags"]) > 0
    lines = [line for line in re.split(r"\r\n|\r|\n", decoded(content)) if line.rstrip()]
    out = [line for item in items for line in re.split(r"\r\n|\r|\n", item.raw) if line.rstrip()]
    marks = notes.details["document marks"]
    assert len(lines) - marks <= len(out) <= len(lines)


def read_spec(content: bytes) -> None:
    """A dataset YAML is a spec whose name stays in its folder, or a `UserError`."""
    path = FOLDER / "spec.yaml"
    path.write_bytes(content)
    try:
        spec = load_spec(path)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 20_000
        return
    assert (FOLDER / spec.name).resolve().parent == FOLDER.resolve()


def read_config(content: bytes) -> None:
    """The same of a config, from a file and from the command line."""
    path = FOLDER / "config.yaml"
    path.write_bytes(content)
    words = [word for word in decoded(content).split() if word not in ("-h", "--help") and word.isprintable()]
    for argv in (["--config", str(path)], words):
        if any(word.split("=")[0] == "--config" for word in argv[:1]) and argv is words:
            continue
        try:
            config = parse_config(argv, "Fuzzed.")
        except UserError as error:
            assert len(str(error)) < 50_000
        else:
            assert config.run_folder.resolve().parent == Path(config.training.output_dir).resolve()


def clean(content: bytes) -> None:
    """Every profile makes a text of a text, and decides whether it stays."""
    text = decoded(content)
    for cleaning in PROFILES.values():
        cleaned, _ = clean_text(text, text_steps(cleaning))
        cleaned.encode("utf-8")
        assert "\0" not in cleaned or not cleaning.fix_text
        action, reason = quality_action(cleaned, len(cleaned.split()), False, cleaning)
        assert action in ("keep", "noise", "drop") and (action == "keep" or reason)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "csv": lambda content: read("csv", content),
    "tsv": lambda content: read("tsv", content),
    "jsonl": lambda content: read("jsonl", content),
    "lines": lambda content: read("lines", content),
    "conll": read_sentences,
    "spec": read_spec,
    "config": read_config,
    "cleaning": clean,
}


def check(target: str, content: bytes) -> None:
    """Run one case; besides what the target asserts it must not hang."""
    start = time.process_time()
    TARGETS[target](content)
    assert time.process_time() - start < SECONDS, f"{target}: {time.process_time() - start:.1f} s"
