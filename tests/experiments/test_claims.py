"""What is said of differences: the best, what cannot be told apart from it, and how many were compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opinionlm.experiments.claims import Way, claim_lines, compare_ways
from opinionlm.experiments.compare import compare_folders
from opinionlm.experiments.grid import load_table
from opinionlm.experiments.grid_runner import runs_of
from opinionlm.experiments.tables import claims_of
from tests.experiments.run_folders import posts, write_predictions, write_run
from tests.experiments.test_grid import save

GOLD = np.random.default_rng(0).integers(0, 3, 600)


def way(name: str, right: float, seeds: int = 5) -> Way:
    draw = np.random.default_rng(len(name))
    runs = [np.where(draw.random(600) < right, GOLD, (GOLD + 1) % 3) for _ in range(seeds)]
    return Way(name, GOLD, np.stack(runs), 3)


def test_the_best_and_what_cannot_be_told_apart_from_it() -> None:
    ways = [way("poor", 0.5), way("good", 0.8), way("as good", 0.795)]
    text = "\n".join(claim_lines({"": ways}))
    best, other = sorted(ways[1:], key=lambda one: -one.scores.mean())
    assert f"Best by macro-F1: {best.name} (" in text and f"cannot be told apart from it: {other.name} (Holm" in text
    assert "over all 3 pairs of the table" in text and "no winner is claimed" not in text
    assert text.count(" minus ") == 2 and " d " in text
    assert "all others are worse (Holm over 1 pair)" in "\n".join(claim_lines({"": ways[:2]}))
    assert "about these very runs, and no winner is claimed" in "\n".join(
        claim_lines({"": [way("a", 0.5, 1), ways[1]]})
    )
    assert claim_lines({"": ways[:1]}) == []


def test_the_correction_counts_the_pairs_of_all_groups() -> None:
    one, other = way("one", 0.62), way("other", 0.70)
    (alone,), *_ = compare_ways([[one, other]])
    beside = compare_ways([[one, other], [way("x", 0.5), way("yy", 0.5), way("zzz", 0.5)]])[0][0]
    assert alone.corrected == alone.difference.p_value
    assert beside.difference == alone.difference and beside.corrected == pytest.approx(4 * alone.corrected)


def test_runs_that_differ_by_their_seed_are_one_way(tmp_path) -> None:
    rows = posts(400)
    folders = [write_run(tmp_path / f"slow-seed{seed}", seed, share_right=0.6, rows=rows) for seed in (1, 2, 3)]
    folders += [
        write_run(tmp_path / f"fast-seed{seed}", seed, share_right=0.9, rows=rows, learning_rate=0.1)
        for seed in (1, 2)
    ]
    text, columns, table = compare_folders(folders, "test")
    assert columns[-4:] == ["slow_share", "slow_f1", "fast_share", "fast_f1"]
    assert "- slow (3 seeds): macro-F1 0." in text and "- fast (2 seeds)" in text
    assert "Best by macro-F1: fast" in text and "all others are worse (Holm over 1 pair)" in text
    assert "so few seeds (2), and no winner is claimed" in text and "McNemar" not in text
    single = compare_folders([folders[0]], "test")[2]
    means = np.mean([[row[5] for row in compare_folders([one], "test")[2]] for one in folders[:3]], axis=0)
    assert [row[5] for row in table] == pytest.approx(means.tolist()) and len(single) == len(table)


def test_a_table_says_which_of_its_rows_differ(tmp_path) -> None:
    table = load_table(save(tmp_path, scales={"small": {"seeds": "0..4"}}), "small", {})
    runs = runs_of(table, tmp_path)
    for run in runs:
        run.folder.mkdir(parents=True)
        right = 0.9 if run.cell.labels["Rate"] == "fast" else 0.6
        write_predictions(run.folder / "predictions" / "test.csv", posts(300), right, sum(map(ord, run.folder.name)))
        labels = ["noise", {"subjective": ["negative", "question"]}]
        (run.folder / "labels.json").write_text(json.dumps(labels))
        (run.folder / "metrics.json").write_text("{}")
    text = "\n".join(claims_of(table, runs))
    assert "over all 6 pairs of the table" in text and "Best by macro-F1: fast, " in text
    assert "cannot be told apart from it: fast, " in text
    assert claims_of(load_table(Path(save(tmp_path, scales={"smoke": {}})), "smoke", {}), runs) == []


@pytest.mark.parametrize("own_posts", [False, True])
def test_labels_are_told_apart_and_every_pair_counts(own_posts, tmp_path) -> None:
    """A comma in a label parts nothing, and pairs of seeds on other posts count for the correction, too."""
    axes = {"Rate": {"slow, at first": {"learning_rate": 1e-6}, "fast": {"learning_rate": 1e-3}}}
    table = load_table(save(tmp_path, axes=axes, scales={"small": {"seeds": "0..1"}}, published=[]), "small", {})
    runs = runs_of(table, tmp_path)
    for run in runs:
        run.folder.mkdir(parents=True)
        rows = posts(300)[:: -1 if own_posts and run.seed else 1]
        write_predictions(run.folder / "predictions" / "test.csv", rows, 0.7, run.seed)
        (run.folder / "labels.json").write_text(json.dumps(["noise", {"subjective": ["negative", "question"]}]))
        (run.folder / "metrics.json").write_text("{}")
    text = "\n".join(claims_of(table, runs))
    assert f"over all {2 if own_posts else 1} pair" in text and "slow, at first" in text


def test_tables_have_five_seeds_unless_they_say_otherwise(tmp_path) -> None:
    path = save(tmp_path, scales={"small": {}, "smoke": {}, "paper": {"seeds": "0..2"}})
    assert [load_table(path, scale, {}).seeds for scale in ("small", "smoke", "paper")] == [
        (0, 1, 2, 3, 4),
        (42,),
        (0, 1, 2),
    ]
