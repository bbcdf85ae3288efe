"""Which columns of a file are texts, labels and ids, and which task they make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from opinionlm.data.inspection.columns import Column
from opinionlm.data.inspection.forms import CONLL_COLUMNS, FileForm
from opinionlm.errors import UserError
from opinionlm.utils.names import closest

TEXT_NAMES = ("text", "comment", "post", "tweet", "body", "content", "message", "review", "sentence", "selftext")
LABEL_NAMES: tuple[str, ...] = (
    "label",
    "labels",
    "sentiment",
    "class",
    "category",
    "target",
    "stance",
    "emotion",
    "emotions",
    "topic",
)
LABEL_NAMES += ("opinion", "polarity", "intent", "gold")
# A word of its own in any letters (review_id), or the capital that begins one (reviewId; paid and valid are none).
ID_NAME = re.compile(r"(?i:(.*[ _-])?(id|uid|uuid|nr|no|number|index))|.*[a-z]Id")
LEVEL = re.compile(r"(?:.*[^a-z])?(?:level|l)[ _-]?(\d)", re.IGNORECASE)
FIRST_OF_PAIR = re.compile(r"(?P<name>.*?)[ _-]?(?:1|a)", re.IGNORECASE)
NAMED_PAIRS = (("premise", "hypothesis"), ("question", "answer"), ("text", "text_pair"))
# A pair with more different numbers than this has a score, not a class.
MOST_NUMBERED_CLASSES = 10

Task = Literal["sequence", "multi_label", "similarity", "token"]


@dataclass(frozen=True)
class Roles:
    """What the columns of a file are for.

    Attributes:
        task: that they make.
        texts: one column, or two of a pair.
        labels: one column, or one per level, the top first.
        id: the column of ids, where there is one.
        separator: between several labels in one field; blank for lists and for single labels.
        guessed: what nobody said.
    """

    task: Task
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    id: str | None = None
    separator: str = ""
    guessed: tuple[str, ...] = ()


def find_roles(form: FileForm, texts: Sequence[str], labels: Sequence[str]) -> Roles:
    """The roles of the columns of a file, guessed by their names and values where nobody says them.

    Raises:
        UserError: a column is not there, holds no labels, or cannot be guessed.
    """
    if form.kind == "conll":
        return Roles("token", (CONLL_COLUMNS["tokens"],), (CONLL_COLUMNS["tags"],))
    for option, names in (("--text", texts), ("--label", labels)):
        for name in names:
            require_column(form, option, name)
    guessed = (("text",) if not texts else ()) + (("label",) if not labels else ())
    texts = tuple(texts) or guess_texts(form, labels)
    labels = tuple(labels) or guess_labels(form, texts)
    columns = [form.columns[name] for name in labels]
    task, separator = find_task(form, texts, columns), ""
    if task == "sequence" and len(columns) == 1 and (separator := columns[0].separator()):
        task = "multi_label"
    if task == "sequence":
        require_classes(form, columns)
    found_id = next((name for name in form.columns if is_id(form, name) and name not in (*texts, *labels)), None)
    return Roles(task, texts, labels, found_id, separator, guessed)


def find_task(form: FileForm, texts: tuple[str, ...], labels: Sequence[Column]) -> Task:
    """The task that texts and labels make, as far as single labels and separators need not be told apart."""
    if len(labels) > 1:
        return "sequence"
    (label,) = labels
    if form.columns[texts[0]].lists and label.lists:
        return "token"
    if label.lists:
        return "multi_label"
    if len(texts) == 2 and label.is_numeric and len(label.values) > MOST_NUMBERED_CLASSES:
        return "similarity"
    return "sequence"


def require_column(form: FileForm, option: str, name: str) -> None:
    """Raise a `UserError` where a file has no such column, with the nearest and all of them."""
    if name not in form.columns:
        near = closest(name, form.columns)
        hint = "" if near is None else f", did you mean {near!r}?"
        raise UserError(f"{option}: {form.path} has no column {name!r}{hint} (it has {listing(form.columns)})")


def require_classes(form: FileForm, labels: Sequence[Column]) -> None:
    """Raise a `UserError` where columns hold no classes: a single value, texts, or a column per label."""
    for column in labels:
        if not column.repeats and len(labels) == 1:
            problem = f"{len(column.values):,} different values in {column.filled:,} records, and classes come again"
            if len(column.values) < 2:
                problem = f"one value alone, {column.example!r}, and there is nothing to tell apart"
            raise UserError(
                f"--label: the column {column.name!r} of {form.path} holds {problem if column.filled else 'nothing'}; "
                f"name one with labels that several records share, of {listing(form.columns)}"
            )
    if len(labels) > 1 and all(set(column.values) <= {"0", "1"} for column in labels):
        raise UserError(
            f"--label: the columns {listing([column.name for column in labels])} hold 0 and 1, a column per label; "
            "write the labels of a record into one column, separated by |"
        )


def guess_texts(form: FileForm, labels: Sequence[str]) -> tuple[str, ...]:
    """The column of the longest values, or one that is called so; two where names show a pair.

    Raises:
        UserError: no column holds texts.
    """
    found = {name: column for name, column in form.columns.items() if name not in labels and is_text(column)}
    for one, other in pairs(found):
        if one in found and other in found:
            return (one, other)
    if not found:
        raise UserError(f"{form.path}: no column looks like texts; name it: --text COLUMN, of {listing(form.columns)}")
    named = [name for name in found if last_part(name).lower() in TEXT_NAMES]
    return (max(named or found, key=lambda name: found[name].mean_characters),)


def guess_labels(form: FileForm, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The column that is called so, or the only one with few values; several where names show levels.

    Raises:
        UserError: none, or several that are as good as each other.
    """
    others = {name: column for name, column in form.columns.items() if name not in texts}
    levels = {int(match[1]): name for name in others if (match := LEVEL.fullmatch(last_part(name)))}
    if len(levels) > 1 and sorted(levels) == list(range(1, len(levels) + 1)):
        return tuple(levels[number] for number in sorted(levels))
    lists = form.columns[texts[0]].lists > 0
    others = {name: column for name, column in others.items() if not is_id(form, name) and not column.holds_dates}
    found = [name for name, column in others.items() if column.repeats or column.lists or column.separator()]
    found = [name for name in found if others[name].lists] if lists else found
    if len(texts) == 2:
        found += [name for name, column in others.items() if column.is_numeric and name not in found]
    named = [name for name in found if last_part(name).lower() in LABEL_NAMES]
    if len(named or found) == 1:
        return tuple(named or found)
    # Their values are no classes, which `require_classes` says.
    if not found and (called := [name for name in others if last_part(name).lower() in LABEL_NAMES]):
        return (called[0],)
    choices = listing(named or found or form.columns)
    raise UserError(
        f"{form.path}: which column holds the labels? --label COLUMN, one of {choices}; two or more are levels of a "
        "tree, the top first"
    )


