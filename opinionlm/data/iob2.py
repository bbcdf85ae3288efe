"""Task token: sentences of tokens with one tag each, in IOB2 (``O``, ``B-type`` begins an entity, ``I-type`` goes on).

Files also come in IOB1, where ``B-`` only parts neighbours of one type, in BIOES (IOBES) and BILOU, where the last
token of an entity and an entity of one token have letters of their own, and with slips of any; `repair_iob2` turns all
of it into IOB2 and counts what it changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

_TAG = re.compile(r"O|[BIMESLUW]-\S+")
# Letters of IOB, BIOES, BILOU, BMES and BMEWO: inside an entity, its last token, its only token.
_INSIDE, LAST, ONLY = "IM", "EL", "SUW"
TAG_FORMS = "O, B-…, I-… or a tag of BIOES or BILOU"


def is_tag(tag: str) -> bool:
    """Whether a tag is ``O``, ``B-x`` or ``I-x``, or of BIOES (``E-x``, ``S-x``), BILOU or BMEWO."""
    return _TAG.fullmatch(tag) is not None


def repair_iob2(tags: list[str]) -> tuple[list[str], int]:
    """Make every entity of a sentence of valid tags (`is_tag`) begin with ``B-`` and go on with ``I-``.

    An ``I-x`` (``E-x``, ``L-x``) that continues no ``x`` becomes ``B-x``; after the last token of an entity nothing
    continues it.

    Returns:
        The tags in IOB2 and how many of those that have the letters of IOB2 were changed.
    """
    repaired, open_type, changed = [], "", 0
    for tag in tags:
        letter, kind = tag[0], tag[1:]
        continues = letter in _INSIDE + LAST and kind == open_type
        repaired.append(tag if letter == "O" else f"I{kind}" if continues else f"B{kind}")
        changed += letter == "I" and not continues
        open_type = "" if letter in LAST + ONLY else kind
    return repaired, changed


def entity_counts(tags: list[str]) -> Counter[str]:
    """Entities per type of one sentence in IOB2."""
    return Counter(tag[2:] for tag in tags if tag[0] == "B")


def tag_names(types: Collection[str]) -> tuple[str, ...]:
    """All tags of the given entity types: ``O`` first, then ``B-x`` and ``I-x`` of each, types sorted."""
    return ("O", *(f"{prefix}-{kind}" for kind in sorted(types) for prefix in "BI"))
