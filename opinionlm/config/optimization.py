"""What the optimizers and schedules of transformers read, by name, so that a mistake is answered before any import.

Tests compare the names and arguments with the installed classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class OptimizerFacts:
    """What an optimizer reads.

    Attributes:
        adam: the ``adam_…`` fields that it reads.
        arguments: names and types of what ``optim_args`` may hold.
    """

    adam: tuple[str, ...] = ()
    arguments: tuple[tuple[str, type], ...] = ()


ADAM = OptimizerFacts(("adam_beta1", "adam_beta2", "adam_epsilon"))
ADEMAMIX = OptimizerFacts(ADAM.adam, (("beta3", float), ("alpha", float), ("t_alpha", int), ("t_beta3", int)))
LION = OptimizerFacts(("adam_beta1", "adam_beta2"))
# Those that are tried in the tests of this project, by name.
OPTIMIZERS = {
    **dict.fromkeys(("adamw_torch_fused", "adamw_torch", "adamw_bnb_8bit", "adamw_8bit"), ADAM),
    **dict.fromkeys(("paged_adamw_32bit", "paged_adamw_8bit"), ADAM),
    **dict.fromkeys(("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"), ADEMAMIX),
    **dict.fromkeys(("lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit"), LION),
    "adafactor": OptimizerFacts(),
    "sgd": OptimizerFacts((), (("momentum", float), ("dampening", float), ("nesterov", bool))),
    "adagrad": OptimizerFacts((), (("lr_decay", float), ("eps", float))),
    "rmsprop": OptimizerFacts((), (("momentum", float), ("alpha", float), ("eps", float), ("centered", bool))),
    "rmsprop_bnb": OptimizerFacts(),
    "rmsprop_bnb_8bit": OptimizerFacts(),
    "rmsprop_bnb_32bit": OptimizerFacts(),
}
# The others of transformers, by the reason why they are not used.
OTHER_OPTIMIZERS = {
    name: reason
    for reason, names in {
        "is for another kind of processor": ("adamw_torch_xla", "adamw_torch_npu_fused"),
        "needs a package that this project does not test with": (
            *("adamw_anyprecision", "adamw_torch_4bit", "adamw_torch_8bit", "grokadamw", "stable_adamw"),
        ),
        "groups parameters by itself, which our groups contradict": (
            *("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise"),
            *("galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "apollo_adamw", "apollo_adamw_layerwise"),
            *("lomo", "adalomo"),
        ),
        "evaluates other weights than it trains": (
            *("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"),
        ),
    }.items()
    for name in names
}

WAVES = {"num_cycles": float}
SHAPE = Literal["linear", "cosine", "1-sqrt"]
# The arguments of each schedule, with their types.
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": WAVES,
    "cosine_with_restarts": {"num_cycles": int},
    "polynomial": {"lr_end": float, "power": float},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": int},
    "reduce_lr_on_plateau": {
        "factor": float,
        "patience": int,
        "threshold": float,
        "threshold_mode": Literal["rel", "abs"],
        "cooldown": int,
        "min_lr": float,
        "eps": float,
    },
    "cosine_with_min_lr": {**WAVES, "min_lr": float, "min_lr_rate": float},
    "cosine_warmup_with_min_lr": {**WAVES, "min_lr": float, "min_lr_rate": float, "warmup_lr_rate": float},
    "warmup_stable_decay": {
        **WAVES,
        "num_decay_steps": int,
        "warmup_type": SHAPE,
        "decay_type": SHAPE,
        "min_lr_ratio": float,
    },
}
OTHER_SCHEDULES = {"greedy": "keeps the rate above 1e-3 by default, and changes it at every evaluation"}
# One of these has to be given.
NEEDED = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
# The schedules that begin with a warm-up.
WITH_WARMUP = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant_with_warmup", "inverse_sqrt"),
    *("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"),
)
# Left to these scripts: other arguments of the installed functions, and why they are no arguments here.
SET_BY_US = {
    "optimizer": "",
    "num_warmup_steps": "set warmup_steps",
    "num_training_steps": "follows from num_train_epochs or max_steps",
    "last_epoch": "a continued run goes on by itself",
    "mode": "follows from greater_is_better",
    "num_stable_steps": "is what warm-up and decay leave",
}
