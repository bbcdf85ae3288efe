from pathlib import Path

import pytest
import yaml

from opinionlm.data.cleaning import PROFILES
from opinionlm.data.spec import DatasetSpec, normal_code
from opinionlm.data.spec_parsing import load_spec, spec_from_dict
from opinionlm.errors import UserError


def test_codes_have_one_spelling():
    assert {normal_code(code) for code in ("0", "0.0", " 0 ", "0.00")} == {"0"}
    assert normal_code("10") == "10"
    assert normal_code("1.5") == "1.5"
    assert normal_code("v1.0") == "v1.0"


def test_every_shipped_dataset_yaml(repository: Path):
    paths = sorted((repository / "configs" / "datasets").rglob("*.yaml"))
    assert len(paths) >= 9
    names: set[str] = set()
    for path in paths:
        spec = load_spec(path)
        first = path.read_text(encoding="utf-8").splitlines()[0]
        command = f"# python preprocess.py --config {path.relative_to(repository)}"
        assert first.startswith(command), f"{path}: its first line has to begin with {command!r}"
        # Those of a folder of variants have the folder's subject in their name.
        assert spec.name == path.stem or path.parent.name in ("goemotions_subsets", "imdb_draws")
        assert names.isdisjoint({spec.name})
        names.add(spec.name)
        assert spec.description and spec.licence, f"{path}: say what the data are, and their licence"


def test_defaults(raw_spec):
    spec = spec_from_dict(raw_spec("a.csv"), "x.yaml")
    assert spec.task == "sequence"
    assert spec.cleaning == PROFILES["default"]
    assert (spec.split.train, spec.split.validation, spec.split.test) == (0.7, 0.2, 0.1)


