"""The answers of a closed label set as a prefix tree: which token distributions score all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opinionlm.errors import UserError

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class LabelTree:
    """Every distribution that some label needs, each of them once.

    The distributions of one prompt are numbered: first those behind the prompt and behind each token of ``shared``,
    which the prompt's own pass gives, then those of ``nodes``.

    Attributes:
        shared: tokens that all labels begin with; they run together with the prompt.
        paths: the longest token sequences that have to run behind ``shared``, none a prefix of another.
        nodes: ``(path, position)`` of each further distribution: the one behind that token of that path.
        rows: number of the distribution, one per scored token.
        tokens: the scored tokens, in the order of ``rows``.
        uses: 0/1 ``(scored tokens, labels)``: a label's log-probability is the sum over its scored tokens.
        lengths: scored tokens per label.
    """

    shared: Tokens
    paths: tuple[Tokens, ...]
    nodes: tuple[tuple[int, int], ...]
    rows: np.ndarray
    tokens: np.ndarray
    uses: np.ndarray
    lengths: np.ndarray

    @property
    def prompt_rows(self) -> int:
        """Distributions that the prompt's pass gives."""
        return len(self.shared) + 1

    @property
    def steps(self) -> int:
        """Tokens of the longest path."""
        return max((len(path) for path in self.paths), default=0)


def common_prefix(sequences: Sequence[Sequence[int]]) -> Tokens:
    """The longest beginning that all sequences have, short enough to leave each at least one token."""
    shortest = min(len(sequence) for sequence in sequences) - 1
    # Every prefix that the least and the greatest sequence share is shared by all between them.
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))
    size = 0
    while size < shortest and first[size] == last[size]:
        size += 1
    return first[:size]


def build_label_tree(label_ids: Sequence[Sequence[int]], given: Sequence[int] = ()) -> LabelTree:
    """Merge the token ids of all labels into a tree.

    Args:
        label_ids: one non-empty list of token ids per label; a label may be the beginning of another.
        given: of every label so many tokens at its beginning are read and not scored; by default none.

    Raises:
        UserError: no labels, a label without tokens, or two labels with the same tokens.
    """
    labels = [tuple(ids) for ids in label_ids]
    if not labels or not all(labels):
        raise UserError("labels: every label needs at least one token to be scored; check the template's label words")
    if len(set(labels)) < len(labels):
        raise UserError("labels: two labels have the same tokens; give them different words in the template")
    shared = common_prefix(labels)
    # A distribution is named by the tokens before it, counted from the end of the prompt.
    inner = {label[:size]: None for label in labels for size in range(len(shared) + 1, len(label))}
    paths = [prefix for prefix in inner if not any(other[: len(prefix)] == prefix != other for other in inner)]
    number = {shared[:size]: size for size in range(len(shared) + 1)}
    nodes = []
    steps = [range(first, len(label)) for label, first in zip(labels, list(given) or [0] * len(labels), strict=True)]
    needed = {label[:step] for label, own in zip(labels, steps, strict=True) for step in own}
    for prefix in inner:
        if prefix not in needed:
            continue
        path = next(index for index, longest in enumerate(paths) if longest[: len(prefix)] == prefix)
        number[prefix] = len(number)
        nodes.append((path, len(prefix) - len(shared) - 1))
    scored = {
        (number[label[:step]], label[step]): None for label, own in zip(labels, steps, strict=True) for step in own
    }
    place = {pair: index for index, pair in enumerate(scored)}
    uses = np.zeros((len(scored), len(labels)))
    for column, (label, own) in enumerate(zip(labels, steps, strict=True)):
        for step in own:
            uses[place[number[label[:step]], label[step]], column] = 1.0
    return LabelTree(
        shared=shared,
        paths=tuple(path[len(shared) :] for path in paths),
        nodes=tuple(nodes),
        rows=np.array([row for row, _ in scored]),
        tokens=np.array([token for _, token in scored]),
        uses=uses,
        lengths=np.array([len(own) for own in steps]),
    )
