"""What cleaned the training texts cleans those of prediction: raw posts get the answers that training scored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

import predict
import train_classifier
import train_instruct
from opinionlm.data.cleaning import PROFILES, Cleaning, clean_text, saved_steps, text_options, text_steps
from opinionlm.errors import UserError
from opinionlm.inference.saved_generative import read_settings
from tests.classifier_runs import command_line, drawn_posts, write_posts
from tests.saved_classifier import save_tiny_classifier
from tests.tiny import save_generative_model

DAMAGED = "BUY;#8217; &amp; LOVE =\x02 \\n the  coin\u00e2\u20ac\u2122s 🚀"


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def label(models: list[Path], texts: list[str], folder: Path) -> list[dict[str, str]]:
    with open(folder / "posts.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    output = folder / "labels.csv"
    arguments = ["--input", str(folder / "posts.csv"), "--output", str(output), "--overwrite"]
    predict.main(["--model", *map(str, models), *arguments])
    return read(output)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_model_keeps_cleans_as_the_profile_does(profile: str) -> None:
    cleaning = PROFILES[profile]
    kept = json.loads(json.dumps(text_options(cleaning)))
    assert clean_text(DAMAGED, saved_steps(kept)) == clean_text(DAMAGED, text_steps(cleaning))
    assert (kept is None) == (profile in ("exact", "none"))


def test_letter_case_is_kept_only_where_it_does_something() -> None:
    # Models from before it was there say nothing of it: they load, and are averaged with new ones.
    assert "letter_case" not in text_options(Cleaning())
    kept = json.loads(json.dumps(text_options(Cleaning(letter_case="named"))))
    assert clean_text("to the moon", saved_steps(kept)) == ("lowercase: to the moon", ["letter_case"])


def raw_posts(folder: Path, setting: dict[str, str]) -> dict[str, str]:
    """The posts of `setting` in capitals and with entities, and a YAML that undoes both."""
    posts = [(text.upper().replace(" ", "&#32;"), leaf) for text, leaf in drawn_posts(160)]
    write_posts(folder, posts)
    spec = yaml.safe_load((folder / "posts.yaml").read_text())
    spec |= {"tokenizer_name_or_path": setting["model_name_or_path"], "cleaning": {"lowercase": True}}
    (folder / "posts.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return setting | {"dataset": str(folder / "posts.yaml"), "data_dir": str(folder), "output_dir": str(folder)}


def same_answers(run: Path, folder: Path) -> None:
    """Prediction over the raw texts of the test split gives the probabilities of the run's own table."""
    scored = read(run / "predictions" / "test.csv")
    raw = [row["text"].upper().replace(" ", "&#32;") for row in scored]
    rows = label([run / "best"], raw, folder)
    assert [row["text"] for row in rows] == raw, "tables show the texts as they came"
    names = [name for name in scored[0] if name.startswith("probability_")]
    for one, other in zip(scored, rows, strict=True):
        assert [float(one[name]) for name in names] == pytest.approx([float(other[name]) for name in names], abs=1e-5)
    assert [row["predicted"] for row in rows] == [row["predicted"] for row in scored]


# With words blended in, the network reads cleaned texts all the same.
@pytest.mark.parametrize("blend_words", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_classifier(setting, tmp_path, blend_words: str) -> None:
    options = {"run_name": "run", "adaptation": "full", "num_train_epochs": "1", "blend_words": blend_words}
    train_classifier.main(command_line(raw_posts(tmp_path, setting), **options))
    best = tmp_path / "run" / "best"
    assert json.loads((best / "config.json").read_text())["cleaning"]["lowercase"] is True
    card = (best / "README.md").read_text()
    assert "cleaned (restore_lost_bytes, fix_text, unescape_newlines, html, whitespace, lowercase;" in card
    same_answers(tmp_path / "run", tmp_path)


def test_a_language_model(setting, tmp_path) -> None:
    save_generative_model(tmp_path / "model")
    (tmp_path / "template.yaml").write_text('prompt: "{text}:"')
    given = raw_posts(tmp_path, setting)
    shared = ("dataset", "data_dir", "output_dir", "learning_rate", "report_to", "use_cpu")
    options = {name: given[name] for name in (*shared, "per_device_train_batch_size")}
    options |= {"model_name_or_path": tmp_path / "model", "prompt_template": tmp_path / "template.yaml"}
    options |= {"max_length": 64, "adaptation": "top_blocks", "num_train_epochs": 1, "run_name": "run"}
    options["cache_dir"] = tmp_path / "cache"
    train_instruct.main(command_line({}, **options))
    assert read_settings(tmp_path / "run" / "best").cleaning["lowercase"] is True
    assert "cleaned (" in (tmp_path / "run" / "best" / "README.md").read_text()
    same_answers(tmp_path / "run", tmp_path)


def test_models_of_differently_cleaned_texts_are_not_averaged(tmp_path) -> None:
    folders = [save_tiny_classifier(tmp_path / name) for name in ("raw", "cleaned")]
    config = json.loads((folders[1] / "config.json").read_text())
    config["cleaning"] = text_options(PROFILES["paper"])
    (folders[1] / "config.json").write_text(json.dumps(config))
    # The same weights: what one reads in capitals, the other reads in lower case.
    raw, lower = label(folders[:1], ["BUY the COIN", "buy the coin"], tmp_path)
    cleaned, again = label(folders[1:], ["BUY the COIN", "buy the coin"], tmp_path)
    assert cleaned["confidence"] == again["confidence"] != raw["confidence"]
    # Padded by its longer neighbour.
    assert float(cleaned["confidence"]) == pytest.approx(float(lower["confidence"]), abs=2e-6)
    with pytest.raises(UserError, match="cleaned in different ways"):
        label(folders, ["buy"], tmp_path)
