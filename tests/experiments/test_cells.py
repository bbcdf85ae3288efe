"""Every cell of every table at every scale, on models of the real size, as far as a run checks before its data."""

from __future__ import annotations

import itertools
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

import reproduce
from opinionlm.config.options import DataConfig
from opinionlm.config.parser import read_yaml
from opinionlm.data.preparation.sources import source_of
from opinionlm.errors import UserError
from opinionlm.experiments.data_tables import kind_of
from opinionlm.experiments.dry_run import rehearse_cells
from opinionlm.experiments.grid import Scale, load_table
from opinionlm.experiments.grid_runner import check_options, runs_of
from opinionlm.models.hub_facts import FACTS, hub_facts, known_config
from opinionlm.runs.rehearsal import Rehearsal
from opinionlm.training.spending import Preparation, cost_facts
from tests.experiments.test_grid import TABLES, checked_cells, save, scales_of, shipped_table

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
GRIDS = [path for path in TABLES if kind_of(path) == "runs"]
# Paper scales with six models of up to 3.8 billion parameters in several adaptations.
LARGE = {
    ("adapt_methods", "paper"),
    ("goemotions_grid", "paper"),
    ("adapt_budgets", "paper"),
    ("goemotions_grid", "small"),
    ("adapt_methods", "small"),
    ("adapt_cost", "paper"),
    ("adapt_tuning", "paper"),
}
CASES = [
    pytest.param(path, scale, marks=pytest.mark.slow if (path.stem, scale) in LARGE else (), id=f"{path.stem}-{scale}")
    for path in GRIDS
    for scale in scales_of(path)
]
# What the papers print and ours differ by: an old PEFT counted the classifier twice (readings: Methods by task).
COUNTED_TWICE = {
    ("methods_bert_emotion", "LoRA"): 4_614,
    ("methods_bert_ner", "CoNLL-2003-LoRA"): 6_921,
}


def rehearsed(path: Path, scale: Scale, folder: Path) -> dict[str, Rehearsal]:
    if scale == "small" and "MODEL_DIR" in path.read_text(encoding="utf-8"):
        table = load_table(path, scale, {"model_name_or_path": MINILM})
        return rehearse_cells(check_options(runs_of(table, folder), path), path)
    return rehearse_cells(checked_cells(path, scale), path)


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(("path", "scale"), CASES)
@pytest.mark.usefixtures("no_network")
def test_every_cell_plans(path: Path, scale: Scale, tmp_path) -> None:
    found = rehearsed(path, scale, tmp_path)
    for cell in shipped_table(path, scale).cells if scale == "paper" else ():
        if "Trainable parameters" in cell.published:
            twice = COUNTED_TWICE.get((path.stem, "-".join(cell.labels.values())), 0)
            assert (
                found[cell.name].parameters["trainable_parameters"] == cell.published["Trainable parameters"] - twice
            )


