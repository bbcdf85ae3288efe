"""The folder that makes models one model: where its members lie, and how labels follow from their average."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.experiments.saved_rule import rule_facts, rule_from
from opinionlm.training.runs import write_json

ENSEMBLE = "ensemble.json"


def keep_members(folder: Path, members: Sequence[Path], rule: AnswerRule) -> None:
    """Write where the members lie, as seen from the folder, and the rule that was fitted to their average."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [os.path.relpath(member, folder) for member in members]
    write_json(folder / ENSEMBLE, {"members": paths, "rule": rule_facts(rule)})


def kept_members(folder: Path) -> tuple[list[Path], AnswerRule]:
    """Read them back.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / ENSEMBLE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return [(folder / name).resolve() for name in facts["members"]], rule_from(facts["rule"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--model: {path} cannot be read ({error}); run the seeds again") from error
