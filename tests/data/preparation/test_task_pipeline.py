"""Every task from files to a prepared folder: in = kept + rejected, and nothing is in two splits."""

import csv
import json

import pytest
import yaml

import preprocess
from opinionlm.data.preparation.pipeline import fingerprint_of, prepare, prepare_or_load
from opinionlm.data.prepared import load_prepared
from opinionlm.data.spec_parsing import load_spec, spec_from_dict
from opinionlm.errors import UserError

PAIR = {"text": "a", "text_pair": "b", "score": "s"}
QUESTION = {"text": "q", "context": "c", "answers": "a.text", "group": "title"}
SAMPLES = ["token", "similarity", "qa", "summarization", "instruction", "multi_label"]


@pytest.fixture
def build(tokenizer_folder, tmp_path):
    """Prepares a data set from keys and the contents of its files."""

    def run(task, columns, contents, name="out", **keys):
        raw = {"name": "d", "task": task, "tokenizer_name_or_path": str(tokenizer_folder), **keys}
        raw["files"] = []
        for path, content in contents.items():
            (tmp_path / path).write_text(content, encoding="utf-8")
            split = path.split(".")[0]
            raw["files"].append({"path": path, "columns": columns})
            if split in ("train", "validation", "test"):
                raw["files"][-1]["split"] = split
        spec = spec_from_dict(raw, "x.yaml")
        return load_prepared(prepare(spec, tmp_path, tmp_path / name))

    return run


def report_of(data):
    return json.loads((data.path / "report.json").read_text(encoding="utf-8"))


