"""Several models as one: averages by hand, the folder that --seeds writes, predict.py over several folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import predict
from opinionlm.config.parser import parse_config
from opinionlm.data.loading import load_rows
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule, fit_answers
from opinionlm.evaluation.ensembles import averaged_logits, mean_offsets
from opinionlm.evaluation.metrics import classification_scores
from opinionlm.experiments.ensemble import main as ensemble
from opinionlm.inference.saved_decision import keep_members
from opinionlm.reporting import figures
from opinionlm.runs.ensembles import read_probabilities, trained_labels
from opinionlm.runs.seeds import seed_configs
from opinionlm.tasks import sequence, task_for
from tests.classifier_runs import command_line, train
from tests.saved_classifier import LEAVES, WORDS, save_tiny_classifier


def label(models: list[Path], folder: Path, *options: str) -> list[dict[str, str]]:
    posts = folder / "posts.txt"
    posts.write_text("".join(f"{first} {second}\n" for first in WORDS[:6] for second in WORDS[6:12]))
    output = folder / "labels.csv"
    arguments = ["--input", str(posts), "--output", str(output), "--overwrite", *options]
    predict.main(["--model", *map(str, models), *arguments])
    with open(output, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probabilities(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"probability_{leaf}"]) for leaf in LEAVES] for row in rows])


def change(folder: Path, **options: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | options))


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> list[Path]:
    """Two models with the same weights but for their temperature, so that their average is not theirs."""
    folders = [save_tiny_classifier(tmp_path_factory.mktemp(name)) for name in ("cold", "hot")]
    change(folders[1], temperature=4.0)
    return folders


def test_average_by_hand() -> None:
    members = [np.array([[0.7, 0.3, 0.0]]), np.array([[0.2, 0.8, 0.0]])]
    mean = np.exp(averaged_logits(members))
    assert mean[0].tolist() == pytest.approx([0.45, 0.55, 2.5e-7])
    # At temperature 1 the logits give the mean back, and a temperature of its own makes it surer.
    assert AnswerRule().probabilities(averaged_logits(members))[0].tolist() == pytest.approx([0.45, 0.55, 0], abs=1e-6)
    sharper = AnswerRule(0.5).probabilities(averaged_logits(members))[0]
    assert sharper[1] == pytest.approx(0.55**2 / (0.45**2 + 0.55**2), abs=1e-6)


def test_an_average_prefers_what_its_members_prefer(tmp_path) -> None:
    # Both members' calibration lowers the first leaf; their answers are those of the logits all the same.
    biases = [[-3.0, 1.0, 1.0, 1.0], [-1.0, 1.0, 0.0, 0.0]]
    assert mean_offsets(biases) == (2.0, -1.0, -0.5, -0.5) and mean_offsets([[], biases[0]])[0] == 1.5
    assert mean_offsets([[], []]) == ()
    folders = []
    for at, own in enumerate(biases):
        folders.append(save_tiny_classifier(tmp_path / str(at)))
        change(folders[-1], calibration_biases=own, decision_offsets=[-bias for bias in own])
    plain = [row["predicted"] for row in label([save_tiny_classifier(tmp_path / "plain")], tmp_path)]
    alone = label(folders[:1], tmp_path)
    assert [row["predicted"] for row in alone] == plain
    together = label(folders, tmp_path)
    mean = np.mean([probabilities(label([folder], tmp_path)) for folder in folders], axis=0)
    np.testing.assert_allclose(probabilities(together), mean, atol=2e-6)
    decided = (averaged_logits([mean]) + np.array(mean_offsets(biases))).argmax(axis=1)
    assert [row["predicted"] for row in together] == [LEAVES[leaf] for leaf in decided]
    assert (decided != mean.argmax(axis=1)).any()


def test_several_folders_are_averaged(pair, tmp_path) -> None:
    alone = [probabilities(label([folder], tmp_path)) for folder in pair]
    together = label(pair, tmp_path)
    np.testing.assert_allclose(probabilities(together), (alone[0] + alone[1]) / 2, atol=2e-6)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    for row, mean in zip(together, (alone[0] + alone[1]) / 2, strict=True):
        assert row["predicted"] == LEAVES[mean.argmax()]


def test_a_kept_ensemble_decides_by_its_own_rule(pair, tmp_path) -> None:
    rule = AnswerRule(0.5, "thresholds", (3.0, 0.0, 0.0, 0.0))
    keep_members(tmp_path / "best", pair, rule)
    mean = np.exp(averaged_logits([probabilities(label([folder], tmp_path)) for folder in pair]))
    rows = label([tmp_path / "best"], tmp_path)
    expected = mean**2 / (mean**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(rows), expected, atol=5e-6)
    decided = (np.log(expected) + np.array(rule.offsets)).argmax(axis=1)
    assert [row["predicted"] for row in rows] == [LEAVES[leaf] for leaf in decided]
    assert (decided != expected.argmax(axis=1)).any(), "the offsets matter"


def test_what_cannot_be_averaged_is_refused(pair, tmp_path) -> None:
    other = save_tiny_classifier(tmp_path / "other")
    names = {"noise": "spam"}
    renamed = [names.get(leaf, leaf) for leaf in LEAVES]
    change(other, id2label=dict(enumerate(renamed)), label2id={name: i for i, name in enumerate(renamed)})
    change(other, label_tree=renamed)
    with pytest.raises(UserError, match="other labels than .*for instance 'noise'"):
        label([pair[0], other], tmp_path)
    fitted = save_tiny_classifier(tmp_path / "fitted")
    change(fitted, decision="thresholds", decision_offsets=[0.0, 0.0, 0.0, 1.0])
    with pytest.raises(UserError, match="decide in different ways"):
        label([pair[0], fitted], tmp_path)
    with pytest.raises(UserError, match="decides by thresholds, fitted to that model alone"):
        label([fitted, fitted], tmp_path)
    with pytest.raises(UserError, match="nothing was fitted to the average"):
        label(pair, tmp_path, "--label_sets", "0.9")
    with pytest.raises(UserError, match="no such folder"):
        label([pair[0], tmp_path / "nowhere"], tmp_path)
    keep_members(tmp_path / "best", pair, AnswerRule())
    with pytest.raises(UserError, match="is an ensemble itself"):
        label([tmp_path / "best", pair[0]], tmp_path)
    (tmp_path / "best" / "ensemble.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        label([tmp_path / "best"], tmp_path)
    with pytest.raises(UserError, match="--merge: takes the adapter of one model"):
        predict.main(["--model", *map(str, pair), "--merge", str(tmp_path / "merged")])


def test_seeds_leave_an_ensemble(setting, tmp_path, capsys) -> None:
    options = {"output_dir": tmp_path, "run_name": "many", "seeds": "3..4", "num_train_epochs": "1"}
    train(setting, **options, decision="thresholds")
    folder = tmp_path / "many-ensemble"
    metrics = json.loads((folder / "metrics.json").read_text())
    taxonomy = Taxonomy.from_tree(json.loads((folder / "labels.json").read_text()))
    for split in ("validation", "test"):
        tables = [tmp_path / f"many-seed{seed}" / "predictions" / f"{split}.csv" for seed in (3, 4)]
        members = [read_probabilities(table, taxonomy)[1] for table in tables]
        with open(folder / "predictions" / f"{split}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        gold, predicted = ([taxonomy.leaf_id(row[name]) for row in rows] for name in ("gold", "predicted"))
        # The rule is the ensemble's own, and it decides as the file says.
        facts = json.loads((folder / "best" / "ensemble.json").read_text())["rule"]
        mean = (members[0] + members[1]) / 2
        scores = np.log(np.maximum(mean, 2.5e-7)) / facts["temperature"] + np.array(facts["calibration_biases"])
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        decided = (scores + np.array(facts["decision_offsets"] or [0.0])).argmax(axis=1)
        assert decided.tolist() == predicted
        expected = classification_scores(np.array(gold), np.array(predicted), taxonomy)
        assert metrics[split]["macro_f1"] == pytest.approx(expected["macro_f1"])
        low, high = metrics[split]["macro_f1_ci95"]
        assert low <= metrics[split]["macro_f1"] <= high and "forum" in metrics[split]["platforms"]
    runs = [json.loads((tmp_path / f"many-seed{seed}" / "metrics.json").read_text()) for seed in (3, 4)]
    total = sum(run["cost"]["train_seconds"] for run in runs)
    assert metrics["cost"]["train_seconds"] == pytest.approx(total) and metrics["train"]["members"] == 2
    assert "The 2 models as one" in capsys.readouterr().out
    # predict.py over the kept ensemble agrees with the scored file.
    posts, output = tmp_path / "posts.csv", tmp_path / "labels.csv"
    with open(posts, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "text"], *([row["id"], row["text"]] for row in rows)])
    arguments = ["--input", str(posts), "--output", str(output), "--label_sets", "0.9"]
    predict.main(["--model", str(folder / "best"), *arguments])
    with open(output, newline="", encoding="utf-8") as file:
        again = list(csv.DictReader(file))
    assert [row["predicted"] for row in again] == [row["predicted"] for row in rows]
    names = [name for name in rows[0] if name.startswith("probability_")]
    for one, other in zip(rows, again, strict=True):
        assert [float(one[name]) for name in names] == pytest.approx([float(other[name]) for name in names], abs=1e-5)
    # A few evaluation texts are the same for every seed, so that scores are paired and can be averaged.
    few = options | {"run_name": "few"}
    train(setting, **few, max_eval_samples="8")
    for split in ("validation", "test"):
        names = ("few-seed3", "few-seed4", "few-ensemble")
        ids = [[row["id"] for row in rows_of(tmp_path / name / "predictions" / f"{split}.csv")] for name in names]
        assert len(ids[0]) == 8 and ids[0] == ids[1] == ids[2]
    # The ensemble is made of what its members were evaluated on, and of nothing else.
    table = tmp_path / "few-seed4" / "predictions" / "test.csv"
    table.write_text(table.read_text().replace(f"\n{ids[0][0]},", "\nother,"))
    capsys.readouterr()
    train(setting, **few, max_eval_samples="8")
    assert "no ensemble: the runs were not all evaluated on these texts" in capsys.readouterr().out


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_models_that_leave_no_folder_are_scored_only(setting, tmp_path, capsys) -> None:
    train(setting, output_dir=tmp_path, run_name="floor", engine="tfidf", seeds="1..2")
    folder = tmp_path / "floor-ensemble"
    alone, together = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("floor-seed1", "floor-ensemble")
    )
    # TF-IDF has no seed: the average of equals is what they are.
    assert together["test"]["macro_f1"] == pytest.approx(alone["test"]["macro_f1"])
    assert not (folder / "best").exists() and "predict.py" not in capsys.readouterr().out


def test_unlike_models_become_one(setting, tmp_path, capsys) -> None:
    train(setting, output_dir=tmp_path, run_name="linear", head_hidden_sizes="[]", num_train_epochs="1")
    train(setting, output_dir=tmp_path, run_name="deep", num_train_epochs="1", max_length="16")
    members = [str(tmp_path / name) for name in ("linear", "deep")]
    capsys.readouterr()
    assert ensemble([*members, "--run_name", "both"]) == 0
    assert "The 2 models as one" in capsys.readouterr().out
    folder = tmp_path / "both"
    rows, *tables = (rows_of(Path(run) / "predictions" / "test.csv") for run in (folder, *members))
    names = [name for name in rows[0] if name.startswith("probability_")]
    # Fitted to the average on validation, the temperature leaves the order of a text's labels as it is.
    rule = json.loads((folder / "best" / "ensemble.json").read_text())["rule"]
    for row, *parts in zip(rows, *tables, strict=True):
        mean = np.mean([[float(part[name]) for name in names] for part in parts], axis=0)
        scores = np.log(np.maximum(mean, 2.5e-7)) / rule["temperature"] + np.array(rule["calibration_biases"])
        expected = np.exp(scores) / np.exp(scores).sum()
        assert [float(row[name]) for name in names] == pytest.approx(expected.tolist(), abs=1e-5)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["train"]["members"] == 2
    # predict.py over it answers as it was scored.
    posts, output = tmp_path / "posts.csv", tmp_path / "labels.csv"
    with open(posts, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([row["id"], row["text"]] for row in rows)])
    predict.main(["--model", str(folder / "best"), "--input", str(posts), "--output", str(output)])
    assert [row["predicted"] for row in rows_of(output)] == [row["predicted"] for row in rows]


def test_priors_of_an_ensemble_are_those_of_what_its_members_learned(setting, tmp_path, monkeypatch) -> None:
    seen = []

    def noted(gold, logits, counts, *rest):
        seen.append(np.array(counts))
        return fit_answers(gold, logits, counts, *rest)

    monkeypatch.setattr(sequence, "fit_answers", noted)
    monkeypatch.setattr(figures, "save_figure", lambda *_: None)
    options = {"output_dir": tmp_path, "engine": "tfidf", "decision": "logit_adjusted"}
    train(setting, **options, run_name="many", seeds="1..2", max_train_samples="40")
    first, second, together = seen
    assert (first != second).any() and (together == first + second).all()
    train(setting, **options, run_name="other")
    ensemble([str(tmp_path / name) for name in ("many-seed1", "other")] + ["--run_name", "both"])
    *_, third, both = seen
    assert len(seen) == 5 and third.sum() > 40 == first.sum() and (both == first + third).all()


def test_copies_count_among_what_members_learned(setting) -> None:
    def counted(**options: str) -> list[int]:
        asked = command_line(setting, decision="logit_adjusted", max_train_samples="60", **options)
        config = parse_config([*asked, "--seeds", "1..2"], "test")
        task = task_for(load_rows(config.data), config)
        return task.class_counts(trained_labels(task, seed_configs(config)), task.taxonomy.leaves)

    assert sum(counted()) == 120 and min(counted()) < 40 <= min(counted(oversample_to="20", augment_rare="1"))
    assert counted(class_counts="[4, 3, 2, 1]") == [4, 3, 2, 1]


def test_a_member_without_a_model_is_scored_and_named(setting, tmp_path, capsys) -> None:
    train(setting, output_dir=tmp_path, run_name="deep", num_train_epochs="1")
    train(setting, output_dir=tmp_path, run_name="words", engine="tfidf")
    capsys.readouterr()
    ensemble([str(tmp_path / "deep"), str(tmp_path / "words"), "--run_name", "both"])
    assert f"scored only: {tmp_path / 'words'} left no model" in capsys.readouterr().out
    assert json.loads((tmp_path / "both" / "metrics.json").read_text())["train"]["members"] == 2
    assert not (tmp_path / "both" / "best").exists()


def test_models_that_read_unlike_items_are_scored_only(setting, tmp_path, capsys) -> None:
    train(setting, output_dir=tmp_path, run_name="text", num_train_epochs="1")
    train(setting, output_dir=tmp_path, run_name="platform", num_train_epochs="1", platform_prefix="true")
    members = [tmp_path / "text", tmp_path / "platform"]
    capsys.readouterr()
    ensemble([*map(str, members), "--run_name", "both"])
    said = f"{members[1]} and {members[0]} do not read the same in front of texts (platform; nothing)"
    # A best/ that predict.py refuses is none.
    assert f"scored only: {said}" in (printed := capsys.readouterr().out) and "label new posts" not in printed
    assert not (tmp_path / "both" / "best").exists()


def test_a_member_that_is_gone_is_named(pair, tmp_path) -> None:
    keep_members(tmp_path / "best", [*pair, tmp_path / "moved" / "best"], AnswerRule())
    with pytest.raises(UserError, match=r"best is an ensemble whose member .*moved/best is gone; .* moved together"):
        label([tmp_path / "best"], tmp_path)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["a"], "at least two run folders"),
        (["a", "a"], "at least two run folders, each of them once"),
        (["a", "empty"], "empty: config.yaml is missing; give the folder of a finished run of train_classifier.py"),
        (["a", "one-ensemble"], "one-ensemble: is an ensemble itself; give the runs that it averages"),
        (["a", "writer"], "writer: is no classifier"),
        (["a", "tagger"], "tagger: does not label texts, and only labels can be averaged"),
        (["a", "other"], "other and a were evaluated on different posts"),
    ],
)
def test_what_makes_no_ensemble_is_named(runs, message, tmp_path) -> None:
    train = {"one-ensemble": {"members": 2, "steps": 3}, "writer": {"steps": 3, "supervised_tokens": 9}}
    for name in ("a", "one-ensemble", "writer", "other", "tagger"):
        folder = tmp_path / name
        (folder / "predictions").mkdir(parents=True)
        (folder / "config.yaml").write_text("{}")
        (folder / "metrics.json").write_text(json.dumps({"train": train.get(name, {"steps": 3})}))
        (folder / "labels.json").write_text('["x", "y"]')
        for split in ("validation", "test"):
            table = folder / "predictions" / f"{split}.csv"
            table.write_text(f"id,platform,gold,predicted,probability_x,probability_y\n{name},,x,x,0.6,0.4\n")
    (tmp_path / "tagger" / "labels.json").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        ensemble([*(str(tmp_path / run) for run in runs), "--run_name", "both"])
    assert not (tmp_path / "both").exists()
    with pytest.raises(UserError, match="a is there already; give another name"):
        ensemble([*(str(tmp_path / name) for name in ("a", "other")), "--run_name", "a"])
