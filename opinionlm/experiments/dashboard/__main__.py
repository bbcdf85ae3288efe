"""Compare the runs of a folder in one HTML page.

    python -m opinionlm.experiments.dashboard outputs/
    python -m opinionlm.experiments.dashboard outputs/ --output comparison.html

The page is one file that works from the disk, without any network: it can be mailed or put beside a paper. Run folders
that are unfinished or damaged are listed with the reason.
"""

from __future__ import annotations

from pathlib import Path

from opinionlm.errors import run_script
from opinionlm.utils.command_line import Parser
from opinionlm.utils.names import counted


def main(argv: list[str] | None = None) -> None:
    """Write the page."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the output_dir of the runs, at any depth")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.html",
        help="the page; one that is there is replaced [FOLDER/dashboard.html]",
    )
    arguments = parser.parse(argv)

    # Imported late, so that --help and mistakes answer at once.
    from opinionlm.experiments.dashboard.collect import collect
    from opinionlm.experiments.dashboard.page import render, write_page
    from opinionlm.experiments.dashboard.payload import build_payload

    output = arguments.output or arguments.folder / "dashboard.html"
    collection = collect(arguments.folder)
    payload = build_payload(collection)
    page = render(payload)
    write_page(output, page)
    for entry in collection.unusable:
        print(f"{entry.state}: {entry.name}: {entry.reason}")
    for run in collection.runs:
        for warning in run.warnings:
            print(f"warning: {run.name}: {warning}")
    groups = len(payload["groups"])
    print(
        f"{output}: {counted(len(collection.runs), 'finished run')} in {counted(groups, 'comparison')}, "
        f"{len(collection.unusable)} without results ({len(page.encode()) / 1000:,.0f} kB)"
    )


if __name__ == "__main__":
    run_script(main)
