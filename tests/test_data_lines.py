"""Every script that reads data says what became of the records; leaves of one name are told apart to the last."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

import predict
import pretrain
import prompt
import reproduce
import train_instruct
from opinionlm.data.accounting import account_lines
from tests.classifier_runs import train
from tests.tiny import save_generative_model

TREE = {"noise": None, "praise": ["product", "service"], "complaint": ["product", "service"]}
LEAVES = ["noise", "praise/product", "praise/service", "complaint/product", "complaint/service"]
WORDS = {"noise": "vote follow", "praise": "love great", "complaint": "hate awful", "product": "phone"}
WORDS |= {"service": "shop"}


@pytest.fixture(scope="module")
def reviews(setting, tmp_path_factory) -> dict[str, str]:
    """Options of short runs over reviews whose leaves share names, with a row that goes and one that is damaged."""
    folder = tmp_path_factory.mktemp("reviews")
    lines = ["text,label"]
    for index in range(100):
        leaf = LEAVES[index % 5]
        lines.append(f"{' '.join(WORDS[name] for name in leaf.split('/'))} today {index},{leaf}")
    lines += ["what is this,product", "caf\xe9 noise,noise"]
    (folder / "reviews.csv").write_bytes("\n".join(lines).encode("cp1252"))
    spec = {
        "name": "reviews",
        "tokenizer_name_or_path": setting["model_name_or_path"],
        "files": [{"path": "reviews.csv", "columns": {"text": "text", "label": "label"}}],
        "labels": TREE,
        "labels_may_be_absent": ["noise"],
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    }
    (folder / "reviews.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    own = {"dataset": folder / "reviews.yaml", "data_dir": folder, "prepared_dir": folder / "prepared"}
    return setting | {name: str(value) for name, value in own.items()}


def expected(reviews: dict[str, str]) -> list[str]:
    lines = account_lines(next(Path(reviews["prepared_dir"]).iterdir()))
    assert lines[0].startswith("records 102 in = 101 kept + 1 rejected: ambiguous_label 1 (")
    assert [line for line in lines if line.startswith("warning: ") and "U+FFFD" in line]
    assert [line for line in lines if line.startswith("warning: 1 records are rejected") and "'product'" in line]
    return lines


def said(capsys, reviews: dict[str, str]) -> bool:
    printed, lines = capsys.readouterr().out.splitlines(), expected(reviews)
    return [line for line in printed if line in lines] == lines


@pytest.mark.slow
def test_path_names_from_file_to_prediction(reviews, tmp_path, capsys) -> None:
    metrics = train(reviews, output_dir=tmp_path, run_name="paths", num_train_epochs=1, class_weights="none")
    assert said(capsys, reviews)
    assert {f"f1_{leaf}" for leaf in LEAVES} <= set(metrics["test"])
    assert "hierarchical_f1" in metrics["test"] and "level2_macro_f1" in metrics["test"]
    (tmp_path / "new.txt").write_text("love great phone today\nhate awful shop now\n")
    output = tmp_path / "labels.csv"
    model, source = str(tmp_path / "paths/best"), str(tmp_path / "new.txt")
    predict.main(["--model", model, "--input", source, "--output", str(output)])
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {f"probability_{leaf}" for leaf in LEAVES} <= set(rows[0])
    for row in rows:
        level1, _, level2 = row["predicted"].partition("/")
        assert row["level1"] == level1 and row["level2"] == (row["predicted"] if level2 else "")


@pytest.mark.parametrize("engine", ["loop", "tfidf"])
def test_every_engine_says_it(reviews, tmp_path, capsys, engine: str) -> None:
    steps = {"max_steps": 1} if engine == "loop" else {}
    train(reviews, output_dir=tmp_path, run_name=engine, engine=engine, **steps)
    assert said(capsys, reviews)


@pytest.fixture(scope="module")
def generative(reviews, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("generative")
    save_generative_model(folder / "model")
    (folder / "template.yaml").write_text('prompt: "post: {text}\\nlabel:"\n')
    names = ("dataset", "data_dir", "prepared_dir", "use_cpu", "report_to")
    own = {"model_name_or_path": str(folder / "model"), "prompt_template": str(folder / "template.yaml")}
    return {name: reviews[name] for name in names} | own | {"max_length": "64"}


def arguments(setting: dict[str, str], **options: object) -> list[str]:
    return [part for name, value in (setting | options).items() for part in (f"--{name}", str(value))]


@pytest.mark.slow
def test_instructions_and_prompts_say_it(reviews, generative, tmp_path, capsys) -> None:
    options = {"output_dir": tmp_path, "cache_dir": tmp_path / "cache", "adaptation": "top_blocks", "max_steps": 1}
    train_instruct.main(arguments(generative, run_name="i", **options))
    assert said(capsys, reviews)
    metrics = prompt.main(arguments(generative, output_dir=tmp_path, run_name="p"))
    assert said(capsys, reviews)
    assert "f1_praise/product" in metrics["test"]


def test_pretraining_says_it(reviews, generative, tmp_path, capsys) -> None:
    setting = {name: value for name, value in generative.items() if name not in ("prompt_template", "report_to")}
    pretrain.main(arguments(setting, output_dir=tmp_path, run_name="d", max_steps=1))
    assert said(capsys, reviews)


def test_tables_of_runs_say_it_once_for_all_runs(reviews, tmp_path, capsys) -> None:
    names = ("dataset", "data_dir", "prepared_dir", "report_to")
    table = {
        "title": "t",
        "source": "s",
        "measures": {"Accuracy": "test.accuracy"},
        # A run that fails at once: the table tells of the data before it runs anything.
        "options": {name: reviews[name] for name in names} | {"model_name_or_path": str(tmp_path / "nowhere")},
        "axes": {"Rate": {"slow": {"learning_rate": 1e-6}, "fast": {"learning_rate": 1e-3}}},
        "scales": {"small": {"seeds": "0..0"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opinionlm.experiments.grid_runner.run_all", lambda *_: {})
        (tmp_path / "out/mine/small").mkdir(parents=True)
        reproduce.main([str(tmp_path / "mine.yaml"), "--output_dir", str(tmp_path / "out")])
    assert said(capsys, reviews)


def test_an_account_without_a_report_tells_the_rows(tmp_path) -> None:
    rows = {"train": 5, "validation": 2, "test": 1}
    manifest = {"fingerprint": "0", "labels": None, "rows": rows, "name": "x"}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    assert account_lines(tmp_path) == ["splits  train 5, validation 2, test 1"]
