"""What trials choose from, beside what is given for the same options."""

from __future__ import annotations

import pytest
import yaml

import reproduce
import train_classifier
from opinionlm.api import train
from opinionlm.errors import UserError
from opinionlm.runs.tuning_spaces import Range, read_tuning

TUNED = {"engine": "tfidf", "report_to": "none", "class_weights": "none", "tune": {"trials": 2, "space": "auto"}}


def test_an_option_that_trials_choose_is_refused_beside_the_file(tmp_path) -> None:
    """The best value won over that of the command line without a word."""
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(TUNED | {"output_dir": str(tmp_path / "out")}))
    message = "class_weights: trials choose its value; leave it out here, or give a tune.space without it"
    with pytest.raises(UserError, match=f"^--{message}"):
        train_classifier.main(["--config", str(tmp_path / "tuned.yaml"), "--class_weights", "inverse_frequency"])
    with pytest.raises(UserError, match=f"^the call: {message}"):
        train(tmp_path / "tuned.yaml", class_weights="inverse_frequency")
    assert not (tmp_path / "out").exists()


def test_an_option_that_trials_of_a_table_choose_is_refused_beside_it(tmp_path) -> None:
    table = {
        "title": "Tuned",
        "source": "Ours",
        "measures": {"Accuracy": "test.accuracy"},
        "options": {"dataset": "configs/datasets/sample.yaml", **TUNED},
        "axes": {"Texts": {"40": {"max_train_samples": 40}, "80": {"max_train_samples": 80}}},
        "scales": {"small": {"seeds": 1}},
    }
    table["tune"] = table["options"].pop("tune")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(table))
    command = [str(tmp_path / "mine.yaml"), "--output_dir", str(tmp_path / "out"), "--dry_run"]
    with pytest.raises(UserError, match=r"^--class_weights: trials choose its value"):
        reproduce.main([*command, "--class_weights", "inverse_frequency"])


def test_numbers_that_may_be_left_out_have_ranges_too() -> None:
    raw = {"max_train_samples": {"low": 40, "high": 300}, "ema_decay": {"low": 0.9, "high": 0.999}}
    space = read_tuning({"trials": 2, "space": raw}, "tune").space
    assert space == {"max_train_samples": Range(40, 300), "ema_decay": Range(0.9, 0.999)}
    # Whole numbers are drawn for the first.
    assert isinstance(space["max_train_samples"].low, int)


def test_what_changes_the_loss_is_not_tuned_by_it(tmp_path) -> None:
    space = {"label_smoothing": [0.0, 0.1]}
    options = {"report_to": "none", "metric_for_best_model": "loss", "tune": {"trials": 2, "space": space}}
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(options | {"output_dir": str(tmp_path / "out")}))
    message = "tune.space.label_smoothing: is not to be tuned where metric_for_best_model: loss compares trials"
    with pytest.raises(UserError, match=message):
        train_classifier.main(["--config", str(tmp_path / "tuned.yaml")])


def test_a_range_of_half_steps_is_refused_before_a_trial(tmp_path) -> None:
    options = {"report_to": "none", "tune": {"trials": 2, "space": {"warmup_steps": {"low": 5, "high": 50}}}}
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(options | {"output_dir": str(tmp_path / "out")}))
    with pytest.raises(UserError, match="warmup_steps: 19.3239 must be a whole number of steps"):
        train_classifier.main(["--config", str(tmp_path / "tuned.yaml")])
