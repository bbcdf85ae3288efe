"""YAML from outside: what PyYAML would silently drop is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from opinionlm.config.parser import read_yaml_lines
from opinionlm.data.encoding.templates import load_template
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.utils.yaml import load_yaml, load_yaml_texts


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "{a: 1, a: 1}", "top: {low: [{x: 1, x: 2}]}", "1: a\n1: b"])
def test_a_key_twice_is_refused(text: str) -> None:
    for load in (load_yaml, load_yaml_texts):
        with pytest.raises(yaml.MarkedYAMLError, match="is there twice; write it once"):
            load(text)


def test_keys_may_stand_in_several_mappings() -> None:
    assert load_yaml("a: {x: 1}\nb: {x: 2}\nc: [x, x]") == {"a": {"x": 1}, "b": {"x": 2}, "c": ["x", "x"]}
    assert load_yaml('1: a\n"1": b') == {1: "a", "1": "b"}


@pytest.mark.parametrize("read", [read_yaml_lines, load_template, load_spec])
def test_files_name_the_line(tmp_path: Path, read) -> None:
    (tmp_path / "file.yaml").write_text("name: posts\nprompt: 'a {text}:'\nname: others\n")
    with pytest.raises(UserError, match="file.yaml.*'name' is there twice; write it once") as caught:
        read(tmp_path / "file.yaml")
    assert "3" in str(caught.value) and "\n" not in str(caught.value)
