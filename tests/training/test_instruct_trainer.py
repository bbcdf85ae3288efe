"""The loss on answers: by hand, however an optimizer step is cut, and over a whole split."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from opinionlm.config.options import DataConfig
from opinionlm.data.encoding.collators import InstructCollator
from opinionlm.errors import UserError
from opinionlm.models.generative import generative_class
from opinionlm.training.batching import BatchPlan
from opinionlm.training.instruct_trainer import InstructSplit, InstructTexts, InstructTrainer
from opinionlm.training.losses.token import SupervisedCrossEntropy, TokenCrossEntropy
from tests.processes import in_two_processes
from tests.tiny import tiny_config
from tests.training.test_exact_loss import Spy, assert_same

WEIGHTS = torch.tensor([0.2, 0.9, 2.4, 0.5])


def tiny_writer(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny_config(family)
    # Dropout draws other numbers when a step is cut otherwise.
    if family == "t5":
        config.dropout_rate = 0.0
    return generative_class(config).from_config(config)


def examples(count: int) -> Dataset:
    """Prompts and answers of very different length and weight; one has no usable answer."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for index in range(count):
        sizes = [int(torch.randint(low, high, (), generator=generator)) for low, high in ((2, 14), (1, 5))]
        prompt, answer = (torch.randint(4, 300, (size,), generator=generator).tolist() for size in sizes)
        answer = [] if index == 3 else [*answer, 1]
        rows.append({"prompt_ids": prompt, "answer_ids": answer, "length": len(prompt) + len(answer)})
        rows[-1] |= {"label": (index * index) % 4, "reason": "" if answer else "too long"}
    return Dataset.from_list(rows)


def trainer_of(
    folder: Path, family: str, batch: int, accumulation: int, count: int, callbacks: list, **options: Any
) -> InstructTrainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=3,
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
        **options,
    )
    encoded = examples(count)
    texts = InstructTexts(encoded, WEIGHTS)
    rank, processes = arguments.process_index, arguments.world_size
    return InstructTrainer(
        model=tiny_writer(family),
        args=arguments,
        predict=lambda model, prompts: [sum(prompt) for prompt in prompts],
        score=lambda outcome: {"loss": outcome.loss, "rows": float(len(outcome.predictions))},
        plan=BatchPlan(texts.lengths, batch, DataConfig(), 0, 1, rank, processes),
        train_dataset=texts,
        eval_dataset=InstructSplit(encoded["prompt_ids"], texts),
        data_collator=InstructCollator(0, encoder_decoder=family == "t5"),
        callbacks=callbacks,
    )


def first_step(folder: Path, family: str, batch: int, accumulation: int, count: int) -> tuple[float, dict]:
    """Loss and gradients of one optimizer step over all examples, cut as asked for."""
    spy = Spy()
    trainer = trainer_of(folder, family, batch, accumulation, count, [spy])
    trainer.train()
    return trainer.state.log_history[0]["loss"], spy.gradients


def reference(family: str, count: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The same step in plain torch, example by example: the family's own logits of every position."""
    model = tiny_writer(family).train()
    total = weight = 0.0
    for row in examples(count):
        if not row["answer_ids"]:
            continue
        answer = torch.tensor(row["answer_ids"])
        if family == "t5":
            logits = model(input_ids=torch.tensor([row["prompt_ids"]]), labels=answer[None]).logits[0]
        else:
            ids = torch.tensor([row["prompt_ids"] + row["answer_ids"]])
            logits = model(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1]
        example_weight = WEIGHTS[row["label"]].item()
        total = total + example_weight * torch.nn.functional.cross_entropy(logits, answer, reduction="sum")
        weight += example_weight * len(answer)
    loss = total / weight
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["gemma3_text", "t5"])
@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (4, 4), (1, 16)])
def test_accumulation_equals_one_big_batch(family: str, batch: int, accumulation: int, tmp_path) -> None:
    assert_same(first_step(tmp_path, family, batch, accumulation, 14), reference(family, 14))


def shared_step(folder: Path, family: str) -> tuple[float, dict, list, float, int]:
    """What a step and an evaluation give in one of several processes, and their number."""
    loss, gradients = first_step(folder, family, 2, 4, 14)
    trainer = trainer_of(folder, family, 2, 4, 14, [])
    outcome = trainer.outcome(trainer.eval_dataset, trainer.predict_answers)
    return loss, gradients, outcome.predictions, outcome.loss, torch.distributed.get_world_size()


