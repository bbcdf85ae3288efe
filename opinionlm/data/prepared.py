"""A prepared data set on disk, as training and evaluation read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.data.cleaning import Cleaning, text_options
from opinionlm.data.spec import SPLITS, FeatureSpec, Task
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError, one_line
from opinionlm.utils.command_line import command

if TYPE_CHECKING:
    from datasets import DatasetDict

# Written last; a folder without it is not a prepared data set.
MANIFEST = "dataset.json"


@dataclass
class PreparedDataset:
    """What `preprocess.py` made.

    Attributes:
        dataset: splits train, validation, test; every task has the columns id and platform, and between them
            sequence: text, text_pair (where the YAML names it), label (a ClassLabel in the taxonomy's order), level1 …
                and, behind platform, time where the YAML names it (ISO 8601 in UTC, to the second) and its features
            multi_label: the same with labels (a list of ClassLabels, which may be empty) in the place of label, and
                lists in the levels
            token: tokens (texts) and tags (ClassLabels over ``tags``), lists of equal length
            similarity: text, text_pair, score (float64 within ``score_range``)
            question_answering, summarization, instruction: text, context (may be blank), answers (at least one text).
        taxonomy: the label tree; only of the tasks sequence and multi_label.
        name: of the data set.
        fingerprint: of everything that decided the content.
        path: the folder.
        task: what the rows are examples of.
        tags: tag names of task token in IOB2: ``O``, then ``B-x`` and ``I-x`` of every type, types sorted; else empty.
        score_range: lowest and highest score that the YAML allows; only of task similarity.
        features: columns that a model reads in front of the text; only of the tasks with labels.
        cleaning: what was done to the texts, see `opinionlm.data.cleaning.text_options`; None for nothing.
        is_fold: whether the test split is a part of another data set's training split
            (`opinionlm.data.preparation.folds`).
    """

    dataset: DatasetDict
    taxonomy: Taxonomy | None
    name: str
    fingerprint: str
    path: Path
    task: Task = "sequence"
    tags: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    features: tuple[FeatureSpec, ...] = ()
    cleaning: dict[str, Any] | None = None
    is_fold: bool = False


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder, or None where there is no (whole) one."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(manifest, dict) and {"fingerprint", "labels", "rows", "name"} <= set(manifest)
    return manifest if is_whole else None


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether a folder holds the data set with this fingerprint."""
    manifest = read_manifest(path)
    return manifest is not None and manifest["fingerprint"] == fingerprint


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        UserError: there is no (whole) one.
    """
    manifest = read_manifest(path)
    if manifest is None:
        raise UserError(
            f"{path}: not a prepared data set ({MANIFEST} is missing or damaged); make one with preprocess.py"
        )
    return manifest


def find_prepared(fingerprint: str, config: Mapping[str, Any], known: Mapping[str, Path]) -> Path | None:
    """The prepared folder of the data that a run was trained on, or None where it is no longer there.

    Args:
        fingerprint: of the run's data, as ``environment.json`` has it.
        config: the run's options; ``dataset`` may be the folder, ``prepared_dir`` may hold it.
        known: further folders by fingerprint.
    """
    candidates = [known[fingerprint]] if fingerprint in known else []
    candidates.append(Path(str(config.get("dataset", ""))))
    kept_in = Path(str(config.get("prepared_dir", "")))
    if fingerprint and kept_in.is_dir():
        candidates += sorted(kept_in.glob(f"*-{fingerprint[:12]}"))
    return next((folder for folder in candidates if is_current(folder, fingerprint)), None)


def load_prepared(path: str | Path) -> PreparedDataset:
    """Load a prepared data set; its texts stay on disk, memory-mapped.

    Raises:
        UserError: the folder is not a prepared data set, or is damaged or half-copied.
    """
    from datasets import load_from_disk

    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; make it with {command('preprocess')} --output_dir {path}")
    manifest = manifest_of(path)
    remedy = f"it was copied or written incompletely; make it again with {command('preprocess')} --force"
    try:
        dataset = load_from_disk(str(path))
        rows = {split: len(dataset[split]) for split in SPLITS}
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); {remedy}") from None
    if rows != manifest["rows"]:
        raise UserError(f"{path}: holds {rows} rows instead of {manifest['rows']}; {remedy}")
    score_range = manifest.get("score_range")
    return PreparedDataset(
        dataset=dataset,
        taxonomy=None if manifest["labels"] is None else Taxonomy.from_tree(manifest["labels"]),
        name=manifest["name"],
        fingerprint=manifest["fingerprint"],
        path=path,
        # Folders made before there were other tasks name none.
        task=manifest.get("task", "sequence"),
        tags=tuple(manifest.get("tags", ())),
        score_range=None if score_range is None else (score_range[0], score_range[1]),
        features=tuple(FeatureSpec(**one) for one in manifest.get("spec", {}).get("features", ())),
        cleaning=text_options(Cleaning(**manifest["spec"]["cleaning"])) if "spec" in manifest else None,
        is_fold=manifest.get("is_fold", False),
    )
