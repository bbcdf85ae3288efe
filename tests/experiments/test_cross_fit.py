"""Cross-fitting: every training text is labelled by a model of the other folds, and its labels can be trained on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import train_classifier
from opinionlm.config.options import ModelConfig
from opinionlm.data.contamination import save_seen_texts
from opinionlm.data.prepared import load_prepared
from opinionlm.errors import UserError
from opinionlm.experiments import cross_fit
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.runs import tuning_trials
from tests.classifier_runs import command_line, train, write_setting


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cross-fit")
    return write_setting(folder) | {"output_dir": str(folder / "outputs"), "run_name": "mine"}


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_two_folds_label_all_training_texts(setting, capsys, monkeypatch) -> None:
    # In this process instead of one of its own; the failing fold below has its own.
    monkeypatch.setattr(cross_fit, "train", lambda path: train_classifier.main(["--config", str(path)]))
    # A config that reads soft labels makes new ones without them.
    command = command_line(setting, soft_labels="of/an/earlier/round.csv", max_train_samples=80)
    content = cross_fit.main([*command, "--folds", "2"])
    folder = Path(setting["output_dir"]) / "mine-crossfit"
    assert content == json.loads((folder / "cross_validation.json").read_text())
    # The folder holds runs and is none: the dashboard shows the two folds and finds nothing damaged.
    found = collect(folder.parent)
    assert [run.name for run in found.runs] == [f"mine-crossfit/mine-fold{fold}" for fold in range(2)]
    assert not found.unusable
    # Trackers show them together, under names that say whose folds they are.
    configs = [yaml.safe_load((folder / f"mine-fold{fold}/config.yaml").read_text()) for fold in range(2)]
    assert [config["wandb_group"] for config in configs] == ["mine-crossfit"] * 2
    assert (content["folds"], content["texts"], content["seen_in_pretraining"]) == (2, 80, 0)

    (data,) = (folder / "data").iterdir()
    tests = [load_prepared(data / f"fold{fold}").dataset["test"] for fold in range(2)]
    trains = [load_prepared(data / f"fold{fold}").dataset["train"] for fold in range(2)]
    assert [sorted(rows["id"]) for rows in trains] == [sorted(rows["id"]) for rows in tests[::-1]]
    whole = load_prepared(next(Path(setting["prepared_dir"]).glob("posts-*"))).dataset
    assert set(tests[0]["id"]) | set(tests[1]["id"]) < set(whole["train"]["id"])

    # The soft labels are what each fold's run predicted, in the order of the training split.
    rows = table(folder / cross_fit.SOFT_LABELS)
    position = {name: at for at, name in enumerate(whole["train"]["id"])}
    assert np.all(np.diff([position[row["id"]] for row in rows]) > 0) and len(rows) == 80
    predicted = {
        row["id"]: row for fold in range(2) for row in table(folder / f"mine-fold{fold}/predictions/test.csv")
    }
    for row in rows:
        assert all(row[name] == predicted[row["id"]][name] for name in row)
    right = [row["gold"] == row["predicted"] for row in predicted.values()]
    assert content["cross_validated"]["accuracy"] == pytest.approx(np.mean(right))
    assert not any((folder / f"mine-fold{fold}" / "checkpoints").exists() for fold in range(2))
    # The labels cost what the folds did.
    costs = [json.loads((folder / f"mine-fold{fold}" / "metrics.json").read_text())["cost"] for fold in range(2)]
    assert content["cost"]["total_seconds"] == pytest.approx(sum(cost["total_seconds"] for cost in costs))

    # What is finished is not trained again, and the labels can be trained on.
    before = (folder / "mine-fold0" / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    cross_fit.main([*command, "--folds", "2"])
    assert (folder / "mine-fold0" / "metrics.json").stat().st_mtime_ns == before
    assert f"--soft_labels {folder / cross_fit.SOFT_LABELS}" in capsys.readouterr().out
    # Folds of another cut are not taken for these: the texts of one would be missing in the other.
    with pytest.raises(UserError, match="fold0.*other options"):
        cross_fit.main([*command, "--folds", "3"])
    train(setting, run_name="student", max_train_samples=80, soft_labels=folder / cross_fit.SOFT_LABELS)
    with pytest.raises(UserError, match=r"has none for \d+ of the \d+ training texts"):
        train(setting, run_name="other", soft_labels=folder / cross_fit.SOFT_LABELS)


class TrainedHere:
    """A process of a trial that is none."""

    def __init__(self, arguments: list[str], environment: dict[str, str], output: int) -> None:
        train_classifier.main(arguments[1:])

    def wait(self, seconds: float | None = None) -> int:
        return 0


def test_folds_that_tune_go_on_and_count_their_trials(setting, tmp_path, capsys, monkeypatch) -> None:
    """Given again the command refused its own folds, whose options differed by the values that the trials chose."""
    monkeypatch.setattr(cross_fit, "train", lambda path: train_classifier.main(["--config", str(path)]))
    monkeypatch.setattr(tuning_trials, "ConsoleProcess", TrainedHere)
    monkeypatch.setattr(tuning_trials, "load_libraries", lambda environment: None)
    tune = "{trials: 1, space: {class_weights: [none]}}"
    command = command_line(setting, engine="tfidf", output_dir=tmp_path, max_train_samples=40, tune=tune)
    content = cross_fit.main([*command, "--folds", "2"])
    folder = tmp_path / "mine-crossfit"
    trained = [json.loads((folder / f"mine-fold{fold}" / "metrics.json").read_text())["cost"] for fold in range(2)]
    tuned = [json.loads((folder / f"mine-fold{fold}-tuning" / "tuning.json").read_text()) for fold in range(2)]
    assert all(each["seconds"] > 0 for each in tuned)
    assert content["cost"]["tuning_seconds"] == pytest.approx(sum(each["seconds"] for each in tuned))
    spent = sum(cost["total_seconds"] for cost in trained) + content["cost"]["tuning_seconds"]
    assert content["cost"]["total_seconds"] == pytest.approx(spent)
    assert "of them in trials" in capsys.readouterr().out
    before = (folder / "mine-fold0" / "metrics.json").stat().st_mtime_ns
    assert cross_fit.main([*command, "--folds", "2"]) == content
    assert (folder / "mine-fold0" / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="--class_weights: trials choose its value"):
        cross_fit.main([*command, "--class_weights", "none"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "1"], "--folds: 1 must be at least 2"),
        (["--seeds", "0..2"], "soft labels are made with one seed"),
        (["--dataset", "configs/datasets/sample_similarity.yaml"], "task similarity has no single labels of texts"),
    ],
)
def test_what_cannot_be_cross_fitted(arguments: list[str], message: str, tmp_path, monkeypatch, repository) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(UserError) as caught:
        cross_fit.main([*arguments, "--output_dir", str(tmp_path), "--prepared_dir", str(tmp_path / "data")])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_failing_fold_is_named(tmp_path, capfd) -> None:
    (tmp_path / "fold0.yaml").write_text("learning_rate: fast\n")
    with pytest.raises(UserError, match="fold0.yaml: training ended with exit code 2"):
        cross_fit.train(tmp_path / "fold0.yaml")
    assert "learning_rate" in capfd.readouterr().err


def test_a_model_that_learned_labels_is_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "opinionlm_classifier"}')
    cross_fit.refuse_taught(ModelConfig(model_name_or_path=str(tmp_path)))
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path=""), ["a text"])
    with pytest.raises(UserError, match="was trained on labels"):
        cross_fit.refuse_taught(ModelConfig(model_name_or_path=str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    cross_fit.refuse_taught(ModelConfig(model_name_or_path=str(tmp_path)))
