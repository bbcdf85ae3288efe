"""Everything of this repository that only a GPU can show, in one call that ends in time.

    python benchmarks/gpu.py --minutes 9                    # on a machine with one GPU, no network needed
    python benchmarks/gpu.py --minutes 9 --only recipe_nf4  # one check; names are in benchmarks/gpu_checks.py
    python benchmarks/gpu.py --dry --minutes 30             # every check on the CPU at tiny shapes

Checks run in the order of importance, each by itself: one that fails, or that runs beyond the time, is reported and
the next goes on; one that would not end in time is left out, and one whose packages are missing is skipped by name.
``gpu.json`` and ``gpu.md`` in ``output_dir`` are written after each check, and the same command goes on where they
end: copy them there first if the machine is another one. Needs torch 2.11 and transformers 5.23 or newer; the models
have the real shapes and random weights, the posts are the bundled ones. docs/scale.md says how to bring the packages.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from packaging.version import Version

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gpu_checks import CHECKS, Check, Place
from benchmarks.report import Row, environment
from opinionlm.utils.environment import installed_version
from opinionlm.utils.files import write_json, write_text

# With transformers 5.17 the program cannot be imported (`SubConfigSpec`), nor are its training options known.
OLDEST = {"torch": "2.11", "transformers": "5.23"}
# Kept back at the end, to stop what runs and to write down that it did.
RESERVE_SECONDS = 10.0
Status = Literal["done", "failed", "skipped", "left"]
# What tells whether an earlier result still counts.
SAME = ("commit", "chip", "driver", "versions", "dry")


@dataclass
class Result:
    """What became of a check.

    Attributes:
        status: ``left`` is for the next call.
        seconds: that it took.
        reason: why it is not done.
        rows: what it measured.
    """

    status: Status
    seconds: float = 0.0
    reason: str = ""
    rows: list[Row] = field(default_factory=list)


class Worker:
    """A process that measures one check after the other, so that libraries are imported once.

    Args:
        place: where checks run.
        log: what they print.
    """

    def __init__(self, place: Place, log: Path) -> None:
        self.place, self.log = place, log
        self.process: Any = None

    def measure(self, name: str, seconds: float) -> Result:
        """Measure a check; a process that failed or ran too long is replaced before the next one.

        Args:
            name: of the check.
            seconds: after which it is stopped.
        """
        if self.process is None:
            self.start()
        started = time.perf_counter()
        try:
            self.connection.send(name)
            if not self.connection.poll(max(0.0, seconds)):
                self.stop()
                return Result("failed", time.perf_counter() - started, f"stopped after {seconds:.0f} seconds")
            error, rows = self.connection.recv()
        except (EOFError, OSError):
            error, rows = f"its process died, see {self.log.name}", []
        if error:
            self.stop()
        return Result("failed" if error else "done", time.perf_counter() - started, error, rows)

    def start(self) -> None:
        """Start the process, anew and not as a copy: copies cannot use CUDA once it is initialised."""
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, self.place, self.log))
        self.process.start()
        other.close()

    def finish(self) -> None:
        """Let the process end by itself, where it is waiting for work."""
        if self.process is not None:
            self.connection.close()
            self.process.join(RESERVE_SECONDS / 2)
            self.stop()

    def stop(self) -> None:
        """End the process and those that it started at once."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self.process.kill()
            self.process.join()
            self.process = None


def serve(connection: Connection, place: Place, log: Path) -> None:
    """Measure what is asked for until the other side goes; answers with an error, blank without, and rows."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(Path(__file__).resolve().parent.parent)
    # The second has to be there before cuBLAS starts, or it computes otherwise each time.
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TOKENIZERS_PARALLELISM": "false"}
    checks = {check.name: check for check in CHECKS}
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        try:
            rows = checks[name].measure(place)
            odd = [row.name for row in rows if not all(map(math.isfinite, (row.baseline, row.ours, row.ratio)))]
            answer = f"no number came out: {', '.join(odd)}" if odd else "", [] if odd else rows
        # Whatever goes wrong in one check, the next has its turn.
        except BaseException as error:
            traceback.print_exc()
            answer = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", []
        connection.send(answer)


def main(argv: list[str] | None = None) -> int:
    """Measure, write; returns the exit code: 1 when a check failed or missed a goal, 2 when nothing can run."""
    started = time.perf_counter()
    options = parse(argv)
    obstacle = what_is_missing(options.dry)
    if obstacle:
        print(obstacle, file=sys.stderr)
        return 2
    options.output_dir.mkdir(parents=True, exist_ok=True)
    options.scratch.mkdir(parents=True, exist_ok=True)
    facts = environment(dry=options.dry, **graphics())
    results = earlier_results(options.output_dir / "gpu.json", facts)
    worker = Worker(Place(options.scratch, options.dry), options.output_dir / "gpu.log")
    chosen = [check for check in CHECKS if options.only is None or check.name in options.only]

    def save() -> None:
        write(options.output_dir, facts, results)

    try:
        run_checks(chosen, results, 60 * options.minutes - RESERVE_SECONDS, started, worker.measure, save)
    finally:
        worker.finish()
    missed = any(row.holds is False for result in results.values() for row in result.rows)
    return 1 if missed or any(result.status == "failed" for result in results.values()) else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="time for all of it [9]")
    parser.add_argument("--dry", action="store_true", help="on the CPU at tiny shapes")
    parser.add_argument("--only", nargs="+", choices=[check.name for check in CHECKS], metavar="CHECK")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/gpu"), help="for gpu.json, gpu.md, gpu.log")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir()) / "opinionlm-gpu",
        help="for models and run folders",
    )
    options = parser.parse_args(argv)
    # The checks run in the repository's root.
    options.output_dir, options.scratch = options.output_dir.resolve(), options.scratch.resolve()
    if options.dry:
        options.scratch = options.scratch / "dry"
    return options


def what_is_missing(dry: bool) -> str:
    """Why nothing can run here; blank where it can."""
    for package, oldest in OLDEST.items():
        found = installed_version(package)
        if found is None or Version(found) < Version(oldest):
            return f"{package} {found or 'is not installed'}: {oldest} or newer is needed"
    if not dry and not graphics()["chip"]:
        return "no NVIDIA GPU answers nvidia-smi; --dry runs every check on the CPU at tiny shapes"
    return ""


def graphics() -> dict[str, str | None]:
    """Chip, its memory and the driver's version, as nvidia-smi tells them; CUDA's is torch's own."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        chip, memory, driver = (value.strip() for value in answer.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return {"chip": None, "chip_memory": None, "driver": None}
    return {"chip": chip, "chip_memory": memory, "driver": driver}


