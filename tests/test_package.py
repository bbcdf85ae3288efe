"""The installed package: what it holds, and that its commands and functions work in another folder."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from opinionlm.errors import UserError
from opinionlm.scripts.console import COMMANDS, overview, run
from opinionlm.utils import environment, shipped
from opinionlm.utils.shipped import find_shipped

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SAVED = ROOT / "tests" / "assets" / "saved"


@pytest.mark.parametrize("module", ["evaluation.generation", "inference.predictors"])
def test_what_imports_peft_first_is_silent(module) -> None:
    """On processors with bfloat16 bitsandbytes, which peft imports, would tell of a package that is absent."""
    done = subprocess.run(
        [sys.executable, "-c", f"import opinionlm.{module}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout + done.stderr == ""


def test_every_package_is_listed() -> None:
    folders = [path.parent.relative_to(ROOT) for path in (ROOT / "opinionlm").rglob("__init__.py")]
    found = {".".join(folder.parts) for folder in folders}
    listed = set(SETTINGS["tool"]["setuptools"]["packages"])
    assert {name for name in listed if not name.startswith("opinionlm.assets.")} == found
    places = SETTINGS["tool"]["setuptools"]["package-dir"]
    assert {name for name in listed if name.startswith("opinionlm.assets.")} == set(places) - {"opinionlm"}
    assert all((ROOT / place).is_dir() for place in places.values())


def test_versions_stand_in_the_requirements_files_alone() -> None:
    dynamic = SETTINGS["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
    for name in ("requirements.txt", *(path.name for path in ROOT.glob("requirements-*.txt"))):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert all("==" in line for line in lines), "setuptools takes no -r lines, and we no open versions"
    assert SETTINGS["build-system"]["requires"][0].startswith("setuptools==")


def test_every_command_has_a_main_and_one_line() -> None:
    scripts = {path.stem for path in (ROOT / "opinionlm" / "scripts").glob("*.py")} - {"__init__", "console"}
    assert scripts == {path.stem for path in ROOT.glob("*.py")} and scripts < set(COMMANDS)
    for name, command in COMMANDS.items():
        assert callable(importlib.import_module(command.module).main)
        assert f"  {name} " in overview() and "\n" not in command.summary
    assert all(len(line) < 100 for line in overview().splitlines())


@pytest.mark.parametrize(("given", "near"), [("trian_classifier", "train_classifier"), ("Predict", "predict")])
def test_an_unknown_command_names_the_nearest(given: str, near: str) -> None:
    with pytest.raises(UserError, match=f"{given}: no such command; did you mean '{near}'"):
        run([given])
    with pytest.raises(UserError, match="xyzzy: no such command; opinionlm --help lists them"):
        run(["xyzzy"])


def test_what_a_command_refuses_names_what_is_there(tmp_path: Path, monkeypatch) -> None:
    """An installed package has neither ``preprocess.py`` nor a folder ``configs`` where the command is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["opinionlm"])
    with pytest.raises(UserError, match=f"the shipped ones are in {ROOT / 'configs' / 'datasets'}"):
        run(["preprocess", "--config", "nowhere.yaml"])
    (tmp_path / "broken").mkdir()
    with pytest.raises(UserError, match="make one with opinionlm preprocess$"):
        run(["cross_fit", "--dataset", "broken"])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], [], ["--version"], ["label_suspect"]],
)
def test_the_console_answers_at_once(arguments: list[str], tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "opinionlm", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=shipped.script_environment(), capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    assert (done.returncode, done.stderr.count("\n")) == ((2, 1) if arguments == ["label_suspect"] else (0, 0))


def test_shipped_files_are_found_by_name_from_every_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = ROOT / "configs" / "datasets" / "sample.yaml"
    assert find_shipped("configs/datasets/sample.yaml") == whole
    assert find_shipped("sample", "configs/datasets") == find_shipped("sample.yaml", "configs/datasets") == whole
    assert find_shipped("models/gemma3-mini") == ROOT / "models" / "gemma3-mini"
    # The user's own win, and what is nowhere keeps its name.
    (tmp_path / "sample.yaml").write_text("{}")
    assert find_shipped("sample.yaml", "configs/datasets") == Path("sample.yaml")
    assert find_shipped("google/gemma-3-1b-pt") == Path("google/gemma-3-1b-pt")
    assert find_shipped("../README.md") == Path("../README.md")


def test_assets_of_an_installed_package_come_first(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "opinionlm" / "assets" / "configs").mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "opinionlm")
    assert shipped.shipped_root() == tmp_path / "opinionlm" / "assets"


