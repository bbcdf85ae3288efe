"""When a folder's run counts as the one that is asked for, and its files."""

from __future__ import annotations

import csv
import json

import pytest
import yaml
from datasets import DatasetDict

from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.templates import PromptTemplate
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.runs.folder import create_run, environment, is_finished
from opinionlm.runs.run import Run
from opinionlm.utils.files import write_csv, write_json
from tests.tiny import save_pretrained_model, tiny_tokenizer


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


@pytest.mark.parametrize(
    ("seed", "limit", "facts", "refused"),
    [
        ("7", "20", {"seed": 7}, True),
        ("7", "20", {"evaluation_seed": 42}, False),
        ("42", "20", {"seed": 42}, False),
        ("7", None, {"seed": 7}, False),
    ],
)
def test_texts_drawn_by_the_runs_own_seed_are_not_mixed_in(tmp_path, seed, limit, facts, refused) -> None:
    options = ["--output_dir", str(tmp_path), "--run_name", "run", "--seed", seed]
    config = parse_config(["--dataset", "configs/datasets/cryptoqa.yaml", *options], "test")
    config.data.max_eval_samples = None if limit is None else int(limit)
    config.run_folder.mkdir()
    (config.run_folder / "config.yaml").write_text(yaml.safe_dump(config.flat()))
    (config.run_folder / "environment.json").write_text(json.dumps(facts))
    (config.run_folder / "metrics.json").write_text("{}")
    if refused:
        with pytest.raises(UserError, match="max_eval_samples: this run drew .* with its own seed"):
            is_finished(config)
    else:
        assert is_finished(config)


@pytest.mark.parametrize(("rate", "stays"), [("1e-3", True), ("2e-3", False)])
def test_what_a_run_with_other_options_left_behind_is_not_tracked_on(tmp_path, rate, stays) -> None:
    options = ["--output_dir", str(tmp_path), "--run_name", "r", "--learning_rate"]
    facts = {"data_fingerprint": "a", "processes": 1}
    create_run(parse_config([*options, "1e-3"], "test"), facts, None)
    (tmp_path / "r" / "wandb_run_id").write_text("of the first\n")
    (tmp_path / "r" / "tensorboard").mkdir()
    create_run(parse_config([*options, rate], "test"), facts, None)
    assert (tmp_path / "r" / "wandb_run_id").exists() == (tmp_path / "r" / "tensorboard").exists() == stays


def test_a_lone_return_does_not_break_a_row(tmp_path) -> None:
    rows = [["1", "one\rtwo"], ["2", "three\nfour"], ["3", 'a "word", and\r\nmore']]
    write_csv(tmp_path / "rows.csv", ["id", "text"], rows)
    assert b"\r\n1" not in (tmp_path / "rows.csv").read_bytes()
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["id", "text"], *rows]


def test_a_run_does_not_go_on_from_another_pretrained_model(tmp_path) -> None:
    save_pretrained_model(tmp_path / "model")
    options = ["--output_dir", str(tmp_path), "--run_name", "r", "--model_name_or_path", str(tmp_path / "model")]
    config = parse_config([*options, "--use_cpu", "true", "--report_to", "none"], "test")
    posts = PreparedDataset(DatasetDict(), None, "posts", "f" * 64, tmp_path)
    Run(config).create(posts)
    (tmp_path / "r" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    Run(config).create(posts)
    weights = bytearray((tmp_path / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model" / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="its run began with model_fingerprint [0-9a-f]{64}, and this is"):
        Run(config).create(posts)
    # Runs of before there was the note go on.
    facts = json.loads((tmp_path / "r" / "environment.json").read_text())
    del facts["model_fingerprint"]
    (tmp_path / "r" / "environment.json").write_text(json.dumps(facts))
    Run(config).create(posts)


@pytest.mark.parametrize("what", ["soft_labels", "prompt_template", "tokenizer_name_or_path"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_file_that_a_run_reads_belongs_to_it(tmp_path, what, finished) -> None:
    read = {name: tmp_path / name for name in ("soft_labels", "prompt_template", "tokenizer_name_or_path")}
    read["soft_labels"].write_text("id,probability_a,probability_b\n1,0.5,0.5\n")
    read["prompt_template"].write_text('prompt: "{text}:"\n')
    tiny_tokenizer().save_pretrained(read["tokenizer_name_or_path"])
    options = ["--output_dir", str(tmp_path), "--run_name", "r", "--report_to", "none", f"--{what}", str(read[what])]
    config = parse_config(options, "test", "train_instruct" if what == "prompt_template" else "train_classifier")
    facts = environment(config, "f" * 64)
    create_run(config, facts, None)
    (tmp_path / "r" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    if finished:
        (tmp_path / "r" / "metrics.json").write_text("{}")
    assert is_finished(config) == finished

    file = read[what] / "tokenizer.json" if what.startswith("tokenizer") else read[what]
    before = file.read_text()
    file.write_text(before.replace("0.5,0.5", "0.4,0.6").replace("{text}:", "{text} is").replace('"1.0"', '"1.1"'))
    assert file.read_text() != before
    name = what.removesuffix("_name_or_path")
    message = f"r: its run began with {name}_fingerprint [0-9a-f]{{64}}, and this is [0-9a-f]{{64}}; .*overwrite: true"
    with pytest.raises(UserError, match=message):
        is_finished(config)
    with pytest.raises(UserError, match=message):
        create_run(config, environment(config, "f" * 64), None)
    # A run of before there was the note, and one whose file is gone.
    write_json(tmp_path / "r" / "environment.json", {"data_fingerprint": "f" * 64, "processes": 1})
    assert is_finished(config) == finished
    write_json(tmp_path / "r" / "environment.json", facts)
    read[what].rename(tmp_path / "elsewhere")
    assert is_finished(config) == finished


def test_a_template_without_a_name_belongs_to_the_run(tmp_path) -> None:
    config = parse_config(
        ["--output_dir", str(tmp_path), "--run_name", "r", "--report_to", "none"], "t", "train_instruct"
    )
    posts = PreparedDataset(DatasetDict(), None, "posts", "f" * 64, tmp_path)
    Run(config).create(posts, {"prompt_template_fingerprint": PromptTemplate("{text}:").fingerprint})
    (tmp_path / "r" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(UserError, match="its run began with prompt_template_fingerprint"):
        Run(config).create(posts, {"prompt_template_fingerprint": PromptTemplate("{text} is").fingerprint})
