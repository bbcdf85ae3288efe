"""Task tokens: ids of their own for mined sequences, put before each occurrence (AdaPT, Algorithm 2)."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.adaptation.adapt.matching import SequenceMatcher
from opinionlm.errors import UserError, one_line

# Beside the weights of a saved model.
FILE_NAME = "task_tokens.json"


@dataclass(frozen=True)
class TaskTokens:
    """Sequences that have a token id of their own.

    Attributes:
        sequences: token ids of every sequence; the n-th has the id ``first_id + n``.
        max_gap: most tokens skipped between neighbours of a sequence; None for any number.
        first_id: rows of the model's embedding before any were added.
    """

    sequences: tuple[tuple[int, ...], ...]
    max_gap: int | None
    first_id: int

    def __getstate__(self) -> dict[str, Any]:
        """The attributes alone: a hash of equal task tokens does not tell whether the matcher was asked for."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def matcher(self) -> SequenceMatcher:
        """What finds the sequences."""
        return SequenceMatcher(self.sequences, self.max_gap)

    def insert(self, rows: list[list[int]]) -> list[list[int]]:
        """Put task tokens into the token ids of whole texts, without special tokens.

        Each goes immediately before the first token of an occurrence; all tokens of the text stay. Occurrences of one
        sequence do not overlap (the leftmost wins), those of different sequences may; where several begin at the same
        token, their task tokens stand in the order of their ids.

        Returns:
            New rows; one without any occurrence is the given row itself.
        """
        texts, places, numbers = self.matcher.find(rows)
        result = list(rows)
        bounds = np.flatnonzero(np.diff(texts, prepend=-1, append=-1)).tolist()
        places, ids = places.tolist(), (numbers + self.first_id).tolist()
        for begin, stop in zip(bounds[:-1], bounds[1:], strict=True):
            text = int(texts[begin])
            old, new, done = rows[text], [], 0
            for place, token in zip(places[begin:stop], ids[begin:stop], strict=True):
                new += old[done:place]
                new.append(token)
                done = place
            result[text] = new + old[done:]
        return result

    def save(self, folder: Path) -> None:
        """Write them beside a model's weights."""
        content = {"first_id": self.first_id, "max_gap": self.max_gap, "sequences": self.sequences}
        (folder / FILE_NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TaskTokens:
        """Read what `save` wrote.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        path = folder / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            sequences = tuple(tuple(int(token) for token in sequence) for sequence in content["sequences"])
            return cls(sequences, content["max_gap"], int(content["first_id"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read ({one_line(error)}); the model was trained with task tokens and "
                "needs this file: copy the whole folder of the model"
            ) from None
