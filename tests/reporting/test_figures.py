"""Figures: right content, equal bytes for equal input, and no crash on the odd runs that exist."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.evaluation.charts import ConfusionChart, ReliabilityChart
from opinionlm.evaluation.class_predictions import class_charts
from opinionlm.evaluation.generation import INVALID, answer_confusion, answer_scores
from opinionlm.evaluation.metrics import class_f1_intervals, expected_calibration_error
from opinionlm.reporting.confusion_figure import confusion_figure, groups
from opinionlm.reporting.figures import (
    f1_figure,
    headed,
    learning_curves,
    reliability_figure,
    save_figure,
)

LABELS = ["noise", "pump & dump", "$BTC or $ETH", "Größe"]
pytestmark = pytest.mark.usefixtures("drawn_figures")


def texts(figure: Figure) -> list[str]:
    return [item.get_text() for axes in figure.axes for item in axes.texts]


def test_confusion_cells_show_counts_and_rows_are_normalised():
    confusion = np.array([[90, 10, 0, 0], [0, 3, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1200]])
    figure = confusion_figure(ConfusionChart(confusion, LABELS))
    assert texts(figure) == ["90\n90 %", "10\n10 %", "3\n75 %", "1\n25 %", "1,200\n100 %"]
    shares = figure.axes[0].images[0].get_array()
    assert np.allclose(shares[1], [0, 0.75, 0.25, 0]) and np.allclose(shares[2], 0)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][:2] == ["noise (100)", "pump & dump (4)"]


def test_parents_stand_along_the_edges_of_the_confusion_matrix():
    tree = {"noise": None, "subjective": {"positive": None, "neutral": ["question", "advertisement"]}, "b": ["x"]}
    taxonomy = Taxonomy.from_tree(tree)
    assert list(groups(taxonomy.parents, 0)) == [(1, 3, "subjective"), (4, 4, "b")]
    assert list(groups(taxonomy.parents, 1)) == [(2, 3, "neutral")]
    confusion = np.zeros((5, 5), dtype=int)
    drawn = texts(confusion_figure(ConfusionChart(confusion, taxonomy.leaves, parents=taxonomy.parents)))
    assert sorted(drawn) == sorted(2 * ["subjective", "b", "neutral"])
    flat = Taxonomy.from_tree(["a", "b"])
    assert (
        flat.parents == () and texts(confusion_figure(ConfusionChart(np.zeros((2, 2), dtype=int), flat.leaves))) == []
    )


def test_a_heading_names_run_data_split_and_size(tmp_path):
    figure = headed(
        confusion_figure(ConfusionChart(np.eye(2, dtype=int), ["a", "b"])), "运行", "data x, test split, n = 2"
    )
    heading = figure.get_suptitle()
    assert heading.endswith("\ndata x, test split, n = 2")
    save_figure(figure, tmp_path / "a.png")


def test_equal_figures_are_equal_files(tmp_path):
    confusion = np.arange(16).reshape(4, 4)
    for name in ("a", "b"):
        save_figure(confusion_figure(ConfusionChart(confusion, LABELS)), tmp_path / "figures" / f"{name}.png")
    first, second = ((tmp_path / "figures" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second and first.startswith(b"\x89PNG") and b"Software" not in first


def test_per_class_bars_are_f1_with_support(tmp_path):
    confusion = np.array([[8, 2, 0, 0], [4, 6, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    figure = f1_figure(class_charts(confusion, LABELS, ())["per_class"])
    assert texts(figure) == ["1.00", f"{2 * 8 / 22:.2f}", f"{2 * 6 / 18:.2f}", "0.00"], "the best on top"
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Größe (1)", "noise (10)", "pump & dump (10)", "$BTC or $ETH (0)"]
    ends = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert np.allclose(ends, class_f1_intervals(confusion)[[3, 0, 1, 2]]), "the intervals of metrics.json"
    macro = np.mean([16 / 22, 12 / 18, 1.0])  # the class that never occurs does not count
    assert figure.axes[0].get_title(loc="left") == f"macro-F1 {macro:.3f}"
    save_figure(figure, tmp_path / "bars.png")


def test_reliability_title_is_the_calibration_error():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=300)
    gold = generator.integers(4, size=300)
    title = reliability_figure(ReliabilityChart(gold, probabilities)).axes[0].get_title(loc="left")
    # The number of metrics.json: same bins, same definition.
    assert title == f"Calibration: ECE {expected_calibration_error(gold, probabilities):.3f} (15 bins)"
    title = reliability_figure(ReliabilityChart(gold, probabilities), bins=5).axes[0].get_title(loc="left")
    assert title == f"Calibration: ECE {expected_calibration_error(gold, probabilities, bins=5):.3f} (5 bins)"


def test_reliability_tells_a_bin_of_one_text_from_one_of_many():
    # 29 texts at confidence 0.55, 12 of them right, and a single one at 0.95.
    probabilities = np.array([[0.55, 0.45]] * 29 + [[0.95, 0.05]])
    gold = np.array([0] * 12 + [1] * 17 + [0])
    upper, lower = reliability_figure(ReliabilityChart(gold, probabilities)).axes
    assert [text.get_text() for text in lower.texts] == ["29", "1"]
    intervals, points = upper.collections
    ends = [(line[0][1], line[1][1]) for line in intervals.get_segments()]
    expected = [proportion_confint(12, 29), proportion_confint(1, 1)]
    assert np.allclose(ends, expected)
    sizes = points.get_sizes()
    assert sizes[0] > 5 * sizes[1]


def test_reliability_of_any_number_of_labels_counts_texts_and_labels() -> None:
    rows = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    labels = {
        per_label: [
            (axes.get_xlabel(), axes.get_ylabel())
            for axes in reliability_figure(ReliabilityChart(np.array([0, 1, 1]), rows, per_label)).axes[1:]
        ]
        for per_label in (False, True)
    }
    assert labels[False] == [("probability of the likeliest label", "texts")]
    assert labels[True] == [("probability of the likelier answer", "texts × labels")]


def proportion_confint(hits: int, size: int) -> tuple[float, float]:
    """Wilson's interval by SciPy."""
    found = binomtest(hits, size).proportion_ci(method="wilson")
    return found.low, found.high


