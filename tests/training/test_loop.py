"""Our own loop against Trainer: the same losses, weights and best checkpoint at every step, and when interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.training.batching import BatchPlan, EncodedTexts
from opinionlm.training.ema import WeightAverage
from opinionlm.training.loop import TrainingLoop
from opinionlm.training.losses.base import ExampleLoss, WeightedCrossEntropy
from opinionlm.training.trainer import OpinionTrainer
from tests.tiny import tiny_classifier
from tests.training.test_exact_loss import WEIGHTS, examples

COUNT = 21


def metrics(prediction) -> dict[str, float]:
    predicted = prediction.predictions.argmax(axis=1)
    return {
        "macro_f1": f1_score(prediction.label_ids, predicted, average="macro", zero_division=0),
        "loss": float(np.abs(prediction.predictions).mean()),
        "accuracy": float((predicted == prediction.label_ids).mean()),
    }


class Killer(TrainerCallback):
    """Dies at a step, as a killed process would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def engine(
    kind: str,
    folder: Path,
    callbacks: list[TrainerCallback] | None = None,
    loss: ExampleLoss | None = None,
    average: float | None = None,
    rdrop_alpha: float = 0.0,
    max_nonfinite_steps: int = 0,
    **options,
):
    """One of the two engines over the same model and examples."""
    values = {
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3,
        "learning_rate": 3e-3,
        "weight_decay": 0.1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.2,
        "max_grad_norm": 0.5,
        "logging_steps": 1,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "macro_f1",
        "greater_is_better": True,
    } | options
    arguments = TrainingArguments(
        output_dir=str(folder / kind),
        seed=5,
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        label_names=["labels"],
        remove_unused_columns=False,
        include_num_input_tokens_seen="non_padding",
        **values,
    )
    texts = EncodedTexts(examples(COUNT), np.arange(COUNT))
    torch.manual_seed(0)
    # Dropout shows that both draw the same random numbers.
    model = tiny_classifier("bert", single=True, classifier_dropout=0.2, head_hidden_sizes=[32])
    return {"trainer": OpinionTrainer, "loop": TrainingLoop}[kind](
        model=model,
        args=arguments,
        loss=WeightedCrossEntropy(WEIGHTS) if loss is None else loss,
        plan=BatchPlan(texts.lengths, 4, DataConfig(), 5, 3),
        train_dataset=texts,
        eval_dataset=texts,
        data_collator=PadCollator(pad_token_id=0),
        compute_metrics=metrics,
        callbacks=callbacks or [],
        average=None if average is None else WeightAverage(model, average),
        rdrop_alpha=rdrop_alpha,
        max_nonfinite_steps=max_nonfinite_steps,
    )


def of(engine, name: str) -> list[float]:
    # Trainer closes its history with a line about the whole run.
    return [entry[name] for entry in engine.state.log_history if name in entry and "train_loss" not in entry]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 1, "lr_scheduler_type": "linear"},
        {"bf16": True},
        {"max_steps": 7, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3},
        {"optim": "adamw_bnb_8bit"},
    ],
    ids=["accumulation", "plain", "bf16", "steps", "8bit"],
)
def test_loop_equals_trainer_step_by_step(options, tmp_path) -> None:
    trainer = engine("trainer", tmp_path, **options)
    outcomes = [trainer.train()]
    loop = engine("loop", tmp_path, **options)
    outcomes.append(loop.train())
    assert outcomes[0].global_step == outcomes[1].global_step > 3
    assert outcomes[0].training_loss == pytest.approx(outcomes[1].training_loss, abs=1e-6)
    for name in ("loss", "learning_rate", "grad_norm", "eval_macro_f1", "eval_loss", "epoch"):
        assert of(loop, name) == pytest.approx(of(trainer, name), abs=1e-6), name
    assert loop.state.best_global_step == trainer.state.best_global_step
    assert loop.state.num_input_tokens_seen == trainer.state.num_input_tokens_seen
    assert Path(loop.state.best_model_checkpoint).name == Path(trainer.state.best_model_checkpoint).name
    for (name, one), other in zip(trainer.model.named_parameters(), loop.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    np.testing.assert_allclose(loop.outputs(loop.eval_dataset), trainer.outputs(trainer.eval_dataset), atol=1e-5)
    folders = [sorted(path.name for path in (tmp_path / kind).iterdir()) for kind in ("trainer", "loop")]
    assert folders[0] == folders[1]


@pytest.mark.parametrize("step", [4, 6], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize(("kind", "bf16"), [("loop", False), ("loop", True), ("trainer", True)])
def test_an_interrupted_run_continues_bit_for_bit(kind, bf16, step, tmp_path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "bf16": bf16}
    whole = engine(kind, tmp_path / "whole", **options)
    whole_outcome = whole.train()
    broken = engine(kind, tmp_path / "broken", [Killer(step + 1)], **options)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = engine(kind, tmp_path / "broken", **options)
    outcome = again.train(resume_from_checkpoint=str(tmp_path / "broken" / kind / f"checkpoint-{step}"))
    assert outcome.global_step == whole_outcome.global_step
    assert outcome.training_loss == whole_outcome.training_loss
    assert of(again, "loss") == of(whole, "loss") and of(again, "eval_macro_f1") == of(whole, "eval_macro_f1")
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_early_stopping(strategy, tmp_path) -> None:
    options = {"eval_strategy": strategy, "save_strategy": strategy, "num_train_epochs": 30}
    if strategy == "steps":
        options |= {"eval_steps": 2, "save_steps": 2}
    for kind in ("trainer", "loop"):
        # Nothing improves at this learning rate: the first evaluation stays the best, the second ends the run.
        one = engine(kind, tmp_path, [EarlyStoppingCallback(1)], learning_rate=1e-12, **options)
        one.train()
        assert len(of(one, "eval_macro_f1")) == 2
        assert one.state.global_step == (6 if strategy == "epoch" else 4)
