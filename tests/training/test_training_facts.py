"""What a card says of batches, steps and epochs: what was done, processes, accumulation and early ends counted in."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import TrainerState
from transformers.trainer_utils import TrainOutput

from opinionlm.config.config import Config
from opinionlm.config.options import DataConfig
from opinionlm.training.batching import BatchPlan
from opinionlm.training.training_facts import describe_batches, describe_steps, training_facts, training_rows


def config_with(**options) -> Config:
    config = Config()
    for name, value in options.items():
        group = next(part for part in (config.training, config.data, config.robust) if hasattr(part, name))
        setattr(group, name, value)
    return config


def facts_of(config: Config, steps: int, epochs: float, processes: int = 1) -> dict:
    plan = BatchPlan(np.full(40, 10), 4, DataConfig(), seed=0, epochs=9, processes=processes)
    state = TrainerState(global_step=steps, epoch=epochs, best_global_step=steps, num_input_tokens_seen=100 * steps)
    return training_facts(config.training, config.robust.ema_decay, state, plan, TrainOutput(steps, 0.5, {}))


def test_processes_and_accumulation_are_counted_in() -> None:
    config = config_with(per_device_train_batch_size=4, gradient_accumulation_steps=2)
    # 40 texts, 2 processes × 4 texts × 2 batches: 16, 16 and the last 8 of an epoch.
    facts = facts_of(config, steps=3, epochs=1.0, processes=2)
    assert facts["texts_per_step"] == pytest.approx(40 / 3) and facts["tokens_per_step"] == 100
    words = "4 texts × 2 accumulated × 2 processes; 13.3 texts, 100 tokens on average"
    assert describe_batches(config.training, config.data.max_tokens_per_batch, facts) == words
    assert (
        describe_batches(config.training, config.data.max_tokens_per_batch, facts_of(config, steps=0, epochs=0.0))
        == "4 texts × 2 accumulated"
    )


@pytest.mark.parametrize(
    ("options", "steps", "epochs", "words"),
    [
        ({"num_train_epochs": 3.0}, 30, 3.0, "3 epochs, 30 steps"),
        ({"num_train_epochs": 3.0, "max_steps": 10}, 10, 1.0, "1 epochs, 10 steps"),
        ({"num_train_epochs": 0.5}, 5, 0.5, "0.5 epochs, 5 steps"),
        (
            {"num_train_epochs": 9.0, "early_stopping_patience": 2},
            40,
            4.0,
            "4 epochs, 40 steps (stopped early, of at most 9 epochs)",
        ),
        (
            {"max_steps": 50, "early_stopping_patience": 2},
            40,
            4.0,
            "4 epochs, 40 steps (stopped early, of at most 50 steps)",
        ),
    ],
)
def test_epochs_and_steps_that_were_made(options: dict, steps: int, epochs: float, words: str) -> None:
    config = config_with(per_device_train_batch_size=4, **options)
    assert describe_steps(config.training, facts_of(config, steps, epochs)) == words


def test_the_average_says_how_far_it_warmed_up() -> None:
    for decay, shown in ((0.999, "decay 0.999; warm-up had reached 0.775 at the last step"), (0.7, "decay 0.7")):
        config = config_with(ema_decay=decay)
        rows = dict(training_rows(config, facts_of(config, 30, 3.0)))
        assert rows["average of the weights"] == shown
    assert "average of the weights" not in dict(training_rows(Config(), facts_of(Config(), 30, 3.0)))
