"""ONNX graphs: accepted by their answers on validation texts, served by predict.py."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.inference.export.comparison import compare_answers, validation_of
from opinionlm.inference.export.folder import export_model
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.onnx_model import load_onnx_predictor
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.predictors import (
    ClassPredictor,
    LabelAnswers,
    MultiLabelAnswers,
    ScorePredictor,
    TagPredictor,
)
from opinionlm.scripts.predict import main
from opinionlm.utils.files import write_csv
from tests.inference.export_models import TEXTS, save_model, write_validation
from tests.inference.test_export import THRESHOLDS
from tests.tiny import LABELS, TAGS


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose gold labels of validation are what the model answers."""
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "best", "distilbert", head="native", method="lora", rule=THRESHOLDS)
    write_validation(folder)
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
        load_predictor(graph, PredictionOptions("cpu"))
    (graph / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be loaded by onnxruntime"):
        predicted(graph, tmp_path, "--backend", "onnx", "--overwrite")


@pytest.mark.slow
def test_int8_is_refused_above_the_stated_loss(run: Path, tmp_path) -> None:
    target = tmp_path / "int8"
    # No graph gains a whole macro-F1.
    with pytest.raises(UserError, match="the graph loses .*macro-F1 .*nothing is kept. Use --format onnx"):
        export_model(run, target, "onnx_int8", max_f1_loss=-1.0)
    assert not list(tmp_path.iterdir())
    export_model(run, target, "onnx_int8", max_f1_loss=1.0)
    weights = sum(path.stat().st_size for path in target.glob("model.onnx*"))
    assert weights < (run / "best" / "model.safetensors").stat().st_size
    assert len(predicted(target, tmp_path, "--backend", "onnx")) == 1 + len(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multi_label", "token", "similarity"])
def test_graphs_of_other_tasks_answer_as_their_models(task: str, tmp_path) -> None:
    """predict.py writes the same columns and, but for the last digits, the same cells."""
    run = tmp_path / "run"
    best = save_model(run / "best", "bert", task)
    write_validation(run)
    graph = export_model(run, None, "onnx", max_f1_loss=1e-4)
    facts = json.loads((graph / "comparison.json").read_text())
    metric = {"multi_label": "macro_f1", "token": "entity_f1", "similarity": "pearson"}[task]
    assert facts[metric][0] == pytest.approx(facts[metric][1]) and facts["rows"] == len(TEXTS)
    source = tmp_path / "in.csv"
    write_csv(source, ["text", "other"], [[one, two] for one, two in zip(TEXTS, reversed(TEXTS), strict=True)])
    found = []
    for model, backend in ((best, "torch"), (graph, "onnx")):
        output = tmp_path / f"{backend}.csv"
        pair = ["--pair_column", "other"] if task == "similarity" else []
        main(["--model", str(model), "--input", str(source), "--output", str(output), "--backend", backend, *pair])
        with open(output, newline="") as file:
            found.append(list(csv.DictReader(file)))
    for own, other in zip(*found, strict=True):
        assert own.keys() == other.keys()
        for name, cell in own.items():
            match name:
                case "score":
                    assert float(cell) == pytest.approx(float(other[name]), abs=1e-4)
                case "entities":
                    assert [{**one, "confidence": 0} for one in json.loads(cell)] == [
                        {**one, "confidence": 0} for one in json.loads(other[name])
                    ]
                case _ if name.startswith("probability"):
                    assert float(cell) == pytest.approx(float(other[name]), abs=2e-5)
                case _:
                    assert cell == other[name]


@pytest.mark.slow
@pytest.mark.parametrize("read_ends", [False, True])
def test_a_graph_is_given_what_the_model_read(read_ends: bool, tmp_path, repository, monkeypatch, capsys) -> None:
    """By predict.py and by the example, of texts whose ends differ and of others whose middles do."""
    run = tmp_path / "run"
    save_model(run / "best", "bert", rule={"read_ends": read_ends})
    write_validation(run)
    graph = export_model(run, None, "onnx", max_f1_loss=1e-4)
    start = "is this coin any good ? " * 12
    texts = [start + "buy now", start + "again", start + "the price fell " * 12 + start + "again", "buy now"]
    expected = [row[:2] for row in load_predictor(run / "best", PredictionOptions("cpu")).answers(texts)]
    assert (expected[0] == expected[1]) is not read_ends and expected[1] == expected[2]
    found = [row[:2] for row in load_onnx_predictor(graph, PredictionOptions()).answers(texts)]
    (tmp_path / "posts.txt").write_text("\n".join(texts) + "\n")
    script = str(repository / "examples" / "onnx_labels.py")
    monkeypatch.setattr("sys.argv", [script, str(graph), str(tmp_path / "posts.txt")])
    capsys.readouterr()
    runpy.run_path(script, run_name="__main__")
    by_example = [row[1:] for row in csv.reader(capsys.readouterr().out.splitlines())][1:]
    for answers in (found, by_example):
        assert [label for label, _ in answers] == [label for label, _ in expected]
        sure = [float(confidence) for _, confidence in answers]
        assert sure == pytest.approx([float(confidence) for _, confidence in expected], abs=2e-5)


def test_comparison_by_hand() -> None:
    """Four texts, two of whose answers change: one gets worse, one better."""
    rule = LabelAnswers(Taxonomy.from_tree(list(LABELS[:2])), AnswerRule())
    predictor = ClassPredictor(None, None, 8, labels=rule)
    before = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    after = np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    found = compare_answers(predictor, before, after, [LABELS[leaf] for leaf in (0, 1, 0, 1)])
    assert found.agreement == 0.5 and found.rows == 4
    assert found.largest_difference == pytest.approx(0.5)
    # Two of two and one of two found, the class with three answers right twice: (0.8 + 2/3) / 2, both times.
    assert found.scores == pytest.approx(((0.8 + 2 / 3) / 2, (0.8 + 2 / 3) / 2)) and found.loss == 0


def test_comparison_of_several_labels_by_hand() -> None:
    """The second label of the first text is lost: it has F1 1 before and 0 behind, the first label keeps 1."""
    answers = MultiLabelAnswers(Taxonomy.from_tree(list(LABELS[:2])))
    predictor = ClassPredictor(None, None, 8, labels=answers)
    before, after = np.array([[0.9, 0.6], [0.8, 0.1]]), np.array([[0.9, 0.4], [0.8, 0.1]])
    found = compare_answers(predictor, before, after, [json.dumps(LABELS[:2]), json.dumps(LABELS[:1])])
    assert (found.agreement, found.metric, found.scores, found.loss) == (0.5, "macro_f1", (1.0, 0.5), 0.5)
    # Gaps of the first label: 0.15 in one bin of two; of the second 0.4 and 0.1, then 0.6 and 0.1.
    assert found.ece == pytest.approx((np.mean([0.15, 0.25]), np.mean([0.15, 0.35])))


def test_comparison_of_tags_and_scores_by_hand() -> None:
    config = SimpleNamespace(id2label=dict(enumerate(TAGS)), num_labels=len(TAGS))
    tagger = TagPredictor(SimpleNamespace(config=config), None, 8)
    first, second = TAGS[1], TAGS[0]
    gold = [f"{first} {second}", f"{second} {first}"]
    found = compare_answers(tagger, [row.split() for row in gold], [[first, second], [second, second]], gold)
    # One of two entities is lost: precision 1, recall 1/2.
    assert found.agreement == 0.75 and found.scores == pytest.approx((1.0, 2 / 3)) and found.metric == "entity_f1"
    scorer = ScorePredictor(None, None, 8)
    found = compare_answers(scorer, np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.5]), ["1", "2", "3"])
    assert found.scores[0] == pytest.approx(1.0) and found.scores[1] < -0.9 and found.largest_difference == 2.0
    assert "3 validation texts: Pearson 1.0000 → -0.98" in found.describe()


