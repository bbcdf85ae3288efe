"""`import opinionlm` costs next to nothing, and the Auto classes find its saved models all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.saved_classifier import save_tiny_classifier

slow = pytest.mark.slow
AUTO = "from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer"
# Task tokens' tokenizer is found by its name, before anything else has asked for a class of ours.
TOKENIZER = """
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
found = tokenizer_class_from_name("TaskTokenTokenizer").__module__
assert found == "opinionlm.adaptation.adapt.tokenizer", found
"""


def run(program: str, *arguments: str, root: Path) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout


def test_the_import_is_light(repository: Path) -> None:
    loaded = run("import sys, opinionlm; print(*sys.modules)", root=repository).split()
    assert not {"torch", "transformers", "numpy", "datasets"} & set(loaded)


# Each imports everything in a process of its own: two of the six orders are enough for every day.
@pytest.mark.parametrize(
    "imports",
    [
        pytest.param(f"{AUTO}\nimport opinionlm\n{TOKENIZER}", id="after, its tokenizer first"),
        pytest.param(
            f"import opinionlm\nfrom transformers import Trainer, pipeline\n{AUTO}",
            id="through the trainer",
            marks=slow,
        ),
        pytest.param(f"import opinionlm\n{AUTO}", id="before", marks=slow),
        pytest.param(f"{AUTO}\nimport opinionlm", id="after", marks=slow),
        pytest.param(
            f"import transformers, transformers.models.auto.modeling_auto\nimport opinionlm\n{AUTO}",
            id="after a part",
            marks=slow,
        ),
        pytest.param(f"import opinionlm, opinionlm.models.tagger\n{AUTO}", id="our classes first", marks=slow),
    ],
)
def test_the_auto_classes_find_a_saved_model(repository: Path, tmp_path: Path, imports: str) -> None:
    folder = save_tiny_classifier(tmp_path / "model")
    program = f"""
import sys
{imports}
assert "opinionlm_classifier" in __import__("transformers").CONFIG_MAPPING
config = AutoConfig.from_pretrained(sys.argv[1])
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
print(type(config).__name__, type(model).__name__, "no such type" in __import__("transformers").CONFIG_MAPPING)
"""
    # The last line: transformers says before it in which mode W&B runs.
    (answer,) = run(program, str(folder), root=repository).splitlines()[-1:]
    assert answer.split() == ["OpinionClassifierConfig", "OpinionClassifier", "False"]
