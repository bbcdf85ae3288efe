"""The licences of everything that requirements.txt installs, as a Markdown table: ``make licences``.

    python -m tools.licences > docs/licences.md

Follows the requirements of the requirements, as far as they are installed here, and reads what each package says of
itself (`importlib.metadata`); a package that says nothing is listed as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


def direct(path: Path = REQUIREMENTS) -> list[str]:
    """Names of the direct dependencies."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("==")[0].strip() for line in lines if "==" in line and not line.startswith("#")]


def installed(names: Iterable[str]) -> dict[str, Distribution]:
    """All packages that the given ones need, themselves included, by normal name; extras are left out."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # for another system or Python
        waiting += [
            re.split(r"[\s;<>=!~\[(]", line)[0] for line in found[name].requires or () if "extra ==" not in line
        ]
    return found


def licence(package: Distribution) -> str:
    """What a package says of its licence, in one line."""
    said = package.metadata
    classifiers = [text.rsplit(" :: ")[-1] for text in said.get_all("Classifier") or () if text.startswith("License")]
    names = said.get("License-Expression") or ", ".join(classifiers) or (said.get("License") or "").strip()
    return " ".join(names.split("\n")[0].split()).replace("|", "\\|")[:80] or "(says nothing)"


def main() -> None:
    """Print the table."""
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in direct()}
    print("# Licences\n\nOf the dependencies and of what they bring along, made by `make licences`.\n")
    print("| package | version | direct | licence |\n| --- | --- | --- | --- |")
    for name, package in sorted(installed(wanted).items()):
        print(f"| {name} | {package.version} | {'yes' if name in wanted else ''} | {licence(package)} |")


if __name__ == "__main__":
    main()
