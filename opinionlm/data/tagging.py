"""Task token: sentences of tokens with one tag each, in IOB2 (``O``, ``B-type`` begins an entity, ``I-type`` goes on).

Files also come in IOB1, where ``B-`` only parts neighbours of one type, in BIOES (IOBES) and BILOU, where the last
token of an entity and an entity of one token have letters of their own, and with slips of any; `repair_iob2` turns all
of it into IOB2 and counts what it changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from opinionlm.data.rows import CONVERTED_TAGS, is_blank
from opinionlm.data.sources import Record, Reject, SourceNotes
from opinionlm.data.task_rows import TaskRow

_TAG = re.compile(r"O|[BIMESLUW]-\S+")
# Letters of IOB, BIOES, BILOU, BMES and BMEWO: inside an entity, its last token, its only token.
_INSIDE, _LAST, _ONLY = "IM", "EL", "SUW"
TAG_FORMS = "O, B-…, I-… or a tag of BIOES or BILOU"


def is_tag(tag: str) -> bool:
    """Whether a tag is ``O``, ``B-x`` or ``I-x``, or of BIOES (``E-x``, ``S-x``), BILOU or BMEWO."""
    return _TAG.fullmatch(tag) is not None


def repair_iob2(tags: list[str]) -> tuple[list[str], int]:
    """Make every entity begin with ``B-`` and go on with ``I-``.

    An ``I-x`` (``E-x``, ``L-x``) that continues no ``x`` becomes ``B-x``; after the last token of an entity nothing
    continues it.

    Args:
        tags: valid tags (`is_tag`) of one sentence.

    Returns:
        The tags in IOB2 and how many of those that have the letters of IOB2 were changed.
    """
    repaired, open_type, changed = [], "", 0
    for tag in tags:
        letter, kind = tag[0], tag[1:]
        continues = letter in _INSIDE + _LAST and kind == open_type
        repaired.append(tag if letter == "O" else f"I{kind}" if continues else f"B{kind}")
        changed += letter == "I" and not continues
        open_type = "" if letter in _LAST + _ONLY else kind
    return repaired, changed


def entity_counts(tags: list[str]) -> Counter[str]:
    """Entities per type of one sentence in IOB2."""
    return Counter(tag[2:] for tag in tags if tag[0] == "B")


def tag_names(types: Collection[str]) -> tuple[str, ...]:
    """All tags of the given entity types: ``O`` first, then ``B-x`` and ``I-x`` of each, types sorted."""
    return ("O", *(f"{prefix}-{kind}" for kind in sorted(types) for prefix in "BI"))


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
    converted = sum(tag[0] in "M" + _LAST + _ONLY for tag in tags)
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
