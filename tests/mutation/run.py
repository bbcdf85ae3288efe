"""Change the program at places drawn by a seed, one at a time, and see whether the tests notice.

    python -m tests.mutation.run --count 60 --seed 1
    python -m tests.mutation.run --count 60 --seed 1 --results outputs/mutants-1.jsonl     # again: goes on there
    python -m tests.mutation.run --count 20 --seed 2 --only "*/losses/*" --mirrored-only

Every change is made in a copy of the checkout, which is thrown away. The test files that mirror the changed module
run first, then the rest of the fast tests, up to the first failure; a test counts only if it passes on the
unchanged copy. Results are written one by one; the same command goes on behind them, and does again what belongs to a
module whose content is another by now. Changes that tests/mutation/equivalent.yaml argues to change nothing are named
and not counted. Exit code 1 when fewer than nine in ten are noticed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.mutation.checkout import TestRunner, copy_checkout, mirrored_tests, other_tests, preload
from tests.mutation.places import Change, changes

ROOT = Path(__file__).resolve().parent.parent.parent
EQUIVALENT = Path(__file__).resolve().parent / "equivalent.yaml"
# Draws are spread evenly over these subjects; paths below opinionlm/.
SUBJECTS = {
    "losses": [
        "training/losses/base.py",
        "training/losses/hierarchical.py",
        "training/losses/imbalance.py",
        "training/losses/rdrop.py",
        "tasks/sequence.py",
        "tasks/token.py",
        "training/losses/token.py",
        "models/linear/logistic_regression.py",
    ],
    "metrics": [
        "evaluation/metrics.py",
        "evaluation/hierarchical.py",
        "evaluation/tagging.py",
        "evaluation/similarity.py",
        "evaluation/generation_metrics.py",
        "evaluation/significance.py",
        "evaluation/drift.py",
    ],
    "decisions": [
        "evaluation/decisions.py",
        "evaluation/conformal.py",
        "evaluation/calibration.py",
        "evaluation/prompt_calibration.py",
        "evaluation/ensembles.py",
    ],
    "splits": [
        "data/preparation/splits.py",
        "data/preparation/split_files.py",
        "data/preparation/folds.py",
        "data/preparation/split_assignment.py",
        "training/splits.py",
    ],
    "cleaning": [
        "data/cleaning.py",
        "data/preparation/clean_rows.py",
        "data/preparation/deduplication.py",
        "data/contamination.py",
    ],
    "batching": ["training/batching.py", "training/out_of_memory.py"],
    "checkpoints": ["training/checkpoints.py", "training/ema.py", "training/loop_state.py"],
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one module, and what tells it from all others.

    Attributes:
        path: of the module, from the root of the repository.
        change: to make there.
        key: names path, content and change; equal in another run while the module is the same.
    """

    path: str
    change: Change
    key: str

    def __str__(self) -> str:
        return f"{self.path}:{self.change.line}  {self.change.text}  →  {self.change.changed}"


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """Every change that a module allows."""
    source = (root / path).read_text(encoding="utf-8")
    content = hashlib.sha256(source.encode()).hexdigest()[:8]
    return [
        Mutant(path, change, f"{path}@{content}:{change.start}:{change.before}>{change.after}")
        for change in changes(source)
    ]


def draw(root: Path, count: int, seed: int, only: str = "*") -> list[Mutant]:
    """So many places, taken from the subjects in turn, with one of the changes that each allows.

    Args:
        root: of the checkout.
        count: how many; fewer where there are no more.
        seed: of the drawing.
        only: pattern that a path such as ``opinionlm/training/losses/base.py`` must match.
    """
    queues = []
    for subject, paths in SUBJECTS.items():
        random = Random(f"{seed} {subject}")
        places: dict[tuple[str, int, int], list[Mutant]] = {}
        for path in (f"opinionlm/{path}" for path in paths):
            for mutant in mutants_of(root, path) if fnmatch(path, only) else []:
                places.setdefault((path, mutant.change.start, mutant.change.end), []).append(mutant)
        chosen = [random.choice(alternatives) for alternatives in places.values()]
        random.shuffle(chosen)
        queues.append(chosen)
    in_turn = [queue[number] for number in range(max(map(len, queues))) for queue in queues if number < len(queue)]
    return in_turn[:count]


def equivalents() -> dict[tuple[str, str, str], str]:
    """Reasons why changes change nothing, by path, line and changed line."""
    entries = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
    return {(entry["path"], entry["line"], entry["changed"]): entry["reason"] for entry in entries}


