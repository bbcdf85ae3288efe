"""What YAML takes for something else than text is refused where text belongs, as it is written."""

from __future__ import annotations

import pytest

from opinionlm.data.spec_parsing import load_spec, spec_from_dict
from opinionlm.errors import UserError

YAML = """name: {name}
files:
  - {{path: a.csv, columns: {{text: text, label: {column}}}{file}}}
labels: {labels}
{rest}
"""


def load(folder, **changes: str):
    parts = {"name": "d", "column": "label", "file": "", "labels": "[neg, pos]", "rest": ""} | changes
    (folder / "d.yaml").write_text(YAML.format(**parts))
    return load_spec(folder / "d.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rest": "codes: {label: {No: neg, Yes: pos}}"}, '5: codes.label: No is read as a truth value.*: "No"'),
        ({"rest": "codes: {label: {01: neg, 010: pos}}"}, '5: codes.label: 01 is read as the number 1.*: "01"'),
        ({"rest": "codes: {label: {1: neg, 010: pos}}"}, '5: codes.label: 010 is read as the number 8.*: "010"'),
        ({"rest": "codes: {label: {0x1F: neg, 1: pos}}"}, "0x1F is read as the number 31"),
        ({"rest": "codes: {label: {1_000: neg, 1: pos}}"}, "1_000 is read as the number 1000"),
        ({"rest": "codes: {label: {12:30: neg, 1: pos}}"}, "12:30 is read as the number 750"),
        ({"rest": "codes: {label: {2024-01-02: neg, 1: pos}}"}, "2024-01-02 is read as a date"),
        ({"rest": "codes: {label: {~: neg, 1: pos}}"}, "~ is read as nothing"),
        ({"rest": "codes: {label: {0: no, 1: pos}}"}, "codes.label.0: no is read as a truth value"),
        ({"rest": "codes: {label: {1: neg, 1.0: pos}}"}, "the key '1.0' is there twice"),
        ({"rest": "codes: {label: {1: neg, '1': pos}}"}, "the key '1' is there twice"),
        ({"rest": "codes: {label: {1: neg, '1.0': pos}}"}, "the code '1' is there twice"),
        ({"labels": "[no, yes]"}, '4: labels: no is read as a truth value.*: "no"'),
        ({"labels": "{neg: , pos: [on, off]}"}, "labels > pos: on is read as a truth value"),
        ({"labels": "[null, pos]"}, "labels: null is read as nothing"),
        ({"labels": "[0, 1]"}, 'labels: 0 is read as the number 0.*: "0"'),
        ({"column": "yes"}, r"3: files\[0\].columns.label: yes is read as a truth value"),
        ({"column": "2024"}, r"files\[0\].columns.label: 2024 is read as the number 2024"),
        ({"file": ", platform: off"}, r"files\[0\].platform: off is read as a truth value"),
        ({"name": "010"}, "1: name: 010 is read as the number 8"),
        ({"rest": "split: {by: no}"}, "split.by: no is read as a truth value"),
        ({"rest": "name: other"}, r"5: not valid YAML \(the key 'name' is there twice; write it once"),
    ],
)
def test_values_that_are_no_text(tmp_path, changes, message) -> None:
    with pytest.raises(UserError, match=f"d.yaml.*{message}"):
        load(tmp_path, **changes)


def test_what_is_text_or_an_unmistakable_number_stays(tmp_path) -> None:
    assert load(tmp_path, rest="codes: {label: {0: neg, 1: pos}}").codes == {"label": {"0": "neg", "1": "pos"}}
    assert load(tmp_path, rest="codes: {label: {-1: neg, 0.5: pos}}").codes == {"label": {"-1": "neg", "0.5": "pos"}}
    quoted = load(tmp_path, rest='codes: {label: {"01": neg, "No": pos}}', labels='["neg", "pos", "yes", None]')
    assert quoted.codes == {"label": {"01": "neg", "No": "pos"}}
    assert quoted.labels.leaves == ("neg", "pos", "yes", "None")
    assert load(tmp_path, rest="description:\nhub: ~", file=", delimiter: ~").files[0].delimiter is None


def test_values_from_python_are_checked_too() -> None:
    file = {"path": "a.csv", "columns": {"text": "text", "label": "label"}}
    raw = {"name": "d", "files": [file], "labels": ["neg", "pos"], "codes": {"label": {False: "neg", True: "pos"}}}
    with pytest.raises(UserError, match="codes.label: False is no text"):
        spec_from_dict(raw, "x.yaml")
