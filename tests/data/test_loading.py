"""Runs on some platforms only: what trains and what is chosen by never comes from a platform that is held out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict

from opinionlm.config.parser import parse_config
from opinionlm.data.loading import choose_platforms
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from tests.classifier_runs import train


def data(**platforms: str) -> PreparedDataset:
    """Splits whose rows are one letter each, the first of their platform's name."""
    splits = {name: Dataset.from_dict({"platform": list(letters)}) for name, letters in platforms.items()}
    return PreparedDataset(DatasetDict(splits), None, "posts", "f", Path())


def kept(prepared: PreparedDataset) -> dict[str, str]:
    return {name: "".join(split["platform"]) for name, split in prepared.dataset.items()}


def test_validation_belongs_to_training() -> None:
    prepared = data(train="rrtyy", validation="rty", test="rtyyt")
    assert kept(choose_platforms(prepared, ["r", "t"], ["y"])) == {"train": "rrt", "validation": "rt", "test": "yy"}
    assert kept(choose_platforms(prepared, None, ["t"])) == kept(prepared) | {"test": "tt"}
    assert kept(choose_platforms(prepared, ["y"], None)) == kept(prepared) | {"train": "yy", "validation": "y"}
    assert choose_platforms(prepared, None, None) is prepared


@pytest.mark.parametrize(
    ("train_on", "test_on", "message"),
    [
        (["r", "x"], None, "train_platforms: 'x' is no platform of posts (it has r, t, y)"),
        (None, ["Y"], "eval_platforms: 'Y' is no platform of posts, did you mean 'y'? (it has r, t, y)"),
        (["y"], None, "train_platforms: the validation split of posts has no row of y; it has 1 of r, 1 of t"),
        (None, ["r"], "eval_platforms: the test split of posts has no row of r; it has 1 of t, 1 of y"),
    ],
)
def test_what_is_not_there_is_named(train_on, test_on, message: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_platforms(data(train="rty", validation="rt", test="ty"), train_on, test_on)
    assert str(caught.value) == message


def test_data_without_platforms_say_so() -> None:
    with pytest.raises(UserError, match="its dataset YAML names no platform"):
        choose_platforms(
            PreparedDataset(
                DatasetDict(
                    {name: Dataset.from_dict({"platform": ["", ""]}) for name in ("train", "validation", "test")}
                ),
                None,
                "posts",
                "f",
                Path(),
            ),
            ["a"],
            None,
        )


@pytest.mark.parametrize("names", ["[]", "[a, a]"])
def test_platforms_are_named_once(names: str) -> None:
    with pytest.raises(UserError, match="train_platforms: .* must name different platforms, or be left out"):
        parse_config(["--train_platforms", names], "test")


@pytest.mark.parametrize("engine", ["tfidf", "trainer"])
def test_runs_never_see_the_platform_that_is_held_out(setting, tmp_path, engine: str, capsys) -> None:
    folder = Path(setting["data_dir"])
    with open(folder / "posts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(tmp_path / "mixed.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "platform"])
        writer.writeheader()
        writer.writerows(row | {"platform": ("forum", "video")[place // 5 % 2]} for place, row in enumerate(rows))
    spec = yaml.safe_load((folder / "posts.yaml").read_text())
    spec["files"] = [{"path": "mixed.csv", "columns": {"platform": "platform"} | spec["files"][0]["columns"]}]
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    metrics = train(
        setting | {"num_train_epochs": "1"},
        dataset=tmp_path / "mixed.yaml",
        data_dir=tmp_path,
        output_dir=tmp_path,
        run_name="run",
        engine=engine,
        train_platforms="[forum]",
        eval_platforms="[video]",
    )
    found = {}
    for split in ("validation", "test"):
        with open(tmp_path / "run" / "predictions" / f"{split}.csv", newline="") as file:
            found[split] = {row["platform"] for row in csv.DictReader(file)}
    assert found == {"validation": {"forum"}, "test": {"video"}}
    assert set(metrics["validation"]["platforms"]) == {"forum"} and set(metrics["test"]["platforms"]) == {"video"}
    if engine == "trainer":
        assert "platforms: forum for train and validation, video for test" in capsys.readouterr().out
