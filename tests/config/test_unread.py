"""Options that the chosen way does not read: refused, or left out where the choice is made later."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers.trainer_utils import SchedulerType

from opinionlm.adaptation.adapt.mining import training_token_ids
from opinionlm.config.conditions import Presence
from opinionlm.config.config import Config, declared, default_of, scripts_of, type_of
from opinionlm.config.optimization import WITH_WARMUP
from opinionlm.config.parser import parse_config
from opinionlm.config.unread import refuse_unread, unread_options
from opinionlm.errors import UserError
from opinionlm.experiments.grid import load_table
from opinionlm.experiments.grid_runner import check_options, plan_text, runs_of
from opinionlm.runs.folder import create_run, is_finished
from tools.options_table import table

ROOT = Path(__file__).resolve().parents[2]
TOKENS, PAIRS = "configs/datasets/sample_token.yaml", "configs/datasets/sample_similarity.yaml"
# Values that no other check refuses.
VALUES = {"lr_scheduler_type": "linear", "optim": "adamw_torch", "hypothesis_template": "It is {label}."}
VALUES |= {
    "tune": {"trials": 2},
    "max_steps": 7,
    "dtype": "bfloat16",
    "lora_dropout": 0.1,
    "warmup_steps": 0.2,
    "report_to": ["tensorboard"],
}


def other_value(name: str) -> Any:
    """A value of an option's type that is not its default."""
    if name in VALUES:
        return VALUES[name]
    annotation, default = type_of(name), default_of(name)
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice != default)
    if typing.get_origin(annotation) is list:
        return [typing.get_args(annotation)[0](3)]
    if annotation is bool:
        return not default
    if annotation is str:
        return "other"
    return (default or 2) + 1 if annotation is int else (default or 0.1) / 2


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train_classifier", "--adaptation lora --trainable_blocks 3", "adaptation: lora; leave it out, or use ada"),
        ("train_classifier", "--adaptation dora --adalora_init_r 4", "adalora_init_r: 4 is not read by adaptation: d"),
        ("train_classifier", "--sensitivity_budget 0.1", "or use adaptation: adapt"),
        ("train_classifier", "--sequence_top_k 9", "not read by task_tokens: auto (off); leave it out, or use task_"),
        (
            "train_classifier",
            "--adaptation adapt --task_tokens off --sequence_top_k 9",
            "not read by task_tokens: off",
        ),
        ("train_classifier", "--bnb_4bit_quant_type fp4", "not read by load_in_4bit: False"),
        ("train_classifier", "--engine tfidf --learning_rate 1", "learning_rate: 1.0 is not read by engine: tfidf"),
        ("train_classifier", "--engine tfidf --model_name_or_path x", "model_name_or_path: 'x' is not read by engine"),
        (
            "train_classifier",
            "--engine tfidf --adaptation lora --lora_r 2",
            "adaptation: 'lora', lora_r: 2 are not read by engine: tfidf",
        ),
        ("train_classifier", "--engine tfidf --adam_beta1 0.5", "adam_beta1: 0.5 is not read by engine: tfidf"),
        ("train_classifier", "--engine sklearn --adaptation head_only --head_bias false", "head_bias: False is not"),
        ("train_classifier", "--cache_frozen off --cache_limit_gb 3", "cache_limit_gb: 3.0 is not read by cache_froz"),
        ("train_classifier", "--cache_frozen off --cache_dir x", "cache_dir: 'x' is not read by cache_frozen: off"),
        ("train_classifier", "--task similarity --many_labels_lr_factor 2", "2.0 is not read by task: similarity"),
        ("train_classifier", "--eval_steps 5", "eval_steps: 5 is not read by eval_strategy: epoch"),
        (
            "train_classifier",
            "--max_tokens_per_batch 99 --per_device_train_batch_size 4",
            "per_device_train_batch_size: 4 is not read beside max_tokens_per_batch: 99; leave one of the two out",
        ),
        (
            "train_classifier",
            "--max_tokens_per_batch 99 --per_device_train_batch_size 4 --group_by_length true",
            "group_by_length: True, per_device_train_batch_size: 4 are not read beside max_tokens_per_batch: 99; "
            "leave them out, or max_tokens_per_batch",
        ),
        (
            "train_classifier",
            "--sensitivity_samples 9 --sensitivity_beta 2",
            "sensitivity_beta: 2.0, sensitivity_samples: 9 are not read by adaptation: full; leave them out, or use",
        ),
        (
            "train_classifier",
            f"--dataset {TOKENS} --task_tokens on --sequence_top_k 9",
            "--task_tokens: on is for single texts with labels, not for data of task 'token'",
        ),
        ("train_classifier", "--lr_scheduler_type constant --warmup_steps 5", "not read by lr_scheduler_type: const"),
        ("train_classifier", "--report_to none --wandb_tags a", "wandb_tags: ['a'] is not read by report_to: none"),
        ("train_classifier", "--class_weights none --class_counts 1 2", "class_counts: [1, 2] is not read by class_w"),
        ("train_classifier", "--model_revision abc", "model_revision: 'abc' is not read by model_source: folder"),
        ("train_classifier", f"--dataset {TOKENS} --pooling mean", "pooling: 'mean' is not read by task: token; lea"),
        ("train_classifier", f"--dataset {PAIRS} --rdrop_alpha 1", "rdrop_alpha: 1.0 is not read by task: similarity"),
        ("train_classifier", "--label_all_subwords true", "label_all_subwords: True is not read by task: sequence"),
        ("train_classifier", "--sensitivity_warmup_learning_rate 1", "is not read by adaptation: full"),
        (
            "train_classifier",
            "--adaptation adapt --sensitivity_warmup_steps 0 --sensitivity_warmup_learning_rate 1",
            "is not read without sensitivity_warmup_steps; leave it out, or give sensitivity_warmup_steps",
        ),
        ("train_instruct", "--num_beams 2", "num_beams: 2 is not read by decode: score; leave it out, or use decode"),
        ("train_instruct", "--max_answer_length 9", "max_answer_length: 9 is not read by decode: score"),
        ("train_instruct", "--decode generate --score_normalisation mean", "'mean' is not read by decode: generate"),
        ("train_instruct", "--class_weights none --class_counts 1 2", "class_counts: [1, 2] is not read by class_w"),
        ("prompt", "--max_train_samples 9", "max_train_samples: 9 is not read without shots; leave it out, or give"),
        ("prompt", "--hypothesis_template {label}!", "not read by method: language_model; leave it out, or use meth"),
        ("prompt", "--method entailment --load_in_4bit true", "load_in_4bit: True is not read by method: entailment"),
        ("pretrain", "--max_tokens_per_batch 99 --per_device_train_batch_size 4", "is not read beside max_tokens_per"),
        ("mining", "--learning_rate 1", "--learning_rate: unknown option; it belongs to train_classifier.py"),
        # The way that lacks least is named.
        (
            "train_instruct",
            "--dataset configs/datasets/sample_multi_label.yaml --decode generate --label_set_coverage 0.8",
            "label_set_coverage: 0.8 is not read by decode: generate; leave it out, or use decode: score",
        ),
    ],
)
def test_what_the_chosen_way_does_not_read_is_refused(script, arguments, message, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        parse_config(arguments.split(), "test", script)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def all_choices(name: str, wanted: Any) -> list[Any]:
    """Values of a choice that a condition does not accept."""
    match wanted:
        case Presence.GIVEN:
            return [default_of(name)]
        case Presence.ABSENT:
            return [other_value(name)]
    annotation = type_of(name)
    values = typing.get_args(annotation) or ((True, False) if annotation is bool else ("constant",))
    return [value for value in values if value not in wanted and value != "auto"]


def test_every_condition_of_every_option_holds(monkeypatch) -> None:
    """An option at another value is read by every choice that it names, and refused by all others, with its name."""
    monkeypatch.chdir(ROOT)
    tried = 0
    for name, (group, entry) in declared().items():
        for way in entry.metadata["when"]:
            for choice, wanted in way.items():
                for script in scripts_of(name):
                    if choice not in declared() or script not in scripts_of(choice):
                        continue
                    for value in all_choices(choice, wanted):
                        config = Config(script=script)
                        setattr(getattr(config, group), name, other_value(name))
                        setattr(getattr(config, declared()[choice][0]), choice, value)
                        refused = {one.name for one in unread_options(config)}
                        others = [other for other in entry.metadata["when"] if other is not way]
                        assert name in refused or others, (script, name, choice, value)
                        tried += 1
    assert tried > 300


@pytest.mark.parametrize("engine", ["tfidf", "sklearn"])
def test_a_choice_of_the_command_line_leaves_out_what_the_yaml_states(engine, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    given = ["--config", "configs/quickstart.yaml", "--engine", engine, "--adaptation", "head_only"]
    config = parse_config(given if engine == "sklearn" else given[:-2], "test")
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith(f"engine: {engine} does not read ") and "learning_rate" in said and "warmup_steps" in said
    assert said.endswith("of configs/quickstart.yaml; they are left out\n")
    default = Config()
    assert config.training.learning_rate == default.training.learning_rate
    assert config.data.max_length == (512 if engine == "tfidf" else 256)
    assert config.method.class_weights == "inverse_frequency", "read by every engine"


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ("", "--num_train_epochs 3 --max_steps 10"),
        ("", "--max_steps 10 --num_train_epochs 9"),
        ("max_steps: 10\nnum_train_epochs: 2\n", ""),
        ("max_steps: 10\n", "--num_train_epochs 9"),
        ("num_train_epochs: 9\n", "--max_steps 10"),
    ],
)
@pytest.mark.parametrize("script", ["train_classifier", "train_instruct", "pretrain"])
def test_steps_decide_beside_epochs_wherever_the_two_are_stated(content, arguments, script, tmp_path, capsys) -> None:
    """It was refused for one place, and a number that is the default was left out without a word."""
    file = tmp_path / "mine.yaml"
    file.write_text(content + "seed: 1\n")
    config = parse_config(["--config", str(file), *arguments.split()], "test", script)
    place = "the command line" if "num_train_epochs" in arguments else file
    assert capsys.readouterr().out == f"max_steps: 10 replaces num_train_epochs of {place}; it is left out\n"
    assert (config.training.max_steps, config.training.num_train_epochs) == (10, 3.0)


