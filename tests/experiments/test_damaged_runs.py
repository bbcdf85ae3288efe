"""A metrics.json or labels.json that somebody has edited, or a copy that broke off: one line that names the file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from opinionlm.errors import UserError
from opinionlm.experiments.answers import read_answers
from opinionlm.experiments.compare import group_runs
from opinionlm.experiments.ensemble import require_classifier
from opinionlm.experiments.group_report import fingerprint_of
from opinionlm.runs.seeds import stored_metrics
from tests.experiments.run_folders import write_run


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"\xff", b'{"a":' * 100_000])
@pytest.mark.parametrize(
    "name, read",
    [
        ("metrics.json", lambda folder: group_runs([read_answers(folder, "test")], [folder])),
        ("metrics.json", require_classifier),
        ("metrics.json", stored_metrics),
        ("environment.json", fingerprint_of),
        ("labels.json", lambda folder: read_answers(folder, "test")),
    ],
    ids=["compare", "ensemble", "seeds", "group_report", "labels"],
)
def test_damaged_files_of_runs_are_one_line(
    name: str, read: Callable[[Path], object], content: bytes, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        read(folder)
    said = str(raised.value)
    # A label tree says by itself what is no name.
    assert "\n" not in said and (name in said or said.startswith("labels: "))
