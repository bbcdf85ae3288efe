"""The reference of dataset YAMLs agrees with the specification, and its examples are right."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from opinionlm.data.spec import DatasetSpec, Task
from opinionlm.data.spec_parsing import load_spec, spec_from_dict
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.utils.typed_values import build, convert
from tools.dataset_reference import EXAMPLES, SECTIONS, attributes, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dataset_yaml.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_is_that_of_the_specification():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tools.dataset_reference > docs/dataset_yaml.md"


def test_every_key_is_described_and_has_an_example():
    for _, kind in SECTIONS.values():
        assert set(attributes(kind)) == {item.name for item in fields(kind)}
    names = {f"{kind.__name__}.{item.name}" for _, kind in SECTIONS.values() for item in fields(kind)}
    assert set(EXAMPLES) == names - {"DatasetSpec.source"}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_a_dataset_yaml(block, tmp_path):
    (tmp_path / "x.yaml").write_text(block, encoding="utf-8")
    assert load_spec(tmp_path / "x.yaml").files


def test_the_examples_show_every_way_of_labelling():
    shown = {yaml.safe_load(block).get("task", "sequence") for block in BLOCKS}
    assert (
        len(BLOCKS) >= 8 and shown <= {*get_args(Task)} and {"sequence", "multi_label", "token", "similarity"} <= shown
    )


@pytest.mark.parametrize("key", EXAMPLES)
def test_the_example_of_a_key_fits_its_type(key):
    kind = next(kind for _, kind in SECTIONS.values() if kind.__name__ == key.partition(".")[0])
    hint, value = get_type_hints(kind)[key.partition(".")[2]], yaml.safe_load(EXAMPLES[key])
    parts = [part for part in get_args(hint) or (hint,) if part is not type(None) and part is not Ellipsis]
    if parts[0] is Taxonomy:
        assert Taxonomy.from_tree(value).leaves
    elif key in ("DatasetSpec.codes", "DatasetSpec.cleaning", "DatasetSpec.features"):
        columns = {"text": "t", "label": "l"} | ({name: name for name in value} if key.endswith("features") else {})
        raw = {"name": "x", "files": [{"path": "a.csv", "columns": columns}]}
        assert spec_from_dict(raw | {"labels": ["negative", "positive"], key.partition(".")[2]: value}, "x.yaml")
    elif is_dataclass(parts[0]):
        for item in value if isinstance(value, list) else [value]:
            assert build(parts[0], item, key)
    else:
        assert convert(value, hint, key) is not None


def test_the_specification_has_no_other_sections():
    nested = {hint for hint in get_type_hints(DatasetSpec).values() if is_dataclass(hint)}
    assert len(nested) == 2  # cleaning, which has a table of its own, and split
