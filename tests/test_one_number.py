"""Every number of a run is computed once more, from its predictions, its model and its steps, and looked for wherever
it is shown: metrics.json, model card, figures, dashboard, group report, summary of the seeds, terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from sklearn.metrics import f1_score
from transformers import AutoModelForSequenceClassification

import train_classifier
from opinionlm.experiments import group_report
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.experiments.dashboard.payload import build_payload
from opinionlm.reporting import figures
from opinionlm.training.trainer import OpinionTrainer
from tests.classifier_runs import command_line, write_setting
from tests.drawing import drawn

NAMES = ("many-seed1", "many-seed2")
STEPS, BUDGET = 5, 120


@dataclass(frozen=True)
class Shown:
    """All that two seeds and their ensemble show."""

    outputs: Path
    printed: str
    titles: dict[str, str]
    texts_of_steps: list[int]
    payload: dict[str, Any]
    report: str

    def metrics(self, name: str) -> dict[str, Any]:
        return json.loads((self.outputs / name / "metrics.json").read_text())

    def card(self, name: str) -> str:
        return (self.outputs / name / "best" / "README.md").read_text()

    def on_page(self, name: str) -> dict[str, Any]:
        return next(run for run in self.payload["groups"][0]["runs"] if run["name"] == name)

    def predictions(self, name: str) -> list[dict[str, str]]:
        with open(self.outputs / name / "predictions" / "test.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("one")
    outputs, titles, texts = folder / "outputs", {}, []
    fetch = OpinionTrainer.get_batch_samples

    def saved(figure, path: Path) -> None:
        # Built, which the title needs, but not drawn.
        titles["/".join(path.parts[-3:])] = figure.axes[0].get_title(loc="left")

    def fetched(trainer, *arguments):
        batches, weight = fetch(trainer, *arguments)
        texts.append(sum(int((batch["labels"] >= 0).sum()) for batch in batches))
        return batches, weight

    setting = write_setting(folder) | {"output_dir": str(outputs), "run_name": "many", "wandb_group": "mine"}
    options = {"seeds": "1..2", "max_steps": STEPS, "max_tokens_per_batch": BUDGET, "gradient_accumulation_steps": 2}
    options |= {"eval_strategy": "steps", "eval_steps": STEPS, "save_steps": STEPS, "ema_decay": 0.9}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed, drawn():
        patch.setattr(figures, "save_figure", saved)
        patch.setattr(OpinionTrainer, "get_batch_samples", fetched)
        train_classifier.main(command_line(setting, **options))
    with redirect_stdout(io.StringIO()) as report:
        group_report.main(["mine", str(outputs)])
    payload = build_payload(collect(outputs))
    yield Shown(outputs, printed.getvalue(), titles, texts, payload, report.getvalue())


def row(card: str, name: str) -> list[str]:
    """The cells behind the first one of a row of a card's tables."""
    line = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


@pytest.mark.parametrize("name", [*NAMES, "many-ensemble"])
def test_calibration_error(shown: Shown, name: str) -> None:
    rows = shown.predictions(name)
    columns = [column for column in rows[0] if column.startswith("probability_")]
    probabilities = np.array([[float(one[column]) for column in columns] for one in rows])
    names = [column.removeprefix("probability_") for column in columns]
    right = [
        names[likeliest] == one["gold"] for likeliest, one in zip(probabilities.argmax(axis=1), rows, strict=True)
    ]
    error = 0.0
    for low in range(15):
        inside = [i for i, p in enumerate(probabilities.max(axis=1)) if low / 15 < p <= (low + 1) / 15]
        if inside:
            gap = np.mean(probabilities.max(axis=1)[inside]) - np.mean(np.array(right)[inside])
            error += abs(gap) * len(inside) / len(rows)
    stored = shown.metrics(name)["test"]["ece"]
    assert stored == pytest.approx(error, abs=1e-5)
    assert shown.titles[f"{name}/figures/reliability_test.png"] == f"Calibration: ECE {stored:.3f} (15 bins)"
    assert shown.on_page(name)["metrics"]["test.ece"] == pytest.approx(stored, rel=1e-5)
    assert re.search(rf"^ece +[\d.]+ +{stored:.3f}$", shown.printed, re.MULTILINE)
    if name in NAMES:
        assert row(shown.card(name), "ece")[1] == f"{stored:.4f}"
        assert f"{stored:.4f} after it" in row(shown.card(name), "calibration error (ECE)")[0]


@pytest.mark.parametrize("name", [*NAMES, "many-ensemble"])
def test_macro_f1(shown: Shown, name: str) -> None:
    rows = shown.predictions(name)
    gold, predicted = [one["gold"] for one in rows], [one["predicted"] for one in rows]
    stored = shown.metrics(name)["test"]["macro_f1"]
    assert stored == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert shown.titles[f"{name}/figures/per_class_test.png"] == f"macro-F1 {stored:.3f}"
    assert shown.on_page(name)["metrics"]["test.macro_f1"] == pytest.approx(stored, rel=1e-5)
    assert re.search(rf"^macro_f1 +[\d.]+ +{stored:.3f} ", shown.printed, re.MULTILINE)
    if name in NAMES:
        assert row(shown.card(name), "macro_f1")[1] == f"{stored:.4f}"
        results = ModelCard(shown.card(name)).data.eval_results
        assert {one.metric_name: one.metric_value for one in results}["macro-F1"] == pytest.approx(stored, abs=1e-6)


