"""All options of a run: one YAML is one run.

`opinionlm.config.options` declares them, `opinionlm.config.parser` fills them from a YAML file and the command
line; `opinionlm.config.checks.validate` collects every error before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from opinionlm.config.conditions import Script
from opinionlm.config.method_options import (
    AdaptationConfig,
    AdaptConfig,
    CacheConfig,
    ClassWeightsConfig,
    DecisionConfig,
    LossConfig,
    MethodConfig,
    RobustConfig,
    SensitivityConfig,
    SequencesConfig,
)
from opinionlm.config.options import (
    BackboneConfig,
    DataConfig,
    DatasetConfig,
    EvaluationTextsConfig,
    HeadConfig,
    InstructConfig,
    LengthConfig,
    LoadingConfig,
    LongTextsConfig,
    ModelConfig,
    OrderConfig,
    PaddingConfig,
    PretrainConfig,
    PromptConfig,
    TaskConfig,
    TrainPlatformsConfig,
    WeightsConfig,
)
from opinionlm.config.training_options import (
    BatchConfig,
    CheckpointConfig,
    EngineConfig,
    EvaluationConfig,
    HubConfig,
    OptimizationConfig,
    RunConfig,
    SeedConfig,
    SeedsConfig,
    TrackingConfig,
    TrainingConfig,
    TuneConfig,
)

# What every run has; what is evaluated, what takes gradient steps, and what learns labels have beside it.
RUN = (DatasetConfig, LengthConfig, BackboneConfig, LoadingConfig, RunConfig, SeedConfig)
EVALUATED = (TrainPlatformsConfig, EvaluationTextsConfig, WeightsConfig, SeedsConfig, TrackingConfig)
TRAINED = (OrderConfig, OptimizationConfig, BatchConfig, CheckpointConfig)
LABELLED: tuple[type, ...] = (TuneConfig, PaddingConfig, AdaptationConfig, ClassWeightsConfig, DecisionConfig)
LABELLED += (EvaluationConfig, HubConfig)
CLASSIFIER: tuple[type, ...] = (TaskConfig, LongTextsConfig, EngineConfig, HeadConfig, LossConfig, CacheConfig)
CLASSIFIER += (RobustConfig, SensitivityConfig)
# The options of every script.
SCRIPTS: dict[Script, tuple[type, ...]] = {
    "train_classifier": (*RUN, *EVALUATED, *TRAINED, *LABELLED, *CLASSIFIER, SequencesConfig),
    "train_instruct": (*RUN, *EVALUATED, *TRAINED, *LABELLED, CacheConfig, InstructConfig),
    "prompt": (*RUN, *EVALUATED, InstructConfig, PromptConfig),
    "mining": (DatasetConfig, TrainPlatformsConfig, BackboneConfig, SeedConfig, SequencesConfig),
    "pretrain": (*RUN, *TRAINED, PretrainConfig),
}


@dataclass
class Config:
    """All options of one run; its script knows those of `SCRIPTS`, the others keep their defaults."""

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
    # What wins over the file: option → where it stands, for messages.
    given: Mapping[str, str] = field(default_factory=dict)

    def flat(self) -> dict[str, Any]:
        """Every option of the script as one flat mapping, as a YAML file holds them."""
        return {name: self.value(name) for name in options_of(self.script)} | self.training.extra

    def value(self, name: str) -> Any:
        """The value of an option of any group."""
        return getattr(getattr(self, declared()[name][0]), name)

    def set(self, name: str, value: Any) -> None:
        """Give an option of any group a value of its type."""
        setattr(getattr(self, declared()[name][0]), name, value)

    @property
    def run_folder(self) -> Path:
        """The folder that this run writes."""
        return self.training.run_folder


# Options that do not change what a run computes.
HARMLESS = {"overwrite", "seeds", "resume_from_checkpoint", "report_to", "dataloader_num_workers"}
HARMLESS |= {"max_nonfinite_steps", "save_total_limit", "disable_tqdm", "ddp_timeout", "torch_empty_cache_steps"}
HARMLESS |= {"wandb_project", "wandb_group", "wandb_tags", "wandb_artifacts", "push_to_hub"}
# The attributes of a config that hold options, and their classes.
GROUPS: dict[str, type] = {
    name: kind for name, kind in get_type_hints(Config).items() if isinstance(kind, type) and is_dataclass(kind)
}


def options_in(kind: type) -> list[Field[Any]]:
    """The options of a class, apart from what else it holds."""
    return [entry for entry in fields(kind) if "help" in entry.metadata]


def subject_of(kind: type) -> str:
    """What the options of a class are about, as a title."""
    return (kind.__doc__ or "").splitlines()[0].rstrip(".")


@cache
def declared() -> dict[str, tuple[str, Field[Any]]]:
    """Every option by its name: the attribute of a config that holds it, and its field."""
    groups = {entry.name: name for name, kind in GROUPS.items() for entry in fields(kind)}
    kinds = dict.fromkeys(kind for script in SCRIPTS.values() for kind in script)
    return {entry.name: (groups[entry.name], entry) for kind in kinds for entry in options_in(kind)}


@cache
def options_of(script: Script) -> tuple[str, ...]:
    """The names of all options of a script."""
    return tuple(entry.name for kind in SCRIPTS[script] for entry in options_in(kind))


def takes_trainer_fields(script: Script) -> bool:
    """Whether a script takes other fields of TrainingArguments beside its options."""
    return OptimizationConfig in SCRIPTS[script]


@cache
def scripts_of(name: str) -> tuple[Script, ...]:
    """The scripts that have an option."""
    return tuple(script for script in SCRIPTS if name in options_of(script))


def default_of(name: str) -> Any:
    """An option's default."""
    entry = declared()[name][1]
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


@cache
def type_of(name: str) -> Any:
    """The type of an option's value."""
    return get_type_hints(GROUPS[declared()[name][0]])[name]
