"""What a table's numbers differ from the paper's in: as its YAML says, and by what a smaller scale changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opinionlm.config.config import default_of
from opinionlm.utils.names import folder_title

Options = Mapping[str, Any]
# Options that make another experiment of a run, and the words for them.
COMPARED = {
    "model_name_or_path": "model",
    "dataset": "data",
    "max_train_samples": "training texts, at most",
    "max_eval_samples": "evaluated texts, at most",
    "max_length": "tokens of a text",
    "max_answer_length": "tokens of an answer",
    "num_train_epochs": "epochs",
    "max_steps": "optimizer steps",
    "learning_rate": "learning rate",
    "num_beams": "beams",
    "pooling": "pooling",
}
SHOWN = 4


def scale_differences(cells: Sequence[Options], paper_cells: Sequence[Options]) -> list[str]:
    """What a scale changes of the paper's: one entry for every option whose values over the cells are others.

    Epochs are none of them where a number of steps ends every run.
    """
    found = []
    counts_steps = all(options.get("max_steps", -1) > 0 for options in cells)
    for name, words in COMPARED.items():
        if name == "num_train_epochs" and counts_steps:
            continue
        here, there = values_of(cells, name), values_of(paper_cells, name)
        if set(here) != set(there):
            found.append(f"{words} {listed(here)} instead of {listed(there)}")
    return found


def values_of(cells: Sequence[Options], name: str) -> list[str]:
    """The values that an option has over cells, each once."""
    return list(dict.fromkeys(shown(options.get(name, default_of(name))) for options in cells))


def shown(value: Any) -> str:
    """A value to read: of a path, the name of what it leads to."""
    if isinstance(value, str) and "/" in value:
        return Path(value).stem if value.endswith(".yaml") else folder_title(Path(value))
    # -1 optimizer steps are those of all epochs.
    return "all" if value is None or value == -1 else str(value)


def listed(values: Sequence[str]) -> str:
    """Values in a row; of many, how many."""
    return ", ".join(values) if len(values) <= SHOWN else f"{', '.join(values[:2])} … ({len(values)})"


def difference_line(source: str, differences: Sequence[str]) -> str:
    """The last line of a table's Markdown."""
    if source.startswith("Ours"):
        return "Differs from the paper in: nothing to differ from, the table is ours."
    return f"Differs from the paper in: {'; '.join(differences) if differences else 'nothing known'}."


def stated_differences(raw: Mapping[str, Any], scale: str) -> list[str]:
    """What a table YAML says under ``differs``: sentences for all scales, and those of the scale."""
    return [*(raw.get("differs") or []), *((raw["scales"][scale] or {}).get("differs") or [])]