@pytest.mark.parametrize(
    ("content", "arguments"),
    [("seed: 7\n", ["--seeds", "1..2"]), ("seeds: 1..2\n", ["--seed", "7"]), ("seed: 7\nseeds: 1..2\n", [])],
)
@pytest.mark.parametrize("script", ["train_classifier", "train_instruct", "prompt"])
def test_a_seed_beside_seeds_is_left_out_and_said_so(content, arguments, script, tmp_path, capsys) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    config = parse_config(["--config", str(file), *arguments], "test", script)
    place = "the command line" if "--seed" in arguments else file
    assert capsys.readouterr().out == f"seeds: 1..2 replaces seed of {place}; it is left out\n"
    assert config.training.seed_list() == [1, 2]


def test_epochs_are_not_spoken_of_where_nobody_states_them(capsys) -> None:
    parse_config(["--max_steps", "10"], "test")
    parse_config(["--max_steps", "-1", "--num_train_epochs", "2"], "test")
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="num_train_epochs: 2.0, max_steps: 5 are not read by engine: tfidf"):
        parse_config(["--engine", "tfidf", "--max_steps", "5", "--num_train_epochs", "2"], "test")


def test_a_fixed_number_of_steps_is_said_to_replace_the_epochs(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    config = parse_config(["--config", "configs/quickstart.yaml", "--max_steps", "10"], "test")
    assert "max_steps: 10 replaces num_train_epochs of configs/quickstart.yaml; it is left out" in (
        capsys.readouterr().out
    )
    assert config.training.num_train_epochs == 3.0


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "adaptation: lora\ntrainable_blocks: 3\n",
            [],
            "mine.yaml:2: trainable_blocks: 3 is not read by adaptation: lora",
        ),
        ("adaptation: lora\n", ["--trainable_blocks", "3"], "--trainable_blocks: 3 is not read by adaptation: lora"),
        ("trainable_blocks: 3\n", [], "mine.yaml:1: trainable_blocks: 3 is not read by adaptation: full"),
        (
            "engine: tfidf\nlearning_rate: 1.0\n",
            ["--seed", "1"],
            "mine.yaml:2: learning_rate: 1.0 is not read by engine: tfidf",
        ),
        ("max_tokens_per_batch: 99\n", ["--per_device_train_batch_size", "4"], "--per_device_train_batch_size: 4 is"),
    ],
)
def test_one_place_does_not_contradict_itself(content, arguments, message, tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        parse_config(["--config", str(file), *arguments], "test")


def test_a_task_on_the_command_line_and_one_that_only_the_data_tell(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "mine.yaml"
    file.write_text("decision: thresholds\nblend_words: true\n")
    config = parse_config(["--config", str(file), "--dataset", TOKENS], "test")
    assert (config.decision.decision, config.robust.blend_words) == ("argmax", False)
    assert "task: token does not read decision, blend_words of" in capsys.readouterr().out
    unknown = parse_config(["--config", str(file), "--dataset", "nowhere.yaml"], "test")
    with pytest.raises(
        UserError, match="decision: 'thresholds', blend_words: True are not read by task: similarity; le"
    ):
        refuse_unread(unknown, task="similarity")
    words = parse_config(["--mlm_probability", "0.3"], "test", "pretrain")
    refuse_unread(words, objective="masked words")
    with pytest.raises(UserError, match="mlm_probability: 0.3 is not read by objective: next words; leave it out$"):
        refuse_unread(words, objective="next words")


def test_mining_takes_the_yaml_of_a_training(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    config = parse_config(["--config", "configs/minilm.yaml", "--sequence_top_k", "9"], "test", "mining")
    assert config.data.dataset == "configs/datasets/cryptoqa.yaml" and config.adapt.sequence_top_k == 9
    assert "learning_rate" not in config.flat() and training_token_ids


def test_only_some_schedules_warm_up() -> None:
    assert {one.value for one in SchedulerType} == {*WITH_WARMUP, "constant", "reduce_lr_on_plateau", "greedy"}


def test_a_run_of_before_is_the_same_run_whatever_it_did_not_read(tmp_path) -> None:
    config = parse_config(["--adaptation", "lora", "--output_dir", str(tmp_path), "--run_name", "old"], "test")
    create_run(config, {}, None)
    (config.run_folder / "metrics.json").write_text("{}")
    stored = config.flat() | {"trainable_blocks": 3, "num_virtual_tokens": 4, "sequence_top_k": 5}
    (config.run_folder / "config.yaml").write_text(yaml.safe_dump(stored))
    assert is_finished(config)
    (config.run_folder / "config.yaml").write_text(yaml.safe_dump(stored | {"lora_r": 4}))
    with pytest.raises(UserError, match=r"other options \(lora_r\)"):
        is_finished(config)


def test_epochs_of_a_run_of_so_many_steps_make_no_other_run(tmp_path) -> None:
    config = parse_config(["--max_steps", "5", "--output_dir", str(tmp_path), "--run_name", "old"], "test")
    create_run(config, {}, None)
    (config.run_folder / "metrics.json").write_text("{}")
    (config.run_folder / "config.yaml").write_text(yaml.safe_dump(config.flat() | {"num_train_epochs": 9.0}))
    assert is_finished(config)


def written_table(folder: Path, **changes: Any) -> Path:
    content = {
        "title": "Ways",
        "source": "Ours",
        "measures": {"Accuracy": "test.accuracy"},
        "options": {
            "dataset": "configs/datasets/sample.yaml",
            "learning_rate": 1e-3,
            "lora_r": 4,
            "report_to": "none",
        },
        "axes": {
            "Way": {"LoRA": {"adaptation": "lora"}, "All": {}, "Words": {"engine": "tfidf"}},
            "Length": {"short": {"max_length": 16}, "long": {"max_length": 32, "class_weights": "none"}},
        },
        "scales": {"smoke": {"seeds": 1}},
    } | changes
    path = folder / "ways.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_cells_of_a_table_hold_what_they_read(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    path = written_table(tmp_path)
    cells = load_table(path, "smoke", {"warmup_steps": 0.1}).cells
    options = {cell.name: cell.options for cell in cells}
    assert options["lora-short"]["lora_r"] == 4 and "lora_r" not in options["all-short"]
    assert not {"lora_r", "learning_rate", "max_length", "warmup_steps"} & options["words-short"].keys()
    assert options["words-long"]["class_weights"] == "none" and options["all-long"]["warmup_steps"] == 0.1
    found = load_table(path, "smoke", {})
    check_options(runs_of(found, tmp_path), path)
    assert "left out of the cells that do not read them: lora_r (adaptation: full, engine: tfidf)" in (
        plan_text(found, runs_of(found, tmp_path))
    )


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({}, {"adapter_size": 3}, "adapter_size: no cell reads it"),
        ({"scales": {"smoke": {"options": {"num_beams": 3}}}}, {}, "num_beams: unknown option"),
        ({"axes": {"Way": {"a": {"adaptation": "lora", "lisa_blocks": 3}}}}, {}, "lisa_blocks: 3 is not read by adap"),
        ({"options": {"lora_r": 3}, "axes": {"Way": {"a": {"learning_rate": 1}}}}, {}, "lora_r: no cell reads it"),
    ],
)
def test_what_no_cell_reads_is_refused(changes, overrides, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    path = written_table(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        check_options(runs_of(load_table(path, "smoke", overrides), tmp_path), path)
    assert message in str(caught.value) and "ways.yaml" in str(caught.value)


def test_the_page_of_options_is_up_to_date() -> None:
    assert (ROOT / "docs" / "options.md").read_text() == table(), "python -m tools.options_table > docs/options.md"
