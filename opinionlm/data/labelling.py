"""From a record's label fields to a class: codes become names, names are walked down the tree.

Section 4, step 4.1 (hierarchical label consolidation). A record whose codes do not lead to exactly one leaf is
rejected with the reason; a guess would put a wrong label into the data without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Mapping

from opinionlm.data.spec import Codes, normal_code
from opinionlm.data.taxonomy import Taxonomy

# Bounds the memory of a `Labeller` whatever the label columns hold.
KNOWN_LABELS = 10_000


class LabelError(ValueError):
    """Why a record has no class. `code` is for machines, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the machine-readable code beside the message."""
        super().__init__(message)
        self.code = code


class Labeller:
    """Finds the class of one record after another; the few combinations that real data hold are looked up once."""

    def __init__(self, taxonomy: Taxonomy, codes: Codes, separator: str = "") -> None:
        """Prepare for one source.

        Args:
            taxonomy: the label tree.
            codes: per field, code → name; a field without codes holds names.
            separator: where set and present in ``label``, the record has several labels.
        """
        self._taxonomy, self._codes, self._separator = taxonomy, codes, separator
        self._columns = ["label", *(f"level{level}" for level in range(1, taxonomy.depth + 1))]
        self._known: dict[tuple[str | None, ...], int] = {}

    def __call__(self, fields: Mapping[str, str]) -> int:
        """The class id of a record.

        Args:
            fields: the record by canonical name: ``label``, or ``level1`` … (missing ones count as blank).

        Raises:
            LabelError: codes ``missing_label``, ``unknown_code``, ``several_labels``, ``incomplete_label`` (the branch
                goes on, the label does not) or ``contradictory_label`` (the label goes on, the branch does not).
        """
        key = tuple(fields.get(column) for column in self._columns)
        if key not in self._known:
            leaf = self._from_label(fields["label"].strip()) if "label" in fields else self._from_levels(fields)
            if len(self._known) > KNOWN_LABELS:
                self._known.clear()
            self._known[key] = leaf
        return self._known[key]

    def _from_label(self, value: str) -> int:
        if self._separator and self._separator in value:
            raise LabelError("several_labels", f"label: {value[:80]!r} names several classes, this task takes one")
        return self._taxonomy.leaf_id(_name(value, self._codes.get("label"), "label", self._taxonomy.leaves))

    def _from_levels(self, fields: Mapping[str, str]) -> int:
        """Walk down the tree, one level after the other."""
        path: tuple[str, ...] = ()
        for level, column in enumerate(self._columns[1:], start=1):
            value = fields.get(column, "").strip()
            below = [p[level - 1] for p in self._taxonomy.paths if len(p) >= level and p[: level - 1] == path]
            parts = tuple(dict.fromkeys(below))
            where = " > ".join(path)
            if value and not parts:
                raise LabelError("contradictory_label", f"{column}: {value[:80]!r} below {where}, which has no parts")
            if not value and parts:
                if level == 1:
                    raise LabelError("missing_label", "level1 is blank")
                names = ", ".join(parts)
                raise LabelError("incomplete_label", f"{column} is blank, but {where} has the parts {names}")
            if value:
                path = (*path, _name(value, self._codes.get(column), column, parts))
        return self._taxonomy.leaf_id(path[-1])


def _name(value: str, codes: Mapping[str, str] | None, column: str, valid: tuple[str, ...]) -> str:
    """The label a field's value stands for, which has to be one of `valid`."""
    if not value:
        raise LabelError("missing_label", f"{column} is blank")
    name = value if codes is None else codes.get(normal_code(value), "")
    if name not in valid:
        known = valid if codes is None else [f"{code} ({label})" for code, label in codes.items() if label in valid]
        raise LabelError("unknown_code", f"{column}: {value[:80]!r} is none of {', '.join(known)}")
    return name
