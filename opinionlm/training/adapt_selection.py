"""Which sub-layers train under ``adaptation: adapt``: measured on a sample, the head warmed up before."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from transformers import TrainingArguments

from opinionlm.adaptation.adapt.selection import Selection, apply_selection, select_modules
from opinionlm.adaptation.adapt.sensitivity import Example, measure_sensitivity, warm_up_head
from opinionlm.adaptation.adapt.vocabulary import check_texts
from opinionlm.config.config import Config
from opinionlm.config.method_options import SensitivityConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.data.prepared import PreparedDataset
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.sublayers import sublayers_of
from opinionlm.training.batching import EncodedTexts
from opinionlm.training.checkpoints import latest_checkpoint
from opinionlm.training.losses.base import ExampleLoss
from opinionlm.training.prefix_cache_building import CPU_TOKENS, cut
from opinionlm.utils.distributed import said_by_main
from opinionlm.utils.progress import progress_bar

SELECTION_FILE = "selection.json"


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        selection: the sub-layers and why; None under another adaptation.
        seconds: that warm-up and measurement took.
    """

    selection: Selection | None = None
    seconds: float = 0.0


def choose_sublayers(
    model: OpinionClassifier,
    loss: ExampleLoss,
    train: EncodedTexts,
    pad_id: int,
    prepared: PreparedDataset,
    config: Config,
    arguments: TrainingArguments,
) -> Choice:
    """Warm the head up, measure sensitivity, and let the chosen sub-layers train; nothing under another adaptation.

    A run that goes on after a stop takes the choice that its folder holds.

    Raises:
        UserError: data that are not single texts with a label, or a budget below the smallest sub-layer.
    """
    if config.method.adaptation != "adapt":
        return Choice()
    check_texts(prepared, config.method.adaptation, config.source)
    started = time.perf_counter()
    model.to(arguments.device)
    stored = config.run_folder / SELECTION_FILE
    if latest_checkpoint(config.training, is_main=False) is not None and stored.is_file():
        selection = Selection.load(stored)
    else:
        sample = sample_rows(len(train), config.adapt.sensitivity_samples, config.training.seed)
        selection = measured_selection(model, loss, train, PadCollator(pad_id), sample, config.adapt)
    # Sums over processes may round differently, and all have to train the same weights.
    selection = said_by_main(selection)
    apply_selection(model, selection)
    return Choice(selection, time.perf_counter() - started)


def measured_selection(
    model: OpinionClassifier,
    loss: ExampleLoss,
    train: EncodedTexts,
    collate: PadCollator,
    rows: np.ndarray,
    adapt: SensitivityConfig,
) -> Selection:
    """Measure on some rows and choose, in the data type of the parameters; see `choose_sublayers`."""

    def batch_of(chosen: np.ndarray) -> Example:
        batch = collate(train.__getitems__(chosen.tolist()))
        return {name: tensor.to(model.device) for name, tensor in batch.items()}

    def loss_of(classifier: OpinionClassifier, example: Example) -> torch.Tensor:
        inputs = {name: value for name, value in example.items() if name != "labels"}
        return loss.weighted_sum(classifier(**inputs).logits, example["labels"])

    if adapt.sensitivity_warmup_steps:
        longest_first = rows[np.argsort(-train.lengths[rows], kind="stable")]
        batches = [batch_of(chosen) for chosen in cut(longest_first, train.lengths, CPU_TOKENS)]
        features = pooled_features(model, batches)
        labels = torch.cat([batch["labels"] for batch in batches])
        rate = adapt.sensitivity_warmup_learning_rate
        warm_up_head(model.head, features, labels, loss, adapt.sensitivity_warmup_steps, rate)
    examples = map(batch_of, progress_bar(rows[:, None], desc="sensitivity", unit="texts"))
    sensitivity = measure_sensitivity(model, sublayers_of(model.backbone), examples, loss_of)
    return select_modules(
        model, sensitivity, adapt.sensitivity_budget, adapt.sensitivity_beta, adapt.sensitivity_standardise
    )


def sample_rows(total: int, size: int | None, seed: int) -> np.ndarray:
    """Positions of the texts that are measured, ascending; all of them where ``size`` is None or not smaller."""
    if size is None or size >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, size, replace=False))


@torch.no_grad()
def pooled_features(model: OpinionClassifier, batches: list[Example]) -> torch.Tensor:
    """What the head gets, ``(texts, hidden)``, without dropout."""
    training = model.training
    model.eval()
    inputs = ({name: value for name, value in batch.items() if name != "labels"} for batch in batches)
    features = torch.cat([model.pooled(**one) for one in inputs])
    model.train(training)
    return features