def rejects_of(data):
    with (data.path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check_counts(data):
    """Records in = rows kept + rows of rejects.csv, in total, by file and by reason."""
    report, rejects = report_of(data), rejects_of(data)
    kept = sum(map(len, data.dataset.values()))
    assert report["totals"] == {"in": kept + len(rejects), "kept": kept, "rejected": len(rejects)}
    for file in report["files"]:
        gone = [row["reason"] for row in rejects if row["file"] == file["path"]]
        assert file["rejected"] == {reason: gone.count(reason) for reason in gone}
        assert file["records"] == file["kept"] + len(gone)
    for before, after in zip(report["steps"], report["steps"][1:], strict=False):
        assert before["rows_out"] == after["rows_in"]
    return report


def identity(data, row):
    match data.task:
        case "token":
            return tuple(row["tokens"])
        case "similarity":
            return tuple(sorted((row["text"], row["text_pair"])))
        case "question_answering" | "summarization" | "instruction":
            return row["text"], row["context"]
        case _:
            return row["text"]


def check_no_copy(data):
    rows = [identity(data, row) for split in data.dataset.values() for row in split]
    assert len(set(rows)) == len(rows)


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", SAMPLES)
def test_bundled_samples(name, repository, tokenizer_folder, tmp_path):
    spec = load_spec(
        repository / "configs" / "datasets" / f"sample_{name}.yaml", tokenizer_name_or_path=str(tokenizer_folder)
    )
    data = load_prepared(prepare(spec, repository / "data", tmp_path / "one"))
    assert data.task == spec.task
    assert (data.taxonomy is None) == (name != "multi_label")
    check_counts(data)
    check_no_copy(data)
    assert all(len(split) >= 20 for split in data.dataset.values())
    again = load_prepared(prepare(spec, repository / "data", tmp_path / "two"))
    for file in ("report.json", "report.md", "rejects.csv", "dataset.json"):
        assert (data.path / file).read_bytes() == (again.path / file).read_bytes()
    assert [list(split) for split in data.dataset.values()] == [list(split) for split in again.dataset.values()]
    assert data.fingerprint == fingerprint_of(spec, repository / "data")


def test_tagging(build):
    train = "a\tI-x\nb\tI-x\n\nc\tO\n\nsame\tO\n\nd\tB-y\n \tO\n\nbad\tX\n\na\tB-x\nb\tI-x\n\n\u200b\tO\n\n"
    data = build(
        "token",
        {"tokens": "first", "tags": "last"},
        {"train.conll": train, "test.conll": "same\tO\n"},
        split={"validation": 0.3},
    )
    assert (data.task, data.tags) == ("token", ("O", "B-x", "I-x", "B-y", "I-y"))
    report = check_counts(data)
    assert report["rejected"] == {"bad_tag": 1, "duplicate": 1, "no_tokens": 1, "in_another_split": 1}
    assert report["details"]["train.conll"] == {"document marks": 0, "repaired tags": 1, "white-space tokens": 1}
    assert data.dataset["train"].column_names == ["id", "tokens", "tags", "platform"]
    names = data.dataset["train"].features["tags"].feature
    rows = {tuple(r["tokens"]): [names.int2str(t) for t in r["tags"]] for s in data.dataset.values() for r in s}
    assert rows == {("a", "b"): ["B-x", "I-x"], ("c",): ["O"], ("d",): ["B-y"], ("same",): ["O"]}
    assert list(data.dataset["test"]["id"]) == ["test-1"]


def test_tagging_from_json_and_csv(build):
    rows = [{"w": [f"w{i}", "x"], "t": ["B-x", "O"]} for i in range(9)] + [{"w": ["a"], "t": ["O", "O"]}, {"w": 1}]
    data = build("token", {"tokens": "w", "tags": "t"}, {"all.jsonl": jsonl(*rows)})
    assert check_counts(data)["rejected"] == {"unequal_lists": 1, "missing_field": 1}
    data = build(
        "token", {"tokens": "w", "tags": "t"}, {"b.csv": "w,t\n" + "".join(f"u{i} v,B-x O\n" for i in range(9))}
    )
    assert sum(map(len, data.dataset.values())) == 9


def test_similarity(build):
    lines = [f"t{i}\tu{i}\t{i / 2}" for i in range(10)]
    odd = [
        "x\ty\tn/a",
        "x\ty\tnan",
        "x\ty\t5.5",
        "x\ty\t-0.1",
        "\ty\t1",
        "x\t \t1",
        "u3\tt3\t1.5",
        "u4\tt4\t0",
        "x\ty",
    ]
    content = "a\tb\ts\n" + "\n".join(lines + odd) + "\n"
    data = build("similarity", PAIR, {"all.tsv": content}, score_range=[0, 5])
    report = check_counts(data)
    assert report["rejected"] == {
        "bad_score": 2,
        "score_out_of_range": 2,
        "empty_text": 2,
        "duplicate": 1,
        "conflicting_answers": 2,
        "too_few_fields": 1,
    }
    assert data.score_range == (0.0, 5.0)
    assert data.dataset["train"].column_names == ["id", "text", "text_pair", "score", "platform"]
    rows = {r["text"]: (r["text_pair"], r["score"]) for split in data.dataset.values() for r in split}
    assert rows == {f"t{i}": (f"u{i}", i / 2) for i in range(10) if i != 4}
    assert [row["line"] for row in rejects_of(data) if row["reason"] == "conflicting_answers"] == ["6", "19"]
    assert {label for c in report["conflicts"] for label in c["labels"]} == {"2.0", "0.0"}
    first = build(
        "similarity", PAIR, {"all.tsv": content}, "first", score_range=[0, 5], cleaning={"conflicts": "keep_first"}
    )
    assert report_of(first)["rejected"]["conflicting_answers"] == 1
    check_no_copy(first)


def test_answers_of_every_form(build):
    rows = [
        {"q": "one", "c": "ctx", "a": {"text": ["x", "y", " "]}, "title": "t1"},
        {"q": "two", "c": "<No Input>", "a": {"text": "z"}, "title": "t2"},
        {"q": "two", "c": None, "a": {"text": "other"}, "title": "t2"},
        {"q": "three", "c": "", "a": {"text": []}, "title": "t3"},
        {"q": "four", "c": "", "a": {"text": ""}, "title": "t3"},
        {"q": "", "c": "", "a": {"text": "x"}, "title": "t3"},
        {"q": "five", "c": "", "a": {}, "title": "t3"},
        {"q": "six", "c": "", "a": {"text": [["x"]]}, "title": "t3"},
        {"q": ["seven"], "c": "", "a": {"text": "x"}, "title": "t3"},
        {"q": "eight", "c": "", "a": {"text": "x"}, "title": "t3"},
    ]
    data = build("instruction", QUESTION, {"train.jsonl": jsonl(*rows)}, empty_values=["noinput"], split={"seed": 1})
    report = check_counts(data)
    assert report["rejected"] == {"no_answer": 2, "empty_text": 1, "missing_field": 1, "not_text": 2, "duplicate": 1}
    assert report["details"]["train.jsonl"] == {"blank answers beside others": 1, "contexts that were fillers": 1}
    kept = [dict(row) for split in data.dataset.values() for row in split]
    texts = {r["text"]: (r["context"], r["answers"]) for r in kept}
    assert texts == {"one": ("ctx", ["x", "y"]), "two": ("", ["z"]), "eight": ("", ["x"])}
    assert report["files"][0]["dropped_columns"] == []


def test_sentences_are_joined(build):
    rows = [{"s": [f"A{i}.", "B."], "t": ["x"]} for i in range(10)]
    data = build("summarization", {"sentences": "s", "answers": "t"}, {"all.jsonl": jsonl(*rows)})
    assert {text for split in data.dataset.values() for text in split["text"]} == {f"A{i}. B." for i in range(10)}


@pytest.mark.parametrize("group_by", ["group", "context"])
def test_groups_stay_together(build, group_by):
    rows = [{"q": f"q{i}", "c": f"context {i // 3}", "a": {"text": "x"}, "title": f"t{i // 6}"} for i in range(120)]
    data = build("question_answering", QUESTION, {"all.jsonl": jsonl(*rows)}, split={"group_by": group_by})
    check_counts(data)
    of = {row["q"]: row["title" if group_by == "group" else "c"] for row in rows}
    groups = [{of[text] for text in split["text"]} for split in data.dataset.values()]
    assert all(groups) and sum(map(len, groups)) == len(set().union(*groups))
    assert [len(split) for split in data.dataset.values()] == pytest.approx([84, 24, 12], abs=6)


def test_groups_across_given_splits_go_from_train(build):
    def row(q, c):
        return {"q": q, "c": c, "a": {"text": "x"}, "title": c}

    files = {"train.jsonl": jsonl(*(row(f"a{i}", f"p{i}") for i in range(20))), "test.jsonl": jsonl(row("b", "p3"))}
    data = build("question_answering", QUESTION, files, split={"validation": 0.2, "group_by": "context"})
    assert check_counts(data)["rejected"] == {"group_in_another_split": 1}
    assert "p3" not in {*data.dataset["train"]["context"], *data.dataset["validation"]["context"]}


def test_rows_without_a_group_are_split_one_by_one(build):
    rows = [{"q": f"q{i}", "c": "", "a": {"text": "x"}, "title": " "} for i in range(100)]
    for group_by in ("group", "context"):
        data = build("instruction", QUESTION, {"a.jsonl": jsonl(*rows)}, group_by, split={"group_by": group_by})
        assert [len(split) for split in data.dataset.values()] == [70, 20, 10]


def test_cleaning_steps_apply_to_texts_and_answers_alike(build):
    rows = [{"q": f"q  {i}", "c": "a &amp; b", "a": {"text": ["a &amp; b"]}, "title": ""} for i in range(10)]
    data = build("question_answering", QUESTION, {"a.jsonl": jsonl(*rows)}, cleaning={"profile": "default"})
    row = data.dataset["train"][0]
    assert row["context"] == row["answers"][0] == "a & b" and "  " not in row["text"]
    changed = {step["name"]: step["changed"] for step in report_of(data)["steps"]}
    assert (changed["html"], changed["whitespace"]) == (10, 10)


def test_pairs_of_a_sequence_task(build):
    lines = [f"t{i},u,{'ab'[i % 2]}" for i in range(40)] + ["t0,u,a", "t1,v,a", "t2,u,b", " ,u,a", "t5, ,a"]
    data = build(
        "sequence",
        {"text": "x", "text_pair": "y", "label": "l"},
        {"all.csv": "x,y,l\n" + "\n".join(lines)},
        labels=["a", "b"],
    )
    report = check_counts(data)
    assert report["rejected"] == {"empty_text": 2, "conflicting_labels_raw": 2, "duplicate_raw": 1}
    assert data.dataset["train"].column_names == ["id", "text", "text_pair", "label", "level1", "platform"]
    pairs = [(r["text"], r["text_pair"]) for split in data.dataset.values() for r in split]
    assert len(pairs) == len(set(pairs)) == 40
    assert ("t1", "v") in pairs and ("t1", "u") in pairs and ("t2", "u") not in pairs


def test_a_hub_data_set_with_lists_and_class_labels(tokenizer_folder, tmp_path, monkeypatch):
    import datasets

    tags = datasets.List(datasets.ClassLabel(names=["O", "B-x"]))
    features = datasets.Features({"words": datasets.List(datasets.Value("string")), "ner": tags})
    data = datasets.Dataset.from_dict(
        {"words": [[f"w{i}"] for i in range(9)], "ner": [[i % 2] for i in range(9)]}, features
    )
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: data)
    raw = {"name": "d", "task": "token", "tokenizer_name_or_path": str(tokenizer_folder)}
    raw["hub"] = {"path": "some/set", "columns": {"tokens": "words", "tags": "ner"}}
    prepared = load_prepared(prepare(spec_from_dict(raw, "x.yaml"), tmp_path, tmp_path / "out"))
    assert prepared.tags == ("O", "B-x", "I-x")
    assert sum(map(len, prepared.dataset.values())) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "b"]}, "labels: only the tasks sequence and multi_label have labels, this is similarity"),
        ({"score_range": None}, "score_range: missing"),
        ({"score_range": [5, 0]}, "not a lowest and a highest"),
        ({"score_range": ["a", 5]}, r"score_range\[0\]: 'a' is not a number"),
        ({"score_rnge": [0, 5]}, "unknown key 'score_rnge', did you mean 'score_range'"),
        ({"empty_values": ["x"]}, "empty_values: task similarity has no context"),
        ({"split": {"stratify_by": ["label"]}}, "not read by task similarity, whose rows have no labels"),
        ({"split": {"group_by": "context"}}, "task similarity has no column 'context'"),
        ({"split": {"group_by": "group"}}, "no column is mapped to group"),
        ({"cleaning": {"profile": "paper"}}, "only tasks with labels filter posts"),
        ({"task": "token"}, "tokens is missing; task token needs tokens, tags"),
        ({"task": "tokens"}, "did you mean 'token'"),
        ({"task": "instruction", "score_range": None}, "answers is missing; task instruction needs text, answers"),
        ({"task": "sequence"}, "neither label nor level1 is named"),
        (
            {"files": [{"path": "a.csv", "columns": PAIR | {"scor": "x"}}]},
            "unknown column 'scor', did you mean 'score'",
        ),
    ],
)
def test_wrong_yaml_keys(changes, message):
    raw = {"name": "d", "task": "similarity", "score_range": [0, 5], "files": [{"path": "a.csv", "columns": PAIR}]}
    with pytest.raises(UserError, match=message) as caught:
        spec_from_dict(raw | changes, "x.yaml")
    assert "\n" not in str(caught.value)


