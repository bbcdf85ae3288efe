"""AdaLoRA's ranks really fall, LISA really changes its blocks, and both go on exactly from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from opinionlm.adaptation.callbacks import auxiliary_loss, training_callbacks
from opinionlm.adaptation.methods import apply_adaptation, peft_part, trained_parameters
from opinionlm.config.method_options import MethodConfig
from opinionlm.models.backbones import anatomy_of
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.training.checkpoints import load_trained_weights, save_trained_weights
from tests.tiny import padded, tiny_classifier

BATCH = padded([[2, 11, 12, 13], [2, 30, 31], [2, 40, 41, 42]], 4, "right")
LABELS = torch.tensor([0, 3, 1])


def current_ranks(model: OpinionClassifier) -> dict[str, int]:
    """Singular values of every AdaLoRA update that are not pruned, by the name of the adapted layer."""
    return {
        name.split(".lora_E")[0]: int(parameter.count_nonzero())
        for name, parameter in peft_part(model).named_parameters()
        if name.split(".")[-2] == "lora_E"
    }


STEPS = 20
ADALORA = MethodConfig(adaptation="adalora", adalora_init_r=4, adalora_target_r=1)
LISA = MethodConfig(adaptation="lisa", lisa_blocks=1, lisa_interval=3)


class Run:
    """What a trainer does for a schedule, step by step."""

    def __init__(self, method: MethodConfig, folder: Path) -> None:
        self.model: OpinionClassifier = tiny_classifier("bert", classifier_dropout=0.0)
        apply_adaptation(self.model, method, STEPS)
        self.callbacks = training_callbacks(self.model, method, STEPS)
        self.arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, seed=7)
        self.state, self.control = TrainerState(), TrainerControl()
        self.optimizer = torch.optim.AdamW(trained_parameters(self.model).values(), lr=5e-3)

    @property
    def folder(self) -> Path:
        return Path(self.arguments.output_dir) / f"checkpoint-{self.state.global_step}"

    def tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.arguments, self.state, self.control)

    def step(self) -> None:
        self.tell("on_step_begin")
        loss = nn.functional.cross_entropy(self.model(**BATCH).logits, LABELS)
        extra = auxiliary_loss(self.model)
        (loss if extra is None else loss + extra).backward()
        self.optimizer.step()
        self.tell("on_optimizer_step")
        self.optimizer.zero_grad()
        self.state.global_step += 1
        self.tell("on_step_end")

    def save(self) -> None:
        save_trained_weights(self.model, self.folder)
        torch.save(self.optimizer.state_dict(), self.folder / "optimizer.pt")
        self.tell("on_save")

    def resume(self, step: int) -> None:
        self.state.global_step = step
        load_trained_weights(self.model, self.folder)
        self.optimizer.load_state_dict(torch.load(self.folder / "optimizer.pt"))
        self.tell("on_train_begin")


def test_adalora_ranks_fall_to_the_budget(tmp_path) -> None:
    run = Run(ADALORA, tmp_path)
    run.step()  # singular values start at zero: ranks show once they moved
    totals = [sum(current_ranks(run.model).values())]
    for _ in range(STEPS - 1):
        run.step()
        totals.append(sum(current_ranks(run.model).values()))
    layers = len(current_ranks(run.model))
    assert layers == 4 * 3  # query, key and value of four blocks
    assert totals[0] == 4 * layers
    assert totals[-1] == 1 * layers
    assert all(later <= earlier for earlier, later in zip(totals, totals[1:], strict=False))
    # An average rank, not the same everywhere: the budget moved to where it is needed.
    assert len(set(current_ranks(run.model).values())) > 1


def test_adalora_penalty_by_hand() -> None:
    model = tiny_classifier("bert")
    assert auxiliary_loss(model) is None
    apply_adaptation(model, ADALORA, STEPS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:
                parameter.copy_(torch.eye(4, 64))  # orthonormal: no penalty
            if ".lora_B." in name:
                parameter.copy_(2 * torch.eye(64, 4))  # 4 I - I = 3 I, of norm 3 * sqrt(4)
    torch.testing.assert_close(auxiliary_loss(model), torch.tensor(0.5 * (0 + 6) / 2))


def test_lisa_draws(tmp_path) -> None:
    run = Run(LISA, tmp_path)
    blocks = anatomy_of(run.model.backbone).blocks
    drawn = []
    for step in range(12):
        before = [next(block.parameters()).detach().clone() for block in blocks]
        embedding = run.model.get_input_embeddings().weight.detach().clone()
        run.step()
        moved = [not torch.equal(old, next(block.parameters())) for old, block in zip(before, blocks, strict=True)]
        assert sum(moved) == 1
        assert not torch.equal(embedding, run.model.get_input_embeddings().weight)
        drawn.append(moved.index(True))
        assert drawn[step] == drawn[step - step % 3]  # the same within an interval
        assert len(trained_parameters(run.model)) == len(list(run.model.parameters()))
    assert len(set(drawn)) > 1
    sampling = run.callbacks[0]
    shares = torch.tensor([sampling.drawn(3, interval)[0] for interval in range(400)]).bincount(minlength=4) / 400
    assert (shares - 0.25).abs().max() < 0.08


def test_resuming_is_exact(tmp_path) -> None:
    for name, method in (("adalora", ADALORA), ("lisa", LISA)):
        through = Run(method, tmp_path / name)
        for _ in range(8):
            through.step()
        through.save()
        resumed = Run(method, tmp_path / name)
        resumed.resume(8)
        for _ in range(STEPS - 8):
            through.step()
            resumed.step()
        expected = trained_parameters(through.model)
        for parameter_name, parameter in trained_parameters(resumed.model).items():
            assert torch.equal(parameter, expected[parameter_name]), (name, parameter_name)
