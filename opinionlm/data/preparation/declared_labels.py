"""Labels that a dataset YAML declares against those that its files hold: what never occurs, and what is not declared.

A misspelt label shows in both at once: it never occurs, and beside it a value occurs that nobody declared. Its rows
would all be rejected, and the model would learn a class less than it says.
"""

from __future__ import annotations

from collections.abc import Iterable

from opinionlm.data.preparation.label_parsing import LabelUse
from opinionlm.data.spec import DatasetSpec
from opinionlm.errors import UserError
from opinionlm.utils.names import WRITING, closest, counted, written_form

SHOWN_VALUES, IN_WARNINGS = 8, 3


def check_declared(spec: DatasetSpec, present: Iterable[int], use: LabelUse) -> list[str]:
    """Compare the labels and codes of a dataset YAML with those of its files.

    Returns:
        Warnings: labels without a record, and records whose value is not declared.

    Raises:
        UserError: a label or a code never occurs while an undeclared value does, and ``labels_may_be_absent`` does not
            name it.
    """
    assert spec.labels is not None
    leaves = spec.labels.leaves
    found = set(present)
    absent = [leaf for number, leaf in enumerate(leaves) if number not in found]
    # Where cleaning turns posts into noise, files need not hold that label.
    allowed = {*spec.labels_may_be_absent, *([spec.cleaning.noise_label] if spec.cleaning.relabels_noise else [])}
    unexpected = [leaf for leaf in absent if leaf not in allowed]
    codes = [(column, code) for column, code in _absent_codes(spec, found, use) if code not in allowed]
    if use.undeclared and (unexpected or codes):
        names = [f"label {leaf!r}" for leaf in unexpected] + [f"code {code!r} of {column}" for column, code in codes]
        allow = ", ".join([*unexpected, *dict.fromkeys(code for _, code in codes)])
        raise UserError(
            f"{spec.source}: labels: {_listed(names)} never occurs in the files, while "
            f"{describe_undeclared(spec, use)}, which is not declared; correct `labels` or `codes`, or, where it is "
            f"absent on purpose, write labels_may_be_absent: [{allow}]"
        )
    warnings = [f"no record of the files is labelled {_listed(unexpected)}"] if unexpected else []
    if use.several:
        warnings.append(
            f"{use.several:,} records are rejected because they have several labels; task: multi_label keeps them"
        )
    if use.undeclared:
        records = sum(use.undeclared.values())
        warnings.append(
            f"{records:,} records are rejected for labels that are not declared: "
            + describe_undeclared(spec, use, IN_WARNINGS)
        )
    return warnings


def describe_undeclared(spec: DatasetSpec, use: LabelUse, shown: int = SHOWN_VALUES) -> str:
    """The most frequent undeclared values by column, with records and the declared name that is nearest."""
    assert spec.labels is not None
    parts = []
    for (column, value), count in use.undeclared.most_common(shown):
        written = f"{column} holds {value!r}" if value else f"{column} is blank below a label that goes on"
        valid = spec.codes.get(column) or (
            spec.labels.leaves if column == "label" else spec.labels.names_at(int(column.removeprefix("level")))
        )
        near = closest(value, valid) if value else None
        hint = "" if near is None else f", nearest: {near!r}"
        if near == value:
            hint = ", which is declared, but not below the label above it"
        elif near is not None and written_form(value) == written_form(near):
            hint += f", the same but for {WRITING}"
        parts.append(f"{written} ({count:,} record{'s' * (count > 1)}{hint})")
    more = len(use.undeclared) - len(parts)
    return ", ".join(parts) + (f" and {counted(more, 'other value')}" if more else "")


def _absent_codes(spec: DatasetSpec, found: set[int], use: LabelUse) -> list[tuple[str, str]]:
    """Codes that never occur although their label does, written another way; the others go with their label."""
    assert spec.labels is not None
    absent = []
    for column, codes in spec.codes.items():
        if column == "label":
            names = {spec.labels.leaves[number] for number in found}
        else:
            level = int(column.removeprefix("level"))
            paths = [spec.labels.paths[number] for number in found]
            names = {path[level - 1] for path in paths if len(path) >= level}
        absent += [(column, code) for code, name in codes.items() if name in names and (column, code) not in use.codes]
    return absent


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_VALUES])
    more = len(names) - SHOWN_VALUES
    return f"{shown} and {more} more" if more > 0 else shown
