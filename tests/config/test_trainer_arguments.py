"""Every field of the installed TrainingArguments is decided, and mistakes are answered before anything is imported."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch
import yaml
from transformers import TrainingArguments
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from opinionlm.config.config import Config, options_of
from opinionlm.config.optimization import (
    NEEDED,
    OPTIMIZERS,
    OTHER_OPTIMIZERS,
    OTHER_SCHEDULES,
    SCHEDULES,
    SET_BY_US,
    WITH_WARMUP,
)
from opinionlm.config.parser import parse_config
from opinionlm.config.trainer_arguments import FIXED, HONOURED, OLD_NAMES, OWN_FIELDS, REFUSED, TRAINER_FIELDS
from opinionlm.config.training_options import TrackingConfig, TrainingConfig
from opinionlm.errors import UserError
from opinionlm.training.arguments import choose_by, training_arguments
from tools.trainer_reference import page

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = {field.name: field for field in fields(TrainingArguments)}
TABLES = {"own": OWN_FIELDS, "honoured": HONOURED, "fixed": FIXED, "refused": REFUSED}


def arguments_of(config: Config) -> TrainingArguments:
    return training_arguments(config.training, config.source)


def parse(*arguments: str, script: str = "train_classifier") -> Config:
    return parse_config(list(arguments), "test", script)


def refusal(*arguments: str, script: str = "train_classifier") -> str:
    with pytest.raises(UserError) as caught:
        parse(*arguments, script=script)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def in_yaml(folder: Path, content: str) -> Config:
    (folder / "run.yaml").write_text(content)
    return parse("--config", str(folder / "run.yaml"))


def test_every_field_is_in_exactly_one_list() -> None:
    listed = {name: [table for table, names in TABLES.items() if name in names] for name in INSTALLED}
    undecided = {name: tables for name, tables in listed.items() if len(tables) != 1}
    assert undecided == {}, "decide them in trainer_arguments.py"


def test_every_listed_field_is_installed() -> None:
    assert INSTALLED.keys() == TRAINER_FIELDS
    assert not OLD_NAMES.keys() & (TRAINER_FIELDS | set(options_of("train_classifier")))


def test_own_fields_are_options() -> None:
    own = {field.name for group in (TrainingConfig, TrackingConfig) for field in fields(group)}
    assert own >= OWN_FIELDS and not own & (HONOURED.keys() | FIXED.keys() | REFUSED.keys())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_says_what_to_use(name: str) -> None:
    decided = REFUSED[name]
    default = INSTALLED[name].default
    default = INSTALLED[name].default_factory() if default is MISSING else default
    # Words are enumerations in the class; `gradient_checkpointing` and its kin default to None, which means off.
    assert decided.value == getattr(default, "value", default) or (default is None and decided.value is False)
    wrong = "0.5" if isinstance(decided.value, int | float) else "something"
    message = refusal(f"--{name}", wrong)
    assert f"--{name}: " in message and decided.reason in message
    assert parse(f"--{name}", "null").training.extra == {}
    for script in ("train_instruct", "pretrain"):
        assert decided.reason in refusal(f"--{name}", wrong, script=script)
    assert "unknown option" in refusal(f"--{name}", wrong, script="prompt")


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_is_fixed_takes_its_own_value_alone(name: str) -> None:
    decided = FIXED[name]
    if name.startswith("save_st"):
        return  # equal to what evaluation says, below
    if decided.value is not None:
        text = yaml.safe_dump(decided.value, default_flow_style=True).splitlines()[0]
        assert parse(f"--{name}", text).training.extra == {}
    assert decided.reason in refusal(f"--{name}", "0.25")


def test_fixed_values_are_those_of_a_run(tmp_path) -> None:
    arguments = arguments_of(parse("--output_dir", str(tmp_path), "--use_cpu", "true"))
    for name, decided in FIXED.items():
        if decided.value is not None and not name.startswith("do_"):
            assert getattr(arguments, name) == decided.value, name
    for name, decided in REFUSED.items():
        value = getattr(arguments, name)
        if name not in ("accelerator_config", "debug", "local_rank", "gradient_checkpointing"):
            assert getattr(value, "value", value) == decided.value, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # A2
        (["--save_strategy", "no"], "save_strategy: 'no' cannot be set: a checkpoint is saved at every evaluation"),
        (["--save_strategy", "best"], "save_strategy: 'best' cannot be set"),
        (["--save_strategy", "steps"], "save_strategy: 'steps' cannot be set"),
        (["--save_strategy", "nope"], "--save_strategy: 'nope' is not one of epoch, steps, no, best"),
        (["--eval_strategy", "steps", "--eval_steps", "5", "--save_steps", "15"], "save_steps: 15 cannot be set"),
        (["--save_steps", "15"], "save_steps: 15 cannot be set"),
        (["--eval_strategy", "no"], "--eval_strategy: 'no' is not one of epoch, steps"),
        # A3, A4, A7
        (["--bf16_full_eval", "true"], "would round the weights of best/"),
        (["--train_sampling_strategy", "sequential"], "set shuffle, group_by_length or max_tokens_per_batch"),
        (["--dataloader_drop_last", "true"], "every text counts once in an exact loss"),
        (["--data_seed", "-1"], "data_seed: -1 must be from 0 to 4,294,967,295"),
        # A1
        (["--metric_for_best_model", "acuracy"], "did you mean 'accuracy'"),
        (["--metric_for_best_model", "train_seconds"], "is no score of the validation split"),
        (["--metric_for_best_model", "rougeL"], "is no score of the validation split"),
        (["--task", "token", "--metric_for_best_model", "pearson"], "is no score of the validation split"),
        (
            ["--metric_for_best_model", "eval_loss", "--greater_is_better", "true"],
            "greater_is_better: true would keep the worst checkpoint: loss is better when smaller",
        ),
        (["--metric_for_best_model", "f1_loss", "--greater_is_better", "false"], "f1_loss is better when larger"),
        (["--engine", "tfidf", "--metric_for_best_model", "loss"], "of which engine: tfidf has none"),
        # A6
        (["--lr_scheduler_type", "warmup_stable_decay"], "needs lr_scheduler_kwargs with num_decay_steps"),
        (["--lr_scheduler_type", "cosine_with_min_lr"], "needs lr_scheduler_kwargs with min_lr or min_lr_rate"),
        (["--lr_scheduler_type", "greedy"], "use reduce_lr_on_plateau"),
        (["--lr_scheduler_type", "cosin"], "is no schedule, did you mean 'cosine'? (valid: linear"),
        (["--lr_scheduler_kwargs", "{num_cycle: 2}"], "'num_cycle' is no argument of cosine, which takes num_cycles"),
        (["--lr_scheduler_kwargs", "{num_cycles: two}"], "lr_scheduler_kwargs: num_cycles: 'two' is not a number"),
        (["--lr_scheduler_kwargs", "{last_epoch: 3}"], "a continued run goes on by itself"),
        (["--lr_scheduler_kwargs", "3"], "3 is not a mapping"),
        (["--lr_scheduler_type", "polynomial", "--lr_scheduler_kwargs", "{lr_end: -1}"], "-1 must not be negative"),
        (["--lr_scheduler_type", "linear", "--lr_scheduler_kwargs", "{a: 1}"], "linear, which takes no arguments"),
        (["--lr_scheduler_type", "constant", "--warmup_steps", "0.1"], "or use lr_scheduler_type: linear"),
        (["--lr_scheduler_type", "reduce_lr_on_plateau", "--lr_scheduler_kwargs", "{mode: min}"], "greater_is_better"),
        (["--use_liger_kernel", "true"], "use torch_compile: true"),
        (["--optim", "adamw"], "is no optimizer, did you mean 'adamw_torch_fused'?"),
        (["--optim", "galore_adamw"], "groups parameters by itself"),
        (["--optim", "schedule_free_adamw"], "evaluates other weights than it trains"),
        (["--optim", "adamw_torch_4bit"], "needs a package"),
        (["--optim", "sgd", "--optim_args", "momentum=high"], "optim_args: momentum: 'high' is not a number"),
        (["--optim", "sgd", "--optim_args", "momentum"], "'momentum' is no argument of optim: sgd"),
        (["--optim", "sgd", "--optim_args", "weight_decay=0.1"], "set weight_decay instead"),
        (["--optim_args", "momentum=0.9"], "which takes none; leave it out"),
        (["--optim", "sgd", "--adam_beta1", "0.8"], "adam_beta1: 0.8 is not read by optim: sgd"),
        (["--optim", "lion_32bit", "--adam_epsilon", "1e-6"], "adam_epsilon: 1e-06 is not read by optim: lion_32bit"),
        (["--adam_beta2", "1"], "adam_beta2: 1.0 must be at least 0 and below 1"),
        (["--adam_epsilon", "0"], "adam_epsilon: 0.0 must be above 0 and below 1"),
        (["--adam_epsilon", "tiny"], "--adam_epsilon: 'tiny' is not a number"),
        (["--adam_epsilon", "nan"], "is not a number"),
        (["--fp16", "true"], "use bf16: true"),
        (["--torch_compile_mode", "default"], "belongs to torch_compile: true"),
        (["--neftune_noise_alpha", "0"], "neftune_noise_alpha: 0.0 must be positive"),
        (["--neftune_noise_alpha", "5", "--adaptation", "head_only"], "adaptation: head_only computes once"),
        (["--logging_strategy", "epoch", "--logging_steps", "5"], "is read with logging_strategy: steps"),
        (["--fsdp", "full_shard"], "accelerate launch --quiet --config_file configs/accelerate/fsdp2.yaml"),
        (["--deepspeed", "ds.json"], "--quiet --config_file configs/accelerate/deepspeed_zero2.yaml"),
        (["--push_to_hub", "true"], "push_to_hub: 'true' names no repository; give owner and name"),
        (["--push_to_hub", "me/model", "--seeds", "1", "2"], "is the name of one model, and seeds trains several"),
        (["--push_to_hub", "me/model", "--engine", "tfidf"], "is not read by engine: tfidf"),
        (["--hub_model_id", "me/model"], "push_to_hub: user/model alone says where best/ goes"),
        (["--label_smoothing_factor", "0.1"], "use label_smoothing"),
        (["--gradient_checkpointing", "true"], "use that"),
        # Engines
        (["--engine", "loop", "--neftune_noise_alpha", "5"], "is not read by engine: loop"),
        (["--engine", "loop", "--torch_compile", "true"], "is not read by engine: loop"),
        (["--engine", "tfidf", "--data_seed", "7"], "is not read by engine: tfidf"),
        (["--engine", "sklearn", "--adaptation", "head_only", "--adam_beta1", "0.8"], "not read by engine: sklearn"),
        # Other versions
        (["--evaluation_strategy", "epoch"], "did you mean 'eval_strategy'?"),
        (["--warmup_ratio", "0.1"], "did you mean 'warmup_steps'? Below 1 it is a share of all steps"),
        (["--save_safetensors", "true"], "weights are always saved as safetensors"),
        (["--logging_dir", "x"], "logs lie in the run folder"),
        (["--no_cuda", "true"], "did you mean 'use_cpu'?"),
        (["--past_index", "1"], "keep no state"),
        (["--jit_mode_eval", "true"], "use torch_compile"),
    ],
)
def test_what_cannot_be_is_said_at_once(arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


def test_a_token_is_not_printed() -> None:
    assert "hf_secret" not in refusal("--hub_token", "hf_secret")


def test_pretraining_has_no_score_to_choose_by() -> None:
    assert "it belongs to train_classifier.py" in refusal("--metric_for_best_model", "loss", script="pretrain")
    assert "pretraining has none" in refusal("--lr_scheduler_type", "reduce_lr_on_plateau", script="pretrain")
    assert parse("--data_seed", "7", script="pretrain").training.extra == {"data_seed": 7}


def test_values_are_typed_by_their_field(tmp_path) -> None:
    # A5: YAML 1.1 reads 1e-6 as a text, no as False, 010 as eight.
    assert in_yaml(tmp_path, "adam_epsilon: 1e-6\n").training.extra == {"adam_epsilon": 1e-6}
    assert parse("--adam_epsilon", "1e-6").training.extra == {"adam_epsilon": 1e-6}
    assert in_yaml(tmp_path, "logging_strategy: no\n").training.extra == {"logging_strategy": "no"}
    assert parse("--logging_strategy", "no").training.extra == {"logging_strategy": "no"}
    assert "'no' cannot be set" in refusal_in_yaml(tmp_path, "save_strategy: no\n")
    assert parse("--data_seed", "010").training.extra == {"data_seed": 10}
    for given in ("lr_scheduler_kwargs: {num_cycles: 1e-1}\n", "lr_scheduler_kwargs: {num_cycles: 0.1}\n"):
        assert in_yaml(tmp_path, given).training.extra == {"lr_scheduler_kwargs": {"num_cycles": 0.1}}
    assert parse("--lr_scheduler_kwargs", '{"num_cycles": 1e-1}').training.extra == {
        "lr_scheduler_kwargs": {"num_cycles": 0.1}
    }
    sgd = "optim: sgd\noptim_args: {momentum: 9e-1, nesterov: true}\n"
    assert in_yaml(tmp_path, sgd).training.extra == {"optim_args": "momentum=9e-1,nesterov=true"}
    assert "run.yaml:1: data_seed: 1.5 is not a whole number" in refusal_in_yaml(tmp_path, "data_seed: 1.5\n")
    assert in_yaml(tmp_path, "data_seed: null\n").training.extra == {}
    assert "run.yaml:1: adam_beta1: None is not a number" in refusal_in_yaml(tmp_path, "adam_beta1: null\n")
    assert in_yaml(tmp_path, "eval_strategy: steps\neval_steps: 5\nsave_steps: 5\nsave_strategy: steps\n")


def refusal_in_yaml(folder: Path, content: str) -> str:
    with pytest.raises(UserError) as caught:
        in_yaml(folder, content)
    return str(caught.value)


@pytest.mark.parametrize("name", ["warmup_steps", "logging_steps"])
def test_there_is_no_half_step(name: str) -> None:
    assert f"{name}: 1.5 must be a whole number of steps, or below 1 a share of all" in refusal(f"--{name}", "1.5")
    for value in ("0.5", "1", "20.0"):
        parse(f"--{name}", value)


def test_words_of_the_command_line_stay_words() -> None:
    assert parse("--wandb_tags", "no", "01", "1e3").tracking.wandb_tags == ["no", "01", "1e3"]
    assert parse("--wandb_tags", "[no, 01]").tracking.wandb_tags == ["no", "01"]
    assert parse("--wandb_tags", "[no").tracking.wandb_tags == ["[no"]
    assert parse("--wandb_group", "007").tracking.wandb_group == "007"
    assert parse("--wandb_group", "null").tracking.wandb_group is None
    assert parse("--seed", "010").training.seed == 10


def test_mistakes_are_answered_without_transformers(tmp_path) -> None:
    for option in (["--save_strategy", "no"], ["--adam_epsilom", "1"], ["--optim", "adam"], ["--deepspeed", "x.json"]):
        program = (
            "import sys\nfrom opinionlm.config.parser import parse_config\nfrom opinionlm.errors import UserError\n"
            f"try:\n    parse_config({option!r}, 'test')\nexcept UserError as error:\n    print(error)\n"
            "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and option[0].lstrip("-") in done.stdout, done.stderr


def test_tables_of_optimizers_and_schedules_are_those_installed() -> None:
    assert OPTIMIZERS.keys() | OTHER_OPTIMIZERS.keys() == {each.value for each in OptimizerNames}
    assert not OPTIMIZERS.keys() & OTHER_OPTIMIZERS.keys() and not SCHEDULES.keys() & OTHER_SCHEDULES.keys()
    assert SCHEDULES.keys() | OTHER_SCHEDULES.keys() == {each.value for each in SchedulerType}
    for name, arguments in SCHEDULES.items():
        function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
        if name == "reduce_lr_on_plateau":
            function = torch.optim.lr_scheduler.ReduceLROnPlateau
        # These two get no arguments from `get_scheduler`, whatever they are.
        known = set(inspect.signature(function).parameters) if "constant" not in name else set()
        assert known - set(arguments) <= SET_BY_US.keys() and set(arguments) <= known, name
        has_warmup = name == "constant_with_warmup" or "num_warmup_steps" in known
        assert has_warmup == (name in WITH_WARMUP), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_works_and_reads_what_the_table_says(name: str, tmp_path) -> None:
    common = ["--use_cpu", "true", "--output_dir", str(tmp_path), "--optim", name]
    facts = OPTIMIZERS[name]
    values = {"adam_beta1": "0.85", "adam_beta2": "0.95", "adam_epsilon": "1e-5"}
    adam = [part for field in facts.adam for part in (f"--{field}", values[field])]
    arguments_of(parse(*common, *adam))
    tried = {float: "0.25", int: "7", bool: "true"}
    given = {argument: tried[kind] for argument, kind in facts.arguments if argument != "dampening"}
    if given:
        text = ",".join(f"{argument}={value}" for argument, value in given.items())
        arguments = arguments_of(parse(*common, "--optim_args", text))
        assert arguments.optim_args == text


SCHEDULE_ARGUMENTS = {
    "cosine": "{num_cycles: 1.5}",
    "cosine_with_restarts": "{num_cycles: 2}",
    "polynomial": "{lr_end: 1e-8, power: 2}",
    "inverse_sqrt": "{timescale: 20}",
    "reduce_lr_on_plateau": "{factor: 0.5, patience: 1}",
    "cosine_with_min_lr": "{min_lr: 1e-6}",
    "cosine_warmup_with_min_lr": "{min_lr_rate: 0.1, warmup_lr_rate: 0.1}",
    "warmup_stable_decay": "{num_decay_steps: 20, decay_type: linear}",
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_works_or_says_what_it_lacks(name: str, tmp_path) -> None:
    common = ["--use_cpu", "true", "--output_dir", str(tmp_path), "--lr_scheduler_type", name]
    if name in NEEDED:
        assert NEEDED[name][0] in refusal(*common)
    else:
        arguments_of(parse(*common))
    if name in SCHEDULE_ARGUMENTS:
        arguments_of(parse(*common, "--lr_scheduler_kwargs", SCHEDULE_ARGUMENTS[name]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--lr_scheduler_type", "polynomial", "--lr_scheduler_kwargs", "{lr_end: 1}"],
            "must be smaller than initial",
        ),
        (["--lr_scheduler_type", "inverse_sqrt", "--lr_scheduler_kwargs", "{timescale: 0}"], "lr_scheduler_type"),
        (
            ["--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs", "{min_lr: 1e-3}"],
            "gives learning rates outside of 0 to learning_rate (5e-05), for instance 0.00",
        ),
        (
            [
                *("--max_steps", "30", "--lr_scheduler_type", "warmup_stable_decay"),
                *("--lr_scheduler_kwargs", "{num_decay_steps: 40}"),
            ],
            "num_decay_steps: 40 and a warm-up of 0 steps do not fit into the 30 steps",
        ),
        (
            ["--max_steps", "30", "--warmup_steps", "40"],
            "warmup_steps: 40 steps of warm-up do not fit into the 30 steps of this run, so that learning_rate would "
            "never be reached; lower it",
        ),
        (["--lr_scheduler_type", "reduce_lr_on_plateau", "--lr_scheduler_kwargs", "{factor: 2}"], "Factor should be"),
        (["--optim", "sgd", "--optim_args", "nesterov=true"], "Nesterov momentum requires a momentum"),
        (["--tf32", "true"], "tf32 requires Ampere"),
        (["--ddp_timeout", "60"], "ddp_timeout: is for GPUs"),
        (["--torch_compile", "true", "--torch_compile_backend", "nowhere"], "torch_compile: backend 'nowhere'"),
    ],
)
def test_what_only_the_libraries_know_is_said_before_data_are_read(arguments, message, tmp_path) -> None:
    config = parse("--use_cpu", "true", "--output_dir", str(tmp_path), *arguments)
    with pytest.raises(UserError) as caught:
        arguments_of(config)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("launched", "bf16"), [("bf16", "false"), ("fp16", "false"), ("fp16", "true")])
def test_a_precision_of_the_launcher_that_is_not_the_runs_own_is_refused(
    launched, bf16, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    with pytest.raises(UserError, match=f"bf16: {bf16} is not the mixed_precision: {launched} that accelerate was"):
        arguments_of(parse("--use_cpu", "true", "--output_dir", str(tmp_path), "--bf16", bf16))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    arguments_of(parse("--use_cpu", "true", "--output_dir", str(tmp_path), "--bf16", "true"))


def test_fields_for_gpus_reach_torch(tmp_path, monkeypatch) -> None:
    """No GPU here: what TrainingArguments does with them is watched."""
    seen = []
    monkeypatch.setattr("transformers.training_args.is_torch_tf32_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.enable_tf32", seen.append)
    arguments = arguments_of(parse("--use_cpu", "true", "--output_dir", str(tmp_path), "--tf32", "true"))
    assert seen == [True] and arguments.tf32


def test_a_schedule_that_follows_a_score_follows_its_direction(tmp_path) -> None:
    from opinionlm.config.chosen_metric import ChosenMetric

    for name, greater, mode in (("macro_f1", True, "max"), ("loss", False, "min")):
        arguments = arguments_of(
            parse("--use_cpu", "true", "--output_dir", str(tmp_path), "--lr_scheduler_type", "reduce_lr_on_plateau")
        )
        choose_by(arguments, ChosenMetric(name, greater))
        assert arguments.lr_scheduler_kwargs["mode"] == mode


def test_the_page_is_written_from_the_tables() -> None:
    assert (ROOT / "docs" / "trainer_arguments.md").read_text() == page(), "python -m tools.trainer_reference"