def test_tokens_cannot_be_cleaned():
    raw = {
        "name": "d",
        "task": "token",
        "files": [{"path": "a.conll", "columns": {"tokens": "first", "tags": "last"}}],
    }
    with pytest.raises(UserError, match="tokens stay as they are"):
        spec_from_dict(raw | {"cleaning": {"profile": "default"}}, "x.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("a,b,s\n", "no records"),
        ("a,b,score\nx,y,1\n", "column 's' .for score. is not there.*expected a, b, s; found 'a', 'b', 'score'"),
        ("a,b,s\nx,y,z\n", "none of the 1 records can be used; 1 because of bad_score"),
    ],
)
def test_unusable_files(build, content, message):
    with pytest.raises(UserError, match=message) as caught:
        build("similarity", PAIR, {"all.csv": content}, score_range=[0, 5])
    assert "\n" not in str(caught.value)


def test_no_entity_at_all(build):
    with pytest.raises(UserError, match="no training sentence holds an entity"):
        build("token", {"tokens": "first", "tags": "last"}, {"a.conll": "a\tO\n\nb\tO\n"})


def test_every_option_is_in_the_fingerprint(tmp_path, tokenizer_folder):
    (tmp_path / "a.csv").write_text("a,b,s\nx,y,1\n")
    raw = {"name": "d", "task": "similarity", "score_range": [0, 5], "files": [{"path": "a.csv", "columns": PAIR}]}
    raw["tokenizer_name_or_path"] = str(tokenizer_folder)
    prints = {
        fingerprint_of(spec_from_dict(raw | changes, "x.yaml"), tmp_path)
        for changes in (
            {},
            {"score_range": [0, 6]},
            {"split": {"group_by": "text"}},
            {"cleaning": {"conflicts": "keep"}},
        )
    }
    assert len(prints) == 4