def test_answers_that_are_no_label_count_against_their_class():
    taxonomy = Taxonomy.from_tree(["a", "b"])
    gold, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, INVALID, INVALID, 1, 0])
    confusion = answer_confusion(gold, predicted, 2)
    figure, scores = (
        f1_figure(class_charts(confusion, ["a", "b"], ())["per_class"]),
        answer_scores(gold, predicted, taxonomy),
    )
    assert texts(figure) == sorted([f"{scores['f1_a']:.2f}", f"{scores['f1_b']:.2f}"], reverse=True)
    assert figure.axes[0].get_title(loc="left") == f"macro-F1 {scores['macro_f1']:.3f}"
    matrix = confusion_figure(ConfusionChart(confusion, ["a", "b"])).axes[0]
    assert [label.get_text() for label in matrix.get_xticklabels()] == ["a", "b", "no valid label"]
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["a (3)", "b (2)"]
    # Where every answer is a label there is no such column.
    valid = confusion_figure(ConfusionChart(answer_confusion(gold, gold, 2), ["a", "b"])).axes[0]
    assert [label.get_text() for label in valid.get_xticklabels()] == ["a", "b"]


HISTORY = [
    {"step": 1, "epoch": 0.5, "loss": 1.0, "learning_rate": 1e-3},
    {"step": 2, "epoch": 1.0, "loss": float("nan")},
    {"step": 2, "epoch": 1.0, "eval_loss": 0.9, "eval_macro_f1": 0.4},
    {"step": 4, "epoch": 2.0, "eval_loss": 0.8, "eval_macro_f1": 0.6},
    {"step": 4, "train_runtime": 3.0},
]


def test_learning_curves_mark_the_best_epoch():
    figure = learning_curves(HISTORY)
    assert texts(figure) == ["best 0.600"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    validation = next(line for line in figure.axes[0].lines if line.get_label() == "validation")
    assert list(validation.get_xdata()) == [1.0, 2.0] and list(validation.get_ydata()) == [0.9, 0.8]
    assert figure.axes[0].get_ylim()[1] > 1.0, "no point of the loss is cut off"


@pytest.mark.parametrize("history", [[], HISTORY[:1], HISTORY[2:3]], ids=["nothing", "training", "validation"])
def test_learning_curves_of_short_runs(history, tmp_path):
    save_figure(learning_curves(history), tmp_path / "curves.png")


@pytest.mark.parametrize("scores", [[1.0, 1.0, 0.97], [0.055]])
def test_curves_have_no_ticks_that_no_score_and_no_epoch_can_have(scores):
    history = [
        {"step": step, "epoch": step / 2, "eval_loss": 0.5, "eval_macro_f1": score}
        for step, score in enumerate(scores, start=1)
    ]
    axes = learning_curves(history).axes[1]
    ticks = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    assert len(ticks) > 1 and max(ticks) <= 1 and axes.get_xlim()[0] == 0
