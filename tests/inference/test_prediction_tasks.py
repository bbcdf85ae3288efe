"""predict.py with taggers and with models of pairs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import opinionlm  # noqa: F401 — registers the Auto classes
import predict
from opinionlm.errors import UserError
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from tests.saved_classifier import save_tiny_classifier
from tests.tiny import TAGS, tiny_classifier, tiny_scorer, tiny_tagger, wordpiece_tokenizer

SENTENCES = ["buy coin now", "the price fell", "", "is this coin any good ? again again again", "buy coin now"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tagger, a scorer and a classifier of pairs, all with large weights, so that answers differ clearly."""
    root = tmp_path_factory.mktemp("models")
    models = {
        "tagger": tiny_tagger("bert", max_length=10),
        "scorer": tiny_scorer("bert", max_length=24),
        "pairs": tiny_classifier("bert", max_length=24),
    }
    for name, model in models.items():
        model.config.text_pairs = name != "tagger"
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(root / name)
        wordpiece_tokenizer().save_pretrained(root / name)
    return {name: root / name for name in models}


def run(model: Path, source: Path, output: Path, *options: object) -> None:
    predict.main(["--model", str(model), "--input", str(source), "--output", str(output), *map(str, options)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def lines(folder: Path) -> Path:
    path = folder / "in.txt"
    path.write_text("".join(f"{sentence}\n" for sentence in SENTENCES))
    return path


def test_tags_equal_one_sentence_at_a_time(folders, tmp_path) -> None:
    run(folders["tagger"], lines(tmp_path), tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["id", "text", "tags", "entities", "unread_words"]
    assert [row["text"] for row in rows] == SENTENCES
    predictor = load_predictor(folders["tagger"], PredictionOptions("cpu"))
    for row in rows:
        encoded = predictor.tokenizer(row["text"], truncation=True, max_length=10, return_tensors="pt")
        words = encoded.word_ids(0)
        with torch.no_grad():
            ids = predictor.model(**encoded).logits[0].argmax(-1).tolist()
        if not row["text"]:
            assert row["tags"] == row["entities"] == row["unread_words"] == ""  # no answer
            continue
        first = {word: TAGS[ids[at]] for at, word in reversed(list(enumerate(words))) if word is not None}
        assert row["tags"].split() == [first.get(word, "O") for word in range(len(row["text"].split()))]
        assert int(row["unread_words"]) == len(row["text"].split()) - len(first)
    assert int(rows[3]["unread_words"]) == 1 and rows[0]["tags"] == rows[4]["tags"]


def test_entities_follow_the_tags(folders, tmp_path) -> None:
    run(folders["tagger"], lines(tmp_path), tmp_path / "out.jsonl")
    for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()):
        words = row["text"].split()
        if not words:
            assert row["tags"] is row["entities"] is row["unread_words"] is None  # no answer
            continue
        assert len(row["tags"]) == len(words) and isinstance(row["unread_words"], int)
        for entity in row["entities"]:
            inside = row["tags"][entity["start"] : entity["end"]]
            assert inside == [f"B-{entity['type']}"] + [f"I-{entity['type']}"] * (len(inside) - 1)
            assert entity["text"] == " ".join(words[entity["start"] : entity["end"]])
            assert 0 < entity["confidence"] <= 1
        assert sum(tag.startswith("B-") for tag in row["tags"]) == len(row["entities"])


def test_conll_in_and_out(folders, tmp_path) -> None:
    source, output = tmp_path / "in.conll", tmp_path / "out.conll"
    source.write_text("-DOCSTART- O\n\nbuy\tO\ncoin\tB-coin\nnow\tO\n\n\nthe DT O\nprice NN O\nfell VB O")
    run(folders["tagger"], source, output)
    tagged = output.read_text()
    assert tagged.endswith("\n\n") and tagged.count("\n\n") == 2
    sentences = [[line.split("\t") for line in block.splitlines()] for block in tagged.strip().split("\n\n")]
    assert [[word for word, _ in sentence] for sentence in sentences] == [
        ["buy", "coin", "now"],
        ["the", "price", "fell"],
    ]
    run(folders["tagger"], lines(tmp_path), tmp_path / "same.csv")
    assert [" ".join(tag for _, tag in sentence) for sentence in sentences] == [
        row["tags"] for row in rows_of(tmp_path / "same.csv")[:2]
    ]


def conll_model(folders: dict[str, Path], folder: Path, **form: object) -> Path:
    """The tagger with what training says of its CoNLL files."""
    folder.mkdir()
    for path in folders["tagger"].iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "input.json").write_text(json.dumps({"forms": [{"lists": True, "is_conll": True} | form]}))
    return folder


def words_of(path: Path) -> list[list[str]]:
    return [[line.split("\t")[0] for line in block.split("\n")] for block in path.read_text().strip().split("\n\n")]


def test_words_of_conll_stand_where_they_stood_in_training(folders, tmp_path, capsys) -> None:
    named = conll_model(folders, tmp_path / "named", text="word", field_names=["index", "word", "tag"])
    (tmp_path / "in.conll").write_text("1\tbuy\tO\n2\t10\u00a0000\tO\n\ncoin\n\n1\tfell\n")
    run(named, tmp_path / "in.conll", tmp_path / "out.conll")
    assert words_of(tmp_path / "out.conll") == [["buy", "10\u00a0000"], ["coin"]]
    (rejected,) = rows_of(tmp_path / "out.conll.rejects.csv")
    assert rejected["reason"] == "too_few_fields" and "2 fields instead of 3 (index, word, tag)" in rejected["detail"]
    assert "text column 'word'" in capsys.readouterr().err
    last = conll_model(folders, tmp_path / "last", text="last")
    (tmp_path / "in.conll").write_text("O buy\n O  10\u00a0000\n")
    run(last, tmp_path / "in.conll", tmp_path / "last.conll")
    assert words_of(tmp_path / "last.conll") == [["buy", "10\u00a0000"]]


def test_conll_holds_no_word_that_would_end_its_line(folders, tmp_path) -> None:
    sentences = [["buy", "New York"], ["the", "a\tb"], ["c\nd"], ["", "coin"], ["-DOCSTART-"], [" "]]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": words}) + "\n" for words in sentences))
    model = conll_model(folders, tmp_path / "best", text="text")
    run(model, source, tmp_path / "out.conll")
    assert words_of(tmp_path / "out.conll") == [["buy", "New York"]]
    rejects = rows_of(tmp_path / "out.conll.rejects.csv")
    assert [row["record"] for row in rejects if row["reason"] == "no_conll_word"] == ["2", "3", "4", "5"]
    run(model, source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [len(row["tags"] or ()) for row in rows] == [2, 2, 1, 2, 1, 0]


def pair_file(folder: Path) -> Path:
    path = folder / "pairs.csv"
    path.write_text("id,text,other\na,buy coin,the price\nb,is this good,buy now\nc,buy coin,the price\n")
    return path


@pytest.mark.parametrize("name", ["scorer", "pairs"])
def test_pairs_equal_one_pair_at_a_time(folders, tmp_path, name) -> None:
    run(folders[name], pair_file(tmp_path), tmp_path / "out.csv", "--pair_column", "other")
    run(folders[name], pair_file(tmp_path), tmp_path / "out.jsonl", "--pair_column", "other")
    rows = rows_of(tmp_path / "out.csv")
    objects = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    predictor = load_predictor(folders[name], PredictionOptions("cpu"))
    for row, item in zip(rows, objects, strict=True):
        with torch.no_grad():
            logits = predictor.model(**predictor.tokenizer(row["text"], row["text_pair"], return_tensors="pt")).logits[
                0
            ]
        if name == "scorer":
            assert float(row["score"]) == pytest.approx(logits.item(), abs=2e-6) and item["score"] == float(
                row["score"]
            )
        else:
            assert row["predicted"] == predictor.model.config.id2label[logits.argmax().item()]
            assert item["confidence"] == pytest.approx(logits.softmax(-1).max().item(), abs=2e-6)
    assert len({row["text"] for row in rows}) == 2 and [row["id"] for row in rows] == ["a", "b", "c"]


def test_requests_that_do_not_fit_the_model(folders, tmp_path) -> None:
    save_tiny_classifier(tmp_path / "single")
    texts, pairs = lines(tmp_path), pair_file(tmp_path)
    cases = [
        (folders["scorer"], pairs, "out.csv", [], "the model reads pairs of texts; name the column"),
        (tmp_path / "single", pairs, "out.csv", ["--pair_column", "other"], "the model reads single texts"),
        (folders["scorer"], texts, "out.csv", ["--pair_column", "other"], "the input has no columns"),
        (tmp_path / "single", texts, "out.conll", [], "this model tags none"),
        (folders["scorer"], pairs, "out.csv", ["--pair_column", "nope"], "column 'nope'.*--pair_column"),
    ]
    for model, source, output, options, message in cases:
        with pytest.raises(UserError, match=message):
            run(model, source, tmp_path / output, *options)
        assert not list(tmp_path.glob("out*"))
    for arguments in (["--input", "x"], [], ["--output", "y", "--merge", "z"]):
        with pytest.raises(UserError, match="give --input and --output, or --merge, or all three"):
            predict.main(["--model", str(folders["tagger"]), *arguments])


def test_merging_alone_needs_no_input(folders, tmp_path, monkeypatch) -> None:
    from opinionlm.adaptation import merging

    calls = []
    monkeypatch.setattr(merging, "merge_model_folder", lambda source, target: calls.append((source, target)))
    predict.main(["--model", str(folders["tagger"]), "--merge", str(tmp_path / "merged")])
    assert calls == [(folders["tagger"], tmp_path / "merged")]


def test_nothing_to_tag(folders) -> None:
    predictor = load_predictor(folders["tagger"], PredictionOptions("cpu"))
    assert predictor.answers([]) == []
    assert predictor.answers([()]) == [["", "[]", "0"]]
    assert np.array(predictor.answers([("buy",), ("buy",)])).shape == (2, 3)