@pytest.mark.parametrize(("table", "length"), [("methods_gpt2_alpaca", 1024), ("adapt_cost", 512)])
def test_a_prefix_beside_full_positions_is_refused_by_the_plan(table: str, length: int, tmp_path) -> None:
    path = next(path for path in GRIDS if path.stem == table)
    raw = yaml.safe_load(path.read_text())
    raw["scales"]["paper"]["options"]["max_length"] = length
    (tmp_path / "longer.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    message = f"max_length: {length} tokens and .* virtual ones exceed the model's {length} positions"
    with pytest.raises(UserError, match=message):
        reproduce.main([str(tmp_path / "longer.yaml"), "--scale", "paper", "--dry_run"])


def test_adalora_and_layer_selection_are_near_a_fifth() -> None:
    """Of every model of AdaPT's tables; layer selection of BERT-medium alone is not within 2 points of 20 %."""
    raw = yaml.safe_load(next(path for path in GRIDS if path.stem == "adapt_methods").read_text())
    for name, options in raw["scales"]["paper"]["axes"]["Model"].items():
        sizes = backbone_sizes(options["model_name_or_path"], tuple(options["target_modules"]))
        assert options["adalora_init_r"] * sizes["per rank"] / sizes["all"] == pytest.approx(0.2, abs=0.02), name
        checkpoint = sizes["all"] + sizes["pooler"]
        gaps = [abs(count * sizes["block"] / checkpoint - 0.2) for count in range(1, 10)]
        assert options["lisa_blocks"] == 1 + gaps.index(min(gaps)), name
        assert (min(gaps) < 0.02) == (name != "BERT-medium"), name
        if name == "BERT-medium":
            # No choice of blocks, word, position and type embeddings and pooler does.
            shares = [
                (count * sizes["block"] + sum(chosen)) / checkpoint
                for count in range(9)
                for number in range(len(sizes["parts"]) + 1)
                for chosen in itertools.combinations(sizes["parts"], number)
            ]
            assert min(abs(share - 0.2) for share in shares) > 0.02


def backbone_sizes(name: str, targets: tuple[str, ...]) -> dict[str, Any]:
    """Parameters of a backbone on the meta device; its parts are those that are no blocks, norms aside."""
    import torch

    from opinionlm.models.backbones import anatomy_of, new_backbone

    with torch.device("meta"):
        backbone = new_backbone(known_config(name))
    linear = [m for n, m in backbone.named_modules() if isinstance(m, torch.nn.Linear) and n.split(".")[-1] in targets]
    hidden = backbone.config.get_text_config().hidden_size
    pooler = hidden * hidden + hidden if backbone.config.model_type == "bert" else 0
    embeddings = [module.weight.numel() for module in backbone.modules() if isinstance(module, torch.nn.Embedding)]
    return {
        "all": sum(parameter.numel() for n, parameter in backbone.named_parameters() if "pooler" not in n),
        "per rank": sum(module.in_features + module.out_features + 1 for module in linear),
        "block": sum(parameter.numel() for parameter in anatomy_of(backbone).blocks[0].parameters()),
        "pooler": pooler,
        "parts": [*embeddings, pooler],
    }


def test_every_hub_model_is_known() -> None:
    known_models = yaml.safe_load(Path(FACTS).read_text(encoding="utf-8"))
    for path in TABLES:
        for name in re.findall(r"model_name_or_path: ([\w./-]+)", path.read_text(encoding="utf-8")):
            assert Path(name).is_dir() or name in known_models, f"{path.stem}: {name}"
    for name in known_models:
        facts, config = hub_facts(name), known_config(name).get_text_config()
        assert facts.source and facts.tokenizer <= config.vocab_size


def test_a_dry_run_tells_data_parameters_and_differences(capsys, tmp_path) -> None:
    command = [
        "configs/tables/methods_bert_emotion.yaml",
        "--scale",
        "paper",
        "--dry_run",
        "--output_dir",
        str(tmp_path),
    ]
    assert reproduce.main(command) == 0
    said = capsys.readouterr().out
    assert "emotion.yaml: hub dair-ai/emotion; published train 16,000, validation 2,000, test 2,000" in said
    assert (
        "full_fine_tuning: train 16,000, validation 2,000, test 2,000, trains 109,486,854 of 109,486,854 (paper"
        in said
    )
    assert "trains 446,982 of 109,929,222 (paper 451,596, −4,614)" in said
    assert said.rstrip().splitlines()[-1].startswith("Differs from the paper in: learning rates are ours")


def test_a_model_in_a_file_that_is_not_there_is_planned_with_how_to_fetch_it(monkeypatch, tmp_path) -> None:
    path = next(path for path in GRIDS if path.stem == "opinion_parameters")
    monkeypatch.setattr("opinionlm.runs.rehearsal.find_shipped", lambda name: tmp_path / Path(name).name)
    everything = rehearse_cells(checked_cells(path, "small"), path)["everything"]
    assert everything.parameters["trainable_parameters"] == 268_098_176 + 1_186_568
    assert everything.remarks == ("made first by: make gemma-weights",)
    (tmp_path / "gemma-3-270m-q4_k_m.gguf").touch()
    assert rehearse_cells(checked_cells(path, "small"), path)["everything"].remarks == ()


@pytest.mark.parametrize("task", ["sequence", "multi_label"])
def test_labels_that_only_the_files_tell_are_counted_as_two(task, tmp_path) -> None:
    files = "files: [{path: own.csv, columns: {text: text, label: label}}]"
    (tmp_path / "own.yaml").write_text(f"name: own\ntask: {task}\n{files}\n")
    options = {"dataset": str(tmp_path / "own.yaml"), "metric_for_best_model": "f1_spam"}
    words = tmp_path / "prompt.yaml"
    words.write_text("prompt: '{text}: '\nlabels: {ham: fine, spam: junk}\n")
    written = {"adaptation": "full", "prompt_template": str(words)}
    ways = {
        "all": {"adaptation": "full"},
        "written": {"script": "train_instruct.py", **written},
    }
    path = save(tmp_path, options=options, axes={"Way": ways}, published=[], scales={"smoke": {}})
    found = rehearsed(path, "smoke", tmp_path)
    assert found["all"].parameters["total_parameters"] > found["written"].parameters["total_parameters"] > 0
    assert found["written"].remarks == ()
    assert found["all"].remarks == ("own: only the files tell how many labels it has; heads are counted for two",)


def test_tags_that_only_the_files_tell_are_counted_as_three(tmp_path) -> None:
    files = "files: [{path: own.conll, columns: {tokens: first, tags: last}}]"
    (tmp_path / "own.yaml").write_text(f"name: own\ntask: token\n{files}\n")
    options = {"dataset": str(tmp_path / "own.yaml"), "adaptation": "head_only"}
    path = save(tmp_path, options=options, axes={"Way": {"all": {}}}, published=[], scales={"smoke": {}})
    found = rehearsed(path, "smoke", tmp_path)["all"]
    assert found.remarks == ("own: only the files tell how many tags it has; heads are counted for three",)


def test_files_that_are_missing_are_refused_with_how_to_get_them(tmp_path) -> None:
    command = ["configs/tables/opinion_parameters.yaml", "--scale", "paper", "--dry_run", "--data_dir", str(tmp_path)]
    with pytest.raises(UserError, match="not found in .*fetch them: .*get_data cryptoqa; .*--data_dir"):
        reproduce.main([*command, "--output_dir", str(tmp_path)])


def test_a_cell_that_its_run_would_refuse_is_named(tmp_path) -> None:
    options = {"dataset": "configs/datasets/sample_token.yaml", "class_weights": "none"}
    path = save(
        tmp_path, options=options, axes={"Rate": {"one": {"engine": "tfidf"}}}, published=[], scales={"smoke": {}}
    )
    with pytest.raises(UserError, match=r"mine.yaml: cell 'one': .*engine: 'tfidf' gives labels of texts"):
        reproduce.main([str(path), "--scale", "smoke", "--dry_run", "--output_dir", str(tmp_path)])


def test_every_run_of_every_table_is_tracked(tmp_path) -> None:
    for path in GRIDS:
        # W&B and artifacts by reference are the defaults of every run.
        assert not re.search("report_to|wandb_artifacts", path.read_text(encoding="utf-8")), path.stem
        for run in runs_of(shipped_table(path, "smoke"), tmp_path):
            options = run.options()
            assert options["wandb_group"] == f"{path.stem}-smoke" and "smoke" in options["wandb_tags"]
            assert run.offline
    assert not any(run.offline for run in runs_of(load_table(save(tmp_path), "small", {}), tmp_path))


def test_costs_that_tables_show_are_written_by_their_runs() -> None:
    spent = cost_facts(Preparation(1.0, 1.0, 1.0, 1, 1, 1), 1.0, 1.0, tokens=1, train_flops=1.0)
    written = {*spent, "train_tflops_per_epoch", "tokens_per_text"}
    for path in GRIDS:
        raw = read_yaml(path)
        if raw.get("script", "train_classifier.py") == "train_classifier.py":
            shown = {place.partition(".")[2] for place in raw["measures"].values() if place.startswith("cost.")}
            assert shown <= written, path.stem


def test_the_source_of_data_is_a_choice() -> None:
    emotion = DataConfig(dataset="configs/datasets/emotion.yaml", data_dir="nowhere", data_source="hub")
    assert source_of(emotion).startswith("hub dair-ai/emotion")
    emotion.data_source = "files"
    with pytest.raises(UserError, match="not found in nowhere"):
        source_of(emotion)
    with pytest.raises(UserError, match="data_source: hub, but no hub data set is named"):
        source_of(DataConfig(dataset="configs/datasets/cryptoqa.yaml", data_source="hub"))
