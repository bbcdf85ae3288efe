"""Labels of a data set whose YAML declares none: what its files hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations, groupby
from pathlib import Path

from opinionlm.data.inspection.columns import Column
from opinionlm.data.preparation.label_parsing import LabelError
from opinionlm.data.preparation.multi_label_rows import label_list
from opinionlm.data.preparation.sources import find_sources, read_source
from opinionlm.data.readers.records import Record
from opinionlm.data.spec import LABEL_TASKS, DatasetSpec
from opinionlm.data.spec_checks import check_spec
from opinionlm.data.taxonomy import PATH_MARK, Taxonomy
from opinionlm.errors import UserError
from opinionlm.utils.names import WRITING, written_form

# More than this are texts, numbers or ids, and no classes.
MOST_LABELS = 1_000
SHOWN_LABELS = 30
LabelPath = tuple[str, ...]


def with_labels(spec: DatasetSpec, data_dir: Path) -> tuple[DatasetSpec, list[str]]:
    """The spec with the label tree that its sources hold, where it declares none; they are read once for it.

    Returns:
        The spec, and lines for the report: the labels with their records, and what looks like one label twice.

    Raises:
        UserError: there are no labels, or too many, or they contradict the cleaning options.
    """
    if spec.task not in LABEL_TASKS or spec.labels is not None:
        return spec, []
    counts = count_labels(spec, data_dir)
    spec = replace(spec, labels=label_tree(list(counts), spec.source))
    check_spec(spec)
    return spec, found_lines(counts)


def count_labels(spec: DatasetSpec, data_dir: Path) -> Counter[LabelPath]:
    """Records of every label, as the path that leads to it: of one name where labels have no levels.

    Raises:
        UserError: a source cannot be read, or the sources hold no label, or more than `MOST_LABELS`.
    """
    counts: Counter[LabelPath] = Counter()
    problem = ""
    for source in find_sources(spec, data_dir):
        separator = "" if source.file is None else source.file.label_separator
        for item in read_source(spec, source, data_dir):
            try:
                paths = paths_of(item, spec, separator) if isinstance(item, Record) else []
                said = "" if isinstance(item, Record) else f"{item.reason}, {item.detail}"
            except LabelError as error:
                paths, said = [], str(error)
            if said and not problem:
                problem = f" ({source.name}:{item.line}: {said})"
            for path in paths:
                counts[path] += 1
                if len(counts) > MOST_LABELS:
                    shown = ", ".join(repr(PATH_MARK.join(path)[:40]) for path in list(counts)[:3])
                    raise UserError(
                        f"{spec.source}: {source.name}: more than {MOST_LABELS:,} different labels (such as {shown}); "
                        "say in `columns` which column holds the classes"
                    )
    if not counts:
        raise UserError(f"{spec.source}: labels: no record has one{problem}; say in `columns` which column holds them")
    return counts


def paths_of(record: Record, spec: DatasetSpec, separator: str) -> list[LabelPath]:
    """The paths to the labels of a record: of several in task multi_label, of at most one in task sequence.

    Raises:
        LabelError: see `label_list`.
    """
    if spec.task == "multi_label":
        names = record.lists["label"] if "label" in record.lists else label_list(record.fields["label"], separator)
        return [(name.strip(),) for name in names if name.strip()]
    path = label_path(record.fields, spec.depth, separator)
    return [path] if path else []


def label_path(fields: Mapping[str, str], depth: int, separator: str) -> LabelPath:
    """The names from the top level to the label of a record; nothing where it has none, or several."""
    if "label" in fields:
        value = fields["label"].strip()
        return () if not value or (separator and separator in value) else (value,)
    names = [fields.get(f"level{level}", "").strip() for level in range(1, depth + 1)]
    path = tuple(name for name in names if name)
    return path if path == tuple(names[: len(path)]) else ()


def label_tree(paths: list[LabelPath], source: str) -> Taxonomy:
    """The label tree that paths make, numbers in their order and words in the alphabet's.

    Raises:
        UserError: two leaves would have one name.
    """
    tree: dict[str, dict] = {}
    for path in sorted(paths, key=lambda path: [in_order(name) for name in path]):
        node = tree
        for name in path:
            node = node.setdefault(name, {})
    try:
        return Taxonomy.from_tree(tree)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def in_order(name: str) -> tuple[bool, float, str]:
    """What numbers are sorted by as numbers, before words."""
    is_number = name.isascii() and name.isdigit()
    return (not is_number, float(name) if is_number else 0.0, name)


def found_lines(counts: Counter[LabelPath]) -> list[str]:
    """The labels with their records, and pairs that differ in how they are written alone."""
    shown = [f"{PATH_MARK.join(path)} {number:,}" for path, number in counts.most_common(SHOWN_LABELS)]
    more = f" and {len(counts) - SHOWN_LABELS} more" if len(counts) > SHOWN_LABELS else ""
    lines = [f"labels are taken from the data, as the dataset YAML declares none: {', '.join(shown)}{more}"]
    names = Counter({PATH_MARK.join(path): number for path, number in counts.items()})
    for _, alike in groupby(sorted(names, key=lambda name: (written_form(name), name)), key=written_form):
        for one, other in combinations(alike, 2):
            lines.append(f"the labels {one!r} and {other!r} differ in {WRITING} alone; is it one?")
    if separator := Column("label", values=names).separator():
        lines.append(
            f"some labels look like several, parted by {separator!r}: task: multi_label with label_separator: "
            f"{separator!r} of the file cuts them"
        )
    return lines
