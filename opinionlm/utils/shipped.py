"""What is shipped beside the code, found from every working folder: configs, bundled posts, bundled models."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


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


def script_environment() -> dict[str, str]:
    """What a process needs to run ``python -m opinionlm`` with this very package, installed or not."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