def test_an_installed_package_has_no_commit(tmp_path: Path, monkeypatch) -> None:
    # Where its environment lies in somebody else's repository, that commit says nothing of ours.
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "x"],
        cwd=tmp_path,
        check=True,
    )
    file = tmp_path / ".venv" / "opinionlm" / "utils" / "environment.py"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(file))
    assert environment.git_commit() is None


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what git tracks here and now."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in names.stdout.splitlines():
        if not name.startswith(("tests/", "shared/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    code = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and "opinionlm" in tops and wheel.stat().st_size < 12e6
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "opinionlm").rglob("*.py")}
    here |= {f"opinionlm/assets/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*") if path.is_file()}
    here |= {"opinionlm/py.typed", "opinionlm/experiments/dashboard/assets/page.html"}
    here |= {"opinionlm/assets/data/sample/reddit.csv", "opinionlm/assets/models/gemma3-mini/model.safetensors"}
    assert here <= names
    assert not [name for name in names - here if name.endswith(".py")]
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        assert not line or line.startswith("#") or f"Requires-Dist: {line}" in metadata.replace('"', "")


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a new environment with the wheel, which borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", folder / "bin/python"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def call(command: Sequence[str | Path], folder: Path) -> str:
    """What a command of the installed package prints, in another folder."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_installed_package_works_in_another_folder(installed: Path, tmp_path: Path) -> None:
    console = installed / "opinionlm"
    place = "import opinionlm; print(opinionlm.__file__)"
    assert str(installed.parent) in call([installed / "python", "-c", place], tmp_path)
    assert "train_classifier" in call([console, "--help"], tmp_path)
    assert call([installed / "python", "-m", "opinionlm", "--help"], tmp_path) == call([console, "--help"], tmp_path)

    # Configs, posts and models are those of the package; results lie in the folder.
    assert "2,361 kept" in call([console, "preprocess", "--config", "sample"], tmp_path)
    quick = ["--max_train_samples", "32", "--max_eval_samples", "16", "--max_steps", "2", "--report_to", "none"]
    call([console, "train_classifier", "--config", "configs/quickstart.yaml", *quick], tmp_path)
    call([console, "train_classifier", "--config", "quickstart", *quick, "--seed", "7"], tmp_path)
    run_folder = tmp_path / "outputs" / "quickstart-seed42"
    environment_facts = json.loads((run_folder / "environment.json").read_text())
    assert environment_facts["command"][0] == "opinionlm train_classifier"
    (tmp_path / "posts.txt").write_text("Is this coin still worth holding?\nnice\n")
    asked = ["--model", "outputs/quickstart-seed42/best", "--input", "posts.txt", "--output", "labels.csv"]
    call([console, "predict", *asked], tmp_path)
    assert (tmp_path / "labels.csv").read_text().count("\n") == 3
    assert "macro-F1" in call([console, "compare", run_folder, tmp_path / "outputs" / "quickstart-seed7"], tmp_path)
    assert "2 finished runs" in call([console, "dashboard", "outputs"], tmp_path)
    dry = call([console, "reproduce", "methods_bert_emotion", "--scale", "smoke", "--dry_run"], tmp_path)
    assert "lora-seed0" in dry

    code = (
        "import opinionlm\n"
        "predictor = opinionlm.load('outputs/quickstart-seed42/best', label_sets=0.9)\n"
        "found, empty = predictor.predict(['Is this coin still worth holding?', ' '])\n"
        "assert empty is None and found.confidence == found.probabilities[found.label]\n"
        "assert found.label == found.levels[-1] and found.label_set\n"
        "from transformers import AutoModelForSequenceClassification, pipeline\n"
        "AutoModelForSequenceClassification.from_pretrained('outputs/quickstart-seed42/best')\n"
        "classify = pipeline('text-classification', model='outputs/quickstart-seed42/best')\n"
        "print(found.label, classify('Is this coin still worth holding?', truncation=True))\n"
    )
    assert "score" in call([installed / "python", "-c", code], tmp_path)


@pytest.mark.slow
def test_a_grid_of_the_installed_package_runs_its_own_scripts(installed: Path, tmp_path: Path) -> None:
    table = {
        "title": "x",
        "source": "x",
        "measures": {"Accuracy": "test.accuracy"},
        "options": {"dataset": "sample", "report_to": "none", "engine": "tfidf"},
        "axes": {"Engine": {"words": {"class_weights": "none"}}},
        "scales": {"smoke": {"seeds": "0..0", "minutes": 1}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(table))
    said = call([installed / "opinionlm", "reproduce", "mine.yaml", "--scale", "smoke"], tmp_path)
    assert "Written to " in said and "failed" not in said
