"""The losses of tags, scores and several labels are the same numbers however an optimizer step is cut into batches."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.training.batching import BatchPlan, EncodedTexts, ignored_label
from opinionlm.training.losses.base import ExampleLoss, MeanSquaredError, WeightedCrossEntropy
from opinionlm.training.losses.multi_label import BinaryCrossEntropy
from opinionlm.training.trainer import OpinionTrainer
from tests.processes import in_two_processes
from tests.tiny import TAGS, tiny_classifier, tiny_scorer, tiny_tagger
from tests.training.test_exact_loss import Spy, assert_same

Task = Literal["token", "similarity", "multi_label"]
TASKS: tuple[Task, ...] = ("token", "similarity", "multi_label")
TAG_WEIGHTS = torch.tensor([0.3, 1.0, 2.0, 0.7, 1.5])
POSITIVE_WEIGHTS = torch.tensor([3.0, 1.0, 0.5])


def examples(task: Task, count: int) -> Dataset:
    """Texts of very different length: tags on some of their tokens, or a score and segments."""
    generator = np.random.default_rng(3)
    rows = []
    for _ in range(count):
        length = int(generator.integers(2, 20))
        row = {"input_ids": generator.integers(4, 300, length).tolist(), "length": length}
        if task == "token":
            labels = generator.integers(0, len(TAGS), length)
            row["labels"] = np.where(generator.random(length) < 0.4, -100, labels).tolist()
        elif task == "multi_label":
            row["labels"] = (generator.random(3) < 0.4).astype(np.float32).tolist()
        else:
            segments = (np.arange(length) > length // 2).astype(int)
            row |= {"labels": float(generator.normal()), "token_type_ids": segments}
        rows.append(row)
    return Dataset.from_list(rows)


def model_and_loss(task: Task) -> tuple[torch.nn.Module, ExampleLoss]:
    if task == "token":
        return tiny_tagger(classifier_dropout=0.0), WeightedCrossEntropy(TAG_WEIGHTS)
    if task == "multi_label":
        return tiny_classifier(labels=list("abc"), classifier_dropout=0.0), BinaryCrossEntropy(POSITIVE_WEIGHTS)
    model = tiny_scorer("bert", classifier_dropout=0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model, MeanSquaredError()


def first_step(folder: Path, task: Task, batch: int, accumulation: int, count: int) -> tuple[float, dict]:
    """Loss and gradients of one optimizer step over all examples, cut as asked for."""
    spy = Spy()
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        logging_steps=1,
        max_grad_norm=1e9,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        label_names=["labels"],
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
    )
    texts = EncodedTexts(examples(task, count), np.arange(count))
    rank, processes = arguments.process_index, arguments.world_size
    plan = BatchPlan(texts.lengths, batch, DataConfig(), 0, 1, rank, processes)
    model, loss = model_and_loss(task)
    trainer = OpinionTrainer(
        model=model,
        args=arguments,
        loss=loss,
        plan=plan,
        train_dataset=texts,
        data_collator=PadCollator(pad_token_id=0),
        callbacks=[spy],
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], spy.gradients


def reference(task: Task, count: int) -> tuple[float, dict]:
    """The same step in plain torch: one batch, torch's own loss."""
    model, _ = model_and_loss(task)
    model.train()
    texts = EncodedTexts(examples(task, count), np.arange(count))
    batch = PadCollator(pad_token_id=0)(texts.__getitems__(list(range(count))))
    labels = batch.pop("labels")
    logits = model(**batch).logits
    if task == "token":
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight=TAG_WEIGHTS)
    elif task == "multi_label":
        loss = torch.nn.BCEWithLogitsLoss(pos_weight=POSITIVE_WEIGHTS)(logits, labels)
    else:
        loss = torch.nn.functional.mse_loss(logits[:, 0], labels)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("batch", "accumulation", "count"), [(8, 2, 16), (1, 13, 13), (4, 4, 13)])
def test_accumulation_equals_one_big_batch(task: Task, batch: int, accumulation: int, count: int, tmp_path) -> None:
    assert_same(first_step(tmp_path, task, batch, accumulation, count), reference(task, count))


def shared_steps(folder: Path) -> tuple[dict[str, tuple[float, dict]], int]:
    """What `first_step` gives for every task in one of several processes, and their number."""
    steps = {task: first_step(folder, task, 2, 4, 13) for task in TASKS}
    return steps, torch.distributed.get_world_size()


def test_two_processes_equal_one_big_batch(tmp_path) -> None:
    # 13 examples leave one process with a filler: every label still counts exactly once.
    steps, world = in_two_processes(tmp_path, shared_steps, tmp_path)
    assert world == 2
    for task, (loss, gradients) in steps.items():
        gradients = {name.removeprefix("module."): gradient for name, gradient in gradients.items()}
        assert_same((loss, gradients), reference(task, 13))


def test_fillers_have_no_weight_and_no_gradient() -> None:
    logits = torch.randn(3, 1, requires_grad=True)
    labels = torch.tensor([1.0, ignored_label(2.0), 0.5])
    loss = MeanSquaredError()
    assert loss.example_weights(labels).tolist() == [1, 0, 1]
    loss.weighted_sum(logits, labels).backward()
    assert logits.grad[1].item() == 0 and logits.grad.isfinite().all()
    expected = ((logits[[0, 2], 0] - labels[[0, 2]]) ** 2).mean()
    torch.testing.assert_close(loss(logits, labels), expected)


def test_fillers_of_every_kind_of_label() -> None:
    for task in TASKS:
        texts = EncodedTexts(examples(task, 4), np.arange(4))
        batch = PadCollator(0)(texts.__getitems__([1, ~1]))
        _, loss = model_and_loss(task)
        weights = loss.example_weights(batch["labels"])
        assert weights[0].sum() > 0 and weights[1].sum() == 0
