"""What is shipped beside the code, found from every working folder: configs, bundled posts, models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from opinionlm.errors import UserError
from opinionlm.utils.files import file_sha256

PACKAGE = Path(__file__).resolve().parents[1]
# Where GGUF files are converted to (`opinionlm.models.gguf`), as seen from the working folder.
CONVERTED = Path("outputs/models")


def shipped_root() -> Path:
    """The folder with configs/, data/sample/ and models/: assets/ of an installed package, otherwise the checkout."""
    installed = PACKAGE / "assets"
    return installed if installed.is_dir() else PACKAGE.parent


def find_shipped(name: str | Path, folder: str = "") -> Path:
    """A file or folder of the user's, or else the shipped one of that name.

    Args:
        name: ``configs/quickstart.yaml``, or, with a folder of YAML files, just ``quickstart``.
        folder: where names without one are looked for, such as ``configs/datasets``.

    Returns:
        The name itself where something has it, as seen from the working folder, or nothing shipped has.
    """
    path = Path(name)
    if path.exists() or path.is_absolute() or ".." in path.parts:
        return path
    named = [shipped_root() / folder / path, shipped_root() / folder / f"{path}.yaml"] if folder else []
    return next((found for found in (shipped_root() / path, *named) if found.exists()), path)


def find_model(name: str | Path) -> Path:
    """The folder of a model, the user's or a shipped one; of a GGUF file, that of its converted copy.

    Raises:
        UserError: a folder holds several GGUF files.
    """
    path = find_shipped(name)
    source = gguf_source(path)
    return path if source is None else CONVERTED / source.stem


def is_place(name: str) -> bool:
    """Whether a name can only be that of a place on this machine, and of no model of the hub."""
    is_outside = Path(name).is_absolute() or name.startswith((".", "~"))
    return is_outside or name.startswith(("models/", "outputs/")) or name.count("/") > 1


def require_model(name: str) -> None:
    """Refuse a place on this machine where no model is. GGUF files have their own reasons, see `require_converted`.

    Raises:
        UserError: there is nothing.
    """
    if is_place(name) and not find_model(name).exists() and gguf_source(find_shipped(name)) is None:
        raise UserError(f"model_name_or_path: there is no folder {name}; make it first, or name a model of the hub")


def model_file(name: str | Path, file: str, revision: str = "main") -> Path | None:
    """A file of a model: the user's, a shipped one, or one of the hub, from where it is fetched.

    None where the model has no such file, and where that cannot be told, as the hub cannot be asked.
    """
    from transformers.utils import cached_file  # seconds

    try:
        found = cached_file(str(find_model(name)), file, revision=revision)
    except OSError:
        return None
    return None if found is None else Path(found)


def model_commit(name: str | Path, revision: str = "main") -> str | None:
    """The commit that a branch or tag of a model of the hub stands for now; None for a folder of this machine."""
    config = None if find_model(name).exists() else model_file(name, "config.json", revision)
    # The library keeps the files of a commit in a folder of its name.
    return None if config is None else config.parent.name


# Of large weights a run reads so many bytes at both ends and in the middle: to read all of a model takes minutes.
SAMPLE = 1 << 20
# What lies beside a tokenizer in the folder of a model.
NOT_OF_TOKENIZERS = ("config.json", "generation_config.json", "model.safetensors.index.json")


def model_files(folder: Path) -> list[Path]:
    """Configuration, tokenizer and weights of a model."""
    patterns = ("*.json", "*.safetensors", "*.model", "*.onnx*", "*.txt", "*.jinja")
    return sorted(found for pattern in patterns for found in folder.glob(pattern))


def model_digest(folder: Path) -> str:
    """SHA-256 over every byte of a model."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        digest.update(path.name.encode() + bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over every byte of a tokenizer's files; whatever else lies in its folder does not count."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        if path.suffix in (".json", ".model", ".txt", ".jinja") and path.name not in NOT_OF_TOKENIZERS:
            digest.update(path.name.encode() + bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def sampled_digest(folder: Path) -> str:
    """SHA-256 over sizes and samples of a model's files: another for other weights, at once however large they are."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for place in sorted({0, size // 2, max(0, size - SAMPLE)}):
                file.seek(place)
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def model_identity(
    name: str | Path, revision: str = "main", digest: Callable[[Path], str] = sampled_digest
) -> str | None:
    """What tells a model from another one of its name: the digest of its folder, or its commit on the hub."""
    place = find_model(name)
    return digest(place) if place.is_dir() else model_commit(name, revision)


def gguf_source(path: Path) -> Path | None:
    """The GGUF file that a path is, or that a folder without ``config.json`` holds; None for every other model.

    Raises:
        UserError: the folder holds several.
    """
    if not path.is_dir():
        return path if path.suffix.lower() == ".gguf" else None
    files = [] if (path / "config.json").is_file() else sorted(path.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UserError(f"model_name_or_path: {path} holds several GGUF files ({names}); give one of them")
    return files[0] if files else None


def script_environment() -> dict[str, str]:
    """What a process needs to run ``python -m opinionlm`` with this very package, installed or not."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def job_environment(jobs: int) -> dict[str, str]:
    """What a process of a run needs, one of several at a time: this very package, and its share of the cores."""
    threads = os.environ.get("OMP_NUM_THREADS", str(threads_per_job(jobs)))
    return script_environment() | {"OMP_NUM_THREADS": threads}


def threads_per_job(jobs: int) -> int:
    """Threads that each of several processes may use."""
    return max(1, (os.cpu_count() or 1) // jobs)
