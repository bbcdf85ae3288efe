"""The ways of fitting a model that the IMDB report compares: Trainer, a loop of our own, logistic regression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from transformers.trainer_utils import TrainOutput

from opinionlm.config.config import Config
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.cost import reset_peak_memory
from opinionlm.training.linear_probe import fit_head
from opinionlm.training.loop import TrainingLoop
from opinionlm.training.trainer import OpinionTrainer

Engine = OpinionTrainer | TrainingLoop


def fit(
    engine: Engine,
    config: Config,
    readers: dict[str, EncodedTexts],
    checkpoint: str | None,
    score: Callable[[np.ndarray, np.ndarray], float],
) -> TrainOutput:
    """Fit the engine's model; afterwards it is the best one by validation.

    Args:
        engine: from `opinionlm.tasks.engines.build_engine`.
        config: the run's options.
        readers: the splits, with the pooled states of the frozen backbone under ``engine: sklearn``.
        checkpoint: where an interrupted run continues.
        score: of gold ids and logits; what logistic regression chooses C by, on validation.
    """
    reset_peak_memory()
    if config.training.engine != "sklearn":
        return engine.train(resume_from_checkpoint=checkpoint)
    chosen = fit_head(engine.model, readers, config.method.class_weights == "inverse_frequency", score)
    print(f"logistic regression: C {chosen.c:g}, chosen on validation among {len(chosen.scores)}")
    engine.state.log_history += [{"C": c, "score": value} for c, value in chosen.scores.items()]
    engine.state.epoch, engine.state.best_global_step = 1.0, 0
    return TrainOutput(0, 0.0, {"C": chosen.c})