@pytest.mark.parametrize("family", ["gemma3_text", "t5"])
def test_two_processes_equal_one_big_batch(family: str, tmp_path) -> None:
    # 14 examples of which 13 can be learned leave one process with a filler.
    loss, gradients, predictions, validation, world = in_two_processes(tmp_path, shared_step, tmp_path, family)
    assert world == 2
    gradients = {name.removeprefix("module."): gradient for name, gradient in gradients.items()}
    assert_same((loss, gradients), reference(family, 14))
    # Every process judges a share of the split, and gets the whole.
    assert predictions == [sum(prompt) for prompt in examples(14)["prompt_ids"]]
    assert validation == pytest.approx(reference(family, 14)[0], abs=1e-5)


def test_validation_loss_is_that_of_the_whole_split(tmp_path) -> None:
    trainer = trainer_of(tmp_path, "gemma3_text", 4, 1, 14, [])
    metrics = trainer.evaluate()
    # Batches of three, whose means would weigh their tokens unequally.
    assert metrics["eval_loss"] == pytest.approx(reference("gemma3_text", 14)[0], abs=1e-6)
    assert metrics["eval_rows"] == 14.0


@pytest.mark.parametrize("bf16", [False, True])
def test_answers_are_given_in_the_precision_of_training(bf16: bool, tmp_path) -> None:
    """Whatever module of the model is asked: label scores and generation go past PEFT's outermost one."""
    trainer = trainer_of(tmp_path, "gemma3_text", 4, 1, 14, [], bf16=bf16)
    found = []

    def predict(model: PreTrainedModel, prompts: Sequence[list[int]]) -> list[int]:
        found.append(model.get_decoder().layers[0].mlp.up_proj(torch.ones(1, 64)).dtype)
        return [0] * len(prompts)

    trainer.outcome(trainer.eval_dataset, predict)
    assert found == [torch.bfloat16 if bf16 else torch.float32]


def test_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    log_two, second = math.log(2), math.log(1 + math.e**2)
    total = SupervisedCrossEntropy()(
        logits, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0])
    )
    # Example 0 has two tokens and weight 1, example 1 one token and weight 3.
    assert total.item() == pytest.approx(log_two + second + 3 * log_two)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 24])
def test_chunks_change_nothing(chunk: int, monkeypatch) -> None:
    monkeypatch.setattr("opinionlm.training.losses.token.CHUNK", chunk * 11)
    logits = torch.randn(20, 11, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.randint(0, 11, (20,)), torch.rand(20)
    losses = TokenCrossEntropy.apply(logits, targets)
    assert losses.dtype == torch.float32
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, expected.float())
    (ours,) = torch.autograd.grad((losses * weights).sum(), logits)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_batch_weight_counts_answer_tokens_by_their_weight(tmp_path) -> None:
    trainer = trainer_of(tmp_path, "gemma3_text", 4, 1, 14, [])
    texts = trainer.train_dataset
    rows = [row for row in examples(14) if row["answer_ids"]]
    expected = sum(WEIGHTS[row["label"]].item() * len(row["answer_ids"]) for row in rows)
    batch = trainer.data_collator([texts[place] for place in range(len(texts))])
    assert trainer.batch_weight(batch).item() == pytest.approx(expected)
    assert trainer.batch_weight(trainer.data_collator([texts[~0]])).item() == 0.0
    assert len(texts.answers) - texts.given.sum() == sum(len(row["answer_ids"]) for row in rows)
    np.testing.assert_array_equal(texts.lengths, [row["length"] for row in rows])


@pytest.mark.parametrize("family", ["gemma3_text", "t5"])
def test_too_little_memory_changes_nothing(family, tmp_path, monkeypatch) -> None:
    expected = first_step(tmp_path / "whole", family, 8, 2, 17)
    weighted_sum, sizes = InstructTrainer.weighted_sum, []

    def refusing(self, model, inputs):
        sizes.append(len(inputs["labels"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return weighted_sum(self, model, inputs)

    monkeypatch.setattr(InstructTrainer, "weighted_sum", refusing)
    assert_same(first_step(tmp_path / "short", family, 8, 2, 17), expected)
    assert {8, 4, 2} <= set(sizes)
    trainer = trainer_of(tmp_path / "evaluated", family, 8, 2, 17, [])
    assert trainer.evaluate()["eval_loss"] > 0 and 3 in sizes


def test_a_loss_that_is_no_number_names_its_examples(tmp_path, monkeypatch) -> None:
    weighted_sum = InstructTrainer.weighted_sum
    monkeypatch.setattr(InstructTrainer, "weighted_sum", lambda *arguments: weighted_sum(*arguments) * math.nan)
    with pytest.raises(UserError, match="step 1: loss nan"):
        first_step(tmp_path / "r" / "checkpoints", "gpt2", 8, 2, 17)
    (batches,) = [json.loads((tmp_path / "r" / "nonfinite_step_1.json").read_text())["ids"]]
    # Row 3 has no answer; those behind it are read at other positions than their numbers.
    assert sorted(int(name) for batch in batches for name in batch) == [row for row in range(17) if row != 3]
