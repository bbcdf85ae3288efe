"""A teacher that saw some labels labels the other training texts, and a student learns from that alone."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from opinionlm.config.config import Config
from opinionlm.data.encoding.columns import subset
from opinionlm.data.prepared import load_prepared
from opinionlm.errors import UserError
from opinionlm.experiments.self_training import main
from opinionlm.tasks import task_for
from tests.classifier_runs import train, write_setting
from tests.experiments.run_folders import with_sets, write_run


def test_a_student_learns_from_its_teacher(tmp_path, capsys) -> None:
    setting = write_setting(tmp_path) | {"output_dir": str(tmp_path / "outputs"), "class_weights": "none"}
    train(setting, run_name="teacher", max_train_samples=40, max_steps=4, seed=3)
    main([str(tmp_path / "outputs" / "teacher")])
    path = tmp_path / "outputs" / "teacher-soft_labels.csv"
    assert f"--soft_labels {path} --soft_label_share 1 --class_weights none" in capsys.readouterr().out
    prepared = load_prepared(next((tmp_path / "prepared").glob("posts-*")))
    texts = prepared.dataset["train"]
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == texts["id"]
    known = set(subset(texts, 40, 3)["id"])
    leaves = prepared.taxonomy.leaves
    for row, gold in zip(rows, texts["label"], strict=True):
        values = np.array([float(row[f"probability_{leaf}"]) for leaf in leaves])
        assert values.sum() == pytest.approx(1, abs=1e-5)
        if row["id"] in known:
            assert values.tolist() == np.eye(len(leaves))[gold].tolist()
        else:
            assert values.max() < 1
    student = Config()
    student.robust.soft_labels, student.robust.soft_label_share = str(path), 1.0
    # Of a label that the teacher was not shown nothing is in what the student learns.
    targets = task_for(prepared, student).soft_targets(texts)
    written = [[float(row[f"probability_{leaf}"]) for leaf in leaves] for row in rows]
    assert targets == pytest.approx(np.array(written), abs=1e-5)
    train(setting, run_name="student", soft_labels=str(path), soft_label_share=1.0, max_steps=2)
    assert (tmp_path / "outputs" / "student" / "metrics.json").is_file()


def test_a_teacher_that_learned_everything_has_nothing_to_label(tmp_path) -> None:
    setting = write_setting(tmp_path) | {"output_dir": str(tmp_path / "outputs"), "run_name": "whole"}
    train(setting, max_steps=1)
    with pytest.raises(UserError, match="learned from all .* training texts.*max_train_samples"):
        main([str(tmp_path / "outputs" / "whole")])
    with pytest.raises(UserError, match="give the folder of a finished run"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match="sets: gives texts any number of labels"):
        main([str(with_sets(write_run(tmp_path / "sets")))])
