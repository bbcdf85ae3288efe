"""The reports of prepared data sets: what a run's data hold and how they came to be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opinionlm.data.preparation.ledger import EXPLANATIONS
from opinionlm.data.prepared import find_prepared, read_manifest


@dataclass(frozen=True)
class DataReport:
    """A prepared data set.

    Attributes:
        folder: where it lies.
        name: of the data set.
        task: what is predicted.
        fingerprint: of its content.
        rows: texts per split.
        totals: records read, kept and rejected.
        rejected: (reason, its meaning, records).
        steps: (name, rows in, changed, relabelled, removed, rows out).
        classes: platform → split → level → label → texts; empty where the task has no classes.
        tokens: platform → statistic → value.
        warnings: of the preparation, or why the report could not be read.
    """

    folder: str
    name: str
    task: str
    fingerprint: str
    rows: dict[str, int]
    totals: dict[str, int]
    rejected: list[tuple[str, str, int]]
    steps: list[tuple[str, int, int, int, int, int]]
    classes: dict[str, dict[str, dict[str, dict[str, int]]]]
    tokens: dict[str, dict[str, float]]
    warnings: list[str]


def find_report(fingerprint: str, config: dict[str, Any], known: dict[str, Path]) -> DataReport | None:
    """The report of the data that a run names, or None where its prepared folder is not there.

    Args:
        fingerprint: of the run's data.
        config: the run's options; ``dataset`` may be the prepared folder, ``prepared_dir`` may hold it.
        known: prepared folders that were found among the runs, by fingerprint.
    """
    folder = find_prepared(fingerprint, config, known)
    manifest = None if folder is None else read_manifest(folder)
    return None if folder is None or manifest is None else read_report(folder, manifest)


def read_report(folder: Path, manifest: dict[str, Any]) -> DataReport:
    """Read ``report.json`` of a prepared folder; a damaged one leaves the counts of the manifest and a warning."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        parts: dict[str, Any] = {
            "totals": _counts(content["totals"]),
            "rejected": [
                (reason, EXPLANATIONS.get(reason, ""), count) for reason, count in _counts(content["rejected"]).items()
            ],
            "steps": [_step(step) for step in content["steps"]],
            "classes": _classes(content.get("classes", {})),
            "tokens": {
                str(platform): {str(name): float(value) for name, value in statistics.items()}
                for platform, statistics in content.get("tokens", {}).items()
            },
            "warnings": [str(warning) for warning in content["warnings"]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"report.json cannot be read ({type(error).__name__}: {error})"
        parts = {"totals": {}, "rejected": [], "steps": [], "classes": {}, "tokens": {}, "warnings": [reason]}
    return DataReport(
        folder=str(folder),
        name=str(manifest["name"]),
        task=str(manifest.get("task", "sequence")),
        fingerprint=str(manifest["fingerprint"]),
        rows=dict(manifest["rows"]),
        **parts,
    )


def prepared_by_fingerprint(folders: Iterable[Path]) -> dict[str, Path]:
    """Prepared folders by the fingerprint of their content."""
    manifests = {folder: read_manifest(folder) for folder in folders}
    return {str(manifest["fingerprint"]): folder for folder, manifest in manifests.items() if manifest is not None}


def _counts(content: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(value) for name, value in content.items()}


def _step(step: dict[str, Any]) -> tuple[str, int, int, int, int, int]:
    removed = sum(_counts(step["removed"]).values())
    numbers = (step["rows_in"], step["changed"], step["relabelled"], removed, step["rows_out"])
    first, changed, relabelled, gone, last = (int(number) for number in numbers)
    return str(step["name"]), first, changed, relabelled, gone, last


def _classes(content: dict[str, Any]) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    return {
        str(platform): {
            str(split): {str(level): _counts(labels) for level, labels in levels.items()}
            for split, levels in splits.items()
        }
        for platform, splits in content.items()
    }
