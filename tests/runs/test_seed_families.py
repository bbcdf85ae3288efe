"""Samples of one way of training: which runs and ensembles are, and which are the same trained model again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from opinionlm.config.parser import parse_config
from opinionlm.experiments import group_report
from opinionlm.experiments.compare import compare_folders
from opinionlm.experiments.dashboard.collect import collect
from opinionlm.experiments.dashboard.payload import build_payload
from opinionlm.runs.seed_families import family_of, independent, model_name, models_of, way_key, without_unread
from tests.experiments.run_folders import write_run

PLAIN: dict[str, Any] = {"train": {"steps": 3}}


def options(*given: str, **more: Any) -> dict[str, Any]:
    return parse_config(["--report_to", "none", *given], "").flat() | more


def ensemble_of(*members: dict[str, Any]) -> dict[str, Any]:
    return {"train": {"members": len(members), "member_models": [model_name(member) for member in members]}}


def write_ensemble(folder: Path, *runs: Path, **more: Any) -> Path:
    """A finished ensemble of run folders with the first one's options."""
    members = [yaml.safe_load((run / "config.yaml").read_text()) for run in runs]
    write_run(folder, **{name: value for name, value in members[0].items() if name != "run_name"}, **more)
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | ensemble_of(*members)))
    return folder


def test_what_a_way_does_not_read_does_not_make_it_another() -> None:
    """Two ways of full fine-tuning were told apart by a number of blocks that neither of them reads."""
    full = options("--adaptation", "full")
    assert way_key(full | {"trainable_blocks": 6}) == way_key(full)
    assert without_unread(full)["trainable_blocks"] is None and without_unread(full)["learning_rate"] == 5e-5
    top = options("--adaptation", "top_blocks", "--trainable_blocks", "6")
    assert without_unread(top)["trainable_blocks"] == 6 and way_key(top) != way_key(top | {"trainable_blocks": 2})


def test_ensembles_are_samples_of_one_way_where_their_members_are() -> None:
    small, large = options("--learning_rate", "1e-4"), options("--learning_rate", "2e-4")
    first, second = (ensemble_of(small | {"seed": seed}, large | {"seed": seed}) for seed in (0, 1))
    swapped = ensemble_of(large | {"seed": 2}, small | {"seed": 2})
    families = [family_of(small, content, str(place)) for place, content in enumerate((first, second, swapped))]
    assert families[0] == families[1] == families[2]
    twins = ensemble_of(small | {"seed": 0}, small | {"seed": 1})
    assert len({family_of(small, content, "") for content in (PLAIN, first, twins)}) == 3
    # The first member's options say how all decide.
    assert family_of(small | {"decision": "logit_adjusted"}, first, "") != families[0]
    # Before, nothing was noted of the members.
    old = {"train": {"members": 2}}
    assert family_of(small, old, "a") != family_of(small, old, "b")


def test_a_trained_model_is_in_one_sample_alone() -> None:
    small = options()
    runs = [small | {"seed": seed} for seed in range(4)]
    samples = [ensemble_of(runs[0], runs[1]), ensemble_of(runs[1], runs[2]), ensemble_of(runs[2], runs[3])]
    found = independent((models_of(small, content), number) for number, content in enumerate(samples))
    assert found == [0]
    assert independent((models_of(small | {"seed": seed}, PLAIN), seed) for seed in (0, 1, 1.0, 2)) == [0, 1, 2]


def test_three_pairs_are_one_row_with_a_spread(tmp_path: Path, capsys) -> None:
    shares = {"small": (0.9, 0.8, 0.85), "large": (0.7, 0.75, 0.8), "pair": (0.95, 0.9, 0.92)}
    runs = {
        name: [
            write_run(
                tmp_path / f"{name}-seed{seed}",
                seed=seed,
                share_right=shares[name][seed],
                learning_rate=rate,
                wandb_group="mine",
            )
            for seed in range(3)
        ]
        for name, rate in (("small", 1e-4), ("large", 2e-4))
    }
    scores = (0.9, 0.8, 0.85)
    pairs = [
        write_ensemble(tmp_path / f"pair{seed}", runs["small"][seed], runs["large"][seed], macro_f1=scores[seed])
        for seed in range(3)
    ]
    text, columns, _ = compare_folders([*runs["small"], *pairs], "test")
    assert columns[5::2] == ["small_share", "pair_share"] and "Left out" not in text and "- pair (3 " in text
    [group] = build_payload(collect(tmp_path))["groups"]
    method = next(one for one in group["methods"] if one["members"] == 2)
    assert method["name"] == "pair" and method["seeds"] == [0, 1, 2]
    assert method["metrics"]["test.macro_f1"][:2] == [0.85, 0.05]
    # The first member's options are not those of the pair; a run shows what it read.
    shown = {run["name"]: run["options"] for run in group["runs"]}
    assert set(shown["pair0"].values()) == {None} and shown["large-seed1"]["learning_rate"] == 2e-4
    assert "wandb_group" not in shown["small-seed0"] and "trainable_blocks" not in group["varying"]
    group_report.main(["mine", str(tmp_path)])
    said = capsys.readouterr().out
    assert "6 finished runs and 3 ensembles of them" in said and "| 3 ensembles of 2 | 0.850 ± 0.050 |" in said
