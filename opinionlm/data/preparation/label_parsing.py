"""From a record's label fields to a class: codes become names, names are walked down the tree.

Section 4, step 4.1 (hierarchical label consolidation). A record whose codes do not lead to exactly one leaf is
rejected with the reason; a guess would put a wrong label into the data without anybody noticing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opinionlm.data.spec import Codes, normal_code
from opinionlm.data.taxonomy import PATH_MARK, Taxonomy

# Bounds the memory of a `LabelParser` whatever the label columns hold.
KNOWN_LABELS = 10_000
# What is kept of a value that is no label, and of how many different ones.
VALUE_CHARACTERS = 80
UNDECLARED_VALUES = 1_000


class LabelError(ValueError):
    """Why a record has no class. `code` is for machines, the message for people.

    ``undeclared`` is the column and the value that the label tree has no place for; None for every other reason.
    """

    def __init__(self, code: str, message: str, undeclared: tuple[str, str] | None = None) -> None:
        """Keep the machine-readable code beside the message."""
        super().__init__(message)
        self.code, self.undeclared = code, undeclared


@dataclass
class LabelUse:
    """What the label columns of all sources held.

    Attributes:
        codes: (column, code) of the dataset YAML that occurred.
        undeclared: (column, value) that stands for no label → records.
        several: records that name several labels where one is taken.
    """

    codes: set[tuple[str, str]] = field(default_factory=set)
    undeclared: Counter[tuple[str, str]] = field(default_factory=Counter)
    several: int = 0

    def note(self, error: LabelError) -> None:
        """Count a record that has no class."""
        place = error.undeclared
        self.several += error.code == "several_labels"
        if place is not None and (place in self.undeclared or len(self.undeclared) < UNDECLARED_VALUES):
            self.undeclared[place] += 1


class LabelParser:
    """Finds the class of one record after another; the few combinations that real data hold are looked up once."""

    def __init__(self, taxonomy: Taxonomy, codes: Codes, separator: str = "", use: LabelUse | None = None) -> None:
        """Prepare for one source.

        Args:
            taxonomy: the label tree.
            codes: per field, code → name; a field without codes holds names.
            separator: where set and present in ``label``, the record has several labels.
            use: filled with what occurs; shared by all sources of a data set.
        """
        self._taxonomy, self._codes, self._separator = taxonomy, codes, separator
        self._use = use or LabelUse()
        self._columns = ["label", *(f"level{level}" for level in range(1, taxonomy.depth + 1))]
        self._known: dict[tuple[str | None, ...], int] = {}
        self._known_sets: dict[tuple[str, ...], tuple[int, ...]] = {}
        # Inner nodes by name, with the leaves below them.
        self._below: dict[str, set[int]] = {}
        for leaf, path in enumerate(taxonomy.paths):
            for name in path[:-1]:
                self._below.setdefault(name, set()).add(leaf)

    def __call__(self, fields: Mapping[str, str]) -> int:
        """The class id of a record.

        Args:
            fields: the record by canonical name: ``label``, or ``level1`` … (missing ones count as blank).

        Raises:
            LabelError: codes ``missing_label``, ``unknown_code``, ``ambiguous_label`` (a name that several leaves
                share), ``several_labels``, ``incomplete_label`` (the branch goes on, the label does not) or
                ``contradictory_label`` (the label goes on, the branch does not).
        """
        key = tuple(fields.get(column) for column in self._columns)
        if key not in self._known:
            try:
                leaf = self._from_label(fields["label"].strip()) if "label" in fields else self._from_levels(fields)
            except LabelError as error:
                self._use.note(error)
                raise
            if len(self._known) > KNOWN_LABELS:
                self._known.clear()
            self._known[key] = leaf
        return self._known[key]

    def several(self, values: Sequence[str]) -> tuple[int, ...]:
        """The class ids of a record with any number of labels, ascending.

        A leaf stands for its ancestors too, so that naming them beside it changes nothing.

        Args:
            values: the names or codes of leaves, and of inner nodes above one of them; none for a text without labels.

        Raises:
            LabelError: as above for a single label; or ``repeated_label``, ``incomplete_label`` (an inner node without
                a leaf below it).
        """
        key = tuple(values)
        if key not in self._known_sets:
            try:
                found = self._several([value.strip() for value in values])
            except LabelError as error:
                self._use.note(error)
                raise
            if len(self._known_sets) > KNOWN_LABELS:
                self._known_sets.clear()
            self._known_sets[key] = found
        return self._known_sets[key]

    def _several(self, values: Sequence[str]) -> tuple[int, ...]:
        if "" in values:
            raise LabelError("missing_label", f"label: a blank name stands among {list(values)!r}"[:VALUE_CHARACTERS])
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise LabelError("repeated_label", f"label: {twice[0][:80]!r} is there {values.count(twice[0])} times")
        inner = [value for value in values if value in self._below and not self._taxonomy.is_leaf(value)]
        leaves = [self._leaf(value) for value in values if value not in inner]
        if len(set(leaves)) < len(leaves):
            raise LabelError("repeated_label", f"label: two of {', '.join(values)[:80]!r} are one label")
        for name in inner:
            if self._below[name].isdisjoint(leaves):
                parts = ", ".join(self._taxonomy.leaves[leaf] for leaf in sorted(self._below[name]))
                raise LabelError("incomplete_label", f"label: {name[:80]!r} is named without a part of it ({parts})")
        return tuple(sorted(leaves))

    def _from_label(self, value: str) -> int:
        if self._separator and self._separator in value:
            raise LabelError("several_labels", f"label: {value[:80]!r} names several classes, this task takes one")
        return self._leaf(value)

    def _leaf(self, value: str) -> int:
        leaves = self._taxonomy.leaves
        name = self._name(value, "label", leaves)
        if choices := self._taxonomy.shared_names.get(name):
            detail = f"label: {name[:80]!r} may be {' or '.join(choices)}; write which"
            raise LabelError("ambiguous_label", detail, ("label", value[:VALUE_CHARACTERS]))
        if not self._taxonomy.is_leaf(name):
            raise self._unknown(value, "label", leaves)
        return self._taxonomy.leaf_id(name)

    def _from_levels(self, fields: Mapping[str, str]) -> int:
        """Walk down the tree, one level after the other."""
        path: tuple[str, ...] = ()
        for level, column in enumerate(self._columns[1:], start=1):
            value = fields.get(column, "").strip()
            below = [p[level - 1] for p in self._taxonomy.paths if len(p) >= level and p[: level - 1] == path]
            parts = tuple(dict.fromkeys(below))
            where = " > ".join(path)
            if value and not parts:
                detail = f"{column}: {value[:80]!r} below {where}, which has no parts"
                raise LabelError("contradictory_label", detail, (column, value[:VALUE_CHARACTERS]))
            if not value and parts:
                if level == 1:
                    raise LabelError("missing_label", "level1 is blank")
                names = ", ".join(parts)
                detail = f"{column} is blank, but {where} has the parts {names}"
                raise LabelError("incomplete_label", detail, (column, ""))
            if value:
                name = self._name(value, column, parts)
                if name not in parts and self._taxonomy.shared_names:
                    # Where leaves share names, a level may also be written as the path down to it.
                    name = name.removeprefix(PATH_MARK.join((*path, "")))
                if name not in parts:
                    raise self._unknown(value, column, parts)
                path = (*path, name)
        return self._taxonomy.paths.index(path)

    def _name(self, value: str, column: str, valid: tuple[str, ...]) -> str:
        """The name that a field's value stands for; not every name is a label."""
        if not value:
            raise LabelError("missing_label", f"{column} is blank")
        codes = self._codes.get(column)
        if codes is None:
            return value
        code = normal_code(value)
        if code not in codes:
            raise self._unknown(value, column, valid)
        self._use.codes.add((column, code))
        return codes[code]

    def _unknown(self, value: str, column: str, valid: tuple[str, ...]) -> LabelError:
        """The error about a value that stands for none of the valid names."""
        codes = self._codes.get(column)
        known = valid if codes is None else [f"{code} ({label})" for code, label in codes.items() if label in valid]
        detail = f"{column}: {value[:80]!r} is none of {', '.join(known)}"
        return LabelError("unknown_code", detail, (column, value[:VALUE_CHARACTERS]))
