"""The moving average of the weights: by hand, in both engines, resumed, and as what best/ holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, TrainerCallback, TrainerState, TrainingArguments

from opinionlm.config.parser import parse_config
from opinionlm.errors import UserError
from opinionlm.training.ema import WeightAverage, decay_at, describe_average
from tests.classifier_runs import train
from tests.training.test_loop import Killer, engine, of

STEPS = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 9}


def started(model: nn.Module, decay: float) -> WeightAverage:
    average = WeightAverage(model, decay)
    average.on_train_begin(TrainingArguments(output_dir="unused", use_cpu=True), TrainerState(), None)
    return average


def test_three_steps_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.register_parameter("frozen", nn.Parameter(torch.ones(1), requires_grad=False))
    nn.init.constant_(model.weight, 1.0)
    average = started(model, 0.25)
    seen = []
    for step, value in enumerate((2.0, 4.0, -1.0), start=1):
        nn.init.constant_(model.weight, value)
        average.update(step)
        seen.append(average.averages[0].item())
    # Decays 2/11, 3/12 = 0.25 and, since 4/13 is above it, 0.25.
    first = 2 / 11 * 1 + 9 / 11 * 2
    second = 0.25 * first + 0.75 * 4
    assert seen == pytest.approx([first, second, 0.25 * second - 0.75])
    assert average.names == ["weight"], "frozen parameters are not averaged"
    with average.applied():
        assert model.weight.item() == pytest.approx(seen[-1])
    assert model.weight.item() == -1.0


def test_the_decay_that_a_run_reaches() -> None:
    assert decay_at(0.999, 30) == 31 / 40 and decay_at(0.25, 30) == 0.25
    # The first steps at which the warm-up lets these through, by the formula itself.
    for decay in (0.5, 0.9, 0.995, 0.999):
        first = next(step for step in range(1, 10_000) if (1 + step) / (10 + step) >= decay - 1e-12)
        assert f"reached at step {first:,} of {first:,}" in describe_average(decay, first)
        assert "is never reached" in describe_average(decay, first - 1)
    assert "ends at 0.775 with the last of 30 steps" in describe_average(0.999, 30)
    assert describe_average(0.1, 5) == "average decay 0.1 of the weights, reached at step 1 of 5"


def test_bfloat16_weights_have_a_float32_average() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.constant_(model.weight, 1.0)
    average = started(model, 0.9999)
    nn.init.constant_(model.weight, 2.0)
    for step in range(100_000, 100_010):
        average.update(step)
    # In bfloat16, 1 + 0.0001 is 1 and the average would never move.
    assert average.averages[0].item() == pytest.approx(2 - 0.9999**10, abs=1e-5)


class Recorder(TrainerCallback):
    """Averages the weights once more, in the plainest way, and notes what every evaluation left behind."""

    def __init__(self, decay: float) -> None:
        self.decay, self.raw, self.kept = decay, {}, {}

    def on_train_begin(self, args, state, control, model, **kwargs) -> None:
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def on_step_end(self, args, state, control, model, **kwargs) -> None:
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, parameter in model.named_parameters():
            self.average[name] = decay * self.average[name] + (1 - decay) * parameter.detach()
        self.raw[state.global_step] = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.kept[state.global_step] = {name: value.clone() for name, value in self.average.items()}


def averaged_run(kind: str, folder: Path, *callbacks: TrainerCallback, decay: float = 0.9):
    return engine(kind, folder, list(callbacks), average=decay, **STEPS)


@pytest.mark.parametrize("kind", ["trainer", "loop"])
def test_training_goes_on_raw_and_the_best_is_the_average(kind: str, tmp_path) -> None:
    plain = Recorder(0.9)
    engine(kind, tmp_path / "plain", [plain], **STEPS).train()
    watch = Recorder(0.9)
    run = averaged_run(kind, tmp_path / "averaged", watch)
    run.train()
    for step, weights in plain.raw.items():
        for name, value in weights.items():
            assert torch.equal(watch.raw[step][name], value), "averaging changes nothing about training"
    best = watch.kept[run.state.best_global_step]
    for name, parameter in run.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), best[name], rtol=0, atol=1e-6)
    # The score that chose it is that of the average, and the checkpoint holds both.
    scored = run.compute_metrics(run._prediction(run.eval_dataset)) if kind == "loop" else run.evaluate()
    assert run.state.best_metric == pytest.approx(scored["macro_f1" if kind == "loop" else "eval_macro_f1"])
    folder = Path(run.state.best_model_checkpoint)
    raw, averaged = load_file(folder / "trained.safetensors"), load_file(folder / "averaged.safetensors")
    assert raw.keys() == averaged.keys()
    assert any(not torch.equal(raw[name], averaged[name]) for name in raw)


def test_loop_equals_trainer(tmp_path) -> None:
    trainer = averaged_run("trainer", tmp_path)
    trainer.train()
    # Made only now: an engine seeds the random numbers when it is made.
    loop = averaged_run("loop", tmp_path)
    loop.train()
    for name in ("loss", "eval_macro_f1", "eval_loss"):
        assert of(loop, name) == pytest.approx(of(trainer, name), abs=1e-6), name
    for (name, one), other in zip(trainer.model.named_parameters(), loop.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", ["trainer", "loop"])
def test_an_interrupted_run_goes_on_exactly(kind: str, tmp_path) -> None:
    whole = averaged_run(kind, tmp_path / "whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        averaged_run(kind, tmp_path / "broken", Killer(5)).train()
    again = averaged_run(kind, tmp_path / "broken")
    checkpoint = tmp_path / "broken" / kind / "checkpoint-4"
    again.train(resume_from_checkpoint=str(checkpoint))
    assert of(again, "loss") == of(whole, "loss") and of(again, "eval_loss") == of(whole, "eval_loss")
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    (checkpoint / "averaged.safetensors").unlink()
    with pytest.raises(UserError, match="averaged.safetensors: missing"):
        averaged_run(kind, tmp_path / "broken").train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trainer", "loop"])
def test_two_processes_keep_the_same_average(kind: str, tmp_path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import os, sys, torch, torch.distributed as dist
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from pathlib import Path
from safetensors.torch import load_file
from tests.training.test_ema import averaged_run
run = averaged_run({kind!r}, Path({str(tmp_path)!r}))
assert dist.get_world_size() == 2
run.train()
averaged = load_file(Path(run.state.best_model_checkpoint) / "averaged.safetensors")
assert all(torch.equal(p.detach(), averaged[name]) for name, p in run.model.named_parameters())
torch.save([p.detach() for p in run.model.parameters()], {str(tmp_path)!r} + f"/{{os.environ['RANK']}}.pt")
dist.barrier()
os._exit(0)
"""
    )
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_best_folder_holds_the_average(setting, tmp_path) -> None:
    train(setting, output_dir=str(tmp_path), run_name="ema", ema_decay="0.8", num_train_epochs="1")
    (checkpoint,) = (tmp_path / "ema" / "checkpoints").glob("checkpoint-*")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ema" / "best")
    saved = dict(model.named_parameters())
    for name, value in load_file(checkpoint / "averaged.safetensors").items():
        assert torch.equal(saved[name].detach(), value), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ema_decay", "1"], "ema_decay: 1.0 must be above 0 and below 1"),
        (["--ema_decay", "0.9", "--engine", "tfidf"], "ema_decay: 0.9 is not read by engine: tfidf"),
        (["--ema_decay", "0.9", "--adaptation", "adalora"], "bring back the ranks"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(arguments, "test")
    assert message in str(caught.value) and "\n" not in str(caught.value)
