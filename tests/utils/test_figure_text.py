"""Labels of any script in figures: no warnings, and letters that no font has are spelled."""

import logging
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from opinionlm.data.preparation.report import draw_token_lengths
from opinionlm.evaluation.charts import ConfusionChart
from opinionlm.evaluation.class_predictions import class_charts
from opinionlm.reporting.confusion_figure import confusion_figure
from opinionlm.reporting.figures import f1_figure, png_bytes
from opinionlm.utils import figure_text
from opinionlm.utils.figure_text import make_readable, spelled

LABELS = ["正面", "负面", "🚀 up", "محايد", "Ünïcode ₿", "ขึ้น"]
pytestmark = pytest.mark.usefixtures("drawn_figures")


@pytest.fixture(autouse=True)
def no_warnings(caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, logger="matplotlib"):
        warnings.simplefilter("error")
        yield
    assert not [record for record in caplog.records if record.name.startswith("matplotlib")]


def shown(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_figures_of_all_scripts_are_drawn_without_warnings(tmp_path):
    confusion = np.arange(36).reshape(6, 6)
    for figure in (
        confusion_figure(ConfusionChart(confusion, LABELS)),
        f1_figure(class_charts(confusion, LABELS, ())["per_class"]),
    ):
        assert len(png_bytes(figure)) > 1000
        # TensorBoard draws figures itself.
        with matplotlib.rc_context():
            figure.savefig(tmp_path / "x.svg")
    draw_token_lengths(tmp_path / "x.png", [("微博", np.array([1, 5, 9]))])


def test_what_no_font_has_is_spelled(monkeypatch):
    monkeypatch.setattr(figure_text, "families_for", lambda letters: ())
    figure = confusion_figure(ConfusionChart(np.eye(2, dtype=int), ["正面", "负面"]))
    png_bytes(figure)
    assert {"[U+6B63 U+9762]", "[U+8D1F U+9762]", "[U+6B63 U+9762] (1)"} <= shown(figure)


def test_what_an_installed_font_has_is_drawn_by_it(monkeypatch):
    # STIX has the mathematical letter that DejaVu Sans lacks, and stands here for a font of another script.
    letter = "\U0001d49c"
    if ord(letter) in figure_text.letters_of("DejaVu Sans"):
        pytest.skip("the ordinary font has it")
    monkeypatch.setattr(figure_text, "NEVER", ("Last Resort",))
    figure_text.families_for.cache_clear()
    figure = f1_figure(class_charts(np.eye(2, dtype=int), [f"a{letter}", "b"], ())["per_class"])
    figure_text.families_for.cache_clear()
    assert f"a{letter} (1)" in shown(figure)
    png_bytes(figure)


def test_ordinary_figures_stay_as_they_are(monkeypatch):
    confusion, labels = np.eye(2, dtype=int), ["größe – $BTC", "no"]
    ours = png_bytes(confusion_figure(ConfusionChart(confusion, labels)))
    monkeypatch.setattr("opinionlm.utils.figure_text.make_readable", lambda figure: figure)
    assert png_bytes(confusion_figure(ConfusionChart(confusion, labels))) == ours


def test_spelling():
    assert spelled("a正b", ()) == "a[U+6B63]b"
    assert spelled("👩\u200d👩\ufe0f", ()) == "[U+1F469 U+1F469]"
    assert spelled("正" * 9, ()) == f"[{' '.join(['U+6B63'] * 6)} …]"
    assert isinstance(make_readable(Figure()), Figure)
