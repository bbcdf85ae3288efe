"""Config files, the command line, and the errors a user meets there."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from opinionlm.config.config import GROUPS, Config, declared, default_of, options_of, takes_trainer_fields
from opinionlm.config.config import SCRIPTS as OPTIONS_OF_SCRIPTS
from opinionlm.config.help import SHOWN
from opinionlm.config.parser import ConfigParser, parse_config, require_known
from opinionlm.config.trainer_arguments import OLD_NAMES, TRAINER_FIELDS
from opinionlm.errors import UserError
from opinionlm.scripts.console import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
RUN_CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def parse(*arguments: str) -> Config:
    return parse_config(list(arguments), "test")


def parse_instruct(*arguments: str) -> Config:
    return parse_config(list(arguments), "test", "train_instruct")


def parse_pretrain(*arguments: str) -> Config:
    return parse_config(list(arguments), "test", "pretrain")


def parse_prompt(*arguments: str) -> Config:
    return parse_config(list(arguments), "test", "prompt")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_yaml_starts_with_its_command(path: Path) -> None:
    text = path.read_text()
    assert text.splitlines()[0].startswith("# "), "the first line is the command that runs it"
    assert str(path.relative_to(ROOT)) in text.splitlines()[0]
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("path", RUN_CONFIGS, ids=lambda p: p.name)
def test_every_run_config_is_valid(path: Path) -> None:
    command = path.read_text().splitlines()[0]
    match command.split(".py")[0].split()[-1]:
        case "train_instruct":
            config = parse_instruct("--config", str(path))
        case "prompt":
            config = parse_prompt("--config", str(path))
        case "pretrain":
            config = parse_pretrain("--config", str(path))
        case _:
            config = parse("--config", str(path))
    several = config.training.seeds is not None
    assert config.training.run_name == (path.stem if several else f"{path.stem}-seed{config.training.seed}")


def test_gemma_config_is_the_papers() -> None:
    config = parse("--config", str(ROOT / "configs" / "gemma1b.yaml"))
    flat = config.flat()
    expected = {
        "model_name_or_path": "google/gemma-3-1b-pt",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "dtype": "float32",
        "bf16": "auto",
        "adaptation": "top_blocks",
        "trainable_blocks": 1,
        "head_hidden_sizes": [1024, 512],
        "class_weights": "inverse_frequency",
        "learning_rate": 5e-5,
        "weight_decay": 0.1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.15,
        "max_grad_norm": 1.0,
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 4,
    }
    assert {name: flat[name] for name in expected} == expected


def test_command_line_wins(tmp_path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("learning_rate: 1e-4\nseed: 7\nhead_hidden_sizes: [8]\nreport_to: none\n")
    config = parse("--config", str(file), "--learning_rate", "3e-5", "--bf16", "--logging_first_step", "true")
    assert config.training.learning_rate == 3e-5
    assert config.training.seed == 7
    assert config.training.bf16 is True
    assert config.training.extra == {"logging_first_step": True}
    assert config.training.run_name == "a-seed7"
    assert parse("--head_hidden_sizes", "16", "8").model.head_hidden_sizes == [16, 8]
    assert parse("--head_hidden_sizes", "[16, 8]").model.head_hidden_sizes == [16, 8]
    assert parse("--max_train_samples", "null").data.max_train_samples is None
    assert parse("--seeds", "0..3").training.seed_list() == [0, 1, 2, 3]
    assert parse("--seeds", "5", "7..8").training.seed_list() == [5, 7, 8]
    assert parse("--bf16", "false").training.bf16 is False
    assert parse("--run_name", "off").training.run_name == "off"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([], "a-seed42"),
        (["--dataset", "sets/own.yaml"], "a-seed42"),  # what the file names
        (["--dataset", "./sets//own.yaml"], "a-seed42"),
        (["--dataset", "sets/other.yaml"], "a-other-seed42"),
        (["--dataset", "other.YML", "--seed", "7"], "a-other-seed7"),
        (["--dataset", "prepared/posts.v2/"], "a-posts.v2-seed42"),
        (["--dataset", "sets/other.yml", "--seeds", "1..3"], "a-other"),
        (["--dataset", "sets/数据.yaml"], "a-数据-seed42"),
        (["--dataset", f"sets/{'数' * 80}.yaml"], f"a-{'数' * 26}-seed42"),
        (["--dataset", "sets/other.yaml", "--run_name", "mine"], "mine"),
        (["--data_dir", "elsewhere", "--learning_rate", "1e-4"], "a-seed42"),
    ],
)
def test_another_data_set_has_a_folder_of_its_own(given, name, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("dataset: sets/own.yaml\n")
    assert parse("--config", str(tmp_path / "a.yaml"), *given).training.run_name == name


def test_without_a_config_file_the_bundled_sample_is_the_usual_data_set() -> None:
    assert parse().training.run_name == "run-seed42"
    assert parse("--dataset", "configs/datasets/sample.yaml").training.run_name == "run-seed42"
    assert parse("--dataset", "mine.yaml").training.run_name == "run-mine-seed42"


@pytest.mark.parametrize(
    ("given", "trackers"),
    [
        (["wandb"], ["wandb"]),
        (["none"], ["none"]),
        (["wandb", "tensorboard"], ["wandb", "tensorboard"]),
        (["[tensorboard, wandb]"], ["tensorboard", "wandb"]),
        (["[tensorboard]"], ["tensorboard"]),
    ],
)
def test_trackers(given, trackers, tmp_path) -> None:
    assert parse("--report_to", *given).tracking.report_to == trackers
    value = given[0] if len(given) == 1 else f"[{', '.join(given)}]"
    (tmp_path / "a.yaml").write_text(f"report_to: {value}\n")
    assert parse("--config", str(tmp_path / "a.yaml")).tracking.report_to == trackers


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[wandb, wandb]", "must be none, or name wandb and tensorboard at most once each"),
        ("[none, wandb]", "must be none, or name wandb"),
        ("[none, none]", "must be none, or name wandb"),
        ("[]", "must be none, or name wandb"),
        ("all", "'all' is not one of wandb, tensorboard, none"),
        ("null", "None is not one of wandb, tensorboard, none"),
        ("[wandb, mlflow]", "'mlflow' is not one of"),
        ("wandb,tensorboard", "'wandb,tensorboard' is not one of"),
        ("false", "False is not one of"),
        ("{wandb: true}", "is not one of"),
    ],
)
def test_trackers_that_are_none(value, reason, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(f"report_to: {value}\n")
    with pytest.raises(UserError, match=re.escape(reason)):
        parse("--config", str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lerning_rate", "1"], "--lerning_rate: unknown option; did you mean 'learning_rate'"),
        (["--evaluation_strategy", "epoch"], "did you mean 'eval_strategy'"),
        (["--bf16", "maybe"], "--bf16: 'maybe' is not one of true, false, auto"),
        (["--seed", "1.5"], "--seed: 1.5 is not a whole number"),
        (["--learning_rate", "fast"], "--learning_rate: 'fast' is not a number"),
        (["--adaptation", "lorra"], "'lorra' is not one of full"),
        (["--config", "nowhere.yaml"], "no such file: nowhere.yaml"),
        (
            ["--learning_rate", "-1", "--max_length", "0"],
            "--max_length: 0 must be at least 2; --learning_rate: -1.0 must be positive",
        ),
        (["--load_in_4bit", "true"], "cannot train 4-bit weights"),
        (["--dtype", "float16"], "overflows in Gemma 3"),
        (["--run_name", "../elsewhere"], "plain folder name"),
        (
            ["--pad_to_max", "--max_tokens_per_batch", "4096"],
            "pad_to_max: True is not read beside max_tokens_per_batch: 4096",
        ),
        (["--seeds", "3..1"], "seeds: ['3..1'] must name different whole numbers"),
        (["--seeds", "1", "1"], "must name different"),
        # Written out, they would fill the memory first.
        (["--seeds", "0..9999999999999"], "must name different whole numbers from 0 to 4,294,967,295"),
        (["--seeds", "1.."], "must name different"),
        # Each broke off with a traceback, some behind the data.
        (["--seed", "-1"], "--seed: -1 must be from 0 to 4,294,967,295"),
        (["--seed", "4294967296"], "--seed: 4294967296 must be from 0 to 4,294,967,295"),
        (["--learning_rate", "inf"], "--learning_rate: inf is not a finite number"),
        (["--weight_decay", "1e400"], "--weight_decay: inf is not a finite number"),
        (["--max_steps", "0"], "max_steps: 0 must be at least 1; leave it out, and num_train_epochs decides"),
        (["--max_steps", "-5"], "max_steps: -5 must be at least 1"),
        (["stray"], "unexpected argument 'stray'"),
        (["--mlm_probability", "0.2"], "unknown option; it belongs to pretrain.py"),
    ],
)
def test_bad_options_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pooling", "mean"], "--pooling: unknown option"),
        (["--head_hidden_sizes", "8"], "--head_hidden_sizes: unknown option; it belongs to train_classifier.py"),
        (["--engine", "loop"], "--engine: unknown option"),
        (["--num_beams", "0"], "num_beams: 0 must be at least 1"),
        (
            ["--decode", "generate", "--max_answer_length", "600"],
            "max_answer_length: 600 must be at least 2 tokens and leave room",
        ),
        (
            ["--decode", "generate", "--calibration", "batch"],
            "not read by decode: generate; leave it out, or use decode: score",
        ),
        (["--decode", "sample"], "'sample' is not one of score"),
        (
            ["--decode", "generate", "--decision", "thresholds"],
            "decision: 'thresholds' is not read by decode",
        ),
        (["--label_set_coverage", "1"], "label_set_coverage: 1.0 must be from 0.5 to 0.99"),
    ],
)
def test_bad_options_of_the_generative_route_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_instruct(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rate", "1"], "--learning_rate: unknown option"),
        (["--adaptation", "full"], "--adaptation: unknown option"),
        (["--adam_beta1", "0.5"], "--adam_beta1: unknown option"),
        (["--shots", "-1"], "shots: -1 must not be negative"),
        (["--hypothesis_template", "It is so."], "must hold {label} once"),
        (
            ["--method", "entailment", "--shots", "2"],
            "shots: 2 is not read by method: entailment; leave it out, or use",
        ),
        (["--method", "entailment", "--decode", "generate"], "decode: 'generate' is not read by method: entailment"),
    ],
)
def test_bad_options_of_prompting_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prompt(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_pretraining_knows_its_own_options() -> None:
    config = parse_pretrain("--mlm_probability", "0.3", "--learning_rate", "1e-4")
    assert config.pretrain.mlm_probability == 0.3
    assert "adaptation" not in config.flat() and "mlm_probability" not in parse().flat()
    for arguments, message in (
        (["--adaptation", "full"], "--adaptation: unknown option"),
        (["--mlm_probability", "1"], "mlm_probability: 1.0 must be above 0 and below 1"),
        (["--held_out_share", "0"], "held_out_share: 0.0 must be above 0"),
    ):
        with pytest.raises(UserError, match=message):
            parse_pretrain(*arguments)


def test_each_script_knows_its_own_options() -> None:
    with pytest.raises(UserError, match="--num_beams: unknown option"):
        parse("--num_beams", "4")
    assert "num_beams" not in parse().flat() and "pooling" not in parse_instruct().flat()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "must be a mapping"),
        ("a: [1,\nb: 2", "not valid YAML"),
        ("lr: 3\n", "lr: unknown option"),
        ("run_name: off\n", "run_name: False is not a text"),
        ("a: !!python/object/apply:os.system [true]\n", "not valid YAML"),
    ],
)
def test_bad_files_are_named(content: str, message: str, tmp_path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        parse("--config", str(file))
    assert message in str(caught.value) and "bad.yaml" in str(caught.value)


def test_flat_form_parses_back(tmp_path) -> None:
    config = parse("--learning_rate", "3e-5", "--wandb_tags", "a", "b", "--weight_decay", "0.1")
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(config.flat()))
    assert parse("--config", str(file)).flat() == config.flat()


def test_every_option_is_read_somewhere() -> None:
    read: set[str] = set()
    for path in [*ROOT.glob("*.py"), *(ROOT / "opinionlm").rglob("*.py")]:
        if path.name in ("config.py", "options.py", "parsing.py"):
            continue
        read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    options = {option.name for group in GROUPS.values() for option in fields(group)}
    assert options - read == set(), "options that nothing reads"


# Every command once: the scripts at the root by their files, the tools as modules.
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
TOOLS = sorted(
    f"-m{command.module.removesuffix('.__main__')}"
    for command in COMMANDS.values()
    if not command.module.startswith("opinionlm.scripts.")
)
# An option of each, mistyped, and what was meant; the first three take any option of a config.
MISTYPED = dict.fromkeys([*SCRIPTS, "-mopinionlm.experiments.cross_fit"], ("lerning_rate", "learning_rate"))
MISTYPED |= {
    "export.py": ("outptu", "output"),
    "predict.py": ("batch_sise", "batch_size"),
    "preprocess.py": ("data_dirr", "data_dir"),
    "prompt.py": ("shot", "shots"),
    "-mopinionlm.adaptation.adapt.mining": ("all_sequence", "all_sequences"),
    "-mopinionlm.inference.demo": ("prot", "port"),
    "-mopinionlm.inference.push": ("pulbic", "public"),
    "-mopinionlm.data.downloads": ("data_dri", "data_dir"),
    "-mopinionlm.data.inspection": ("lable", "label"),
    "-mopinionlm.experiments.changed_texts": ("typoss", "typos"),
    "-mopinionlm.experiments.compare": ("splitt", "split"),
    "-mopinionlm.experiments.dashboard": ("outptu", "output"),
    "-mopinionlm.experiments.ensemble": ("run_nmae", "run_name"),
    "-mopinionlm.experiments.group_report": ("wnadb", "wandb"),
    "-mopinionlm.experiments.label_suspects": ("splitt", "split"),
    "-mopinionlm.experiments.self_training": ("hepl", "help"),
}
# A mistake among options of runs is one only beside a table; a file is read first.
NEEDED_FIRST = {
    "reproduce.py": ["configs/tables/methods_bert_emotion.yaml"],
    "train_classifier.py": ["--config", "configs/quickstart.yaml"],
}


# Runs a command as `python COMMAND` does, with a mistake and then with --help, and prints what it said of each and the
# processor's seconds until then, the start of Python among them. Both imports are the same, and most of the seconds.
ASKED_TWICE = """
import contextlib, io, json, runpy, sys, time
command, *mistake = sys.argv[1:]
for arguments in (mistake, ["--help"]):
    sys.argv, out, err = [command, *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = 0
        try:
            if command.startswith("-m"):
                runpy.run_module(command[2:], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(command, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue(), time.process_time()]))
