"""Tasks whose answer is text: question answering, summarisation, following instructions.

All have the same columns: ``text`` (question, document, instruction), ``context`` (paragraph, input, or blank) and
``answers``, every one of which is right.
"""

from __future__ import annotations

from opinionlm.data.cleaning import Step, clean_text
from opinionlm.data.rows import is_blank
from opinionlm.data.sources import Record, Reject, SourceNotes
from opinionlm.data.task_rows import TaskRow


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
