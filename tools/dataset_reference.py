"""The reference of dataset YAMLs for docs/dataset_yaml.md.

python -m tools.dataset_reference > docs/dataset_yaml.md
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from opinionlm.data.cleaning import PROFILES, Cleaning
from opinionlm.data.spec import (
    BalanceSpec,
    DatasetSpec,
    FeatureKind,
    FeatureSpec,
    FileSpec,
    HubSpec,
    PublishedFacts,
    SplitSpec,
    Task,
)
from opinionlm.data.spec_checks import canonical_columns
from opinionlm.data.taxonomy import Taxonomy

HEAD = """# The dataset YAML

Made by `python -m tools.dataset_reference > docs/dataset_yaml.md` from the specification (`opinionlm/data/spec.py`); a
test compares the two and reads every example. `opinionlm init FILE` writes such a file for data of your own;
`python preprocess.py --config FILE.yaml` says what becomes of every record. What happens to the rows: docs/data.md.

## The commonest cases

One text, one label, in one CSV file with the columns `text` and `label`; the labels are those that occur:

```yaml
name: reviews
files:
  - {path: reviews.csv, columns: {text: text, label: label}}
```

A file from Excel with semicolons, other column names, and labels in an order of your own:

```yaml
name: reviews
description: Reviews of phones, labelled by sentiment.
files:
  - {path: reviews.csv, delimiter: ";", encoding: cp1252, columns: {text: comment, label: sentiment}}
labels: [negative, neutral, positive]
```

Nested JSON lines; a dotted path reaches into objects:

```yaml
name: reviews
files:
  - {path: reviews.jsonl, columns: {id: id, text: data.body, label: annotation.label}}
```

Splits of your own:

```yaml
name: reviews
files:
  - {path: train.csv, split: train, columns: {text: text, label: label}}
  - {path: dev.csv, split: validation, columns: {text: text, label: label}}
  - {path: test.csv, split: test, columns: {text: text, label: label}}
```

A label tree over two columns of codes; equal names below two parents are called by their paths (`praise/product`):

```yaml
name: feedback
files:
  - {path: feedback.csv, columns: {text: text, level1: kind, level2: about}}
labels:
  praise: [product, service]
  complaint: [product, service]
  other:
codes:
  level1: {0: other, 1: praise, 2: complaint}
  level2: {1: product, 2: service}
```

Any number of labels per text, parted by `|` (or as a JSON list, which needs no `label_separator`):

```yaml
name: emotions
task: multi_label
files:
  - {path: posts.csv, label_separator: "|", columns: {text: text, label: emotions}}
```

Columns that a model reads in front of the text, in words (`title: Broken. stars: 1. It came in two halves.`):

```yaml
name: reviews
files:
  - {path: reviews.csv, columns: {text: comment, label: sentiment, title: headline, stars: rating}}
features: {title: text, stars: number}
```

Pairs with a label, pairs with a score, words with tags, questions with answers:

```yaml
name: paraphrases
files:
  - {path: pairs.tsv, columns: {text: sentence1, text_pair: sentence2, label: same}}
labels: ["no", "yes"]
```

```yaml
name: similarity
task: similarity
score_range: [0, 5]
files:
  - {path: pairs.csv, columns: {text: sentence1, text_pair: sentence2, score: score}}
```

```yaml
name: entities
task: token
files:
  - {path: sentences.conll, columns: {tokens: first, tags: last}}
```

```yaml
name: questions
task: question_answering
files:
  - {path: questions.jsonl, columns: {text: question, context: context, answers: answers}}
```

