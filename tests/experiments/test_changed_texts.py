"""Test texts in changed forms: what changes, and scores and differences against independent arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import f1_score

from opinionlm.errors import UserError
from opinionlm.evaluation.generation import INVALID
from opinionlm.experiments.answers import read_rows
from opinionlm.experiments.changed_texts import changed_forms, form_row, main, saved_predictor, with_typos
from tests.classifier_runs import drawn_posts, train, write_posts, write_setting
from tests.experiments.run_folders import with_sets, write_run


def test_what_becomes_of_a_text() -> None:
    forms = {name.split()[0]: change for name, change in changed_forms(0.5, 0).items()}
    text = "Bitcoin 🚀 to the  MOON"
    assert forms["lower"](text) == text.lower() and forms["upper"](text) == text.upper()
    assert forms["without"](text).split() == ["Bitcoin", "to", "the", "MOON"]
    changed = forms["typos"](text)
    assert len(changed) == len(text) and 1 <= sum(a != b for a, b in zip(changed, text, strict=True)) <= 3
    # Equal texts have equal typos, other seeds others.
    assert changed == forms["typos"](text) and len({with_typos(text, 0.5, seed) for seed in range(9)}) > 3
    assert [with_typos(same, 0.1, 0) for same in ("", "  ", "@user #tag $BTC")] == ["", "  ", "@user #tag $BTC"]


def test_a_row_by_scikit_learn() -> None:
    gold = np.array([0, 1, 2, 0, 1, 2] * 10)
    original, answered = gold.copy(), gold.copy()
    original[:6], answered[:20] = 1, (gold[:20] + 1) % 3
    answered[20] = INVALID
    cells = form_row(gold, original, answered, 3)
    macro = [f1_score(gold, one, average="macro", labels=[0, 1, 2]) for one in (original, answered)]
    assert float(cells[0]) == pytest.approx(macro[1], abs=5e-4)
    assert float(cells[2]) == pytest.approx((gold == answered).mean(), abs=5e-4)
    assert float(cells[3]) == pytest.approx(macro[1] - macro[0], abs=2e-3)
    low, high = map(float, cells[4].split(" to "))
    assert low < macro[1] - macro[0] < high < 0 and float(cells[5]) < 0.05
    assert form_row(gold, original, original, 3)[3:] == ["", "", ""]


def test_a_trained_run_is_asked_again(tmp_path, capsys) -> None:
    setting = write_setting(tmp_path) | {"output_dir": str(tmp_path / "outputs"), "run_name": "mine"}
    train(setting, max_steps=2)
    capsys.readouterr()
    folder = tmp_path / "outputs" / "mine"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    main([str(folder), "--output", str(tmp_path / "changed.md")])
    said = capsys.readouterr().out
    assert said == (tmp_path / "changed.md").read_text()
    lines = [line.split(" | ") for line in said.splitlines()[4:]]
    assert [line[0].strip("| ") for line in lines] == ["as they are", *changed_forms(0.1, 0)]
    # The posts have no emoji and are in small letters: those forms are the texts as they are.
    for line in (lines[2], lines[4]):
        assert line[1].startswith("0 of") and line[2:5] == lines[0][2:5] and line[5] == "+0.000"
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prepared_texts_are_not_cleaned_again(tmp_path, capsys) -> None:
    """Entities that were escaped twice, and a word about the letters in front: cleaning once more changes both."""
    setting = write_setting(tmp_path)
    posts = [(f"{text} &amp;gt; {text}", label) for text, label in drawn_posts(120)]
    write_posts(tmp_path, posts)
    spec = yaml.safe_load((tmp_path / "posts.yaml").read_text())
    (tmp_path / "posts.yaml").write_text(yaml.safe_dump(spec | {"cleaning": {"letter_case": "named"}}))
    metrics = train(setting | {"output_dir": str(tmp_path / "outputs"), "run_name": "mine"}, max_steps=8)
    folder = tmp_path / "outputs" / "mine"
    rows = read_rows(folder, "test")
    assert all(row["text"].startswith("lowercase: ") and "&gt;" in row["text"] for row in rows)
    found = saved_predictor(folder).predict(rows, are_prepared=True)
    for row, one in zip(rows, found, strict=True):
        assert one.label == row["predicted"]
        assert one.probabilities[one.label] == pytest.approx(float(row[f"probability_{one.label}"]), abs=1e-5)
    capsys.readouterr()
    main([str(folder)])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[4:]]
    assert float(lines[0][2]) == pytest.approx(metrics["test"]["macro_f1"], abs=5e-4)
    # In small letters they were; the word in front is written anew and tells of the change.
    assert lines[2][1].startswith("0 of") and lines[3][1].startswith(f"{len(rows)} of")


def test_what_cannot_be_asked(tmp_path) -> None:
    with pytest.raises(UserError, match="--typos: 1.5 must lie above 0"):
        main([str(tmp_path), "--typos", "1.5"])
    with pytest.raises(UserError, match="give the folder of a finished run"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match="best"):
        main([str(write_run(Path(tmp_path) / "run"))])
    with pytest.raises(UserError, match="test.csv: holds no single texts with one label each"):
        main([str(with_sets(write_run(tmp_path / "sets")))])
