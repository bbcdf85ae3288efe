"""All options of a run: one YAML is one run.

`opinionlm.config.options` declares them, `opinionlm.config.parser` fills them from a YAML file and the command
line; `opinionlm.config.checks.validate` collects every error before anything is loaded.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from opinionlm.config.conditions import Script
from opinionlm.config.method_options import AdaptConfig, DecisionConfig, MethodConfig, RobustConfig
from opinionlm.config.options import (
    DataConfig,
    InstructConfig,
    ModelConfig,
    PretrainConfig,
    PromptConfig,
    TrackingConfig,
    TrainingConfig,
)


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
    """The options of a group that a script has; the group is a dataclass of `opinionlm.config.options`."""
    return [entry.name for entry in fields(group) if entry.name != "extra" and script in scripts_of(entry.name)]


# Options that do not change what a run computes.
HARMLESS = {"overwrite", "seeds", "resume_from_checkpoint", "report_to", "dataloader_num_workers"}
HARMLESS |= {"max_nonfinite_steps", "save_total_limit", "disable_tqdm", "ddp_timeout", "torch_empty_cache_steps"}
HARMLESS |= {"wandb_project", "wandb_group", "wandb_tags", "wandb_artifacts"}
GROUPS = {
    "data": DataConfig,
    "model": ModelConfig,
    "method": MethodConfig,
    "decision": DecisionConfig,
    "robust": RobustConfig,
    "instruct": InstructConfig,
    "prompt": PromptConfig,
    "pretrain": PretrainConfig,
    "adapt": AdaptConfig,
    "training": TrainingConfig,
    "tracking": TrackingConfig,
}


@cache
def declared() -> dict[str, tuple[str, Field[Any]]]:
    """Every option by its name: its group and its field."""
    return {entry.name: (group, entry) for group, kind in GROUPS.items() for entry in fields(kind)}


def scripts_of(name: str) -> tuple[Script, ...]:
    """The scripts that have an option."""
    group, entry = declared()[name]
    return entry.metadata["scripts"] or GROUPS[group].scripts


def default_of(name: str) -> Any:
    """An option's default."""
    entry = declared()[name][1]
    return entry.default if entry.default_factory is MISSING else entry.default_factory()
