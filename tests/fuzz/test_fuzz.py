"""A sample of the fuzzing for every run of the tests, and what fuzzing ever found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import REGRESSIONS, fuzz
from tests.fuzz.targets import TARGETS, check


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_end_well(target: str) -> None:
    assert fuzz(target, 60 if target == "config" else 200, start=1) is None


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*-*")), ids=lambda path: path.name)
def test_what_was_found_stays_fixed(path: Path) -> None:
    check(path.name.split("-")[0], path.read_bytes())
