"""Soft labels of training texts: what another model, or several people, say of each, as probabilities."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError


def read_soft_labels(path: Path, ids: Sequence[str], taxonomy: Taxonomy) -> np.ndarray:
    """Probabilities of some texts from a CSV with the columns ``id`` and ``probability_<leaf>``.

    Prediction files of runs, the output of `predict.py` and that of `opinionlm.experiments.cross_fit` are such files.
    Further columns, and rows of other texts, are passed over.

    Returns:
        float32 ``(texts, leaves)``; each row sums to 1.

    Raises:
        UserError: the file cannot be read, has other columns, holds a text twice or not at all, or numbers that are no
            probabilities.
    """
    names = [f"probability_{leaf}" for leaf in taxonomy.leaves]
    found: dict[str, list[float]] = {}
    # Texts may stand beside the probabilities.
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in ("id", *names) if name not in (reader.fieldnames or ())]:
                raise UserError(
                    f"soft_labels: {path} has no column {missing[0]}; it needs id and a probability_<leaf> for every "
                    f"label ({', '.join(taxonomy.leaves)})"
                )
            for row in reader:
                if row["id"] in found:
                    raise UserError(f"soft_labels: {path}:{reader.line_num}: id {row['id']!r} stands there twice")
                found[row["id"]] = _probabilities([row[name] for name in names], f"{path}:{reader.line_num}")
    except OSError as error:
        raise UserError(f"soft_labels: {path} cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"soft_labels: {path} cannot be read ({error})") from None
    if absent := [name for name in ids if name not in found]:
        raise UserError(
            f"soft_labels: {path} has none for {len(absent):,} of the {len(ids):,} training texts, the first one "
            f"{absent[0]!r}; make it from the same data, with the same max_train_samples and seed where they are given"
        )
    rows = np.array([found[name] for name in ids])
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def _probabilities(cells: Sequence[str | None], place: str) -> list[float]:
    """The numbers of a line, which `place` names; see `read_soft_labels` for what is refused."""
    try:
        values = [float(cell) for cell in cells if cell is not None]
    except ValueError:
        values = []
    # Written with six digits, they may miss 1 by a little.
    if len(values) < len(cells) or not all(0 <= value <= 1 for value in values) or abs(sum(values) - 1) > 0.01:
        raise UserError(f"soft_labels: {place}: {', '.join(map(str, cells))} are no probabilities that sum to 1")
    return values


def mixed_targets(labels: np.ndarray, soft: np.ndarray, share: float) -> np.ndarray:
    """(1 − share) · label + share · soft label, float32 ``(texts, leaves)``.

    Cross entropy against this mixture is the mixture of the two cross entropies (Hinton et al. 2015, section 2).

    Args:
        labels: leaf ids ``(texts,)``.
        soft: probabilities ``(texts, leaves)``.
        share: of the soft labels.
    """
    targets = share * soft.astype(np.float32)
    targets[np.arange(len(labels)), labels] += 1 - share
    return targets
