"""The rows of the tasks without classes: tagged sentences, pairs with a score, texts with answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Features, List, Value
from tokenizers import Tokenizer

from opinionlm.data.cleaning import clean_text, is_blank
from opinionlm.data.encoding.features import NUMBER
from opinionlm.data.iob2 import LAST, ONLY, TAG_FORMS, entity_counts, is_tag, repair_iob2, tag_names
from opinionlm.data.preparation.ledger import Ledger
from opinionlm.data.preparation.report import Statistics
from opinionlm.data.preparation.row_kind import Row, RowKind
from opinionlm.data.preparation.sources import CONVERTED_TAGS, Source
from opinionlm.data.preparation.split_files import stored_batches
from opinionlm.data.readers.records import Record, Reject, SourceNotes
from opinionlm.data.spec import SPLITS, DatasetSpec
from opinionlm.errors import UserError

SCORE_BINS = 5
TEXT = Value("string")


class TokenRows(RowKind):
    """Tagged sentences; which tags there are is known once the rows are split."""

    _tags: tuple[str, ...] = ()

    def parse(self, record: Record, source: Source) -> Row | Reject:
        """See `parse_sentence`."""
        return parse_sentence(record, source.notes)

    def prompt(self, values: dict[str, Any]) -> tuple[str, ...]:
        """The sentence as one text."""
        return (" ".join(values["tokens"]),)

    def identity(self, values: dict[str, Any]) -> tuple[str, ...]:
        """The tokens."""
        return tuple(values["tokens"])

    def features(self) -> Features:
        """The tokens and their tags, which are texts until all are known."""
        tag = ClassLabel(names=list(self._tags)) if self._tags else TEXT
        return Features({"tokens": List(TEXT), "tags": List(tag)})

    def check_splits(self, ledger: Ledger, splits: np.ndarray, finished: Path) -> list[str]:
        """Find the tags of the kept sentences; warn of types that training never shows, refuse none at all."""
        # Files without entities are no tagging data, however few their rows; a split without rows comes later.
        if not (splits == 0).any():
            return []
        types: list[set[str]] = [set() for _ in SPLITS]
        places = iter(splits)
        for batch in stored_batches(finished):
            for tags, split in zip(batch.column("tags").to_pylist(), places, strict=False):
                if split >= 0:
                    types[split].update(tag[2:] for tag in tags if tag != "O")
        if not types[0]:
            raise UserError(f"{self.spec.source}: no training sentence holds an entity; check `columns` and the files")
        self._tags = tag_names(set().union(*types))
        return [
            f"{split} has entities of types that train has none of: {', '.join(sorted(found - types[0]))}"
            for split, found in zip(SPLITS, types, strict=True)
            if found - types[0]
        ]

    def columns(self, finished: pa.RecordBatch, numbers: np.ndarray) -> list[pa.Array]:
        """The tokens, and the numbers of their tags."""
        # Sentences that went may hold types that no other has; their numbers are never written.
        number_of = {tag: number for number, tag in enumerate(self._tags)}
        tags = [[number_of.get(tag, 0) for tag in row] for row in finished.column("tags").to_pylist()]
        return [finished.column("tokens"), pa.array(tags, self.features().arrow_schema.field("tags").type)]

    def count_row(self, split: str, values: dict[str, Any]) -> None:
        """Count sentences, tokens and entities."""
        self.add("size", "sentences", split)
        self.add("size", "tokens", split, len(values["tokens"]))
        for kind, number in entity_counts(values["tags"]).items():
            self.add("entities", kind, split, number)

    def tables(self) -> Statistics:
        """The tables of what was added, entities by name."""
        tables = super().tables()
        if "entities" in tables:
            tables["entities"] = dict(sorted(tables["entities"].items()))
        return tables

    def manifest(self) -> dict[str, Any]:
        """The names of the tags."""
        return super().manifest() | {"tags": list(self._tags)}


def parse_sentence(record: Record, notes: SourceNotes) -> Row | Reject:
    """A sentence without its white-space tokens, which no tokenizer can see, and with its tags in IOB2.

    Args:
        record: with the lists ``tokens`` and ``tags``, or with texts of both, separated by white space.
        notes: counts white-space tokens and repaired tags.
    """
    tokens, tags = (
        record.lists[name] if name in record.lists else record.fields[name].split() for name in ("tokens", "tags")
    )
    if len(tokens) != len(tags):
        detail = f"{len(tokens)} tokens and {len(tags)} tags"
        return Reject(record.line, record.number, "unequal_lists", detail, record.raw)
    for tag in tags:
        if not is_tag(tag):
            detail = f"{tag[:80]!r} is not {TAG_FORMS}"
            return Reject(record.line, record.number, "bad_tag", detail, record.raw)
    converted = sum(tag[0] in "M" + LAST + ONLY for tag in tags)
    tags, repairs = repair_iob2(tags)
    visible = [i for i, token in enumerate(tokens) if not is_blank(token)]
    if not visible:
        return Reject(record.line, record.number, "no_tokens", "there is no token that can be seen", record.raw)
    # Where a white-space token began an entity, the entity now begins with the next one.
    kept_tags, moved = repair_iob2([tags[i] for i in visible])
    kept = [tokens[i] for i in visible]
    if converted:
        notes.details[CONVERTED_TAGS] += converted
    notes.details["repaired tags"] += repairs + moved
    notes.details["white-space tokens"] += len(tokens) - len(kept)
    return Row({"tokens": kept, "tags": kept_tags}, outcome=" ".join(kept_tags))


class SimilarityRows(RowKind):
    """Pairs with a score."""

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer) -> None:
        super().__init__(spec, tokenizer)
        assert spec.score_range is not None
        self._range = spec.score_range
        self._scores: dict[str, list[float]] = {split: [] for split in SPLITS}

    def parse(self, record: Record, source: Source) -> Row | Reject:
        """Two cleaned texts and a score."""
        (text, changed), (pair, pair_changed) = (
            clean_text(record.fields[n], self.steps) for n in ("text", "text_pair")
        )
        for name, value in (("text", text), ("text_pair", pair)):
            if is_blank(value):
                return Reject(record.line, record.number, "empty_text", f"there is no {name}", record.raw)
        written = record.fields["score"].strip()
        if not NUMBER.fullmatch(written):
            return Reject(record.line, record.number, "bad_score", f"score: {written[:80]!r} is no number", record.raw)
        score, (low, high) = float(written), self._range
        if not low <= score <= high:
            detail = f"score: {written[:80]} is not between {low:g} and {high:g}"
            return Reject(record.line, record.number, "score_out_of_range", detail, record.raw)
        return Row(
            values={"text": text, "text_pair": pair, "score": score},
            outcome=repr(score),
            changed=frozenset(changed) | frozenset(pair_changed),
        )

    def prompt(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Both texts."""
        return values["text"], values["text_pair"]

    def identity(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Both texts, in either order."""
        return tuple(sorted(self.prompt(values)))

    def compared(self, prompt: tuple[str, ...], ids: list[list[int]]) -> list[tuple[str, list[int]]]:
        """Both texts, in either order."""
        return sorted(super().compared(prompt, ids))

    def features(self) -> Features:
        """Both texts and the score."""
        return Features({"text": TEXT, "text_pair": TEXT, "score": Value("float64")})

    def count_row(self, split: str, values: dict[str, Any]) -> None:
        """Keep the score."""
        self._scores[split].append(values["score"])

    def tables(self) -> Statistics:
        """Rows in equal parts of the range, then the mean score."""
        edges = np.linspace(*self._range, SCORE_BINS + 1)
        counts = {split: np.histogram(scores, edges)[0].tolist() for split, scores in self._scores.items()}
        rows: dict[str, dict[str, float]] = {
            f"{edges[i]:g} to {edges[i + 1]:g}": {split: counts[split][i] for split in SPLITS}
            for i in range(SCORE_BINS)
        }
        means = {split: round(float(np.mean(scores)), 3) if scores else 0 for split, scores in self._scores.items()}
        return {"rows by score": rows | {"mean score": means}}

    def manifest(self) -> dict[str, Any]:
        """The range of the scores."""
        return super().manifest() | {"score_range": self._range}


class TextRows(RowKind):
    """A text, perhaps with a context, and its answers."""

    def __init__(self, spec: DatasetSpec, tokenizer: Tokenizer) -> None:
        super().__init__(spec, tokenizer)
        self._fillers = frozenset(map(squash, spec.empty_values))

    def parse(self, record: Record, source: Source) -> Row | Reject:
        """A cleaned text with its context and answers; different answers to one text do not contradict each other."""
        changed: set[str] = set()

        def clean(text: str) -> str:
            cleaned, names = clean_text(text, self.steps)
            changed.update(names)
            return cleaned

        text, context = clean(_text(record)), clean(record.fields.get("context", ""))
        if is_blank(text):
            return Reject(record.line, record.number, "empty_text", "there is no text", record.raw)
        found = _listed(record, "answers")
        answers = [answer for answer in map(clean, found) if not is_blank(answer)]
        if not answers:
            return Reject(record.line, record.number, "no_answer", "there is no answer", record.raw)
        source.notes.details["blank answers beside others"] += len(found) - len(answers)
        if context and (is_blank(context) or squash(context) in self._fillers):
            source.notes.details["contexts that were fillers"] += 1
            context = ""
        return Row(
            values={"text": text, "context": context, "answers": answers},
            changed=frozenset(changed),
        )

    def prompt(self, values: dict[str, Any]) -> tuple[str, ...]:
        """The text and its context, which may be blank."""
        return values["text"], values["context"]

    def features(self) -> Features:
        """The text, its context, the answers."""
        return Features({"text": TEXT, "context": TEXT, "answers": List(TEXT)})

    def count_row(self, split: str, values: dict[str, Any]) -> None:
        """Count rows, contexts and several answers."""
        self.add("rows", "all", split)
        self.add("rows", "with a context", split, bool(values["context"]))
        self.add("rows", "with several answers", split, len(values["answers"]) > 1)


def squash(text: str) -> str:
    """Letters and digits alone, in lower case: ``<No input>`` and ``noinput.`` are one filler."""
    return "".join(char for char in text.lower() if char.isalnum())


def _text(record: Record) -> str:
    return record.fields["text"] if "text" in record.fields else " ".join(_listed(record, "sentences"))


def _listed(record: Record, name: str) -> list[str]:
    return record.lists[name] if name in record.lists else [record.fields[name]]