def run_checks(
    checks: Sequence[Check],
    results: dict[str, Result],
    seconds: float,
    started: float,
    measure: Callable[[str, float], Result],
    save: Callable[[], None],
) -> None:
    """Run what is not done yet and still fits the time, and save after each.

    A check is expected to take what it is said to, times the worst factor by which one of this call took longer.

    Args:
        checks: in their order.
        results: of earlier calls; changed in place.
        seconds: for all checks.
        started: when they began, by `time.perf_counter`.
        measure: a check by its name, in at most so many seconds.
        save: writes the results.
    """
    slower = 1.0
    for check in checks:
        if results.get(check.name, Result("left")).status == "done":
            continue
        left, expected = seconds - (time.perf_counter() - started), slower * check.seconds
        missing = [package for package in check.packages if importlib.util.find_spec(package) is None]
        if missing:
            results[check.name] = Result("skipped", reason=f"{', '.join(missing)} not installed")
        elif expected > left:
            reason = f"expected to take {expected:.0f} seconds, {max(left, 0):.0f} were left: give the command again"
            results[check.name] = Result("left", reason=reason)
        else:
            print(f"{check.name}: {check.title}, about {expected:.0f} seconds", flush=True)
            results[check.name] = measure(check.name, left)
            slower = max(slower, results[check.name].seconds / check.seconds)
        result = results[check.name]
        print(f"  {result.status}, {result.seconds:.0f} seconds {result.reason}", flush=True)
        save()


def earlier_results(path: Path, facts: dict[str, Any]) -> dict[str, Result]:
    """What an earlier call did on the same chip with the same versions; nothing where it cannot be read."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if any(stored["environment"][name] != facts[name] for name in SAME):
            print(f"{path} was measured with another chip, driver, version or commit: everything anew")
            return {}
        return {
            name: Result(**(found | {"rows": [Row(**row) for row in found["rows"]]}))
            for name, found in stored["checks"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{path} cannot be read ({type(error).__name__}): everything anew")
        return {}


def write(folder: Path, facts: dict[str, Any], results: dict[str, Result]) -> None:
    """Write ``gpu.json`` (the rows of all checks as every benchmark has them, and each check) and ``gpu.md``."""
    titles = {check.name: check.title for check in CHECKS}
    rows = [
        asdict(row) | {"name": f"{titles[name]}: {row.name}"}
        for name, result in results.items()
        for row in result.rows
    ]
    checks = {name: asdict(result) for name, result in results.items()}
    write_json(folder / "gpu.json", {"environment": facts, "rows": rows, "checks": checks})
    write_text(folder / "gpu.md", page(facts, results))


def page(facts: dict[str, Any], results: dict[str, Result]) -> str:
    """The results as Markdown."""
    chip = "CPU, dry run at tiny shapes" if facts["dry"] else f"{facts['chip']}, {facts['chip_memory']}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    lines = ["# What only a GPU can show", ""]
    lines += [
        f"`python benchmarks/gpu.py`, {facts['date']}, commit {facts['commit']}. {chip}; driver {facts['driver']};"
    ]
    lines += [f"Python {facts['python']}, {versions}. Random weights of the real shapes, bundled posts.", ""]
    for check in CHECKS:
        result = results.get(check.name, Result("left"))
        lines += [
            f"## {check.title}",
            "",
            f"{check.name}: {result.status}, {result.seconds:.0f} seconds. {result.reason}",
        ]
        if result.rows:
            lines += ["", "| | first | second | unit | factor | goal |", "| --- | --- | --- | --- | --- | --- |"]
        for row in result.rows:
            goal = {None: "", True: "holds", False: "**missed**"}[row.holds]
            factor = f"{row.ratio:.2f}"
            lines.append(f"| {row.name} | {row.baseline:.5g} | {row.ours:.5g} | {row.unit} | {factor} | {goal} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
