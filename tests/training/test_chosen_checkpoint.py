"""The checkpoint that a run says it chose is what lies in best/: by which score, which way, and saved at all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState

from opinionlm.errors import UserError
from opinionlm.training.callbacks import ConsoleCallback
from tests.honoured_runs import WAYS, assert_best_is_the_named_checkpoint, history, run, values, write_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, dict[str, str]]:
    return write_settings(tmp_path_factory.mktemp("settings"))


@pytest.mark.parametrize(
    ("metric", "smaller", "way"),
    [
        ("eval_loss", True, "trainer"),
        ("accuracy", False, "loop"),
        ("eval_loss", True, "instruct"),
        # Each way and each direction is above.
        pytest.param("accuracy", False, "trainer", marks=pytest.mark.slow),
        pytest.param("eval_loss", True, "loop", marks=pytest.mark.slow),
        pytest.param("accuracy", False, "instruct", marks=pytest.mark.slow),
    ],
)
def test_the_score_that_is_asked_for_chooses(way, metric, smaller, settings, tmp_path, capsys) -> None:
    # Rates that diverge, so that the first evaluations are the better ones by one score and not by the other.
    options = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 5, "learning_rate": "3e-2"}
    folder, metrics = run(way, settings[way], tmp_path, metric_for_best_model=metric, **options)
    name = metric.removeprefix("eval_")
    scores = values(folder, f"eval_{name}")
    best = min(scores, key=lambda step: (scores[step] if smaller else -scores[step], step))
    assert metrics["train"]["best_step"] == best, "of equals the first"
    assert metrics["chosen_by"] == {"name": name, "greater_is_better": not smaller}
    assert metrics["validation"][name] == pytest.approx(scores[best], abs=1e-5)
    assert f"chosen by validation {name};" in (folder / "best" / "README.md").read_text()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    marked = [number for number, line in enumerate(lines, start=1) if line.endswith("best so far")]
    assert marked[-1] == best and len(lines) == 5
    assert_best_is_the_named_checkpoint(folder)


def test_a_score_that_is_no_number_is_never_the_best(capsys) -> None:
    console = ConsoleCallback(["perplexity"], greater_is_better=False)
    for score in (math.nan, 3.0, math.nan, 4.0, 2.0):
        scores = {"eval_perplexity": score, "eval_loss": 1.0}
        console.on_evaluate(None, TrainerState(epoch=1.0), TrainerControl(), scores)
    lines = capsys.readouterr().out.splitlines()
    assert [number for number, line in enumerate(lines) if line.endswith("best so far")] == [1, 4]


@pytest.fixture(scope="module", params=WAYS)
def chosen_by_level(request, settings, tmp_path_factory) -> tuple[str, Path, dict]:
    """The way of a run that chooses by another score than its main one, its folder and its metrics."""
    options = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 5, "save_total_limit": 9}
    options |= {"metric_for_best_model": "level1_macro_f1"}
    return request.param, *run(request.param, settings[request.param], tmp_path_factory.mktemp("level"), **options)


def test_the_best_step_is_always_saved(chosen_by_level) -> None:
    _, folder, metrics = chosen_by_level
    evaluated = set(values(folder, "eval_macro_f1"))
    saved = {int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("checkpoint-*")}
    assert evaluated == saved == {2, 4, 5} and metrics["train"]["best_step"] in saved
    assert_best_is_the_named_checkpoint(folder)


@pytest.mark.parametrize("way", ["trainer", "instruct"])
def test_a_score_that_the_data_have_not_is_refused_before_training(way, settings, tmp_path) -> None:
    with pytest.raises(UserError, match="'f1_joy' is no score of the validation split.* f1_noise") as caught:
        run(way, settings[way], tmp_path, metric_for_best_model="f1_joy")
    assert "\n" not in str(caught.value) and not (tmp_path / way).exists()
    with pytest.raises(UserError, match="greater_is_better: false would keep the worst checkpoint: macro_f1 is"):
        run(way, settings[way], tmp_path, greater_is_better="false")


def test_every_listed_score_is_one_that_evaluation_gives(chosen_by_level, settings, tmp_path) -> None:
    way, folder, _ = chosen_by_level
    logged = {name for entry in history(folder) for name in entry if name.startswith("eval_")}
    logged -= {name for name in logged if name.endswith(("runtime", "per_second", "preparation_time"))}
    with pytest.raises(UserError) as caught:
        run(way, settings[way], tmp_path, metric_for_best_model="f1_joy")
    listed = str(caught.value).split("valid: ")[1].split(")")[0].split(", ")
    assert {f"eval_{name}" for name in listed} == logged


@pytest.mark.parametrize("way", WAYS)
def test_early_stopping_waits_for_the_same_score(way, settings, tmp_path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 9, "learning_rate": "3e-2"}
    setting = settings[way] | {"metric_for_best_model": "loss"}
    folder, metrics = run(way, setting, tmp_path, early_stopping_patience=2, **options)
    losses = values(folder, "eval_loss")
    best, waited = float("inf"), 0
    for step in sorted(losses):
        best, waited = (losses[step], 0) if losses[step] < best else (best, waited + 1)
        assert waited < 2 or step == max(losses), "stops after two without a better loss, not before or later"
    assert metrics["train"]["steps"] == max(losses)
    assert_best_is_the_named_checkpoint(folder)


@pytest.mark.parametrize("way", WAYS)
def test_a_plateau_is_one_of_the_chosen_score(way, settings, tmp_path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 6, "logging_steps": 1, "learning_rate": "1e-2"}
    options |= {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "accuracy"}
    folder, _ = run(way, settings[way], tmp_path, lr_scheduler_kwargs="{factor: 0.5, patience: 0}", **options)
    rates, scores = values(folder, "learning_rate"), values(folder, "eval_accuracy")
    rate, best = 1e-2, float("-inf")
    for step in sorted(rates):
        assert rates[step] == pytest.approx(rate), f"of the step {step}, before its evaluation"
        # torch's own threshold: better by a ten-thousandth.
        better = scores[step] > best * (1 + 1e-4) if best > float("-inf") else True
        rate, best = (rate, scores[step]) if better else (rate / 2, best)
    assert json.loads((folder / "metrics.json").read_text())["chosen_by"]["name"] == "accuracy"
