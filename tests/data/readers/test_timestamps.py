"""Times of posts: read, kept, split by; scores over time."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.preparation.splits import time_split
from opinionlm.data.prepared import load_prepared
from opinionlm.data.readers.timestamps import epoch_seconds, iso_times
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.drift import period_of, period_scores, periods
from opinionlm.evaluation.metrics import classification_scores
from opinionlm.reporting.figures import drift_figure, png_bytes

MOMENT = int(datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2021-03-04T05:06:07Z", MOMENT),
        (" 2021-03-04 05:06:07 ", MOMENT),
        ("2021-03-04T07:06:07.9+02:00", MOMENT),
        (str(MOMENT), MOMENT),
        (f"{MOMENT}.25", MOMENT),
        ("2021-03-04", MOMENT - 5 * 3600 - 6 * 60 - 7),
        ("20210304", MOMENT - 5 * 3600 - 6 * 60 - 7),
    ],
)
def test_spellings(text: str, seconds: int) -> None:
    assert epoch_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "blank"),
        ("yesterday", "'yesterday' is neither"),
        ("2021-13-01", "neither"),
        ("42", "neither"),
        (f"{MOMENT}000", "neither"),
        ("1066-10-14", "the year 1066 is not between"),
    ],
)
def test_what_is_no_time(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        epoch_seconds(text)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    try:
        seconds = epoch_seconds(text)
    except ValueError:
        return
    assert epoch_seconds(iso_times(np.array([seconds]))[0]) == seconds


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_no_split_reaches_into_the_next(days: list[int]) -> None:
    times = np.array(days)
    splits = time_split(times, [0.7, 0.2, 0.1])
    order = np.argsort(times, kind="stable")
    assert (np.diff(splits[order]) >= 0).all()
    assert all(len(set(splits[times == day])) == 1 for day in days)


def test_shares_of_distinct_times() -> None:
    times = np.random.default_rng(0).permutation(100)
    splits = time_split(times, [0.7, 0.2, 0.1])
    assert [set(times[splits == split]) for split in range(3)] == [
        set(range(70)),
        set(range(70, 90)),
        set(range(90, 100)),
    ]


def write_dated(path, rows: int = 120) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Text", "Level 1", "Level 2", "Level 3", "when"])
        codes = [("0", "", ""), ("1", "", ""), ("2", "2", ""), ("2", "1", "")]
        for index in range(rows):
            when = "never" if index == 7 else "" if index == 8 else MOMENT + 86400 * index
            writer.writerow([f"post number {index} about a coin", *codes[index % 4], when])


def dated(raw_spec, **changes) -> dict:
    raw = raw_spec("posts.csv", **changes)
    raw["files"][0]["columns"] = raw["files"][0]["columns"] | {"time": "when"}
    return raw


def test_train_on_the_past_and_test_on_the_latest(raw_spec, tmp_path) -> None:
    write_dated(tmp_path / "posts.csv")
    spec = spec_from_dict(dated(raw_spec, split={"by": "time"}), "x.yaml")
    data = load_prepared(prepare(spec, tmp_path, tmp_path / "out"))
    rows = {name: len(split) for name, split in data.dataset.items()}
    assert rows == {"train": 82, "validation": 24, "test": 12}
    times = {name: list(split["time"]) for name, split in data.dataset.items()}
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])
    assert min(times["train"]) == "2021-03-04T05:06:07Z"
    # Records without a usable time are not lost in silence.
    with open(data.path / "rejects.csv", newline="") as file:
        rejects = [(row["line"], row["reason"], row["detail"]) for row in csv.DictReader(file)]
    assert rejects == [
        ("9", "bad_time", "'never' is neither an ISO 8601 date nor seconds since 1970"),
        ("10", "bad_time", "the time is blank"),
    ]
    assert json.loads((data.path / "report.json").read_text())["totals"] == {"in": 120, "kept": 118, "rejected": 2}


def test_a_random_split_keeps_times_too(raw_spec, tmp_path) -> None:
    write_dated(tmp_path / "posts.csv")
    data = load_prepared(prepare(spec_from_dict(dated(raw_spec), "x.yaml"), tmp_path, tmp_path / "out"))
    for row in data.dataset["train"]:
        number = int(row["text"].split()[2])
        assert epoch_seconds(row["time"]) == MOMENT + 86400 * number
    assert max(data.dataset["train"]["time"]) > min(data.dataset["test"]["time"])


@pytest.mark.parametrize(
    ("with_time", "changes", "message"),
    [
        (False, {"split": {"by": "time"}}, "split.by: time needs a column that is mapped to time"),
        (True, {"split": {"by": "time", "seed": 3}}, "split.seed: 3 is not read by by: time; leave it out"),
        (True, {"split": {"by": "time", "stratify_by": ["label"]}}, "split.stratify_by: .'label',. is not read by"),
        (True, {"split": {"by": "date"}}, "split.by: 'date' is not one of random, time"),
    ],
)
def test_mistakes_are_named(raw_spec, with_time, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        spec_from_dict((dated(raw_spec, **changes) if with_time else raw_spec("posts.csv", **changes)), "x.yaml")


def test_all_sources_have_times_or_none(raw_spec) -> None:
    raw = raw_spec("a.csv", "b.csv")
    raw["files"][0]["columns"] = raw["files"][0]["columns"] | {"time": "when"}
    with pytest.raises(UserError, match="some sources have a time and some have none"):
        spec_from_dict(raw, "x.yaml")


def test_periods_are_as_short_as_rows_allow() -> None:
    assert [period_of("2021-03-04T05:06:07Z", span) for span in ("month", "quarter", "year")] == [
        "2021-03",
        "2021-Q1",
        "2021",
    ]
    january, march, may = (["2021-01-09T"] * 3, ["2021-03-09T"] * 3, ["2021-05-01T"] * 2)
    assert list(periods(january + march, 3)) == ["2021-01", "2021-03"]
    # Two rows of May are a quarter of all: with months too much would be lost.
    assert list(periods(january + march + may + ["2021-06-01T"], 3)) == ["2021-Q1", "2021-Q2"]
    assert periods(january + march[:1], 3) == {}


@pytest.mark.usefixtures("drawn_figures")
def test_scores_of_a_period_are_those_of_its_rows() -> None:
    taxonomy = Taxonomy.from_tree({"noise": None, "subjective": ["positive", "negative"]})
    gold, predicted = np.random.default_rng(0).integers(0, 3, (2, 120))
    times = ["2021-01-01T"] * 60 + ["2021-02-01T"] * 60
    scores = period_scores(gold, predicted, times, taxonomy, min_rows=50)
    assert list(scores) == ["2021-01", "2021-02"]
    expected = classification_scores(gold[60:], predicted[60:], taxonomy)
    assert scores["2021-02"]["rows"] == 60 and scores["2021-02"]["macro_f1"] == expected["macro_f1"]
    low, high = scores["2021-02"]["macro_f1_ci95"]
    assert low < expected["macro_f1"] < high
    assert png_bytes(drift_figure(scores)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("days", "sizes"),
    [
        ([45, 40, 15], [45, 40, 15]),
        # The nearer border: 68 rows before a tie of 12, 72 before one of 20.
        ([68, 12, 10, 10], [68, 22, 10]),
        ([50, 22, 18, 10], [72, 18, 10]),
        # Ties at both borders, and one that reaches over both.
        ([60, 25, 5, 10], [60, 30, 10]),
        ([10, 85, 5], [10, 85, 5]),
        ([98, 1, 1], [98, 1, 1]),
        ([1, 1, 98], [1, 1, 98]),
    ],
)
def test_ties_go_to_the_nearer_side_and_no_split_is_empty(days: list[int], sizes: list[int]) -> None:
    times = np.repeat(np.arange(len(days)), days)
    assert np.bincount(time_split(times, [0.7, 0.2, 0.1]), minlength=3).tolist() == sizes


@given(st.lists(st.integers(0, 30), min_size=3, max_size=60))
def test_as_many_times_as_splits_fill_all_of_them(days: list[int]) -> None:
    times = np.array(days)
    splits = time_split(times, [0.7, 0.2, 0.1])
    assert len(set(splits.tolist())) == min(3, len(set(days)))


def write_days(path, *days: tuple[str, int]) -> None:
    codes = ["0,,", "1,,", "2,2,", "2,1,"]
    rows = [when for when, count in days for _ in range(count)]
    lines = [f"post number {i} about a coin,{codes[i % 4]},{w}" for i, w in enumerate(rows)]
    path.write_text("Text,Level 1,Level 2,Level 3,when\n" + "\n".join(lines))


@pytest.mark.parametrize("days", [(("2024-01-01", 45), ("2024-01-02", 55)), (("2024-01-01", 40),)])
def test_ties_that_make_a_split_impossible_are_named(raw_spec, tmp_path, days) -> None:
    write_days(tmp_path / "posts.csv", *days)
    spec = spec_from_dict(dated(raw_spec, split={"by": "time"}), "x.yaml")
    with pytest.raises(UserError, match=f"{days[0][1]} rows have the time 2024-01-01T00:00:00Z.*split.by: random"):
        prepare(spec, tmp_path, tmp_path / "out")


def test_lopsided_splits_and_mixed_resolutions_are_told(raw_spec, tmp_path) -> None:
    write_days(tmp_path / "posts.csv", ("2024-01-01", 12), ("2024-01-02T10:00", 80), ("2024-01-03", 4))
    spec = spec_from_dict(dated(raw_spec, split={"by": "time"}), "x.yaml")
    folder = prepare(spec, tmp_path, tmp_path / "out")
    warnings = json.loads((folder / "report.json").read_text())["warnings"]
    assert "16 of 96 times are dates without a time of day" in warnings[0]
    assert "train has 12% of the rows instead of 70%: rows of one time stay together" in " ".join(warnings)
