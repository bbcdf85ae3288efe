"""When a folder's run counts as the one that is asked for."""

from __future__ import annotations

import pytest
import yaml

from opinionlm.errors import UserError
from opinionlm.parsing import parse_config
from opinionlm.training.runs import is_finished


def test_an_option_younger_than_the_run_counts_as_its_default(tmp_path) -> None:
    base = ["--output_dir", str(tmp_path), "--run_name", "old", "--report_to", "none"]
    config = parse_config(base, "test")
    stored = config.flat()
    del stored["rdrop_alpha"], stored["ema_decay"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump(stored))
    (tmp_path / "old" / "metrics.json").write_text("{}")
    assert is_finished(config)
    with pytest.raises(UserError, match=r"holds a run with other options \(rdrop_alpha\)"):
        is_finished(parse_config([*base, "--rdrop_alpha", "1"], "test"))
