"""One row of a task other than sequence, as parsing leaves it and the pipeline takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class TaskRow:
    """A parsed row.

    Attributes:
        values: its canonical columns without id and platform.
        identity: rows with equal identities are copies of each other.
        prompt: what the model reads, for lengths in tokens.
        outcome: what copies have to agree in; blank where they cannot contradict each other.
        answers: what the model has to write, for lengths in tokens.
        changed: names of the cleaning steps that changed it.
    """

    values: dict[str, Any]
    identity: tuple[str, ...]
    prompt: tuple[str, ...]
    outcome: str = ""
    answers: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()