"""


@pytest.mark.parametrize("command", [*SCRIPTS, *TOOLS])
def test_help_and_a_mistyped_option_are_answered_at_once(command: str) -> None:
    wrong, right = MISTYPED[command]
    asked = [sys.executable, "-c", ASKED_TWICE, command, *NEEDED_FIRST.get(command, []), f"--{wrong}", "1"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (refused, _, line, seconds), (shown, usage, _, both) = map(json.loads, answer.splitlines())
    assert refused == 2 and line == f"error: --{wrong}: unknown option; did you mean '{right}'?\n"
    assert shown == 0 and "usage:" in usage
    # Other work does not lengthen the processor's seconds.
    assert seconds < 1.0 and both < 1.25


@pytest.mark.parametrize("script", OPTIONS_OF_SCRIPTS)
def test_help_shows_the_options_that_matter(script, capsys) -> None:
    with pytest.raises(SystemExit):
        ConfigParser("", script).parse_config(["--help"])
    said = capsys.readouterr().out
    shown = re.findall(r"^  --(\w+) ", said, re.MULTILINE)
    assert {"config", "dataset"} <= {*shown} and 5 < len(shown) <= 1 + SHOWN
    assert f"{len(shown) - 1} of {len(options_of(script))} options; --help WORD" in said


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("lora", {"lora_r", "lora_alpha"}),
        ("Device", {"use_cpu"}),
        ("batch_size", {"per_device_train_batch_size", "per_device_eval_batch_size"}),
        ("epochs", {"num_train_epochs"}),
        ("gradients", {"adam_beta1", "max_grad_norm"}),
    ],
)
def test_help_about_a_word(word, shown, capsys) -> None:
    with pytest.raises(SystemExit):
        ConfigParser("", "train_classifier").parse_config(["--help", word])
    found = set(re.findall(r"^  --(\w+)", capsys.readouterr().out, re.MULTILINE))
    assert shown <= found and len(found) < 40
    with pytest.raises(
        UserError, match="--help lerning_rate: no option has to do with it; did you mean 'learning_rate'"
    ):
        ConfigParser("", "train_classifier").parse_config(["--help", "lerning_rate"])


@pytest.mark.parametrize("script", OPTIONS_OF_SCRIPTS)
def test_every_name_that_people_try_leads_to_an_option_of_the_script(script) -> None:
    known = {*options_of(script), *(TRAINER_FIELDS if takes_trainer_fields(script) else ())}
    for name in OLD_NAMES.keys() - known:
        with pytest.raises(UserError, match="unknown option") as caught:
            require_known(name, f"--{name}", script)
        assert set(re.findall(r"'(\w+)'", str(caught.value))) <= known


@pytest.mark.parametrize(
    ("name", "meant"),
    [("device", "use_cpu"), ("batch_size", "per_device_train_batch_size"), ("epochs", "num_train_epochs")],
)
def test_a_name_of_another_kind_is_known_by_its_meaning(name, meant) -> None:
    with pytest.raises(UserError, match=f"--{name}: unknown option; did you mean '{meant}'"):
        parse(f"--{name}", "1")


@pytest.mark.parametrize("script", OPTIONS_OF_SCRIPTS)
def test_help_shows_the_range_of_every_option(script, capsys) -> None:
    with pytest.raises(SystemExit):
        ConfigParser("", script).parse_config(["--help", "all"])
    text = " ".join(capsys.readouterr().out.split())
    ranges = {name: declared()[name][1].metadata["bounds"].words() for name in options_of(script)}
    assert sum(map(bool, ranges.values())) > 5
    assert all(f"[{default_of(name)!r}; {words}" in text for name, words in ranges.items() if words)


NO_STEPS = "0 must be at least 1; leave it out, and num_train_epochs decides"
WHOLE = "1.5 must be a whole number of steps, or below 1 a share of all"


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("seed: 1\nlora_r: 0\nadaptation: lora\n", [], "run.yaml:2: lora_r: 0 must be at least 1"),
        ("seed: 1\n", ["--weight_decay", "-1"], "--weight_decay: -1.0 must not be negative"),
        ("seed: 1\nmax_length: few\n", [], "run.yaml:2: max_length: 'few' is not a whole number"),
        ("lora_r: 0\nadaptation: lora\n", ["--lora_r", "-3"], "--lora_r: -3 must be at least 1"),
        ("head_hidden_sizes: [8, 0]\n", [], "run.yaml:1: head_hidden_sizes: [8, 0] must all be at least 1"),
        ("max_grad_norm: 0\n", [], "run.yaml:1: max_grad_norm: 0.0 must be positive"),
        ("ddp_timeout: 0\n", [], "run.yaml:1: ddp_timeout: 0 must be at least 1"),
        ("seed: 1\n", ["--max_steps", "0"], f"--max_steps: {NO_STEPS}"),
        ("seed: 1\nmax_steps: 0\n", [], f"run.yaml:2: max_steps: {NO_STEPS}"),
        ("warmup_steps: 1.5\n", ["--max_steps", "0"], f"--max_steps: {NO_STEPS}; run.yaml:1: warmup_steps: {WHOLE}"),
        ("- seed\n", ["--sed", "1"], "--sed: unknown option; did you mean 'seed'?"),
    ],
)
def test_a_value_is_refused_with_its_place(content, arguments, message, tmp_path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        parse("--config", str(file), *arguments)
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


@pytest.mark.parametrize(
    ("module", "own"),
    [("opinionlm.experiments.cross_fit", "--folds int"), ("opinionlm.adaptation.adapt.mining", "--all_sequences")],
)
def test_help_of_a_module_lists_its_own_options_and_keeps_commands_on_their_lines(module: str, own: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines[0]) < 80
    assert any(line.startswith(f"  {own}") for line in lines) and any("--model_name_or_path" in line for line in lines)
    assert any(line.startswith(f"    python -m opinionlm {module.rpartition('.')[2]} --config") for line in lines)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--config"], "the command line: .*expected one argument.*--help lists the options"),
        (["-hub:"], "--help ub:: no option has to do with it"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line(argv, line) -> None:
    with pytest.raises(UserError, match=line):
        parse_config(argv, "test")
