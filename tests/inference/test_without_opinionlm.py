"""Exports in environments without opinionlm: a graph with three packages alone, a folder in a pipeline."""

from __future__ import annotations

import csv
import json
import subprocess
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

from opinionlm.inference.export.folder import export_model
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.onnx_model import load_onnx_predictor
from opinionlm.inference.options import PredictionOptions
from tests.inference.export_models import save_model, write_validation

INSTALLED = Path(sysconfig.get_path("purelib"))
# A sentence each; words of the tiny tokenizer, and what it has no word for.
POSTS = [f"{start} {end}" for start in ("buy now", "the price fell", "good ?", "🚀 [SEP] é") for end in ("", "again")]
POSTS += [f"is this coin {word} ? " * times for word in ("good", "any", "again") for times in (1, 2, 4, 12)]
SERVE = """
import importlib.util, json, sys
assert importlib.util.find_spec("opinionlm") is None
from transformers import pipeline
serve = pipeline("text-classification", model=sys.argv[1], device="cpu")
print(json.dumps([one["label"] for one in serve(json.loads(sys.argv[2]), truncation=True)]))
"""


def fresh(folder: Path, *packages: str) -> list[str]:
    """A new environment's Python, isolated from folder and variables; its packages are those of this one, by links."""
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in packages:
        (site / name).symlink_to(INSTALLED / name)
    if not packages:
        # All of them, and opinionlm is none.
        (site / "all.pth").write_text(f"{INSTALLED}\n")
    return [str(folder / "bin" / "python"), "-I"]


def output_of(command: list[str], folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def run(tmp_path) -> Path:
    """A run whose model decides by thresholds that give different posts different labels."""
    rule = {"temperature": 1.7, "calibration_biases": [0.3, -0.2, 0.1, -0.2]}
    saved = save_model(tmp_path / "unfitted", "distilbert", head="native", rule=rule)
    unfitted = load_predictor(saved, PredictionOptions("cpu"))
    usual = np.median(np.log(unfitted.probabilities(POSTS)), axis=0)
    rule |= {"decision": "thresholds", "decision_offsets": (-usual).tolist()}
    save_model(tmp_path / "run" / "best", "distilbert", head="native", rule=rule)
    return tmp_path / "run"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "onnx_int8"])
def test_onnxruntime_alone_gives_the_labels_of_predict(kind: str, run: Path, tmp_path, repository) -> None:
    write_validation(run)
    graph = export_model(run, None, kind, max_f1_loss=1.0)
    python = fresh(tmp_path / "environment", "onnxruntime", "tokenizers", "numpy", "numpy.libs")
    for absent in ("opinionlm", "torch", "transformers"):
        output_of([*python, "-c", f"import importlib.util as u; assert u.find_spec('{absent}') is None"], tmp_path)
    (tmp_path / "posts.txt").write_text("\n".join(POSTS) + "\n")
    script = repository / "examples" / "onnx_labels.py"
    found = list(csv.reader(output_of([*python, str(script), str(graph), "posts.txt"], tmp_path).splitlines()))[1:]
    # One by one, since int8 scales activations by what stands in a batch.
    expected = [row[:2] for row in load_onnx_predictor(graph, PredictionOptions(batch_size=1)).answers(POSTS)]
    assert [row[1] for row in found] == [label for label, _ in expected] and len(found) == 20
    assert [float(row[2]) for row in found] == pytest.approx([float(sure) for _, sure in expected], abs=2e-5)
    assert len({label for label, _ in expected}) > 1
    if kind == "onnx":
        of_model = load_predictor(run / "best", PredictionOptions("cpu")).answers(POSTS)
        assert [row[0] for row in of_model] == [label for label, _ in expected]


@pytest.mark.slow
def test_a_pipeline_gives_the_labels_of_predict(run: Path, tmp_path) -> None:
    exported = export_model(run, None, "transformers")
    python = fresh(tmp_path / "environment")
    posts = [post for post in POSTS if post.strip()]
    found = json.loads(output_of([*python, "-c", SERVE, str(exported), json.dumps(posts)], tmp_path).splitlines()[-1])
    expected = [row[0] for row in load_predictor(run / "best", PredictionOptions("cpu")).answers(posts)]
    assert found == expected and len(found) == 20 and len(set(found)) > 1