def test_seeds(shown: Shown) -> None:
    scores = [shown.metrics(name)["test"]["macro_f1"] for name in NAMES]
    mean, spread = np.mean(scores), np.std(scores, ddof=1)
    summary = json.loads((shown.outputs / "many-seeds.json").read_text())
    assert summary["seeds"] == [1, 2] and summary["test"]["macro_f1"]["mean"] == pytest.approx(mean)
    ensemble, family = shown.payload["groups"][0]["methods"]
    assert family["runs"] == list(NAMES) and family["seeds"] == [1, 2]
    assert ensemble["runs"] == ["many-ensemble"] and ensemble["members"] == 2
    assert family["metrics"]["test.macro_f1"][:2] == pytest.approx([mean, spread], rel=1e-5)
    text = f"{mean:.3f} ± {spread:.3f}" if spread else f"{mean:.3f}"
    assert "2 finished runs and 1 ensemble of them" in shown.report
    assert f"| 2 | {text} |" in shown.report and "| ensemble of 2 | " in shown.report
    assert [shown.on_page(name)["members"] for name in (*NAMES, "many-ensemble")] == [None, None, 2]


def test_parameters(shown: Shown) -> None:
    total = 0
    for name in NAMES:
        model = AutoModelForSequenceClassification.from_pretrained(shown.outputs / name / "best")
        size = sum(parameter.numel() for parameter in model.parameters())
        total += size
        stored = shown.metrics(name)["model"]
        assert stored["total_parameters"] == size == shown.on_page(name)["metrics"]["model.total_parameters"]
        trained = stored["trainable_parameters"]
        assert row(shown.card(name), "trained parameters") == [f"{trained:,} of {size:,}"]
        assert f"{size:,} parameters, {trained:,} train" in shown.printed
    # All members are loaded where the ensemble answers.
    assert shown.metrics("many-ensemble")["model"]["total_parameters"] == total


def test_steps_epochs_and_batches(shown: Shown) -> None:
    made = [shown.texts_of_steps[:STEPS], shown.texts_of_steps[STEPS:]]
    for name, texts in zip(NAMES, made, strict=True):
        assert len(texts) == STEPS
        train, card = shown.metrics(name)["train"], shown.card(name)
        history = json.loads((shown.outputs / name / "history.json").read_text())
        assert train["steps"] == STEPS == max(entry["step"] for entry in history)
        assert (
            train["epochs"] == pytest.approx(max(entry["epoch"] for entry in history), abs=1e-4)
            and train["epochs"] < 2
        )
        assert train["texts_per_step"] == pytest.approx(sum(texts) / STEPS)
        assert row(card, "optimizer step")[0] == (
            f"texts of at most {BUDGET} tokens together, padding included × 2 accumulated; "
            f"{sum(texts) / STEPS:.1f} texts, {train['tokens_per_step']:,.0f} tokens on average"
        )
        assert row(card, "training")[0] == f"{train['epochs']:.4g} epochs, {STEPS} steps"
        assert "| epochs |" not in card and "16 × " not in card
        assert train["ema_decay_reached"] == (1 + STEPS) / (10 + STEPS)
        assert row(card, "average of the weights")[0] == "decay 0.9; warm-up had reached 0.4 at the last step"
        assert shown.on_page(name)["metrics"]["train.texts_per_step"] == pytest.approx(sum(texts) / STEPS, rel=1e-5)
    assert (
        "warning: ema_decay: 0.9 is never reached: its warm-up ends at 0.4 with the last of 5 steps" in shown.printed
    )


def test_seconds(shown: Shown) -> None:
    totals = []
    for name in NAMES:
        cost = shown.metrics(name)["cost"]
        parts = [cost[part] for part in ("train_seconds", "cache_seconds", "evaluation_seconds")]
        assert cost["total_seconds"] == pytest.approx(sum(parts))
        assert cost["tokens_per_second"] == pytest.approx(
            shown.metrics(name)["train"]["tokens_per_step"] * STEPS / cost["train_seconds"]
        )
        assert shown.on_page(name)["metrics"]["cost.total_seconds"] == pytest.approx(cost["total_seconds"], rel=1e-5)
        line = row(shown.card(name), "cost")[0]
        assert line in shown.printed and " in all (" in line
        totals.append(cost["total_seconds"])
    # The second seed finds the states that the first one computed.
    costs = [shown.metrics(name)["cost"] for name in NAMES]
    assert costs[0]["cache_seconds"] > 0 == costs[1]["cache_seconds"] and costs[1]["cache_splits_reused"] == 3
    summary = json.loads((shown.outputs / "many-seeds.json").read_text())
    assert summary["cost"]["total_seconds"]["mean"] == pytest.approx(np.mean(totals))
    assert shown.metrics("many-ensemble")["cost"]["total_seconds"] == pytest.approx(sum(totals))
    family = shown.payload["groups"][0]["methods"][1]
    assert family["metrics"]["cost.total_seconds"][0] == pytest.approx(np.mean(totals), rel=1e-5)
