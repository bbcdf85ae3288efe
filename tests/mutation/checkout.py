"""A copy of the checkout to make changes in, and its tests, run in forked processes that begin with torch loaded."""

from __future__ import annotations

import compileall
import gc
import importlib
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from tests.mutation.places import imported_modules

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FAST = "not slow and not gpu and not network"
# What takes long to import; none of it is ours, so that every child imports our modules as they are at that time.
HEAVY = ["torch", "transformers.trainer", "transformers.models.auto.modeling_auto", "peft", "datasets", "accelerate"]
HEAVY += ["sklearn.linear_model", "sklearn.feature_extraction.text", "scipy.stats", "pandas", "ftfy"]
HEAVY += ["transformers.models.bert.modeling_bert", "transformers.models.gemma3.modeling_gemma3"]
# A test that needs so much processor time does not end; the slowest fast one needs about ten seconds.
TEST_SECONDS = 90
# By the clock, for all the tests of one change: a test that waits for something uses no processor.
WALL_SECONDS = 3600


def copy_checkout(root: Path, target: Path) -> Path:
    """Copy what git would commit or already holds; returns the copy."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    # Byte code that is checked by content: files change within a second here, and keep their size.
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(target / "opinionlm", quiet=1, invalidation_mode=checked)
    return target


def preload() -> None:
    """Import what every test needs and no change touches, under the settings of tests/conftest.py."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()


def test_files(root: Path) -> list[str]:
    """Every test file but those of this tool, from the root of the checkout."""
    found = sorted(str(path.relative_to(root)) for path in (root / "tests").rglob("test_*.py"))
    return [path for path in found if not path.startswith("tests/mutation/")]


def importing_tests(root: Path, path: str) -> list[str]:
    """The test files that import a module."""
    module = path.removesuffix(".py").replace("/", ".")
    return [file for file in test_files(root) if module in imported_modules((root / file).read_text(encoding="utf-8"))]


def mirrored_tests(root: Path, path: str) -> list[str]:
    """The test files of a module: that of its name first, then those beside it that import the module."""
    folder, beside_it = f"tests/{Path(path).parts[1]}/", "/".join(Path(path).parts[1:-1])
    named = [file for file in test_files(root) if file == f"tests/{beside_it}/test_{Path(path).name}"]
    beside = [file for file in importing_tests(root, path) if file.startswith(folder)]
    return list(dict.fromkeys([*named, *beside]))


def other_tests(root: Path, path: str) -> list[str]:
    """All others: first those that import the module, last those of whole scripts, which take longest."""
    mirrored, importing = mirrored_tests(root, path), importing_tests(root, path)
    others = [file for file in test_files(root) if file not in mirrored]
    return sorted(others, key=lambda file: (file not in importing, file.count("/") == 1))


@dataclass(frozen=True)
class Failure:
    """How the tests noticed a change: ``noticed`` or ``timeout``, and by which test (or file, if it fails to load)."""

    kind: str
    test: str


@dataclass(eq=False)
class _FirstFailure:
    """Plugin of pytest that writes the first failure into a file, and ends what does not end by itself."""

    report: Path

    def note(self, kind: str, test: str) -> None:
        if not self.report.exists():
            self.report.write_text(f"{kind} {test}", encoding="utf-8")

    def pytest_sessionstart(self) -> None:
        """A test that fails by chance would pass for one that notices."""
        hypothesis.settings.register_profile("mutation", deadline=None, database=None, derandomize=True)
        hypothesis.settings.load_profile("mutation")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.note("noticed", report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.note("noticed", report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        def too_long(*_: object) -> NoReturn:
            self.note("timeout", item.nodeid)
            os._exit(1)

        signal.signal(signal.SIGPROF, too_long)
        signal.setitimer(signal.ITIMER_PROF, TEST_SECONDS)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


@dataclass
class TestRunner:
    """Runs tests of the copy.

    Attributes:
        root: the copy.
        failing: tests that fail without any change; they are left out.
        passing: tests that are known to pass without any.
    """

    root: Path
    failing: set[str] = field(default_factory=set)
    passing: set[str] = field(default_factory=set)
    __test__ = False

    def first_failure(self, tests: list[str], path: str, source: str) -> Failure | None:
        """The first test that fails on the copy as it is and passes on it unchanged; None where none does.

        Args:
            tests: files.
            path: of the module that is changed.
            source: its content without the change.
        """
        while failure := self.run(tests):
            if failure.test in self.passing:
                return failure
            changed = (self.root / path).read_text(encoding="utf-8")
            (self.root / path).write_text(source, encoding="utf-8")
            is_broken = self.run([failure.test]) is not None
            (self.root / path).write_text(changed, encoding="utf-8")
            if not is_broken:
                self.passing.add(failure.test)
                return failure
            if "::" not in failure.test:
                log = (self.root.parent / "log").read_text(encoding="utf-8")
                sys.exit(f"{log[-3000:]}\n{failure.test} cannot be run without any change either")
            print(f"warning: {failure.test} fails without any change; it is left out", flush=True)
            self.failing.add(failure.test)
        return None

    def run(self, tests: list[str]) -> Failure | None:
        """The first failure of some test files or tests; None where all pass, or where none is left."""
        tests = [test for test in tests if test not in self.failing]
        if not tests:
            return None
        report = self.root.parent / "first_failure"
        report.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            self._test(tests, report)
        deadline, status = time.monotonic() + WALL_SECONDS, None
        while status is None and time.monotonic() < deadline:
            time.sleep(0.1)
            ended, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended else None
        # What the tests left running goes with them.
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
            return Failure("timeout", tests[0])
        if report.exists():
            return Failure(*report.read_text(encoding="utf-8").split(" ", 1))
        # 5: every test is deselected. Anything else without a report: a conftest that cannot be imported, a crash.
        return None if status in (0, 5) else Failure("noticed", tests[0])

    def _test(self, tests: list[str], report: Path) -> NoReturn:
        """What the child does."""
        os.setsid()
        os.chdir(self.root)
        log = os.open(self.root.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Nothing of the checkout itself, from which this tool was started.
        sys.dont_write_bytecode = True
        sys.path[:] = [str(self.root), *(path for path in sys.path if Path(path or ".").resolve() != CHECKOUT)]
        for name in [name for name in sys.modules if name.split(".")[0] in ("opinionlm", "tests")]:
            del sys.modules[name]
        deselected = [f"--deselect={test}" for test in sorted(self.failing)]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", FAST, *deselected]
        code = pytest.main([*options, *tests], plugins=[_FirstFailure(report)])
        sys.stdout.flush()
        os._exit(code)