def pairs(names: Sequence[str] | dict[str, Column]) -> list[tuple[str, str]]:
    """Names of columns that belong together: ``sentence1`` and ``sentence2``, ``premise`` and ``hypothesis``."""
    found = list(NAMED_PAIRS)
    for name in names:
        if match := FIRST_OF_PAIR.fullmatch(name):
            other = {"1": "2", "a": "b", "A": "B"}[name[-1]]
            found += [(name, name[:-1] + other)] if match["name"] else []
    return found


def is_text(column: Column) -> bool:
    """Whether values look like texts: no numbers, and of several words or mostly different; or lists of words."""
    has_blanks = sum(" " in value for value in column.values) > len(column.values) / 2
    return column.lists > 0 or (
        not column.is_numeric and len(column.values) > 1 and (has_blanks or not column.repeats)
    )


def is_id(form: FileForm, name: str) -> bool:
    """Whether a column is called like ids and no value comes twice, as far as they are remembered."""
    column = form.columns[name]
    distinct = all(records == 1 for records in column.values.values())
    return bool(ID_NAME.fullmatch(last_part(name))) and distinct and column.filled == form.records


def last_part(name: str) -> str:
    """The name of a column without the objects that it lies in."""
    return name.rstrip(".").rpartition(".")[2].strip()


def listing(names: Sequence[str] | dict[str, Column]) -> str:
    """Names of columns for a message."""
    return ", ".join(map(repr, names))[:500]
