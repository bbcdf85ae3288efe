"""Answers about texts with any number of labels: a written list of them, or yes and no to a question about each."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.errors import UserError

SEPARATOR = ","
NO_LABEL = "none"


@dataclass(frozen=True)
class ListEncoder(PromptEncoder):
    """The answer is the list of a text's labels in the order of the label set: ``joy, love``, or ``none``.

    Raises:
        UserError: the words of a label would read as two labels or as none; see also `PromptEncoder`.
    """

    def __post_init__(self) -> None:
        for word in self.words:
            if SEPARATOR in word or word.casefold() == NO_LABEL:
                raise UserError(
                    f"{self.template.source}: labels: {word!r} cannot stand in a written list, where {SEPARATOR!r} "
                    f"separates labels and {NO_LABEL} says that there are none; give it other words, or use decode: "
                    "score"
                )
        super().__post_init__()

    @property
    def room(self) -> int:
        """See `PromptEncoder.room`; a list may be of any length."""
        return self.answer_room

    def written(self, labels: Sequence[int]) -> str:
        """The list of these labels."""
        return f"{SEPARATOR} ".join(self.words[label] for label in sorted(labels)) or NO_LABEL


@dataclass(frozen=True)
class Question:
    """Token ids of the two answers to the question about a label, question included.

    Attributes:
        yes: such as those of ``joy: yes``.
        no: such as those of ``joy: no``.
        given: so many tokens, at the beginning of both, are the question.
    """

    yes: list[int]
    no: list[int]
    given: int


@dataclass(frozen=True)
class QuestionEncoder(PromptEncoder):
    """Behind a prompt every label is asked about by itself, ``joy:``, and answered by yes or no.

    Raises:
        UserError: a vocabulary that writes yes and no alike; see also `PromptEncoder`.
    """

    @property
    def room(self) -> int:
        """See `PromptEncoder.room`."""
        return max(max(len(one.yes), len(one.no)) for one in self.questions) + len(self.end_ids)

    def written(self, label: int, is_there: bool) -> str:
        """The question about a label, and its answer."""
        return f"{self.words[label]}: {'yes' if is_there else 'no'}"

    @cached_property
    def questions(self) -> list[Question]:
        """Of every label, in the order of the label set."""
        found = []
        for label, word in enumerate(self.words):
            yes, no = (self.answer_ids(self.written(label, there))[: -len(self.end_ids)] for there in (True, False))
            given = len(os.path.commonprefix([yes, no]))
            if given in (len(yes), len(no)):
                raise UserError(
                    f"tokenizer_name_or_path: this vocabulary cannot tell yes from no behind {word!r}; use decode: "
                    "generate, or another model"
                )
            found.append(Question(yes, no, given))
        return found

    def asked(self, labels: Sequence[int], text: str) -> list[int]:
        """The labels that training asks about: those of the text, and as many others, but at least one.

        Others are drawn by the text, the same in every run. All of them would cost a pass for every label; a sample
        shifts the log-odds of all labels by the same amount, which calibration takes back (Halder et al. 2020,
        "Task-Aware Representation of Sentences", train yes and no on drawn labels in this way).
        """
        others = [label for label in range(len(self.words)) if label not in labels]
        count = min(len(others), max(1, len(labels)))
        drawn = np.random.default_rng(zlib.crc32(text.encode())).choice(len(others), count, replace=False)
        return sorted([*labels, *(others[place] for place in drawn)])

    def shown(self, labels: Sequence[int], number: int) -> str:
        """The answer of a demonstration: yes to one of the text's labels, in every second one no to another label."""
        others = [label for label in range(len(self.words)) if label not in labels]
        is_there = bool(labels) and (number % 2 == 0 or not others)
        chosen = labels if is_there else others
        return self.written(chosen[number // 2 % len(chosen)], is_there)


def encoder_class(task: str, decode: Literal["score", "generate"]) -> type[PromptEncoder]:
    """How the answers of a task are written, and read again."""
    if task != "multi_label":
        return PromptEncoder
    return QuestionEncoder if decode == "score" else ListEncoder
