"""One row of a task other than sequence, as parsing leaves it and the pipeline takes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from opinionlm.data.cleaning import Step, clean_text
from opinionlm.data.iob2 import LAST, ONLY, TAG_FORMS, is_tag, repair_iob2
from opinionlm.data.preparation.rows import CONVERTED_TAGS, is_blank
from opinionlm.data.readers.records import Record, Reject, SourceNotes


@dataclass(slots=True)
class TaskRow:
    """A parsed row.

    Attributes:
        values: its canonical columns without id and platform.
        identity: rows with equal identities are copies of each other.
        prompt: what the model reads, for lengths in tokens.
        outcome: what copies have to agree in; blank where they cannot contradict each other.
        answers: what the model has to write, for lengths in tokens.
        changed: names of the cleaning steps that changed it.
    """

    values: dict[str, Any]
    identity: tuple[str, ...]
    prompt: tuple[str, ...]
    outcome: str = ""
    answers: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()


# What `float` takes besides (underscores, digits of other scripts, nan, infinity) is no score.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def parse_pair(record: Record, score_range: tuple[float, float], steps: list[Step]) -> TaskRow | Reject:
    """Two cleaned texts and a score.

    Args:
        record: with the fields text, text_pair and score.
        score_range: lowest and highest score allowed.
        steps: of `opinionlm.data.cleaning.text_steps`.
    """
    (text, changed), (pair, pair_changed) = (clean_text(record.fields[n], steps) for n in ("text", "text_pair"))
    for name, value in (("text", text), ("text_pair", pair)):
        if is_blank(value):
            return Reject(record.line, record.number, "empty_text", f"there is no {name}", record.raw)
    written = record.fields["score"].strip()
    if not _NUMBER.fullmatch(written):
        return Reject(record.line, record.number, "bad_score", f"score: {written[:80]!r} is no number", record.raw)
    score, (low, high) = float(written), score_range
    if not low <= score <= high:
        detail = f"score: {written[:80]} is not between {low:g} and {high:g}"
        return Reject(record.line, record.number, "score_out_of_range", detail, record.raw)
    return TaskRow(
        values={"text": text, "text_pair": pair, "score": score},
        identity=tuple(sorted((text, pair))),
        prompt=(text, pair),
        outcome=repr(score),
        changed=frozenset(changed) | frozenset(pair_changed),
    )


def squash(text: str) -> str:
    """Letters and digits alone, in lower case: ``<No input>`` and ``noinput.`` are one filler."""
    return "".join(char for char in text.lower() if char.isalnum())


def parse_text_task(
    record: Record, fillers: frozenset[str], steps: list[Step], notes: SourceNotes
) -> TaskRow | Reject:
    """A cleaned text with its context and answers.

    Copies are rows with equal text and context; different answers to them do not contradict each other.

    Args:
        record: with the fields ``text`` (or the list ``sentences``, which is joined) and ``answers`` (a text or a
            list), and ``context`` where there is one.
        fillers: squashed contexts that stand for none.
        steps: of `opinionlm.data.cleaning.text_steps`.
        notes: counts fillers and blank answers beside others.
    """
    changed: set[str] = set()

    def clean(text: str) -> str:
        cleaned, names = clean_text(text, steps)
        changed.update(names)
        return cleaned

    text, context = clean(_text(record)), clean(record.fields.get("context", ""))
    if is_blank(text):
        return Reject(record.line, record.number, "empty_text", "there is no text", record.raw)
    found = _listed(record, "answers")
    answers = [answer for answer in map(clean, found) if not is_blank(answer)]
    if not answers:
        return Reject(record.line, record.number, "no_answer", "there is no answer", record.raw)
    notes.details["blank answers beside others"] += len(found) - len(answers)
    if context and (is_blank(context) or squash(context) in fillers):
        notes.details["contexts that were fillers"] += 1
        context = ""
    return TaskRow(
        values={"text": text, "context": context, "answers": answers},
        identity=(text, context),
        prompt=(text, context),
        answers=tuple(answers),
        changed=frozenset(changed),
    )


def _text(record: Record) -> str:
    return record.fields["text"] if "text" in record.fields else " ".join(_listed(record, "sentences"))


def _listed(record: Record, name: str) -> list[str]:
    return record.lists[name] if name in record.lists else [record.fields[name]]


def parse_sentence(record: Record, notes: SourceNotes) -> TaskRow | Reject:
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
    return TaskRow(
        values={"tokens": kept, "tags": kept_tags},
        identity=tuple(kept),
        prompt=(" ".join(kept),),
        outcome=" ".join(kept_tags),
    )
