"""Fuzz the readers for as long as wanted.

    python -m tests.fuzz.run --cases 10000
    python -m tests.fuzz.run --cases 100000 --targets csv config

Every target gets that many cases. What fails is made small, kept under tests/fuzz/regressions/<target>-<hash>, where
the ordinary tests replay it from then on, and shown. Exit code 1 when anything failed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.inputs import inputs
from tests.fuzz.targets import TARGETS, check

REGRESSIONS = Path(__file__).resolve().parent / "regressions"


def fuzz(target: str, cases: int, start: int = 0) -> bytes | None:
    """Try so many cases; returns the smallest one that fails, None where all end well."""
    failing: list[bytes] = []

    @seed(start)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs(target))
    def run(content: bytes) -> None:
        try:
            check(target, content)
        except BaseException:
            failing.append(content)
            raise

    try:
        run()
    except Exception:
        traceback.print_exc(limit=-4)
        return failing[-1]
    return None


def main(argv: list[str] | None = None) -> int:
    """Fuzz the targets asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="per target [10000]")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="other seeds try other cases [0]")
    arguments = parser.parse_args(argv)
    found = 0
    for target in arguments.targets:
        began = time.process_time()
        content = fuzz(target, arguments.cases, arguments.seed)
        print(f"{target}: {arguments.cases:,} cases, {time.process_time() - began:.0f} s", flush=True)
        if content is not None:
            path = REGRESSIONS / f"{target}-{hashlib.sha256(content).hexdigest()[:12]}"
            path.write_bytes(content)
            print(f"{target}: FAILED on {content!r}, kept as {path}", flush=True)
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