def test_single_steps_win_over_the_profile_and_the_command_line_over_both(raw_spec):
    raw = raw_spec("a.csv", cleaning={"profile": "paper", "lowercase": False, "min_tokens": 7})
    cleaning = spec_from_dict(raw, "x.yaml", {"min_tokens": 9, "links": None}).cleaning
    assert (cleaning.lowercase, cleaning.min_tokens, cleaning.links) == (False, 9, "remove")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lables": {}}, "unknown key 'lables', did you mean 'labels'?"),
        ({"labels": None}, "taken from the data, where codes mean nothing"),
        ({"labels": None, "codes": {}, "labels_may_be_absent": ["x"]}, "where labels_may_be_absent mean nothing"),
        ({"labels": None, "codes": {}, "balance": {"train": 2, "validation": 2, "test": 2}}, "not declared"),
        (
            {"labels": None, "codes": {}, "files": [{"path": "a", "columns": {"text": "t", "level2": "l"}}]},
            "neither label nor level1",
        ),
        ({"name": "../x"}, "plain name"),
        ({"name": ".."}, "plain name"),
        ({"task": "sequenze"}, "task: 'sequenze' is not one of sequence, .*; did you mean 'sequence'?"),
        ({"labels": ["one"], "codes": {}}, "at least two classes"),
        ({"labels": ["a", "a"]}, "named twice"),
        ({"cleaning": {"link": "keep"}}, "unknown key 'link', did you mean 'links'?"),
        ({"cleaning": {"links": "drop"}}, "cleaning.links: 'drop' is not one of keep, "),
        ({"cleaning": {"lowercase": "yes"}}, "cleaning.lowercase: 'yes' is not true or false"),
        ({"cleaning": {"min_tokens": -1}}, "negative"),
        ({"cleaning": {"min_tokens": True}}, "True is not a whole number"),
        ({"cleaning": {"profile": "papr"}}, "did you mean 'paper'"),
        ({"cleaning": {"duplicates": "keep"}}, "two splits"),
        ({"cleaning": {"gibberish": "noise", "noise_label": "junk"}}, "noise_label"),
        ({"cleaning": {"min_tokens": 7}}, "cleaning.min_tokens: 7 is not read by short_posts: keep; leave it out"),
        ({"cleaning": {"max_tokens": 7}}, "max_tokens: 7 is not read by long_posts: keep"),
        ({"cleaning": {"min_alphabetic_ratio": 0.5}}, "min_alphabetic_ratio: 0.5 is not read by gibberish: keep"),
        ({"cleaning": {"spare_noise": False}}, "spare_noise: False is not read by rules that keep every post"),
        ({"cleaning": {"cue_words": ["x"], "hashtags": "word"}}, "cue_words: .'x',. is not read by links, mentions"),
        ({"split": {"train": 0.9}}, "sum to 1"),
        (
            {"split": {"stratify_by": ["labels"]}},
            "stratify_by.0.: 'labels' is not one of .*; did you mean 'label'",
        ),
        ({"split": {"trian": 0.9}}, "did you mean 'train'"),
        ({"codes": {"level1": {0: "noises"}}}, "codes.level1.0: 'noises' is no label there, did you mean 'noise'"),
        ({"codes": {"level9": {0: "noise"}}}, "codes: unknown column 'level9'"),
        ({"files": []}, "no source"),
        ({"language": "English"}, "language: 'English' is no code of ISO 639 or BCP 47; such as en"),
        ({"language": "jp"}, "language: 'jp' is no code"),
        ({"language": "en_US"}, "language: 'en_US' is no code"),
        ({"language": False}, "language: False is not a text"),
        ({"files": "a.csv"}, "files: expected a list"),
        ({"files": [{"path": "a.csv"}]}, "files.0.: the key 'columns' is missing"),
        ({"files": [{"path": "a.csv", "columns": {"text": "t"}}]}, "neither label nor level1"),
        ({"files": [{"path": "a.csv", "columns": {"txt": "t", "label": "l"}}]}, "did you mean 'text'"),
        ({"files": [{"path": "a.csv", "columns": {"text": 1, "label": "l"}}]}, "quote numbers"),
        ({"files": [{"path": "a.csv", "split": "dev", "columns": {"text": "t", "label": "l"}}]}, "files.0..split"),
        ({"files": [{"path": "a.csv", "split": "test", "columns": {"text": "t", "label": "l"}}]}, "training split"),
        (
            {"hub": {"path": "x", "columns": {"text": "t", "label": "l"}, "splits": {"dev": "dev"}}},
            "unknown split 'dev'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(raw_spec, changes, message):
    with pytest.raises(UserError, match=message) as error:
        spec_from_dict(raw_spec("a.csv", **changes), "x.yaml")
    assert str(error.value).startswith("x.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "keys", "message"),
    [
        ("a.csv", {"delimiter": "||"}, r"files.0..delimiter: '\|\|' is no single character, such as ';'"),
        ("a.tsv.gz", {"delimiter": '"'}, "is no single character"),
        ("a.csv", {"delimiter": ""}, "is no single character"),
        ("a.jsonl", {"delimiter": ";"}, "files.0..delimiter: ';' is not read by files such as a.jsonl; leave it out"),
        ("a.jsonl.gz", {"field_names": ["a"]}, "field_names: .'a',. is not read"),
        ("a.xlsx", {"encoding": "cp1252"}, "encoding: 'cp1252' is not read"),
        (
            "a.parquet",
            {"quoting": "none", "max_record_characters": 9},
            "quoting: .*; files.0..max_record_characters: 9",
        ),
    ],
)
def test_keys_that_the_format_of_a_file_does_not_have(raw_spec, path, keys, message):
    raw = raw_spec(path)
    raw["files"][0] |= keys
    with pytest.raises(UserError, match=message):
        spec_from_dict(raw, "x.yaml")


@pytest.mark.parametrize("language", ["en", "deu", "pt-BR", "zh-Hant-TW", "es-419", "sl-rozaj"])
def test_codes_of_languages(raw_spec, language):
    assert spec_from_dict(raw_spec("a.csv", language=language), "x.yaml").language == language


@pytest.mark.parametrize(
    "content", [b"", b"- a", b"name: [", b"name: !!python/object:os.system {}", b"\xff\xfe\0", b"x" * 9]
)
def test_a_broken_yaml_is_a_user_error(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.yaml"):
        load_spec(path)
    with pytest.raises(UserError, match="cannot be read"):
        load_spec(tmp_path / "none.yaml")


def test_an_empty_yaml_is_called_empty(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("# nothing yet\n")
    with pytest.raises(UserError, match="x.yaml: the file is empty; expected keys such as name, files, labels$"):
        load_spec(path)


def test_the_spec_as_plain_values_reads_back_equal(raw_spec):
    spec = spec_from_dict(raw_spec("a.csv", cleaning={"profile": "paper"}), "x.yaml")
    plain = yaml.safe_load(yaml.safe_dump(spec.to_dict(), sort_keys=False))
    assert isinstance(spec, DatasetSpec)
    assert spec_from_dict(plain, "x.yaml") == spec
