"""The data of a run: prepared or loaded, and cut to the platforms that it trains on and is tested on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from opinionlm.config.options import DataConfig
from opinionlm.data.accounting import print_account
from opinionlm.data.preparation.pipeline import prepare_or_load
from opinionlm.data.preparation.sources import source_of
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.utils.command_line import command
from opinionlm.utils.names import closest


def load_data(data: DataConfig) -> PreparedDataset:
    """`load_rows`, once the main process has said what became of the records that the data were made from."""
    prepared = load_rows(data)
    print_account(prepared.path, source_of(data))
    return prepared


def load_rows(data: DataConfig) -> PreparedDataset:
    """Load the data set of a run with only the rows of the platforms that it asks for.

    Raises:
        UserError: as for `prepare_or_load` and `choose_platforms`.
    """
    prepared = prepare_or_load(data.dataset, Path(data.data_dir), Path(data.prepared_dir), data.data_source)
    if empty := [name for name, split in prepared.dataset.items() if not len(split)]:
        raise UserError(
            f"{data.dataset}: the {empty[0]} split of {prepared.path} is empty; prepare the data again with "
            f"{command('preprocess')} --force, which says why"
        )
    return choose_platforms(prepared, data.train_platforms, data.eval_platforms)


def choose_platforms(
    prepared: PreparedDataset, train: Sequence[str] | None, evaluation: Sequence[str] | None
) -> PreparedDataset:
    """Keep the rows of some platforms, None for all: train and validation of the first ones, test of the others.

    Validation chooses the checkpoint, the temperature and the decision, so it belongs to training: whatever is fitted
    never sees a platform that is held out.

    Raises:
        UserError: a platform that the data do not have, or a split that would be empty.
    """
    if train is None and evaluation is None:
        return prepared
    platforms = {name: np.asarray(split["platform"]) for name, split in prepared.dataset.items()}
    rows = {name: Counter(values.tolist()) for name, values in platforms.items()}
    known = sorted(set().union(*rows.values()) - {""})
    chosen = {"train": train, "validation": train, "test": evaluation}
    kept = {}
    for name, wanted in chosen.items():
        option = "eval_platforms" if name == "test" else "train_platforms"
        if wanted is None:
            kept[name] = prepared.dataset[name]
            continue
        if unknown := [platform for platform in wanted if platform not in known]:
            found = ", ".join(known) if known else "none: its dataset YAML names no platform"
            close = closest(unknown[0], known)
            hint = "" if close is None else f", did you mean {close!r}?"
            raise UserError(f"{option}: {unknown[0]!r} is no platform of {prepared.name}{hint} (it has {found})")
        kept[name] = prepared.dataset[name].select(np.flatnonzero(np.isin(platforms[name], list(wanted))))
        if not len(kept[name]):
            raise UserError(
                f"{option}: the {name} split of {prepared.name} has no row of {', '.join(wanted)}; it has "
                + ", ".join(f"{count:,} of {platform}" for platform, count in sorted(rows[name].items()))
            )
    return replace(prepared, dataset=DatasetDict(kept))


def describe_platforms(data: DataConfig) -> str:
    """The end of the line that says what a run is trained on; empty where it takes every platform."""
    if data.train_platforms is None and data.eval_platforms is None:
        return ""
    names = [", ".join(platforms) if platforms else "all" for platforms in (data.train_platforms, data.eval_platforms)]
    return f"; platforms: {names[0]} for train and validation, {names[1]} for test"
