"""An oracle for what the options' declarations say: runs with every unread option changed are the same runs.

And what is said to be read is looked at by some part of the program other than the writing of config.yaml.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opinionlm.config.config import GROUPS, Config, declared, default_of, scripts_of
from opinionlm.config.parser import parse_config
from opinionlm.config.unread import is_given, missing_choices
from opinionlm.runs import train_classifier, train_instruct
from opinionlm.runs.prompting import load_model, open_run, open_task, run_prompting
from tests.classifier_runs import command_line, write_setting
from tests.config.test_unread import other_value
from tests.task_data import write_prepared
from tests.tiny import save_generative_model

pytestmark = pytest.mark.slow
# Not read, and refused where another value of them comes by: a file that must exist, a number per label, and so on.
LEFT_ALONE = {"eval_strategy", "report_to", "optim", "bf16", "soft_labels", "class_counts", "task_tokens"}
LEFT_ALONE |= {
    "long_texts",
    "metric_for_best_model",
    "blend_words",
    "head",
    "head_hidden_sizes",
    "head_bias",
    "loss",
    "label_smoothing",
}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "tfidf": ("sequence", {"engine": "tfidf"}),
    "sklearn": ("sequence", {"engine": "sklearn", "adaptation": "head_only", "head_hidden_sizes": "[]"}),
    "full": ("sequence", {"adaptation": "full"}),
    "lora": ("sequence", {"adaptation": "lora", "loss": "focal", "max_steps": 2}),
    "top_blocks": ("sequence", {"engine": "loop", "max_tokens_per_batch": 200, "decision": "thresholds"}),
    "tagging": ("token", {"adaptation": "prefix", "cache_frozen": "off"}),
    "pairs": ("similarity", {"adaptation": "layernorm", "lr_scheduler_type": "constant"}),
    "score": ("instruct", {"adaptation": "lora"}),
    "generate": (
        "instruct",
        {"adaptation": "top_blocks", "decode": "generate", "num_beams": 1, "max_answer_length": 8},
    ),
    "prompt": ("prompt", {}),
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("setting")
    shared = write_setting(folder)
    for task in ("token", "similarity"):
        write_prepared(folder / task, task)
    save_generative_model(folder / "writer")
    (folder / "template.yaml").write_text('prompt: "post: {text}\\nlabel:"\n')
    return shared | {"num_train_epochs": "1"}


def config_of(kind: str, options: dict[str, Any], setting: dict[str, str], output: Path, name: str) -> Config:
    folder, shared = Path(setting["data_dir"]), dict(setting)
    if "max_steps" in options:
        del shared["num_train_epochs"]
    if kind in ("token", "similarity"):
        shared |= {"dataset": str(folder / kind)}
    script = {"instruct": "train_instruct", "prompt": "prompt"}.get(kind, "train_classifier")
    if script != "train_classifier":
        shared |= {"model_name_or_path": str(folder / "writer"), "prompt_template": str(folder / "template.yaml")}
        shared |= {"max_length": "64", "max_eval_samples": "12"}
        shared = {one: value for one, value in shared.items() if script in scripts_of(one)}
    given = {"output_dir": output, "run_name": name} | options
    return parse_config(command_line(shared, **given), "test", script)


def run(config: Config) -> dict[str, Any]:
    match config.script:
        case "train_classifier":
            return train_classifier.train(config)
        case "train_instruct":
            return train_instruct.train(config)
    task = open_task(config)
    return run_prompting(open_run(config, task), task, load_model(config, task))


def known_of(kind: str) -> dict[str, Any]:
    return {"task": kind if kind in ("token", "similarity") else "sequence"}


@contextmanager
def watched(config: Config) -> Iterator[set[str]]:
    """Names of the options that are looked at, but by `Config.flat` and the like, which look at all of them."""
    seen: set[str] = set()
    for name, group in GROUPS.items():

        class Watched(group):
            def __getattribute__(self, attribute: str) -> Any:
                code = sys._getframe(1).f_code
                if not code.co_filename.endswith(("config.py", "unread.py", "parsing.py", "copy.py")):
                    seen.add(attribute)
                return super().__getattribute__(attribute)

        getattr(config, name).__class__ = Watched
    yield seen
    for name, group in GROUPS.items():
        object.__setattr__(getattr(config, name), "__class__", group)


@pytest.mark.parametrize("way", WAYS)
def test_unread_options_change_nothing_and_read_ones_are_looked_at(way, setting, tmp_path, monkeypatch) -> None:
    for module in [one for name, one in sys.modules.items() if name.startswith("opinionlm.")]:
        if "refuse_unread" in vars(module):
            monkeypatch.setattr(module, "refuse_unread", lambda config, **known: None)
    kind, options = WAYS[way]
    config = config_of(kind, options, setting, tmp_path, "plain")
    with watched(config) as seen:
        plain = run(config)
    changed = config_of(kind, options, setting, tmp_path, "changed")
    mine = [name for name in declared() if changed.script in scripts_of(name)]
    unread = [name for name in mine if missing_choices(changed, name, known_of(kind)) and name not in LEFT_ALONE]
    for name in unread:
        setattr(getattr(changed, declared()[name][0]), name, other_value(name))
    other = run(changed)
    assert len(unread) > 8
    for split in ("validation", "test"):
        assert plain[split] == other[split], unread
    for weights in (tmp_path / "plain" / "best").glob("*model.safetensors"):
        assert weights.read_bytes() == (tmp_path / "changed" / "best" / weights.name).read_bytes(), weights.name
    # Looked at only where a value asks for something; where things lie, only if something comes to lie there.
    given = {name for name in mine if is_given(default_of(name))} - {*unread, "cache_dir", "cache_limit_gb"}
    assert given - seen - LEFT_ALONE <= UNSEEN, sorted(given - seen)
    assert json.dumps(plain["test"])


# Read in the run's folder or at its end by whole groups, or by other processes.
UNSEEN = {"resume_from_checkpoint", "wandb_project", "wandb_artifacts", "prompt_template", "seed", "output_dir"}
