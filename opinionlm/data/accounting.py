"""What became of the records of a prepared data set, in a few lines that every script prints before it uses them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from opinionlm.data.prepared import read_manifest
from opinionlm.data.spec import SPLITS
from opinionlm.errors import distributed


def account_lines(folder: Path) -> list[str]:
    """Records in, kept and rejected by reason, rows per split, and every warning of the report.

    Args:
        folder: a prepared data set; one that was not made from raw files (a fold) has no report, so that only its
            rows are told.
    """
    report, manifest = _report(folder), read_manifest(folder) or {}
    lines = []
    if report is not None:
        totals = report["totals"]
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in report["rejected"].items())
        line = f"records {totals['in']:,} in = {totals['kept']:,} kept + {totals['rejected']:,} rejected"
        lines.append(f"{line}: {reasons} ({folder / 'rejects.csv'})" if reasons else line)
    rows = manifest.get("rows", {})
    lines.append("splits  " + ", ".join(f"{split} {rows[split]:,}" for split in SPLITS if split in rows))
    if report is not None:
        lines += warning_lines(report)
    return lines


def warning_lines(report: dict[str, Any]) -> list[str]:
    """The warnings of a report, one per line."""
    return [f"warning: {warning}" for warning in report["warnings"]]


def print_account(folder: Path, source: str = "") -> None:
    """Print `account_lines`; of several processes only the main one does."""
    if distributed() and sys.modules["torch.distributed"].get_rank() != 0:
        return
    lines = [f"source  {source}"] if source else []
    print("\n".join([*lines, *account_lines(folder)]), flush=True)


def _report(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
