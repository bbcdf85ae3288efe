"""The real files of the other tasks: the numbers of ../shared/data/README.md, and exactly what preparing changes."""

import csv
import json
from collections import Counter

import pytest

from opinionlm.data.iob2 import entity_counts
from opinionlm.data.preparation.pipeline import prepare
from opinionlm.data.prepared import PreparedDataset, load_prepared
from opinionlm.data.readers.conll import read_conll
from opinionlm.data.readers.records import SourceNotes
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_parsing import load_spec

WNUT = ("corporation", "creative-work", "group", "location", "person", "product")
BTC = ("LOC", "ORG", "PER")
# File → sentences, tokens, entities by type in alphabetical order, as the README has them.
CONLL = {
    "wnut17/train": (3394, 62730, dict(zip(WNUT, (221, 140, 264, 548, 660, 142), strict=True))),
    "wnut17/dev": (1009, 15733, dict(zip(WNUT, (34, 105, 39, 74, 470, 114), strict=True))),
    "wnut17/test": (1287, 23394, dict(zip(WNUT, (66, 142, 165, 150, 429, 127), strict=True))),
    "broad-twitter-corpus/train": (6338, 99933, dict(zip(BTC, (2030, 2665, 4084), strict=True))),
    "broad-twitter-corpus/dev": (1001, 15027, dict(zip(BTC, (156, 380, 1194), strict=True))),
    "broad-twitter-corpus/test": (2001, 35428, dict(zip(BTC, (636, 1090, 2650), strict=True))),
}


@pytest.fixture(scope="module")
def prepare_real(shared_data, repository, tokenizer_folder, tmp_path_factory):
    done: dict[str, PreparedDataset] = {}

    def build(name: str) -> PreparedDataset:
        if name not in done:
            path = repository / "configs" / "datasets" / f"{name}.yaml"
            spec = load_spec(path, tokenizer_name_or_path=str(tokenizer_folder))
            done[name] = load_prepared(prepare(spec, shared_data, tmp_path_factory.mktemp("real") / name))
        return done[name]

    return build


def report_of(data):
    return json.loads((data.path / "report.json").read_text(encoding="utf-8"))


def sizes(data):
    return [len(data.dataset[split]) for split in ("train", "validation", "test")]


@pytest.mark.parametrize("name", CONLL)
def test_conll_files_as_they_are(shared_data, name):
    path = shared_data / f"{name}.conll"
    spec = FileSpec(path.name, {"tokens": "first", "tags": "last"})
    sentences = [record.lists for record in read_conll(path, spec, SourceNotes())]
    entities = sum((entity_counts(s["tags"]) for s in sentences), Counter())
    assert (len(sentences), sum(len(s["tokens"]) for s in sentences), dict(sorted(entities.items()))) == CONLL[name]


def test_wnut_loses_nothing(prepare_real):
    data = prepare_real("wnut17")
    report = report_of(data)
    assert report["totals"] == {"in": 5690, "kept": 5690, "rejected": 0}
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        sentences, tokens, entities = CONLL[f"wnut17/{name}"]
        assert report["statistics"]["size"]["sentences"][split] == sentences
        assert report["statistics"]["size"]["tokens"][split] == tokens
        assert {kind: counts[split] for kind, counts in report["statistics"]["entities"].items()} == entities
    assert data.tags == ("O", *(f"{prefix}-{kind}" for kind in WNUT for prefix in "BI"))


def test_broad_twitter_loses_white_space_and_leaks(prepare_real):
    data = prepare_real("broad_twitter")
    report = report_of(data)
    assert report["rejected"] == {"in_another_split": 4, "no_tokens": 1}
    assert sizes(data) == [6338 - 3, 1001 - 2, 2001]
    # Six white-space tokens among others, and the tweet that is nothing else.
    assert sum(details["white-space tokens"] for details in report["details"].values()) == 6
    with (data.path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        gone = [
            [line.rsplit("\t", 1)[1] for line in r["raw"].splitlines() if line.strip()] for r in csv.DictReader(file)
        ]
    lost = sum((entity_counts(tags) for tags in gone), Counter())
    for kind in BTC:
        kept = sum(report["statistics"]["entities"][kind].values())
        assert kept + lost[kind] == sum(entities[kind] for name, (_, _, entities) in CONLL.items() if "broad" in name)
    everything = [tuple(tokens) for split in ("train", "validation") for tokens in data.dataset[split]["tokens"]]
    assert not set(everything) & {tuple(tokens) for tokens in data.dataset["test"]["tokens"]}


def test_stsb(prepare_real):
    data = prepare_real("stsb")
    report = report_of(data)
    # 43 training rows repeat an earlier pair in either order (35 in the same order; the README has 36). Nine groups of
    # copies contradict each other, and of these the first copy goes as well: 43 + 9 = 31 + 21.
    assert report["rejected"] == {"duplicate": 31, "conflicting_answers": 21, "in_another_split": 8}
    assert sizes(data) == [3749 - 60, 1000, 879]
    bins = report["statistics"]["rows by score"]
    assert [bins[f"{i} to {i + 1}"]["validation"] for i in range(5)] == [263, 202, 196, 187, 152]
    assert [bins[f"{i} to {i + 1}"]["test"] for i in range(5)] == [153, 141, 180, 156, 249]
    pairs = [frozenset((r["text"], r["text_pair"])) for split in data.dataset.values() for r in split]
    assert len(set(pairs)) == len(pairs)


def test_squad_keeps_articles_together(prepare_real, shared_data):
    data = prepare_real("squad")
    assert report_of(data)["rejected"] == {"duplicate": 10}
    rows = [json.loads(line) for n in ("train", "dev") for line in (shared_data / "squad" / f"{n}.jsonl").open()]
    title = {row["id"]: row["title"] for row in rows}
    titles = [{title[i] for i in split["id"]} for split in data.dataset.values()]
    assert titles[1] == {"Genghis_Khan", "Immune_system"}
    assert all(titles) and not titles[0] & titles[2]
    contexts = [set(split["context"]) for split in data.dataset.values()]
    assert sum(map(len, contexts)) == len(set().union(*contexts)) == 585 + 103
    assert {len(answers) for answers in data.dataset["train"]["answers"]} == {1}
    assert {len(answers) for answers in data.dataset["validation"]["answers"]} <= {2, 3, 4}


def test_alpaca_and_scitldr(prepare_real):
    alpaca = prepare_real("alpaca")
    assert report_of(alpaca)["rejected"] == {"no_answer": 1}
    assert sizes(alpaca) == [3199, 400, 400]
    fillers = report_of(alpaca)["details"]["alpaca/alpaca_4000.jsonl"]["contexts that were fillers"]
    assert fillers == 57  # the README has 56
    blank = sum(context == "" for split in alpaca.dataset.values() for context in split["context"])
    assert blank == 2443 - 1 + fillers  # the record without an output has no input either
    scitldr = prepare_real("scitldr")
    assert report_of(scitldr)["rejected"] == {"in_another_split": 1}
    assert sizes(scitldr) == [999, 150, 300]
    assert {len(answers) for answers in scitldr.dataset["train"]["answers"]} == {1}