Text that YAML takes for something else needs quotes: labels `"no"`, `"1"`, codes `"010"`, columns `"2024"`.
"""
SECTIONS: dict[str, tuple[str, type]] = {
    "The file": ("Keys at the top. With `base: other.yaml` they replace those of the other file.", DatasetSpec),
    "files": ("A list; each of its entries has these keys.", FileSpec),
    "hub": ("A data set of the Hugging Face hub, or a local folder that `datasets` reads.", HubSpec),
    "split": ("Shares and rules; a split that a file is stays as it is.", SplitSpec),
    "balance": ("Left out, all rows are kept.", BalanceSpec),
    "published": ("Left out, nothing is known.", PublishedFacts),
}
EXAMPLES = {
    "DatasetSpec.name": "reviews",
    "DatasetSpec.labels": "[negative, positive]",
    "DatasetSpec.task": "token",
    "DatasetSpec.description": "Reviews of phones, labelled by sentiment.",
    "DatasetSpec.licence": "CC BY 4.0",
    "DatasetSpec.tokenizer_name_or_path": "google/gemma-3-1b-pt",
    "DatasetSpec.files": "[{path: a.csv, columns: {text: text, label: label}}]",
    "DatasetSpec.hub": "{path: dair-ai/emotion, columns: {text: text, label: label}}",
    "DatasetSpec.codes": "{label: {0: negative, 1: positive}}",
    "DatasetSpec.cleaning": "{profile: default, lowercase: true}",
    "DatasetSpec.split": "{train: 0.8, validation: 0.1, test: 0.1}",
    "DatasetSpec.score_range": "[0, 5]",
    "DatasetSpec.empty_values": "[noinput, N/A]",
    "DatasetSpec.features": "{title: text, stars: number, shop: category}",
    "DatasetSpec.balance": "{train: 800, validation: 100, test: 100}",
    "DatasetSpec.labels_may_be_absent": "[mixed]",
    "DatasetSpec.language": "en",
    "DatasetSpec.origin": "github.com/owner/repository",
    "DatasetSpec.published": "{train: 16000, validation: 2000, test: 2000}",
    "FileSpec.path": "folder/posts.csv.gz",
    "FileSpec.columns": "{text: comment, label: sentiment}",
    "FileSpec.platform": "reddit",
    "FileSpec.split": "validation",
    "FileSpec.field_names": "[text, label]",
    "FileSpec.delimiter": '";"',
    "FileSpec.quoting": "none",
    "FileSpec.encoding": "cp1252",
    "FileSpec.label_separator": '"|"',
    "FileSpec.max_record_characters": "100000",
    "FileSpec.url": "https://example.org/posts.csv.gz",
    "FileSpec.sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "HubSpec.path": "dair-ai/emotion",
    "HubSpec.columns": "{text: text, label: label}",
    "HubSpec.config": "split",
    "HubSpec.revision": "main",
    "HubSpec.splits": "{train: train, test: test}",
    "HubSpec.platform": "twitter",
    "SplitSpec.train": "0.8",
    "SplitSpec.validation": "0.1",
    "SplitSpec.test": "0.1",
    "SplitSpec.stratify_by": "[label]",
    "SplitSpec.seed": "7",
    "SplitSpec.group_by": "context",
    "SplitSpec.by": "time",
    "SplitSpec.near_copies": "together",
    "BalanceSpec.train": "800",
    "BalanceSpec.validation": "100",
    "BalanceSpec.test": "100",
    "BalanceSpec.seed": "7",
    "PublishedFacts.train": "16000",
    "PublishedFacts.validation": "2000",
    "PublishedFacts.test": "2000",
    "PublishedFacts.tags": "[O, B-PER, I-PER]",
}


def page() -> str:
    """The page: examples, canonical columns, a table per section, the cleaning steps."""
    lines = [HEAD, "## Columns of every task", "", "What stands left of the colon under `columns`.", ""]
    lines += ["| task | canonical columns |", "| --- | --- |"]
    for task in get_args(Task):
        names = canonical_columns(DatasetSpec("x", task=task, files=(FileSpec("x", {"level1": "x", "level2": "x"}),)))
        shown = [name if name != "level2" else "level2` …`" for name in names]
        lines.append(f"| {task} | {', '.join(f'`{name}`' for name in shown).replace('…``', '…')} |")
    for title, (about, kind) in SECTIONS.items():
        lines += [
            "",
            f"## {title}",
            "",
            about,
            "",
            "| key | type | default | example | |",
            "| --- | --- | --- | --- | --- |",
        ]
        says, hints = attributes(kind), get_type_hints(kind)
        for item in fields(kind):
            if (kind, item.name) != (DatasetSpec, "source"):
                example = EXAMPLES[f"{kind.__name__}.{item.name}"]
                cells = [f"`{item.name}`", type_words(hints[item.name]), default_words(item), f"`{example}`"]
                lines.append(
                    f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in [*cells, says[item.name]])} |"
                )
    lines += ["", "## cleaning", "", *cleaning_lines()]
    return "\n".join(lines) + "\n"


def cleaning_lines() -> list[str]:
    """The cleaning steps with their value in every profile."""
    lines = ["A `profile` (sequence: `default`, other tasks: `exact`), and steps that differ from it."]
    lines += ["", f"| step | type | {' | '.join(PROFILES)} | |", "| --- | --- |" + " --- |" * (len(PROFILES) + 1)]
    hints = get_type_hints(Cleaning)
    for item in fields(Cleaning):
        values = [yaml_words(getattr(profile, item.name)) for profile in PROFILES.values()]
        cells = [f"`{item.name}`", type_words(hints[item.name]), *values, item.metadata["help"].replace("|", "\\|")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def attributes(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of its attributes, as Markdown."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).replace("``", "`") for name, text in found}


def type_words(kind: Any) -> str:
    """A type as a reader of YAML calls it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        return type_words(inner[0])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin is tuple and inner[0] is FeatureSpec:
        return f"names and ({type_words(FeatureKind)})"
    if origin is tuple:
        return f"{len(inner)} numbers" if inner[-1] is not Ellipsis else f"list of {type_words(inner[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return "names and names" if inner[1] is str else f"names and ({type_words(inner[1])})"
    if kind is Taxonomy:
        return "names, nested at will"
    if is_dataclass(kind):
        return "keys below"
    return {str: "text", bool: "true, false", int: "whole number", float: "number"}[kind]


def default_words(item: Field[Any]) -> str:
    """The default of a key; a blank where it has to be given."""
    if item.default is MISSING and item.default_factory is MISSING:
        return "required"
    # A field has one of them; typeshed declares the factory as one that may be missing.
    value = item.default if item.default is not MISSING else item.default_factory()  # type: ignore[misc]
    return "" if is_dataclass(value) else yaml_words(value)


def yaml_words(value: Any) -> str:
    """A default as YAML; nothing for what is empty."""
    if value is None or value == "" or value == () or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, Mapping):
        return "`{" + ", ".join(f"{key}: {name}" for key, name in value.items()) + "}`"
    return f"`{value}`"


if __name__ == "__main__":
    print(page(), end="")
