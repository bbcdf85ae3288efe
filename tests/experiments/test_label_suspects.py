"""Likely mislabelled rows: planted mistakes are found, the list is in order, nothing is dropped."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

import preprocess
from opinionlm.errors import UserError
from opinionlm.experiments.label_suspects import HEADER, find_suspects, write_run_suspects
from tests.classifier_runs import WORDS, train

LABELS = list(WORDS)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def planted(setting, tmp_path_factory) -> tuple[Path, set[str]]:
    """A data set whose words give the label away, and the ids of its training rows whose label is wrong."""
    folder, generator = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    rows, wrong = [], set()
    for index in range(240):
        truth = index % 4
        label = (truth + 1) % 4 if index % 15 == 3 else truth
        if label != truth:
            wrong.add(f"post{index}")
        words = generator.choice(WORDS[LABELS[truth]].split(), 4).tolist() + ["coin", "today"]
        path = ["subjective", LABELS[label]] if label > 1 else [LABELS[label], ""]
        rows.append([f"post{index}", " ".join(words) + f" {index}", *path])
    with open(folder / "posts.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "text", "level1", "level2"], *rows])
    spec = yaml.safe_load(Path(setting["dataset"]).read_text())
    spec["files"][0]["columns"]["id"] = "id"
    (folder / "posts.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder, wrong


def run_preprocess(folder: Path, *options: str) -> Path:
    output = folder / "prepared"
    arguments = ["--config", str(folder / "posts.yaml"), "--data_dir", str(folder), "--output_dir", str(output)]
    preprocess.main([*arguments, "--num_proc", "1", *options])
    return output / "label_suspects.csv"


def test_planted_mistakes_are_found(planted, capsys) -> None:
    from opinionlm.data.prepared import load_prepared

    folder, wrong = planted
    path = run_preprocess(folder, "--suspects")
    text, suspects = path.read_text(), read(path)
    assert list(suspects[0]) == HEADER
    train_ids = set(load_prepared(path.parent).dataset["train"]["id"])
    assert len(train_ids) == 144, "nothing was dropped"
    found = {row["id"] for row in suspects}
    assert found <= train_ids and len(found & wrong) >= 0.9 * len(wrong & train_ids)
    assert len(found - wrong) <= 0.2 * len(found)
    assert [int(row["rank"]) for row in suspects] == list(range(1, len(suspects) + 1))
    quality = [float(row["quality"]) for row in suspects]
    assert quality == sorted(quality) and all(row["label"] != row["suggested"] for row in suspects)
    for row in suspects:
        if row["id"] in wrong:
            truth = LABELS[(LABELS.index(row["label"]) - 1) % 4]
            assert row["suggested"] == truth
    assert f"{len(suspects)} of 144 training rows look mislabelled" in capsys.readouterr().out
    # Again, without preparing again: the same to the letter.
    assert run_preprocess(folder, "--suspects").read_text() == text


def test_a_run_judges_the_splits_that_it_predicted(planted, setting, tmp_path) -> None:
    folder, wrong = planted
    options = {"dataset": folder / "posts.yaml", "data_dir": folder, "engine": "tfidf"}
    train(setting, output_dir=tmp_path, run_name="run", **options)
    said = write_run_suspects(tmp_path / "run", "validation")
    suspects = read(tmp_path / "run" / "label_suspects_validation.csv")
    assert f"{len(suspects)} of 48 rows of validation look mislabelled" in said
    predictions = {row["id"]: row for row in read(tmp_path / "run" / "predictions" / "validation.csv")}
    assert {row["id"] for row in suspects} <= set(predictions)
    # Confident learning counts before it looks at rows: it may miss one of few.
    found, there = {row["id"] for row in suspects}, set(predictions) & wrong
    assert len(there) >= 3 and len(found & there) >= len(there) - 1 and len(found - there) <= 1
    for row in suspects:
        before = predictions[row["id"]]
        assert (row["label"], row["text"]) == (before["gold"], before["text"])
        assert float(row["quality"]) == pytest.approx(float(before[f"probability_{row['label']}"]), abs=2e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_where_all_rows_have_one_label_none_is_suspected(label: int) -> None:
    probability = np.random.default_rng(0).random(50)
    assert find_suspects(np.full(50, label), np.stack([1 - probability, probability], axis=1)) == []


def test_a_label_that_only_one_row_has_is_not_judged() -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2])
    probabilities = np.full((41, 3), 0.05)
    probabilities[np.arange(41), np.where(labels == 2, 0, labels)] = 0.9
    probabilities[3] = [0.02, 0.97, 0.01]
    assert [(one.row, one.label, one.suggested) for one in find_suspects(labels, probabilities)] == [(3, 0, 1)]


def test_other_tasks_have_no_labels_to_suspect(tmp_path) -> None:
    sample = Path(__file__).resolve().parents[2]
    config = sample / "configs" / "datasets" / "sample_similarity.yaml"
    with pytest.raises(UserError, match="--suspects: task similarity has no labels of texts; leave it out"):
        preprocess.main(
            ["--config", str(config), "--data_dir", str(sample / "data"), "--output_dir", str(tmp_path / "out")]
            + ["--suspects"]
        )
