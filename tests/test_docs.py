"""The commands of README, CONTRIBUTING and docs: each is one that there is, and those of README run, at smoke size."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from opinionlm.config.config import SCRIPTS
from opinionlm.config.parser import parse_config
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.experiments.grid import load_table
from opinionlm.inference.arguments import parse_arguments
from opinionlm.scripts import preprocess, reproduce
from opinionlm.scripts.console import COMMANDS, run
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Commands that are not run here, by their beginning, and why.
ELSEWHERE = {
    "make ": "installs, or runs the tests; what it calls is run",
    "python3 -m venv": "network: installs",
    "pip ": "network: installs",
    ".venv/bin/pip ": "network: installs",
    "python3 -m pip ": "network: installs",
    "python3 benchmarks/": "gpu",
    "python benchmarks/": "long: minutes to hours",
    "python -m tests.fuzz.run": "long; tests/fuzz runs it",
    "zip ": "network: what pip fetched",
    "tail -f": "never ends",
    "chromium ": "tests/experiments/test_dashboard_browser.py drives a browser",
    "wandb ": "network",
    "cd ": "a folder of the reader's",
    "python -m opinionlm get_data": "network; tests/data/test_downloads.py has a server",
    "python -m opinionlm.experiments.group_report": "network with --wandb; tests/experiments/test_group_report.py",
}
# Too large for here; that they are right is checked.
ONLY_CHECKED = {
    "configs/gemma1b.yaml": "gpu, network: a gated model",
    "configs/minilm.yaml": "network: a model of the hub",
    "reproduce.py": "long; --dry_run and smoke runs are in tests/experiments/test_grid.py",
}
SMOKE = ["--max_length", "96", "--max_train_samples", "32", "--max_eval_samples", "16", "--report_to", "none"]
# bfloat16 is emulated on most processors, ten times slower there.
SMOKE_TRAINING = ["--max_steps", "2", "--bf16", "false"]
# The command above it writes it.
WRITTEN = "posts_run.yaml"


@dataclass(frozen=True)
class Line:
    """A command of a page."""

    page: str
    text: str

    @property
    def elsewhere(self) -> bool:
        return self.text.startswith(tuple(ELSEWHERE))

    @property
    def command(self) -> tuple[str, list[str]]:
        """The name of one of our commands, and its arguments; an assertion fails on any other."""
        words = shlex.split(self.text, comments=True)
        if words[:2] == ["accelerate", "launch"]:
            assert "--quiet" in words, "a one-line error would not be the last line"
            first = next(place for place, word in enumerate(words) if word.endswith(".py"))
            words = ["python", *words[first:]]
        modules = {command.module.removesuffix(".__main__"): name for name, command in COMMANDS.items()}
        match words:
            case ["opinionlm", name, *rest] | ["python", "-m", "opinionlm", name, *rest]:
                return name, rest
            case ["python", "-m", module, *rest]:
                return modules[module], rest
            case ["python", script, *rest] if (REPOSITORY / script).is_file():
                return script.removesuffix(".py"), rest
        raise AssertionError(f"{self.page}: {self.text}: no command of ours; name it in ELSEWHERE, or correct it")


def lines_of(path: Path) -> list[Line]:
    """The commands of a page's blocks, continued lines joined."""
    blocks = re.findall(r"^```(?:bash|sh)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    found = [line.strip() for line in text.splitlines()]
    return [Line(path.name, line) for line in found if line and not line.startswith("#")]


LINES = [line for path in PAGES for line in lines_of(path)]
OURS = [line for line in LINES if not line.elsewhere]


def check(name: str, arguments: list[str]) -> None:
    """Whether a command line is right, as far as can be told without data and models."""
    assert name == "--help" or name in COMMANDS
    if name in SCRIPTS and WRITTEN not in arguments:
        parse_config(arguments, None, name)  # type: ignore[arg-type]
    elif name == "preprocess":
        load_spec(preprocess.build_parser().parse(arguments).config)
    elif name == "predict":
        parse_arguments(arguments, "")
    elif name == "reproduce":
        given, overrides = reproduce.parse_arguments(arguments)
        for table in given.tables:
            load_table(REPOSITORY / table, given.scale, overrides)


@pytest.mark.parametrize("line", OURS, ids=lambda line: f"{line.page}: {line.text[:60]}")
def test_every_command_is_right(line: Line, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    check(*line.command)


def test_what_is_wrong_is_noticed() -> None:
    for wrong in ("python nothing.py", "python -m opinionlm.nothing", "ls"):
        with pytest.raises((AssertionError, KeyError)):
            assert Line("x", wrong).command
    with pytest.raises(UserError, match="unknown option"):
        check(*Line("x", "python train_classifier.py --sed 1").command)
    with pytest.raises(UserError, match="cannot be read"):
        check(*Line("x", "python preprocess.py --config configs/datasets/none.yaml").command)


def test_every_reason_is_used() -> None:
    assert len(OURS) > 15 and {line.page for line in OURS} >= {"README.md", "tables.md", "adapt.md", "dashboard.md"}
    for beginning in ELSEWHERE:
        assert any(line.text.startswith(beginning) for line in LINES), beginning


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_nothing_lies_outside_the_repository(path: Path) -> None:
    assert "../shared" not in path.read_text(encoding="utf-8")


def test_configs_name_no_folder_outside() -> None:
    for path in (REPOSITORY / "configs").rglob("*.yaml"):
        assert "../shared" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_the_commands_of_readme_run_one_after_the_other(tmp_path, monkeypatch, capsys) -> None:
    """In an empty folder with a file of one's own, and bundled posts in the place of the real ones."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "data/cryptoqa-opinion/original"
    place.mkdir(parents=True)
    for name in ("reddit", "twitter", "youtube"):
        # They have exactly the form of the real files.
        shutil.copy(REPOSITORY / f"data/sample/{name}.csv", place / f"CRYPTO-{name.upper()}-OPINION-TRAIN.csv")
    posts = [f"this coin is {word} {number}" for number in range(40) for word in ("great", "awful")]
    lines = [f"{post},{'good' if 'great' in post else 'bad'}" for post in posts]
    (tmp_path / "posts.csv").write_text("\n".join(["comment,sentiment", *lines]), encoding="utf-8")
    (tmp_path / "new.csv").write_text("\n".join(["comment", *posts[:4]]), encoding="utf-8")
    (tmp_path / "posts.txt").write_text("\n".join(posts[:4]), encoding="utf-8")
    ran = []
    for line in sorted(OURS, key=lambda line: line.page != "README.md"):
        if line.page not in ("README.md", "guide.md") or any(part in line.text for part in ONLY_CHECKED):
            continue
        name, arguments = line.command
        arguments = arguments + (SMOKE if name in SCRIPTS and name != "prompt" else [])
        arguments += SMOKE_TRAINING if name in ("train_classifier", "train_instruct") else []
        arguments += ["--max_eval_samples", "8", "--report_to", "none"] if name == "prompt" else []
        if name == "train_classifier":
            # Two ways to launch the same run.
            arguments += ["--overwrite", "true"]
        # Several commands write labels.csv.
        run([name, *arguments, *(["--overwrite"] if name == "predict" else [])])
        ran.append(name)
    assert {"init", "preprocess", "train_classifier", "train_instruct", "prompt", "predict", "compare"} <= {*ran}
    labelled = (tmp_path / "labelled.csv").read_text(encoding="utf-8").splitlines()
    assert len(labelled) == 5 and labelled[0].startswith("id,text,predicted")
    assert (tmp_path / "labels.csv").is_file() and (tmp_path / "outputs/dashboard.html").is_file()
