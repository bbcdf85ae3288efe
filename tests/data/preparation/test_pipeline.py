"""From files to a prepared folder: what goes in comes out or is rejected, once, and nothing is half-written."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from datasets import load_from_disk

import preprocess
from opinionlm.data.cleaning import Cleaning
from opinionlm.data.preparation import clean_rows, rows
from opinionlm.data.preparation.pipeline import fingerprint_of, prepare, prepare_or_load
from opinionlm.data.preparation.report import longer_texts
from opinionlm.data.preparation.tokens import load_tokenizer
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import spec_from_dict
from opinionlm.errors import UserError

HEADER = "Text,Level 1,Level 2,Level 3"
CODES = ["0,,", "1,,", "2,2,", "2,1,", "2,0,0", "2.0,0.0,1.0", "2,0,2", "2,0,3"]


def write_posts(path: Path, count: int, seed: int = 0, extra: tuple[str, ...] = ()) -> None:
    """Posts in all classes; about a fifth are copies of others, some differ only in white space."""
    rng = random.Random(seed)
    words = ["bitcoin", "coin", "moon", "what", "think", "sell", "buy", "hold", "price", "wallet", "scam", "free"]
    lines = [HEADER]
    for index in range(count):
        label = index % 8
        text = f"{' '.join(rng.choices(words, k=6))} {label} {rng.randrange(count * 3)}"
        lines += [f"{text},{CODES[label]}"] * (2 if rng.random() < 0.1 else 1)
        if rng.random() < 0.1:
            lines.append(f"{text.replace(' ', '  ')},{CODES[label]}")
    path.write_text("\n".join([*lines, *extra]) + "\n", encoding="utf-8")


def prepared(raw, tmp_path, name="out", **options):
    spec = spec_from_dict(raw, "x.yaml")
    return load_prepared(prepare(spec, tmp_path, tmp_path / name, **options))


def report_of(data) -> dict:
    return json.loads((data.path / "report.json").read_text(encoding="utf-8"))


def all_rows(data) -> list[tuple]:
    return [(split, *row.values()) for split in data.dataset for row in data.dataset[split]]


def assert_no_text_in_two_places(data) -> None:
    texts = [text for split in data.dataset.values() for text in split["text"]]
    assert len(set(texts)) == len(texts)


@pytest.mark.usefixtures("drawn_figures")
def test_the_whole_way(raw_spec, tmp_path):
    bad = ('"open quote,0,,', "a,b", "unknown,9,,", "deep,0,1,", "shallow,2,,", " ,0,,", "half,2,0,")
    write_posts(tmp_path / "reddit.csv", 300, 1)
    write_posts(tmp_path / "twitter.csv", 200, 2, bad)
    data = prepared(raw_spec("reddit.csv", "twitter.csv"), tmp_path)
    report = report_of(data)

    assert list(data.dataset) == ["train", "validation", "test"]
    columns = ["id", "text", "label", "level1", "level2", "level3", "platform"]
    assert data.dataset["train"].column_names == columns
    assert data.dataset["train"].features["label"].names == list(data.taxonomy.leaves)
    for row in data.dataset["test"]:
        assert [row[f"level{i}"] for i in (1, 2, 3)] == [data.taxonomy.label_at(row["label"], i) for i in (1, 2, 3)]
        # The label's number stands in the text: nothing was shuffled against its label.
        assert row["text"].split()[6] == str(row["label"])
    ids = [value for split in data.dataset.values() for value in split["id"]]
    assert len(set(ids)) == len(ids)
    assert_no_text_in_two_places(data)

    # Row for row: every record is kept or stands in rejects.csv, and the report says the same.
    with (data.path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        rejects = list(csv.DictReader(file))
    places = [(row["file"], row["record"]) for row in rejects]
    kept = [(f"{identity.split('-')[0]}.csv", identity.split("-")[1]) for identity in ids]
    assert len(set(places + kept)) == len(places) + len(kept) == report["totals"]["in"]
    assert report["totals"] == {"in": len(places) + len(kept), "kept": len(kept), "rejected": len(places)}
    for reason, count in report["rejected"].items():
        assert sum(row["reason"] == reason for row in rejects) == count
    expected = {"bad_quoting": 1, "too_few_fields": 1, "unknown_code": 1, "contradictory_label": 1}
    expected |= {"incomplete_label": 2, "empty_text": 1}
    assert {key: report["rejected"][key] for key in expected} == expected
    for before, after in zip(report["steps"], report["steps"][1:], strict=False):
        assert before["rows_out"] == after["rows_in"]
    for step in report["steps"]:
        assert step["rows_in"] - sum(step["removed"].values()) == step["rows_out"]
    assert report["classes"]["all"]["train"]["level1"]["noise"] == data.dataset["train"]["level1"].count("noise")
    assert report["tokens"]["all"]["count"] == len(kept)
    assert (data.path / "token_lengths.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "reddit.csv", "twitter.csv"]


@pytest.mark.parametrize("given", [False, True])
def test_no_text_is_in_two_splits_whatever_its_features(raw_spec, tmp_path, given):
    def lines(numbers, stars):
        return [f"post {number},{'yes' if number % 2 else 'no'},{n}" for n in stars for number in numbers]

    # Every text with several numbers of stars; of given splits the first ten texts of train are also in test.
    files = {None: lines(range(40), (1, 2, 3, 1))}
    if given:
        files = {"train": lines(range(60), (1, 2)), "test": [*lines(range(10), (3, 4)), *lines(range(60, 70), (1, 2))]}
    raw = raw_spec() | {"files": [], "codes": {}, "labels": ["yes", "no"], "features": {"stars": "number"}}
    for split, rows_of_split in files.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label,stars", *rows_of_split]) + "\n")
        columns = {name: name for name in ("text", "label", "stars")}
        raw["files"].append({"path": f"{split}.csv", "columns": columns} | ({"split": split} if split else {}))
    data = prepared(raw, tmp_path)
    texts = {name: set(split["text"]) for name, split in data.dataset.items()}
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) == (70 if given else 40)
    report = report_of(data)
    assert report["rejected"]["in_another_split"] >= (20 if given else 1)
    assert report["rejected"].get("duplicate_raw", 0) == (0 if given else 40)
    kept = sum(map(len, data.dataset.values()))
    assert report["totals"]["kept"] == kept == report["totals"]["in"] - report["totals"]["rejected"]
    # Within a split a text may stand with several features.
    assert len(data.dataset["test"]) > len(texts["test"])


def test_the_same_for_any_number_of_processes(raw_spec, tmp_path, monkeypatch):
    write_posts(tmp_path / "reddit.csv", 400)
    monkeypatch.setattr(rows, "BATCH_ROWS", 64)
    monkeypatch.setattr(clean_rows, "ROWS_PER_PROCESS", 100)
    raw = raw_spec("reddit.csv", cleaning={"profile": "paper", "min_tokens": 5})
    one, two = prepared(raw, tmp_path, "one", num_proc=1), prepared(raw, tmp_path, "two", num_proc=2)
    assert all_rows(one) == all_rows(two)
    for name in ("report.json", "report.md", "rejects.csv", "dataset.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_posts_are_cleaned_while_reading_goes_on_and_never_pile_up(tmp_path, monkeypatch, processes):
    monkeypatch.setattr(clean_rows, "ROWS_PER_PROCESS", 100)
    ahead, most_ahead, batches = 0, 0, 40

    def reading():
        nonlocal ahead, most_ahead
        for index in range(batches):
            ahead += 1
            most_ahead = max(most_ahead, ahead)
            texts = [f"post {index} {row}" for row in range(50)]
            yield pa.record_batch([texts, texts, [0] * 50], names=["id", "text", "label"])

    worker = clean_rows.BatchCleaner(("text",), Cleaning(), load_tokenizer("models/gemma3-mini"), None)
    cleaned = []
    for texts, _ in clean_rows._results(worker, reading(), processes, tmp_path / "tokenizer"):
        ahead -= 1
        cleaned += texts.column("text").to_pylist()
    assert cleaned == [f"post {index} {row}" for index in range(batches) for row in range(50)]
    assert most_ahead <= 4 + 2 * processes + 1


def test_processes_that_die_while_starting_end_in_an_error(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 10_000)
    (tmp_path / "posts.yaml").write_text(yaml.safe_dump(raw_spec("reddit.csv")), encoding="utf-8")
    # A script on standard input cannot be imported again by the processes it starts.
    script = (
        "from pathlib import Path\n"
        "from opinionlm.data.preparation.pipeline import prepare\n"
        "from opinionlm.data.spec_parsing import load_spec\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "prepare(load_spec(folder / 'posts.yaml'), folder, folder / 'out', num_proc=2)\n"
    )
    environment = os.environ | {"OPINIONLM_WITHOUT_MODELS": "1"}
    done = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 1
    assert "UserError: a cleaning process died" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["posts.yaml", "reddit.csv"]


def test_texts_that_become_equal_by_cleaning_are_not_in_two_splits(raw_spec, tmp_path):
    lines = [f"Post number {i} {j} http://x.y/{j},{CODES[i % 8]}" for i in range(40) for j in (1, 1)]
    lines += [f"POST number {i} 1 http://z.z,{CODES[(i + i % 2) % 8]}" for i in range(40)]
    (tmp_path / "reddit.csv").write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    raw = raw_spec("reddit.csv", cleaning={"links": "remove", "lowercase": True})
    data = prepared(raw, tmp_path)
    assert_no_text_in_two_places(data)
    # Odd posts contradict each other and go, even ones stay once.
    assert sorted(int(t.split()[2]) for s in data.dataset.values() for t in s["text"]) == list(range(0, 40, 2))
    assert report_of(data)["conflicts"]


def test_given_splits_keep_the_evaluation_copy(raw_spec, tmp_path):
    def write(name, posts):
        (tmp_path / name).write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in posts), encoding="utf-8")

    write("train.csv", [("one", "a"), ("two", "b"), ("two", "b"), ("three", "a"), ("four", "b")])
    write("dev.csv", [("two", "a"), ("five", "b"), ("three", "a")])
    write("test.csv", [("three", "b"), ("six", "a"), ("six", "a")])
    files = [
        {"path": f"{name}.csv", "split": split, "columns": {"text": "text", "label": "label"}}
        for name, split in (("train", "train"), ("dev", "validation"), ("test", "test"))
    ]
    raw = raw_spec(files=files, labels=["a", "b"], codes={}, cleaning={"profile": "none"})
    data = prepared(raw, tmp_path)
    assert {split: list(rows["text"]) for split, rows in data.dataset.items()} == {
        "train": ["one", "four"],
        "validation": ["two", "five"],
        "test": ["three", "six", "six"],
    }
    assert report_of(data)["rejected"] == {"in_another_split": 4}
    assert list(data.dataset["test"]["id"]) == ["test-1", "test-2", "test-3"]


def test_a_missing_validation_split_is_taken_from_train(raw_spec, tmp_path):
    for split, seed in (("train", 1), ("test", 2)):
        write_posts(tmp_path / f"{split}.csv", 200, seed)
    raw = raw_spec("train.csv", "test.csv", split={"validation": 0.25})
    for file, split in zip(raw["files"], ("train", "test"), strict=True):
        file["split"] = split
    data = prepared(raw, tmp_path)
    sizes = {split: len(rows) for split, rows in data.dataset.items()}
    assert abs(sizes["validation"] - 0.25 * (sizes["train"] + sizes["validation"])) < 8
    assert set(data.dataset["test"]["platform"]) == {"test"}
    assert_no_text_in_two_places(data)


def test_a_tiny_class_warns_and_fills_train_first(raw_spec, tmp_path):
    posts = [f"post {i},{CODES[i % 2]}" for i in range(60)] + [
        "rare one,2,0,2",
        "rarer still,2,0,3",
        "and again,2,0,3",
    ]
    (tmp_path / "reddit.csv").write_text("\n".join([HEADER, *posts]), encoding="utf-8")
    data = prepared(raw_spec("reddit.csv"), tmp_path)
    classes = {split: counts["label"] for split, counts in report_of(data)["classes"]["all"].items()}
    assert [classes[s]["advertisement"] for s in classes] == [1, 0, 0]
    assert [classes[s]["miscellaneous"] for s in classes] == [1, 1, 0]
    assert any("'advertisement' has 1 row," in warning for warning in report_of(data)["warnings"])


def test_unchanged_input_is_left_alone_and_any_change_is_noticed(raw_spec, tmp_path, tokenizer_folder):
    write_posts(tmp_path / "reddit.csv", 100)
    raw = raw_spec("reddit.csv")
    spec = spec_from_dict(raw, "x.yaml")
    first = prepared(raw, tmp_path)
    before = (first.path / "dataset.json").stat().st_mtime_ns
    prepare(spec, tmp_path, first.path)
    assert (first.path / "dataset.json").stat().st_mtime_ns == before
    prepare(spec, tmp_path, first.path, force=True)
    assert (first.path / "dataset.json").stat().st_mtime_ns > before
    assert fingerprint_of(spec_from_dict(raw | {"description": "x"}, "y.yaml"), tmp_path) == first.fingerprint
    changed = spec_from_dict(raw | {"cleaning": {"lowercase": True}}, "x.yaml")
    assert fingerprint_of(changed, tmp_path) != first.fingerprint
    write_posts(tmp_path / "reddit.csv", 101)
    assert fingerprint_of(spec, tmp_path) != first.fingerprint


def test_prepare_or_load(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 100)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw_spec("reddit.csv"), sort_keys=False))
    first = prepare_or_load(str(tmp_path / "x.yaml"), tmp_path, tmp_path / "cache")
    assert first.path == tmp_path / "cache" / f"posts-{first.fingerprint[:12]}"
    before = (first.path / "dataset.json").stat().st_mtime_ns
    again = prepare_or_load(str(tmp_path / "x.yaml"), tmp_path, tmp_path / "cache")
    assert (again.path / "dataset.json").stat().st_mtime_ns == before
    assert all_rows(prepare_or_load(str(first.path), tmp_path, tmp_path)) == all_rows(first)


@pytest.mark.slow
def test_two_processes_at_once(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 100)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw_spec("reddit.csv"), sort_keys=False))
    code = (
        "import sys; from pathlib import Path; from opinionlm.data.preparation.pipeline import prepare_or_load as p;"
        "f = Path(sys.argv[1]); print(len(p(str(f / 'x.yaml'), f, f / 'cache').dataset['train']))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(preprocess.__file__).parent
    jobs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) for _ in "ab"
    ]
    results = [(*job.communicate(), job.returncode) for job in jobs]
    assert [(error, code) for _, error, code in results] == [("", 0)] * 2
    assert results[0][0] == results[1][0]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_what_a_killed_job_left_is_cleared(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 50)
    left_over = tmp_path / f".out.partial-{os.uname().nodename}-999999999-abc"
    left_over.mkdir()
    prepared(raw_spec("reddit.csv"), tmp_path)
    assert not left_over.exists()


def test_a_hub_data_set_from_a_local_folder(raw_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "hub").mkdir()
    for split, count in (("train", 60), ("test", 20)):
        lines = [json.dumps({"sentence": f"{split} post {i}", "y": "ab"[i % 2]}) for i in range(count)]
        (tmp_path / "hub" / f"{split}.jsonl").write_text("\n".join(lines))
    hub = {"path": str(tmp_path / "hub"), "columns": {"text": "sentence", "label": "y"}}
    hub["splits"] = {"train": "train", "test": "test"}
    raw = raw_spec("absent.csv", labels=["a", "b"], codes={}, hub=hub, split={"validation": 0.1})
    raw["files"][0] |= {"columns": {"text": "Text", "label": "y"}, "split": "train"}
    data = prepared(raw, tmp_path)
    assert {split: len(rows) for split, rows in data.dataset.items()} == {"train": 54, "validation": 6, "test": 20}
    hub["columns"]["text"] = "text"
    with pytest.raises(UserError, match="expected text, y; found 'sentence', 'y'; correct .hub.columns"):
        prepared(raw, tmp_path, "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found in"),
        ("", "the file is empty"),
        (HEADER + "\n", "no records"),
        ("Txt,Level 1,Level 2,Level 3\na,0,,\n", "column 'Text' .for text. is not there, did you mean 'Txt'"),
        (HEADER + "\n" + "a,7,,\nb,8,,\n", "none of the 2 records.*unknown_code.*line 2.*0 .noise."),
        (HEADER + "\n" + "\n".join(f"post {i},0,," for i in range(9)), "only one class.*'noise'"),
        (HEADER + "\n" + "same,0,,\nsame,1,,\n", "only one class or none"),
    ],
)
def test_unusable_data_is_one_clear_error_and_leaves_nothing(raw_spec, tmp_path, content, message):
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "reddit.csv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        prepare(spec_from_dict(raw_spec("reddit.csv"), "x.yaml"), tmp_path / "data", tmp_path / "out" / "x")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_that_is_something_else_is_not_touched(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 20)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not a prepared data set"):
        prepared(raw_spec("reddit.csv"), tmp_path, force=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_damaged_folders_are_user_errors(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 100)
    data = prepared(raw_spec("reddit.csv"), tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load_prepared(tmp_path / "none")
    with pytest.raises(UserError, match="not a prepared data set"):
        load_prepared(tmp_path)
    arrow = next((data.path / "train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(UserError, match="--force"):
        load_prepared(data.path)
    arrow.unlink()
    with pytest.raises(UserError, match="--force"):
        load_prepared(data.path)


def test_the_tokenizer_is_named_when_it_cannot_be_loaded(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 20)
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="tokenizer_name_or_path"):
        prepared(raw_spec("reddit.csv", tokenizer_name_or_path=str(tmp_path / "tok")), tmp_path)


@pytest.mark.parametrize("name", ["models/none", "../none", "a/b/c", "nobody/nothing"])
def test_a_tokenizer_that_is_not_there_is_said_at_once(name):
    started = time.perf_counter()
    with pytest.raises(UserError, match=f"tokenizer_name_or_path: .*{name}"):
        load_tokenizer(name)
    assert time.perf_counter() - started < 10


def test_the_command_line(raw_spec, tmp_path, capsys):
    write_posts(tmp_path / "reddit.csv", 100)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw_spec("reddit.csv"), sort_keys=False))
    command = [
        "--config",
        str(tmp_path / "x.yaml"),
        "--data_dir",
        str(tmp_path),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    preprocess.main([*command, "--links", "remove", "--cue_words", "offer", "sale", "--num_proc", "1"])
    output = capsys.readouterr()
    assert output.err == ""
    assert "duplicate_raw" in output.out
    assert str(tmp_path / "out") in output.out
    spec = json.loads((tmp_path / "out" / "dataset.json").read_text())["spec"]
    assert (spec["cleaning"]["links"], spec["cleaning"]["cue_words"]) == ("remove", ["offer", "sale"])
    preprocess.main([*command, "--links", "remove", "--cue_words", "offer", "sale"])
    assert "nothing changed" in capsys.readouterr().out
    assert len(load_from_disk(str(tmp_path / "out"))) == 3


def test_help_is_quick_and_lists_every_step(repository):
    from dataclasses import fields

    from opinionlm.data.cleaning import Cleaning
    from opinionlm.scripts.preprocess import build_parser

    code = "import sys; sys.argv.append('--help'); from opinionlm.scripts.preprocess import build_parser; "
    code += "build_parser().format_help(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    assert not {"torch", "transformers", "datasets", "pyarrow", "matplotlib"} & set(run.stdout.split())
    text = build_parser().format_help()
    for item in fields(Cleaning):
        assert f"--{item.name}" in text


@pytest.mark.parametrize("options", [["--config", "none.yaml"], [], ["--lowercase", "maybe"], ["--nonsense"]])
def test_a_wrong_command_line_is_one_line_and_exit_code_two(repository, options):
    command = [sys.executable, "preprocess.py", *options]
    run = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""


def test_what_a_max_length_would_cut() -> None:
    rows = longer_texts(np.array([10, 70, 200, 65]))
    assert rows == [
        {"max_length": 64, "texts": 3, "tokens": 6 + 136 + 1, "share": round(143 / 345, 4)},
        {"max_length": 128, "texts": 1, "tokens": 72, "share": round(72 / 345, 4)},
        {"max_length": 256, "texts": 0, "tokens": 0, "share": 0.0},
    ]


def test_a_run_names_its_own_option_of_the_folder(raw_spec, tmp_path):
    write_posts(tmp_path / "reddit.csv", 100)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw_spec("reddit.csv"), sort_keys=False))
    (tmp_path / "cache").write_text("a file where a folder is asked for")
    with pytest.raises(UserError, match="^prepared_dir: .*cannot be written"):
        prepare_or_load(str(tmp_path / "x.yaml"), tmp_path, tmp_path / "cache")