def test_the_command_line(repository, tokenizer_folder, tmp_path, capsys):
    command = ["--config", str(repository / "configs/datasets/sample_qa.yaml"), "--data_dir", str(repository / "data")]
    command += ["--output_dir", str(tmp_path / "out"), "--tokenizer_name_or_path", str(tokenizer_folder)]
    preprocess.main(command)
    output = capsys.readouterr()
    assert output.err == ""
    assert "200 records in = 199 kept + 1 rejected" in output.out
    assert "tokens of the longest answer" in output.out
    preprocess.main(command)
    assert "nothing changed" in capsys.readouterr().out
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "## Tokens read" in markdown and "| no_answer | there is no answer | 1 | 1 |" in markdown


def test_older_folders_are_of_task_sequence(raw_spec, tmp_path):
    from tests.data.preparation.test_pipeline import write_posts

    write_posts(tmp_path / "reddit.csv", 100)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(raw_spec("reddit.csv"), sort_keys=False))
    data = prepare_or_load(str(tmp_path / "x.yaml"), tmp_path, tmp_path / "cache")
    manifest = json.loads((data.path / "dataset.json").read_text())
    del manifest["task"]
    (data.path / "dataset.json").write_text(json.dumps(manifest))
    old = load_prepared(data.path)
    assert (old.task, old.tags, old.score_range) == ("sequence", (), None)
    assert old.taxonomy == data.taxonomy
