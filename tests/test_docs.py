"""The commands of README, CONTRIBUTING, docs and heads of configs are ones that there are; README's run, in small."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import opinionlm
from opinionlm.config.config import SCRIPTS
from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.templates import load_template
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.experiments.data_tables import kind_of, load_data_table
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
    "python examples/ray_": "tests/test_ray_examples.py runs it where Ray is installed",
    "OPINIONLM_RAY_POSTS=": "the same test with more posts",
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
            if "--config_file" in words:
                assert (REPOSITORY / words[words.index("--config_file") + 1]).is_file()
            first = next(place for place, word in enumerate(words) if word.endswith(".py") or word == "-m")
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


def inline_of(path: Path) -> list[Line]:
    """The commands within a page's sentences."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"`((?:python|opinionlm|make|accelerate launch)\s[^`]+)`", text)
    return [Line(path.name, " ".join(words.split())) for words in found]


def head_of(path: Path) -> Line | None:
    """The command in the first line of a config; None where it has none."""
    first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    # Another command stands before it, or a remark behind it.
    first = re.sub(r"\s+\(.*\)$", "", re.split(r", or: | && ", first)[-1])
    if match := re.fullmatch(r"(\w+\.py --prompt_template [^:]+): .*", first):
        first = f"python {match[1]}"
    return Line(str(path.relative_to(REPOSITORY)), first) if first.startswith(("python ", "accelerate ")) else None


def blocks_of(path: Path) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


LINES = [line for path in PAGES for line in lines_of(path)]
OURS = [line for line in LINES if not line.elsewhere]


INLINE = [line for path in PAGES for line in inline_of(path)]
# Words that stand for something of the reader's.
OPEN = re.compile(r"…|<|\b(FILE|X|DIR|yours?|yours?\.yaml)\b|\*")
CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))
HEADS = [line for path in CONFIGS if (line := head_of(path))]
BLOCKS = [(path.name, block) for path in PAGES for block in blocks_of(path)]


def check(name: str, arguments: list[str]) -> None:
    """Whether a command line is right, as far as can be told without data and models."""
    assert name == "--help" or name in COMMANDS
    if name in SCRIPTS and WRITTEN not in arguments:
        # A name of SCRIPTS is one of the literals that are declared.
        config = parse_config(arguments, None, name)  # type: ignore[arg-type]
        if config.instruct.prompt_template not in (None, "auto"):
            load_template(config.instruct.prompt_template)
    elif name == "preprocess":
        load_spec(preprocess.build_parser().parse(arguments).config)
    elif name == "predict":
        parse_arguments(arguments, "")
    elif name == "reproduce":
        given, overrides = reproduce.parse_arguments(arguments)
        for table in given.tables:
            match kind_of(REPOSITORY / table):
                case "runs":
                    load_table(REPOSITORY / table, given.scale, overrides)
                case "data":
                    load_data_table(REPOSITORY / table, given.scale, {})


@pytest.mark.parametrize("line", OURS, ids=lambda line: f"{line.page}: {line.text[:60]}")
def test_every_command_is_right(line: Line, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    check(*line.command)


@pytest.mark.parametrize("line", INLINE, ids=lambda line: f"{line.page}: {line.text[:60]}")
def test_commands_within_sentences_are_right(line: Line, monkeypatch) -> None:
    """Of those with a gap for the reader the name is."""
    monkeypatch.chdir(REPOSITORY)
    words = line.text.split()
    match words:
        case ["make", *targets]:
            makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
            targets = [target for target in targets if "=" not in target]
            assert all(
                re.search(rf"^[\w -]*\b{re.escape(target)}(?![\w-])[\w -]*:", makefile, re.MULTILINE)
                or target in makefile.split(".PHONY:")[1].split("\n")[0].split()
                for target in targets
            )
        case ["accelerate", "launch", "--quiet", "--config_file", path]:
            assert (REPOSITORY / path).is_file()
        case ["python", script, *_] if script.endswith(".py") and line.elsewhere:
            assert (REPOSITORY / script).is_file()
        case ["python", "-m", module, *_] if module.startswith(("tools.", "tests.")):
            assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file()
        case _:
            name, arguments = line.command
            if not line.elsewhere and not OPEN.search(line.text) and "--help" not in words:
                check(name, arguments)


@pytest.mark.parametrize("line", HEADS, ids=lambda line: line.page)
def test_the_command_above_a_config_is_right(line: Line, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    # The facts about hub models are read by a table.
    assert line.page in line.text or line.page == "configs/hub/models.yaml"
    check(*line.command)


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=lambda part: part[:40])
def test_blocks_of_python_name_what_there_is(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block, page)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "opinionlm":
            assert node.attr in opinionlm.__all__


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
    assert len(INLINE) > 30 and len(HEADS) > 120 and len(BLOCKS) >= 4
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


@pytest.mark.slow
def test_the_blocks_of_python_run(tmp_path, monkeypatch) -> None:
    """Those that need nothing but what the ones before them made: README's, then the guide's."""
    monkeypatch.chdir(tmp_path)
    (readme,), (guide,) = (blocks_of(REPOSITORY / page) for page in ("README.md", "docs/guide.md"))
    smoke = 'max_steps=2, max_train_samples=32, max_eval_samples=16, max_length=64, bf16=False, report_to="none"'
    assert "max_steps=20" in readme
    names: dict[str, object] = {}
    exec(readme.replace("max_steps=20", smoke), names)
    assert names["metrics"]["test"] and names["answer"].label in names["answer"].probabilities
    # The guide's model is that of the quickstart, which trains for minutes.
    guide = guide.replace("outputs/quickstart-seed42/best", "outputs/first/best")
    exec(f"{guide}\nfound = classify('a post', truncation=True)", names)
    assert names["found"][0]["label"] in names["answer"].probabilities
