"""From a record's label fields to a class: codes become names, names are walked down the tree.

Section 4, step 4.1 (hierarchical label consolidation). A record whose codes do not lead to exactly one leaf is
rejected with the reason; a guess would put a wrong label into the data without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Mapping

from opinionlm.data.spec import Codes, normal_code
from opinionlm.data.taxonomy import Taxonomy


class LabelError(ValueError):
    """Why a record has no class. `code` is for machines, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the machine-readable code beside the message."""
        super().__init__(message)
        self.code = code


def leaf_of(fields: Mapping[str, str], taxonomy: Taxonomy, codes: Codes, separator: str = "") -> int:
    """The class id of a record.

    Args:
        fields: the record's label fields by canonical name: ``label``, or ``level1`` … (missing ones count as blank).
        taxonomy: the label tree.
        codes: per field, code → name; a field without codes holds names.
        separator: where set and present in ``label``, the record has several labels.

    Raises:
        LabelError: codes ``missing_label``, ``unknown_code``, ``several_labels``, ``incomplete_label`` (the branch goes
            on, the label does not) or ``contradictory_label`` (the label goes on, the branch does not).
    """
    if "label" in fields:
        value = fields["label"].strip()
        if separator and separator in value:
            raise LabelError("several_labels", f"label: {value[:80]!r} names several classes, this task takes one")
        name = _name(value, codes.get("label"), "label", taxonomy.leaves)
        return taxonomy.leaf_id(name)
    paths = taxonomy.paths
    path: tuple[str, ...] = ()
    for level in range(1, taxonomy.depth + 1):
        column = f"level{level}"
        value = fields.get(column, "").strip()
        valid = tuple(dict.fromkeys(p[level - 1] for p in paths if len(p) >= level and p[: level - 1] == path))
        if value and not valid:
            raise LabelError(
                "contradictory_label", f"{column}: {value[:80]!r} below {' > '.join(path)}, which has no parts"
            )
        if not value and valid:
            if level == 1:
                raise LabelError("missing_label", "level1 is blank")
            raise LabelError(
                "incomplete_label", f"{column} is blank, but {' > '.join(path)} has the parts {', '.join(valid)}"
            )
        if value:
            path = (*path, _name(value, codes.get(column), column, valid))
    return taxonomy.leaf_id(path[-1])


def _name(value: str, codes: Mapping[str, str] | None, column: str, valid: tuple[str, ...]) -> str:
    """The label a field's value stands for, which has to be one of `valid`."""
    if not value:
        raise LabelError("missing_label", f"{column} is blank")
    name = value if codes is None else codes.get(normal_code(value), "")
    if name not in valid:
        known = valid if codes is None else [f"{code} ({label})" for code, label in codes.items() if label in valid]
        raise LabelError("unknown_code", f"{column}: {value[:80]!r} is none of {', '.join(known)}")
    return name
