"""Optuna's TPE, drawing for a trial what its number and the study's seed say, whoever draws it and whenever."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class SlotSampler(BaseSampler):
    """A tree-structured Parzen estimator per option (Bergstra et al. 2011), seeded anew for every draw.

    Optuna's own sampler has one stream of random numbers per process: after a restart it would draw what it drew at
    the beginning, and two processes with one seed would draw alike.

    Args:
        seed: of the study.
        startup: trials that draw at random, before there is anything to learn from.
    """

    def __init__(self, seed: int, startup: int) -> None:
        self.seed, self.startup = seed, startup

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """No options are drawn together."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `infer_relative_search_space`."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a value of one option."""
        numbers = np.random.SeedSequence([self.seed, trial.user_attrs["slot"], zlib.crc32(param_name.encode())])
        sampler = TPESampler(n_startup_trials=self.startup, seed=int(numbers.generate_state(1)[0]))
        return sampler.sample_independent(study, trial, param_name, param_distribution)