def judge(mutant: Mutant, runner: TestRunner, mirrored_only: bool) -> dict[str, Any]:
    """Make a change, run the tests, take it back; the outcome as one record."""
    began = time.monotonic()
    path = runner.root / mutant.path
    source = path.read_text(encoding="utf-8")
    path.write_text(mutant.change.apply(source), encoding="utf-8")
    try:
        mirrored, others = mirrored_tests(runner.root, mutant.path), other_tests(runner.root, mutant.path)
        stage, failure = "mirrored", runner.first_failure(mirrored, mutant.path, source)
        if failure is None and not mirrored_only:
            stage, failure = "rest", runner.first_failure(others, mutant.path, source)
    finally:
        path.write_text(source, encoding="utf-8")
    return {
        "key": mutant.key,
        "place": str(mutant),
        "outcome": "missed" if failure is None else failure.kind,
        "by": None if failure is None else failure.test,
        "stage": "mirrored" if failure is None and mirrored_only else stage,
        "seconds": round(time.monotonic() - began),
    }


def known_results(path: Path | None, again: bool, mirrored_only: bool) -> dict[str, dict[str, Any]]:
    """What earlier runs found, the latest of each change; what has to be done once more is left out.

    Args:
        path: of the results.
        again: do again what was missed.
        mirrored_only: what was missed by the mirrored tests alone is only good where no more is asked for.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else []
    known = {record["key"]: record for record in map(json.loads, lines)}
    missed = {key for key, record in known.items() if record["outcome"] == "missed"}
    stale = {key for key in missed if again or (known[key]["stage"] == "mirrored" and not mirrored_only)}
    return {key: record for key, record in known.items() if key not in stale}


def summary(records: list[dict[str, Any]]) -> tuple[str, float]:
    """The lines that end a run, and the share that was noticed."""
    counted = [record for record in records if record["outcome"] != "equivalent"]
    missed = [record for record in counted if record["outcome"] == "missed"]
    lines = [f"{record['outcome']:10}  {record['place']}\n{'':12}{record['by'] or '-'}" for record in records]
    share = 1 - len(missed) / max(len(counted), 1)
    early = sum(record["stage"] == "mirrored" for record in counted if record["outcome"] != "missed")
    lines.append(
        f"noticed {len(counted) - len(missed)} of {len(counted)} ({share:.0%}), {early} of them by the tests of the "
        f"module; {len(records) - len(counted)} changes change nothing and are not counted"
    )
    return "\n".join(lines), share


def main(argv: list[str] | None = None) -> int:
    """Draw, judge and tell; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="places to change [60]")
    parser.add_argument("--seed", type=int, default=1, help="other seeds draw other places [1]")
    parser.add_argument("--only", default="*", help='paths such as "*/losses.py"')
    parser.add_argument("--results", type=Path, help="file that results are added to, and where a run goes on")
    parser.add_argument("--again", action="store_true", help="do again what was missed, with tests written since")
    parser.add_argument("--mirrored-only", action="store_true", help="only the tests that mirror the module")
    parser.add_argument("--list", action="store_true", help="show the changes and run nothing")
    arguments = parser.parse_args(argv)
    mutants = draw(ROOT, arguments.count, arguments.seed, arguments.only)
    if arguments.list:
        print("\n".join(map(str, mutants)))
        return 0
    argued, known = equivalents(), known_results(arguments.results, arguments.again, arguments.mirrored_only)
    records = []
    preload()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        runner = TestRunner(copy_checkout(ROOT, Path(folder) / "checkout"))
        began, done = time.monotonic(), 0
        for number, mutant in enumerate(mutants, start=1):
            change = mutant.change
            if reason := argued.get((mutant.path, change.text, change.changed)):
                record = {"place": str(mutant), "outcome": "equivalent", "by": reason, "stage": "none"}
            elif mutant.key in known:
                record = known[mutant.key]
            else:
                record = judge(mutant, runner, arguments.mirrored_only)
                done += 1
                if arguments.results is not None:
                    with arguments.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record, ensure_ascii=False) + "\n")
            records.append(record)
            left = (time.monotonic() - began) / max(done, 1) * (len(mutants) - number) / 60
            print(f"[{number}/{len(mutants)}, about {left:.0f} min left] {record['outcome']}: {mutant}", flush=True)
    text, share = summary(records)
    print(text)
    return 0 if share >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
