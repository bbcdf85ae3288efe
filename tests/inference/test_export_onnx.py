"""ONNX graphs of classifiers: accepted by their answers on validation texts, served by predict.py."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.inference.export.folder import export_model
from opinionlm.inference.export.onnx_graph import compare_answers
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.predictors import ClassPredictor, LabelAnswers
from opinionlm.scripts.predict import main
from tests.inference.export_models import save_model
from tests.inference.test_export import TEXTS, THRESHOLDS
from tests.tiny import LABELS


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose gold labels of validation are what the model answers."""
    folder = tmp_path_factory.mktemp("run")
    best = save_model(folder / "best", "distilbert", head="native", method="lora", rule=THRESHOLDS)
    labels = [row[0] for row in load_predictor(best, device="cpu").answers(TEXTS)]
    (folder / "predictions").mkdir()
    with open(folder / "predictions" / "validation.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "platform", "text", "gold"])
        writer.writerows(
            [number, "", text, label] for number, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
        )
    return folder


def predicted(model: Path, folder: Path, *options: str) -> list[list[str]]:
    """What predict.py writes for the texts."""
    posts, output = folder / "posts.txt", folder / f"{model.name}.csv"
    posts.write_text("\n".join(TEXTS) + "\n")
    main(["--model", str(model), "--input", str(posts), "--output", str(output), *options])
    with open(output, newline="") as file:
        return list(csv.reader(file))


@pytest.mark.slow
def test_graph_answers_as_the_model(run: Path, tmp_path) -> None:
    graph = export_model(run, None, "onnx")
    assert graph == run / "onnx" and not list(graph.glob("*.safetensors"))
    of_model, of_graph = predicted(run / "best", tmp_path), predicted(graph, tmp_path, "--backend", "onnx")
    assert of_model[0] == of_graph[0]
    numbers = [at for at, name in enumerate(of_model[0]) if name == "confidence" or name.startswith("probability")]
    for own, other in zip(of_model[1:], of_graph[1:], strict=True):
        assert [cell for at, cell in enumerate(own) if at not in numbers] == [
            cell for at, cell in enumerate(other) if at not in numbers
        ]
        assert [float(own[at]) for at in numbers] == pytest.approx([float(other[at]) for at in numbers], abs=2e-5)
    with pytest.raises(UserError, match="holds an ONNX graph and no weights; add --backend onnx"):
        load_predictor(graph, device="cpu")
    (graph / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be loaded by onnxruntime"):
        predicted(graph, tmp_path, "--backend", "onnx", "--overwrite")


@pytest.mark.slow
def test_int8_is_refused_above_the_stated_loss(run: Path, tmp_path) -> None:
    target = tmp_path / "int8"
    # No graph gains a whole macro-F1.
    with pytest.raises(UserError, match="loses .* of macro-F1 .*nothing is kept. Use --format onnx"):
        export_model(run, target, "onnx_int8", max_f1_loss=-1.0)
    assert not list(tmp_path.iterdir())
    export_model(run, target, "onnx_int8", max_f1_loss=1.0)
    weights = sum(path.stat().st_size for path in target.glob("model.onnx*"))
    assert weights < (run / "best" / "model.safetensors").stat().st_size
    assert len(predicted(target, tmp_path, "--backend", "onnx")) == 1 + len(TEXTS)


def test_comparison_by_hand() -> None:
    """Four texts, two of whose answers change: one gets worse, one better."""
    rule = LabelAnswers(Taxonomy.from_tree(list(LABELS[:2])), AnswerRule())
    predictor = ClassPredictor(None, None, 8, labels=rule)
    before = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    after = np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    found = compare_answers(predictor, before, after, np.array([0, 1, 0, 1]))
    assert found.label_agreement == 0.5 and found.rows == 4
    assert found.largest_difference == pytest.approx(0.5)
    # Two of two and one of two found, the class with three answers right twice: (0.8 + 2/3) / 2, both times.
    assert found.macro_f1 == pytest.approx(((0.8 + 2 / 3) / 2, (0.8 + 2 / 3) / 2))


def test_what_has_no_graph_is_refused(run: Path, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    tagger = save_model(tmp_path / "run" / "best", "bert", "token")
    with pytest.raises(UserError, match="--format onnx is for models that label texts"):
        export_model(tagger, tmp_path / "x", "onnx")
    alone = save_model(tmp_path / "alone" / "best", "bert")
    with pytest.raises(UserError, match="validation.csv is missing.*the whole run"):
        export_model(alone, tmp_path / "x", "onnx")
    with pytest.raises(UserError, match="has no model.onnx; write one"):
        predicted(run / "best", tmp_path, "--backend", "onnx")
    assert not (tmp_path / "x").exists()
