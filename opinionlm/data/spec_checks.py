"""What the YAML of each task may and must say: canonical columns, options, cleaning."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from opinionlm.data.cleaning import Cleaning, text_steps
from opinionlm.data.readers.json_values import TEXT_COLUMNS
from opinionlm.data.spec import LABEL_TASKS, SPLITS, DatasetSpec, FileSpec, SplitSpec
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.utils.names import nearest

# Columns that rows of no task have to have.
OPTIONAL = ("id", "sentences", "context", "group", "platform")
# Names of columns that mean something to the program, in the data or in files of predictions.
RESERVED = {*TEXT_COLUMNS, "label", "labels", "raw", "gold", "predicted", "confidence", "label_set", "answer"}
RESERVED_STARTS = ("level", "probability_")
CONLL_ENDINGS = (".conll", ".txt", ".conll.gz", ".txt.gz")
# What says how the bytes of a file become records, and which of it a format reads; one of text with separators all.
FORMAT_KEYS = ("field_names", "delimiter", "quoting", "encoding", "max_record_characters")
READ_BY_FORMAT: dict[str | tuple[str, ...], tuple[str, ...]] = {
    ".parquet": (),
    ".xlsx": ("field_names",),
    (".jsonl", ".jsonl.gz"): ("encoding", "max_record_characters"),
    CONLL_ENDINGS: ("field_names", "delimiter", "encoding", "max_record_characters"),
}
# ISO 639-1 whole: jp, cz and gr are countries.
_LANGUAGES = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja
jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb
nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so
sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
TWO_LETTERS = frozenset(_LANGUAGES.split())
# The language, then script, region and variants.
LANGUAGE_TAG = re.compile(r"([a-z]{2,3})(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?(-([a-z\d]{5,8}|\d[a-z\d]{3}))*")


def canonical_columns(spec: DatasetSpec) -> list[str]:
    """Names that `columns` may map in this task."""
    match spec.task:
        case "sequence":
            return ["id", "text", "text_pair", "label", *_levels(spec), "platform", "time", *_features(spec)]
        case "multi_label":
            return ["id", "text", "text_pair", "label", "platform", "time", *_features(spec)]
        case "token":
            return ["id", "tokens", "tags", "group", "platform"]
        case "similarity":
            return ["id", "text", "text_pair", "score", "group", "platform"]
        case "question_answering" | "summarization" | "instruction":
            return ["id", "text", "sentences", "context", "answers", "group", "platform"]


def column_problems(spec: DatasetSpec) -> list[str]:
    """Columns that this task does not know or that are missing, for every source."""
    canonical, problems = canonical_columns(spec), []
    sources = [(f"files[{i}]", file.columns) for i, file in enumerate(spec.files)]
    sources += [("hub", spec.hub.columns)] if spec.hub else []
    for where, columns in sources:
        for name in columns:
            if name not in canonical:
                problems.append(f"{where}.columns: unknown column {name!r}{nearest(name, canonical)}")
        if spec.task in LABEL_TASKS:
            if "text" not in columns:
                problems.append(f"{where}.columns: text is missing; say which column holds the posts")
            absent = [name for name in _features(spec) if name not in columns]
            problems += [f"{where}.columns: {name} is missing; features names it" for name in absent]
            if spec.task == "multi_label" and "label" not in columns:
                problems.append(f"{where}.columns: label is missing; say which column holds the lists of labels")
            elif "label" not in columns and "level1" not in columns:
                problems.append(
                    f"{where}.columns: neither label nor level1 is named; say which columns hold the labels"
                )
            continue
        joined = "sentences" in columns and "sentences" in canonical
        required = [name for name in canonical if name not in OPTIONAL and not (joined and name == "text")]
        for name in required:
            if name not in columns:
                problems.append(f"{where}.columns: {name} is missing; task {spec.task} needs {', '.join(required)}")
        if "sentences" in columns and "text" in columns:
            problems.append(f"{where}.columns: sentences are joined into the text, so give either sentences or text")
        if spec.split.group_by == "group" and "group" not in columns:
            problems.append(f"{where}.columns: split.group_by is group, but no column is mapped to group")
    if len({"text_pair" in columns for _, columns in sources}) > 1:
        problems.append("columns: some sources have a text_pair and some have none; give one to all or to none")
    if len({"time" in columns for _, columns in sources}) > 1:
        problems.append("columns: some sources have a time and some have none; give one to all or to none")
    return problems


def format_problems(spec: DatasetSpec) -> list[str]:
    """What files of their format do not have, and separators of several characters."""
    problems = []
    for i, file in enumerate(spec.files):
        read = next((keys for ending, keys in READ_BY_FORMAT.items() if file.path.endswith(ending)), FORMAT_KEYS)
        unread = [name for name in FORMAT_KEYS if name not in read]
        problems += unread_keys(file, unread, f"files[{i}]", f"files such as {file.path}")
        if (
            "quoting" in read
            and file.delimiter is not None
            and (len(file.delimiter) != 1 or file.delimiter in '"\r\n')
        ):
            problems.append(f"files[{i}].delimiter: {file.delimiter!r} is no single character, such as ';'")
    return problems


def unread_steps(spec: DatasetSpec) -> list[str]:
    """Keys of ``cleaning`` and ``split`` that others leave without effect."""
    cleaning, split = spec.cleaning, spec.split
    removed = {cleaning.links, cleaning.mentions, cleaning.hashtags}
    needed = (
        ("min_alphabetic_ratio", "gibberish" in cleaning.filters, "gibberish: keep"),
        ("min_tokens", "short_posts" in cleaning.filters, "short_posts: keep"),
        ("max_tokens", "long_posts" in cleaning.filters, "long_posts: keep"),
        ("spare_noise", cleaning.filters, "rules that keep every post"),
        ("noise_label", cleaning.filters, "rules that keep every post"),
        ("cue_words", removed & {"remove", "replace"}, "links, mentions and hashtags that stay"),
    )
    problems = []
    for name, is_read, reader in needed:
        problems += [] if is_read else unread_keys(cleaning, [name], "cleaning", reader)
    if split.by == "time":
        problems += unread_keys(split, ["stratify_by", "seed"], "split", "by: time")
    elif split.group_by is not None:
        problems += unread_keys(split, ["stratify_by"], "split", f"group_by: {split.group_by}")
    elif "label" in split.stratify_by and spec.task not in LABEL_TASKS:
        problems += unread_keys(split, ["stratify_by"], "split", f"task {spec.task}, whose rows have no labels")
    return problems


def unread_keys(part: FileSpec | SplitSpec | Cleaning, names: Iterable[str], place: str, reader: str) -> list[str]:
    """A sentence for each of these keys that is not at its default, which the reader does not look at."""
    defaults = {item.name: item.default for item in fields(part)}
    given = [(name, getattr(part, name)) for name in names if getattr(part, name) != defaults[name]]
    return [f"{place}.{name}: {value!r} is not read by {reader}; leave it out" for name, value in given]


def feature_problems(spec: DatasetSpec) -> list[str]:
    """Columns that cannot be written in front of a text."""
    if spec.features and spec.task not in LABEL_TASKS:
        return [f"features: only tasks with labels read columns beside the text, this is {spec.task}; leave it out"]
    problems = []
    for name in _features(spec):
        if name == "platform":
            problems.append("features.platform: runs read it with platform_prefix: true; leave it out here")
        elif name in RESERVED or name.startswith(RESERVED_STARTS) or not name.strip() or name != name.strip():
            problems.append(f"features.{name}: this name is taken, or blank; give the column another one")
    return problems


def label_problems(spec: DatasetSpec) -> list[str]:
    """Settings of a task with labels that contradict each other."""
    problems = _foreign_options(spec)
    if spec.labels is not None:
        problems += declared_problems(spec, spec.labels)
    elif spec.codes or spec.labels_may_be_absent:
        given = "codes" if spec.codes else "labels_may_be_absent"
        problems.append(
            f"labels: missing, so that they are taken from the data, where {given} mean nothing; name them"
        )
    written = list(spec.codes.get("label", () if spec.labels is None else spec.labels.leaves))
    for i, file in enumerate(spec.files):
        if inside := [name for name in written if file.label_separator and file.label_separator in name]:
            problems.append(
                f"files[{i}].label_separator: {file.label_separator!r} occurs in the label {inside[0]!r}, which it "
                "would cut in two; use another separator, or JSON lists"
            )
    if spec.task == "multi_label" and spec.cleaning.relabels_noise:
        problems.append("cleaning: task multi_label labels no post as noise by itself; use drop or keep instead")
    if spec.split.by == "time" and not spec.has_time:
        problems.append("split.by: time needs a column that is mapped to time in every source")
    if spec.split.group_by is not None:
        problems.append(f"split.group_by: task {spec.task} splits by label and platform; leave it out")
    return problems


def declared_problems(spec: DatasetSpec, labels: Taxonomy) -> list[str]:
    """Settings that contradict the label tree."""
    problems = []
    if len(labels.leaves) < 2:
        problems.append(f"labels: only {labels.leaves[0]!r}; a classifier needs at least two classes")
    names = ["label", *_levels(spec)]
    for name, codes in spec.codes.items():
        if name not in names:
            problems.append(f"codes: unknown column {name!r}{nearest(name, names)}")
            continue
        valid = labels.leaves if name == "label" else labels.names_at(int(name.removeprefix("level")))
        for code, label in codes.items():
            if choices := labels.shared_names.get(label) if name == "label" else None:
                problems.append(f"codes.label.{code}: {label!r} is several labels; write {' or '.join(choices)}")
            elif label not in valid:
                problems.append(f"codes.{name}.{code}: {label!r} is no label there{nearest(label, valid)}")
    known = {*labels.leaves, *(code for codes in spec.codes.values() for code in codes)}
    for label in spec.labels_may_be_absent:
        if label not in known:
            problems.append(f"labels_may_be_absent: {label!r} is no label and no code{nearest(label, sorted(known))}")
    if spec.cleaning.relabels_noise and spec.cleaning.noise_label not in labels.leaves:
        problems.append(
            f"cleaning.noise_label: posts are to be labelled {spec.cleaning.noise_label!r}, which is no label of this "
            f"data set{nearest(spec.cleaning.noise_label, labels.leaves)}; or use drop or keep instead of noise"
        )
    return problems


def task_problems(spec: DatasetSpec) -> list[str]:
    """Settings of every task without labels that contradict each other."""
    problems = _foreign_options(spec)
    if spec.split.by == "time":
        problems.append(f"split.by: only rows of a task with labels have times, this is {spec.task}; leave it out")
    for i, file in enumerate(spec.files):
        if file.label_separator:
            problems.append(f"files[{i}].label_separator: only tasks with labels have one; leave it out")
        if file.path.endswith(CONLL_ENDINGS) and spec.task == "token" and set(file.columns) > {"tokens", "tags"}:
            problems.append(f"files[{i}].columns: a CoNLL file holds only tokens and tags")
    cleaning, group_by = spec.cleaning, spec.split.group_by
    if spec.task == "token" and (steps := [name for name, _ in text_steps(cleaning)]):
        problems.append(
            f"cleaning.{steps[0]}: tokens stay as they are, because their tags belong to them; use profile: exact"
        )
    if cleaning.filters:
        problems.append(
            f"cleaning: {', '.join(cleaning.filters)}: only tasks with labels filter posts; use profile: exact"
        )
    if group_by is not None and group_by != "group" and group_by not in canonical_columns(spec):
        problems.append(f"split.group_by: task {spec.task} has no column {group_by!r}; use group")
    return problems


def _foreign_options(spec: DatasetSpec) -> list[str]:
    """Options that belong to another task, and those that this one lacks."""
    problems = []
    if spec.task not in LABEL_TASKS:
        absent = ("labels_may_be_absent", bool(spec.labels_may_be_absent))
        for name, given in (("labels", spec.labels is not None), ("codes", bool(spec.codes)), absent):
            if given:
                having = " and ".join(LABEL_TASKS)
                problems.append(f"{name}: only the tasks {having} have labels, this is {spec.task}; leave it out")
    if spec.task == "similarity":
        if spec.score_range is None:
            problems.append("score_range: missing; give the lowest and the highest score, e.g. [0, 5]")
        elif len(spec.score_range) != 2 or not spec.score_range[0] < spec.score_range[1]:
            problems.append(f"score_range: {list(spec.score_range)} is not a lowest and a highest score")
    elif spec.score_range is not None:
        problems.append(f"score_range: only task similarity has scores, this is {spec.task}; leave it out")
    if spec.empty_values and spec.task not in ("question_answering", "summarization", "instruction"):
        problems.append(f"empty_values: task {spec.task} has no context; leave it out")
    for value in spec.empty_values:
        if not any(char.isalnum() for char in value):
            problems.append(f"empty_values: {value!r} has no letter or digit to compare by")
    return problems


def _features(spec: DatasetSpec) -> list[str]:
    return [feature.name for feature in spec.features]


def _levels(spec: DatasetSpec) -> list[str]:
    return [f"level{level}" for level in range(1, spec.depth + 1)] if spec.task == "sequence" else []


def check_spec(spec: DatasetSpec) -> None:
    """Settings that contradict each other; all of them at once."""
    problems = negative_counts(spec.to_dict())
    if not spec.files and spec.hub is None:
        problems.append("files: no source given; name files and/or a hub data set")
    problems += column_problems(spec)
    if spec.language and not is_language(spec.language):
        problems.append(f"language: {spec.language!r} is no code of ISO 639 or BCP 47; such as en, ja or pt-BR")
    if spec.files and 0 < sum(file.split is not None for file in spec.files) < len(spec.files):
        problems.append("files: some have a split and some have none; give one to all or to none")
    for name in spec.hub.splits if spec.hub else ():
        if name not in SPLITS:
            problems.append(f"hub.splits: unknown split {name!r}{nearest(name, SPLITS)}")
    shares = {name: getattr(spec.split, name) for name in SPLITS}
    if any(not 0 < share < 1 for share in shares.values()):
        problems.append(f"split: every share has to lie between 0 and 1, found {shares}")
    # Files and hub data set stand in for each other, so each of them has to fit the rest.
    given: list[set[str]] = [{file.split for file in spec.files if file.split}] if spec.files else []
    given += [spec.hub.given_splits] if spec.hub else []
    if any(splits and "train" not in splits for splits in given):
        problems.append("no source is the training split; give one split: train")
    if any(len(splits) < len(SPLITS) for splits in given) and spec.cleaning.duplicates == "keep":
        problems.append(
            "cleaning.duplicates: keep would let one text into two splits; use tokens or text, or give files a split"
        )
    problems += near_copy_problems(spec, given)
    if not all(given) and abs(sum(shares.values()) - 1) > 1e-6:
        problems.append(f"split: train, validation and test have to sum to 1, found {sum(shares.values()):g}")
    problems += balance_problems(spec) + feature_problems(spec) + format_problems(spec) + unread_steps(spec)
    problems += label_problems(spec) if spec.task in LABEL_TASKS else task_problems(spec)
    if problems:
        raise UserError(f"{spec.source}: " + "; ".join(problems))


def is_language(code: str) -> bool:
    """Whether a text is a language code of the hub: ISO 639, perhaps with script, region and variants (BCP 47)."""
    match = LANGUAGE_TAG.fullmatch(code)
    return match is not None and (len(match[1]) == 3 or match[1] in TWO_LETTERS)


def near_copy_problems(spec: DatasetSpec, given: list[set[str]]) -> list[str]:
    """Why near-copies cannot stay together; ``given`` are the splits that each source comes with."""
    if spec.split.near_copies == "anywhere":
        return []
    if spec.task not in LABEL_TASKS:
        return [f"split.near_copies: together: only texts with labels are compared, this is {spec.task}; leave it out"]
    if spec.split.by == "time":
        return ["split.near_copies: together contradicts split.by: time, which puts texts where their time is"]
    if any(len(splits) == len(SPLITS) for splits in given):
        return ["split.near_copies: together: the source has all its splits, and nothing is split here; leave it out"]
    return []


def negative_counts(value: Any, place: str = "") -> list[str]:
    """Whole numbers below zero in the plain values of a spec: they count something, or seed a draw."""
    if isinstance(value, dict):
        return [one for key, part in value.items() for one in negative_counts(part, f"{place}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [one for number, part in enumerate(value) for one in negative_counts(part, f"{place}[{number}]")]
    return [f"{place}: {value} must not be negative"] if isinstance(value, int) and value < 0 else []


def balance_problems(spec: DatasetSpec) -> list[str]:
    """Why a balanced subset cannot be drawn, as far as the data need not be known."""
    if spec.balance is None:
        return []
    if spec.task == "sequence" and spec.labels is None:
        return ["balance: the labels are not declared, so that their number is not known; name them under labels"]
    if spec.task != "sequence" or spec.labels is None:
        return [f"balance: task {spec.task} has no single labels to balance; leave it out"]
    labels = len(spec.labels.leaves)
    totals = {name: getattr(spec.balance, name) for name in SPLITS}
    return [
        f"balance.{name}: {total} has to be a positive multiple of the {labels} labels"
        for name, total in totals.items()
        if total < 1 or total % labels
    ]
