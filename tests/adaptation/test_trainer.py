"""The schedules inside the real Trainer: resuming from its checkpoints, optimizer groups, the penalty counted once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from opinionlm.adaptation.callbacks import auxiliary_loss, training_callbacks
from opinionlm.adaptation.methods import apply_adaptation, trained_parameters
from opinionlm.adaptation.parameter_groups import parameter_groups
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import DataConfig, HeadConfig
from opinionlm.config.training_options import TrainingConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.training.batching import BatchPlan, EncodedTexts
from opinionlm.training.losses.base import WeightedCrossEntropy
from opinionlm.training.trainer import OpinionTrainer
from tests.tiny import tiny_classifier
from tests.training.test_exact_loss import examples

STEPS = 8


def trainer_for(method: MethodConfig, folder: Path, batch: int = 4, accumulation: int = 1) -> OpinionTrainer:
    model = tiny_classifier("bert", classifier_dropout=0.0)
    apply_adaptation(model, method, STEPS)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=STEPS,
        learning_rate=5e-3,
        save_strategy="steps",
        save_steps=3,
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        label_names=["labels"],
        remove_unused_columns=False,
    )
    texts = EncodedTexts(examples(16), np.arange(16))
    return OpinionTrainer(
        model=model,
        args=arguments,
        loss=WeightedCrossEntropy(torch.ones(4)),
        plan=BatchPlan(texts.lengths, batch, DataConfig(), 0, 1),
        train_dataset=texts,
        data_collator=PadCollator(0),
        callbacks=training_callbacks(model, method, STEPS),
        parameter_groups=parameter_groups(model, method, TrainingConfig(learning_rate=5e-3), HeadConfig()),
        auxiliary_loss=partial(auxiliary_loss, model),
    )


@pytest.mark.parametrize(
    "method",
    [
        MethodConfig(adaptation="adalora", adalora_init_r=4, adalora_target_r=1),
        MethodConfig(adaptation="lisa", lisa_blocks=1, lisa_interval=2),
        MethodConfig(adaptation="layerwise_lr", layerwise_lr_decay=0.5),
        MethodConfig(adaptation="prompt", num_virtual_tokens=3),
    ],
    ids=lambda method: method.adaptation,
)
def test_resumed_run_ends_where_the_unbroken_one_does(method: MethodConfig, tmp_path) -> None:
    unbroken = trainer_for(method, tmp_path)
    unbroken.train()
    resumed = trainer_for(method, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected = trained_parameters(unbroken.model)
    found = trained_parameters(resumed.model)
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        assert torch.equal(parameter, expected[name]), name
    if method.adaptation == "layerwise_lr":
        rates = {group["initial_lr"] for group in unbroken.optimizer.param_groups}
        assert rates == {5e-3 * 0.5**depth for depth in range(6)}


def test_penalty_counts_once_per_step(tmp_path) -> None:
    trainer = trainer_for(MethodConfig(adaptation="adalora", adalora_init_r=4, adalora_target_r=1), tmp_path, 4, 4)
    trainer.model.eval()
    batches, weight = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 4, torch.device("cpu"))
    total = sum(trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=weight) for batch in batches)
    trainer.auxiliary_loss = None
    without = sum(trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=weight) for batch in batches)
    torch.testing.assert_close(total - without, auxiliary_loss(trainer.model))
