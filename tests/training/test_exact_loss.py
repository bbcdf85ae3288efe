"""The weighted loss is the same number whichever way an optimizer step is cut into batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainingArguments

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.collators import PadCollator
from opinionlm.training.batching import BatchPlan, EncodedTexts
from opinionlm.training.losses.base import ExampleLoss, WeightedCrossEntropy, inverse_frequency_weights
from opinionlm.training.trainer import OpinionTrainer
from tests.processes import in_two_processes
from tests.tiny import tiny_classifier

WEIGHTS = torch.tensor([0.2, 0.9, 2.4, 0.5])


def examples(count: int = 16) -> Dataset:
    """Texts of very different length and label."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for index in range(count):
        length = int(torch.randint(2, 20, (), generator=generator))
        ids = torch.randint(4, 300, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": (index * index) % 4, "length": length})
    return Dataset.from_list(rows)


class Spy(TrainerCallback):
    """Keeps the gradients of the first optimizer step."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        if not self.gradients:
            self.gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def first_step(
    folder: Path,
    batch: int,
    accumulation: int,
    count: int = 16,
    loss: ExampleLoss | None = None,
    rdrop_alpha: float = 0.0,
    targets: np.ndarray | None = None,
) -> tuple[float, dict[str, torch.Tensor]]:
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
    texts = EncodedTexts(examples(count), np.arange(count), targets=targets)
    processes = arguments.world_size
    plan = BatchPlan(texts.lengths, batch, DataConfig(), 0, 1, arguments.process_index, processes)
    trainer = OpinionTrainer(
        model=tiny_classifier(single=True, classifier_dropout=0.0, head_hidden_sizes=[32]),
        args=arguments,
        loss=WeightedCrossEntropy(WEIGHTS) if loss is None else loss,
        plan=plan,
        rdrop_alpha=rdrop_alpha,
        train_dataset=texts,
        data_collator=PadCollator(pad_token_id=0),
        callbacks=[spy],
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], spy.gradients


def reference(count: int = 16) -> tuple[float, dict[str, torch.Tensor]]:
    """The same step in plain torch: one batch, torch's own weighted cross entropy."""
    model = tiny_classifier(single=True, classifier_dropout=0.0, head_hidden_sizes=[32]).train()
    batch = PadCollator(pad_token_id=0)(list(examples(count)))
    labels = batch.pop("labels")
    loss = torch.nn.functional.cross_entropy(model(**batch).logits, labels, weight=WEIGHTS)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(one: tuple[float, dict], other: tuple[float, dict]) -> None:
    assert one[0] == pytest.approx(other[0], abs=2e-6)
    assert one[1].keys() == other[1].keys()
    for name, gradient in other[1].items():
        torch.testing.assert_close(one[1][name], gradient, rtol=1e-4, atol=2e-7, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("batch", "accumulation", "count"), [(16, 1, 16), (8, 2, 16), (1, 16, 16), (4, 4, 13)])
def test_accumulation_equals_one_big_batch(batch: int, accumulation: int, count: int, tmp_path) -> None:
    assert_same(first_step(tmp_path, batch, accumulation, count), reference(count))


def shared_step(*arguments) -> tuple[float, dict[str, torch.Tensor], int]:
    """What `first_step` gives in one of several processes, and their number."""
    return *first_step(*arguments), torch.distributed.get_world_size()


# 13 examples leave one process with a filler: every example still counts exactly once.
@pytest.mark.parametrize(
    ("batch", "accumulation", "count"),
    [(8, 1, 16), (4, 2, 16), (2, 4, 13)],
)
def test_two_processes_equal_one_big_batch(batch: int, accumulation: int, count: int, tmp_path) -> None:
    loss, gradients, world = in_two_processes(tmp_path, shared_step, tmp_path, batch, accumulation, count)
    assert world == 2
    gradients = {name.removeprefix("module."): gradient for name, gradient in gradients.items()}
    assert_same((loss, gradients), reference(count))


def test_weights_by_hand() -> None:
    # Algorithm 4: 1/2, 1/4, 1/4 sum to 1; times three classes.
    assert inverse_frequency_weights([2, 4, 4]).tolist() == pytest.approx([1.5, 0.75, 0.75])
    assert inverse_frequency_weights([5, 0, 5]).tolist() == pytest.approx([1.5, 0.0, 1.5])


def test_paper_penalties_are_counts() -> None:
    penalties = torch.tensor([225, 175, 80, 130, 175, 900, 70, 30], dtype=torch.float)
    weights = 1 / penalties
    expected = weights / weights.sum() * len(penalties)
    torch.testing.assert_close(inverse_frequency_weights(penalties.int().tolist()), expected)


def test_loss_by_hand() -> None:
    loss = WeightedCrossEntropy(torch.tensor([1.0, 3.0]))
    logits, labels = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    log_two, second = 0.6931471805599453, 2.1269280110429727  # -log(1/2) and log(1 + e^2)
    assert loss.example_losses(logits, labels).tolist() == pytest.approx([log_two, second])
    assert loss(logits, labels).item() == pytest.approx((log_two + 3 * second) / 4)
