"""All options of a run: one YAML is one run.

`opinionlm.options` declares them, `opinionlm.parsing` fills them from a YAML file and the command line; `validate`
collects every error before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opinionlm.adapt_rules import adapt_problems, other_task_problems
from opinionlm.conditions import Script
from opinionlm.errors import UserError
from opinionlm.loss_rules import loss_problems
from opinionlm.method_rules import engine_problems, method_problems
from opinionlm.options import (
    Adaptation,
    AdaptConfig,
    DataConfig,
    DecisionConfig,
    InstructConfig,
    MethodConfig,
    ModelConfig,
    PretrainConfig,
    PromptConfig,
    RobustConfig,
    TrackingConfig,
    TrainingConfig,
)
from opinionlm.robust_rules import robust_problems
from opinionlm.trainer_rules import trainer_problems
from opinionlm.unread import GROUPS, choice, declared, refusals, scripts_of, unread_options
from opinionlm.untrusted import is_folder_name

__all__ = [
    "AdaptConfig",
    "Adaptation",
    "Config",
    "DataConfig",
    "DecisionConfig",
    "InstructConfig",
    "MethodConfig",
    "ModelConfig",
    "PretrainConfig",
    "PromptConfig",
    "RobustConfig",
    "Script",
    "TrackingConfig",
    "TrainingConfig",
    "option_names",
    "validate",
]


@dataclass
class Config:
    """All options of one run of a script; each script knows its own (`option_names`)."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)
    instruct: InstructConfig = field(default_factory=InstructConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    source: str = "the command line"
    script: Script = "train_classifier"

    def flat(self) -> dict[str, Any]:
        """Every option of the script as one flat mapping, as a YAML file holds them."""
        values: dict[str, Any] = {}
        for name, group in GROUPS.items():
            values |= {option: getattr(getattr(self, name), option) for option in option_names(group, self.script)}
        return values | self.training.extra

    @property
    def run_folder(self) -> Path:
        """The folder that this run writes."""
        return Path(self.training.output_dir) / self.training.run_name


def option_names(group: type, script: Script) -> list[str]:
    """The options of a group that a script has; the group is a dataclass of `opinionlm.options`."""
    return [entry.name for entry in fields(group) if entry.name != "extra" and script in scripts_of(entry.name)]


def validate(config: Config) -> None:
    """Check everything that can be known before a model or data are loaded.

    Raises:
        UserError: every problem found, in one line: field, value, reason and remedy.
    """
    data, model, method, training = config.data, config.model, config.method, config.training
    problems = other_task_problems(config, choice(config, "task", {}))
    unread = unread_options(config)
    if problems:
        # The task is the cause; that it reads no options of AdaPT either says nothing more.
        unread = [one for one in unread if declared()[one.name][0] != "adapt"]

    def require(holds: bool, name: str, value: object, reason: str) -> None:
        if not holds:
            problems.append(f"{name}: {value!r} {reason}")

    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        require(getattr(training, name) >= 1, name, getattr(training, name), "must be at least 1")
    require(training.learning_rate > 0, "learning_rate", training.learning_rate, "must be positive")
    require(training.weight_decay >= 0, "weight_decay", training.weight_decay, "must not be negative")
    require(training.max_grad_norm > 0, "max_grad_norm", training.max_grad_norm, "must be positive")
    require(training.warmup_steps >= 0, "warmup_steps", training.warmup_steps, "must not be negative")
    if training.max_steps <= 0:
        require(
            training.num_train_epochs > 0,
            "num_train_epochs",
            training.num_train_epochs,
            "must be positive, or give max_steps",
        )
    try:
        training.seed_list()
    except ValueError:
        require(False, "seeds", training.seeds, "must name different whole numbers, as in `0..9` or `1 2 3`")
    require(data.max_length >= 2, "max_length", data.max_length, "must be at least 2 tokens")
    require(training.save_total_limit >= 1, "save_total_limit", training.save_total_limit, "must be at least 1")
    require(
        training.max_nonfinite_steps >= 0, "max_nonfinite_steps", training.max_nonfinite_steps, "must not be negative"
    )
    if training.eval_strategy == "steps":
        require(
            training.eval_steps is not None and training.eval_steps >= 1,
            "eval_steps",
            training.eval_steps,
            "must be at least 1 with eval_strategy: steps",
        )
    if training.early_stopping_patience is not None:
        patience = training.early_stopping_patience
        require(patience >= 1, "early_stopping_patience", patience, "must be at least 1, or left out")
    require(method.cache_limit_gb > 0, "cache_limit_gb", method.cache_limit_gb, "must be positive")
    for name in ("max_train_samples", "max_eval_samples", "max_tokens_per_batch"):
        value = getattr(data, name)
        require(value is None or value >= 1, name, value, "must be at least 1, or left out")
    for name in ("train_platforms", "eval_platforms"):
        names = getattr(data, name)
        distinct = names is None or 0 < len(names) == len(set(names))
        require(distinct, name, names, "must name different platforms, or be left out")
    require(0 <= model.classifier_dropout < 1, "classifier_dropout", model.classifier_dropout, "must be in [0, 1)")
    require(
        all(size >= 1 for size in model.head_hidden_sizes),
        "head_hidden_sizes",
        model.head_hidden_sizes,
        "must hold positive widths",
    )
    # Of other fields of TrainingArguments `trainer_problems` speaks.
    problems += refusals(one for one in unread if one.name not in training.extra)
    # Without training there is no adaptation that could be wrong.
    if config.script != "prompt":
        problems += method_problems(config) + engine_problems(config) + loss_problems(config)
        problems += robust_problems(config) + adapt_problems(config) + trainer_problems(config)
    require(
        not (model.load_in_4bit and model.random_weights),
        "random_weights",
        model.random_weights,
        "leaves nothing to quantise; set load_in_4bit: false",
    )
    require(
        model.dtype != "float16",
        "dtype",
        model.dtype,
        "overflows in Gemma 3 and gives nan losses (transformers #39972); use bfloat16 or float32",
    )
    if method.class_counts is not None:
        require(
            all(count >= 1 for count in method.class_counts),
            "class_counts",
            method.class_counts,
            "must be positive counts, one per label",
        )
    trackers = config.tracking.report_to
    require(
        0 < len(trackers) == len(set(trackers)) and ("none" not in trackers or len(trackers) == 1),
        "report_to",
        trackers,
        "must be none, or name wandb and tensorboard at most once each",
    )
    require(
        "tensorboard" not in trackers or find_spec("tensorboard") is not None,
        "report_to",
        trackers,
        "needs the package tensorboard; `pip install -r requirements.txt`, or leave it out",
    )
    require(
        is_folder_name(training.run_name),
        "run_name",
        training.run_name,
        "must be a plain folder name: no separators, no control characters, not only dots, at most 200 bytes",
    )
    instruct = config.instruct
    require(instruct.num_beams >= 1, "num_beams", instruct.num_beams, "must be at least 1")
    require(
        instruct.decode == "score" or 1 < instruct.max_answer_length < data.max_length,
        "max_answer_length",
        instruct.max_answer_length,
        f"must be at least 2 tokens and leave room for a prompt in max_length ({data.max_length})",
    )
    pretrain = config.pretrain
    require(0 < pretrain.mlm_probability < 1, "mlm_probability", pretrain.mlm_probability, "must be between 0 and 1")
    share = pretrain.held_out_share
    require(0 < share <= 0.5, "held_out_share", share, "must be above 0 and at most 0.5")
    prompt = config.prompt
    require(prompt.shots >= 0, "shots", prompt.shots, "must not be negative")
    require(
        prompt.hypothesis_template.count("{label}") == 1,
        "hypothesis_template",
        prompt.hypothesis_template,
        "must hold {label} once, where the label's words go",
    )
    if problems:
        raise UserError(f"{config.source}: " + "; ".join(problems))