def test_what_has_no_graph_is_refused(run: Path, tmp_path) -> None:
    chunked = save_model(tmp_path / "run" / "best", "bert", rule={"chunk_overlap": 4})
    with pytest.raises(UserError, match="no graph reads long texts in chunks; use --format remote_code"):
        export_model(chunked, tmp_path / "x", "onnx")
    alone = save_model(tmp_path / "alone" / "best", "bert")
    with pytest.raises(UserError, match="validation.csv is missing.*the whole run"):
        export_model(alone, tmp_path / "x", "onnx")
    with pytest.raises(UserError, match="has no model.onnx; write one"):
        predicted(run / "best", tmp_path, "--backend", "onnx")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,gold\n", "holds no text to compare a graph with"),
        ("text\nbuy now\n", "gold.*validation.csv does not hold"),
        ("text,gold\nbuy now,nobody\n", "never answers the 'nobody' of column gold"),
    ],
)
def test_predictions_that_are_not_of_the_model_are_refused_before_a_graph_is_made(content, said, tmp_path) -> None:
    best = save_model(tmp_path / "run" / "best", "bert")
    (tmp_path / "run" / "predictions").mkdir()
    (tmp_path / "run" / "predictions" / "validation.csv").write_text(content)
    with pytest.raises(UserError, match=said):
        validation_of(best.parent, load_predictor(best, PredictionOptions("cpu")))


@pytest.mark.parametrize("damage", [None, "{"])
def test_a_graph_beside_a_damaged_tokenizer_is_refused(damage: str | None, tmp_path, monkeypatch) -> None:
    folder = save_model(tmp_path / "graph", "bert")
    (folder / "model.onnx").touch()
    (folder / "tokenizer.json").unlink() if damage is None else (folder / "tokenizer.json").write_text(damage)
    monkeypatch.setattr("opinionlm.inference.onnx_model.OnnxModel", lambda folder, config: config)
    with pytest.raises(UserError, match="graph cannot be loaded .*copy the folder anew"):
        load_onnx_predictor(folder, PredictionOptions("cpu"))


def test_a_graph_alone_is_neither_merged_nor_exported(tmp_path) -> None:
    folder = save_model(tmp_path / "graph", "bert")
    (folder / "model.safetensors").rename(folder / "model.onnx")
    with pytest.raises(UserError, match="no weights; export the model that the graph was made of"):
        export_model(folder, tmp_path / "x", "remote_code")
    with pytest.raises(UserError, match="no weights; merge the model that the graph was made of"):
        main(["--model", str(folder), "--merge", str(tmp_path / "x")])
