"""The page about the fields of TrainingArguments, written from the tables that decide them.

python -m tools.trainer_reference > docs/trainer_arguments.md
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from opinionlm.config.chosen_metric import SCORES
from opinionlm.config.optimization import NEEDED, OPTIMIZERS, OTHER_OPTIMIZERS, OTHER_SCHEDULES, SCHEDULES, WITH_WARMUP
from opinionlm.config.trainer_arguments import FIXED, HONOURED, OWN_FIELDS, REFUSED, Decided
from opinionlm.utils.typed_values import as_yaml

INTRODUCTION = """# The fields of TrainingArguments

`train_classifier.py`, `train_instruct.py` and pretraining (`python pretrain.py`) take
fields of `transformers.TrainingArguments` from a YAML file or the command line, typed by the field: `1e-6` is a
number, `no` is a word, mappings are written `{num_cycles: 2}`. Every field of the installed class is in one of the
four lists below; a test fails on one that is in none. What cannot be honoured is refused in one line before anything
is loaded, and what optimizers, schedules and compilers need is tried on a few dummy parameters before data are read.
This page is written by `python -m tools.trainer_reference`.

## Options of ours

`--help` explains them, with our defaults: %s.

`metric_for_best_model` names any score of the validation split, with or without `eval_`: %s; also `f1_<label>` and
`level1_macro_f1`, `level1_accuracy`, … of labels, and `invalid_rate` of written answers. The first of a row chooses by
default. Its direction is known by its name; a `greater_is_better` that contradicts it is refused. The first of equals
wins. A checkpoint is saved at every evaluation, so that the best step is always there, and `best/` holds its weights
in the data type that was trained. Early stopping, `reduce_lr_on_plateau`, the terminal, the learning curves, the model
card and metrics.json (`chosen_by`) go by the same score.

## Honoured

| field | engines | range | what it does |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The page as Markdown."""
    own = ", ".join(f"`{name}`" for name in sorted(OWN_FIELDS))
    scores = "; ".join(f"{task.replace('_', ' ')} `{'`, `'.join(names)}`" for task, names in SCORES.items())
    lines = [INTRODUCTION % (own, scores)]
    lines += [
        f"| `{name}` | {', '.join(field.engines)} | {field.bounds.words()} | {field.help} |\n"
        for name, field in HONOURED.items()
    ]
    lines.append("\n`train_instruct.py` and pretraining have the engine `trainer`.\n\n### Schedules\n\n")
    lines.append("| `lr_scheduler_type` | `lr_scheduler_kwargs` |\n| --- | --- |\n")
    for name, arguments in SCHEDULES.items():
        notes = [", ".join(f"`{argument}`: {type_name(kind)}" for argument, kind in arguments.items()) or "none"]
        notes += [f"{' or '.join(f'`{each}`' for each in NEEDED[name])} is needed"] if name in NEEDED else []
        notes += ["no `warmup_steps`"] if name not in WITH_WARMUP else []
        lines.append(f"| `{name}` | {'; '.join(notes)} |\n")
    lines += [f"| `{name}` | refused: {reason} |\n" for name, reason in OTHER_SCHEDULES.items()]
    lines.append("\n### Optimizers\n\n| `optim` | reads | `optim_args` |\n| --- | --- | --- |\n")
    for name, facts in OPTIMIZERS.items():
        adam = ", ".join(f"`{field}`" for field in facts.adam) or "none"
        reads = ", ".join(f"`{argument}`: {type_name(kind)}" for argument, kind in facts.arguments) or "none"
        lines.append(f"| `{name}` | {adam} | {reads} |\n")
    for reason in dict.fromkeys(OTHER_OPTIMIZERS.values()):
        names = ", ".join(f"`{name}`" for name, each in OTHER_OPTIMIZERS.items() if each == reason)
        lines.append(f"\nRefused, because it {reason}: {names}.\n")
    lines.append(
        "\n## Fixed\n\nA run may state the value, and no other.\n\n| field | value | reason |\n| --- | --- | --- |\n"
    )
    lines += rows(FIXED, "by the run")
    lines.append("\n## Refused\n\nStating that a field is off is no mistake.\n\n")
    lines.append("| field | off | reason, and what to use instead |\n| --- | --- | --- |\n")
    lines += rows(REFUSED, "left out")
    return "".join(lines)


def rows(decided: Mapping[str, Decided], without: str) -> list[str]:
    """One row per field; ``without`` says what a field without a value of its own has."""

    def shown(value: Any) -> str:
        text = as_yaml(value)
        return without if value in (None, "") else f"`{text}`"

    return [f"| `{name}` | {shown(each.value)} | {each.reason} |\n" for name, each in decided.items()]


def type_name(kind: Any) -> str:
    """A type as a reader wants to see it."""
    words = typing.get_args(kind)
    return ", ".join(words) if words else {int: "whole number", float: "number", bool: "true or false"}[kind]


if __name__ == "__main__":
    print(page(), end="")
