"""A page to try a saved model: paste posts or drop a file, look at the answers, take them along.

    opinionlm demo outputs/<run>
    opinionlm demo outputs/<run> --label_sets 0.9 --port 8000

The page is served on this machine alone unless --host says otherwise. Programs ask the same server; the page's footer
shows how. It needs gradio: pip install -r requirements-demo.txt.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.errors import UserError, run_script
from opinionlm.inference.arguments import add_common, best_of
from opinionlm.inference.options import PredictionOptions, TrustOptions
from opinionlm.utils.command_line import Parser, whole_number
from opinionlm.utils.files import write_csv
from opinionlm.utils.loading import libraries_loading

if TYPE_CHECKING:
    from gradio import Blocks

    from opinionlm.inference.neighbours import TrainingTexts
    from opinionlm.inference.predictions import LoadedModel

# Rows that the page shows of a file; the file to take along holds them all.
SHOWN_ROWS = 50
STANDARD = "-"
FILE_TYPES = [".csv", ".tsv", ".jsonl", ".txt", ".conll", ".gz", ".xlsx", ".parquet"]
# Columns of the nearest training posts, and how wide they are.
NEIGHBOURS = {"post": "8%", "similarity": "14%", "label": "18%", "training post": "60%"}


def main(argv: list[str] | None = None) -> None:
    """Load a model and serve the page until it is stopped.

    Args:
        argv: the command line, by default that of the process.
    """
    options = parse(argv)
    trust = TrustOptions(options.label_sets, options.abstain_below)
    if importlib.util.find_spec("gradio") is None:
        raise UserError("demo: gradio is not installed; run pip install -r requirements-demo.txt")
    with libraries_loading():
        from opinionlm.inference.ensemble import load_models
        from opinionlm.inference.hub import fetched
        from opinionlm.inference.neighbours import training_texts
        from opinionlm.inference.predictions import LoadedModel
    folder = fetched(best_of(options.run))
    predictor = load_models([folder], PredictionOptions(options.device, trust=trust))
    with tempfile.TemporaryDirectory(prefix="opinionlm-demo-") as scratch:
        answers = Answers(LoadedModel(predictor), folder, Path(scratch), training_texts(folder.parent))
        serve(page(answers, title=options.run.name), options)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run, its best/, or user/model of the hub")
    add_common(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0: for other machines too")
    parser.add_argument("--port", type=whole_number, default=7860, help="[7860]")
    parser.add_argument("--max_file_mb", type=whole_number, default=100, help="of a dropped file [100]")
    return parser.parse(argv)


def serve(blocks: Blocks, options: argparse.Namespace) -> None:
    """Serve a page until the process is stopped.

    Raises:
        UserError: the port is taken.
    """
    try:
        blocks.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=f"{options.max_file_mb}mb",
            show_error=True,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(f"--port: {options.port} cannot be used on {options.host}; give another one") from error
    print(f"The page is at {blocks.local_url} until Ctrl-C", flush=True)
    blocks.block_thread()


@dataclass(frozen=True)
class Answers:
    """What the page and its API call.

    Attributes:
        model: the loaded model.
        folder: of the model; files are read as those that it was trained on.
        scratch: where files to take along are written.
        training: the training posts, to show the nearest; None without.
    """

    model: LoadedModel
    folder: Path
    scratch: Path
    training: TrainingTexts | None

    @property
    def columns(self) -> list[str]:
        """Columns of the table of answers: the others are in the file alone; levels stand before their label."""
        hidden = ("probability_", "level")
        return ["text", *(name for name in self.model.predictor.columns if not name.startswith(hidden))]

    def predict(self, texts: list[str], pairs: list[str] | None, platforms: list[str] | None) -> list[dict | None]:
        """Answers as values, one per text; None for a text that is empty."""
        found = self.model.predict(texts, pairs, platforms)
        return [None if answer is None else asdict(answer) for answer in found]

    def posts(self, written: str, platform: str) -> tuple[list[list[str]], str, list[list[str]]]:
        """Label posts that were pasted, one a line; the texts of a pair have a tab between them.

        Args:
            written: the posts.
            platform: that all of them are from; blank for a model that reads none.

        Returns:
            Rows of the table of answers, the file to take along, and rows of the nearest training posts.

        Raises:
            UserError: no post, or the model cannot read them.
        """
        # Not `splitlines`, which also cuts at characters within a post, such as U+2028.
        lines = [line for line in written.replace("\r\n", "\n").split("\n") if line.strip()]
        if not lines:
            raise UserError("there is no post; paste some, one a line")
        texts, pairs = lines, None
        if self.model.predictor.reads in ("pair", "context"):
            if single := [line for line in lines if "\t" not in line]:
                raise UserError(f"the model reads pairs; put a tab between the texts of {single[0][:40]!r}")
            texts, pairs = [list(column) for column in zip(*(line.split("\t", 1) for line in lines), strict=True)]
        columns = self.model.predictor.columns
        cells = self.model.cells(texts, pairs, [platform] * len(texts) if platform else None)
        rows = [[text, *(found or [""] * len(columns))] for text, found in zip(texts, cells, strict=True)]
        file = self._output()
        write_csv(file, ["text", *columns], rows)
        return self._shown(["text", *columns], rows), str(file), self.neighbours(texts)

    def file(self, path: str, platform: str) -> tuple[list[list[str]], str, str]:
        """Label a file as `predict.py` does.

        Args:
            path: of the file.
            platform: that all its posts are from; blank where a column says so, or the model reads none.

        Returns:
            The first rows of the table of answers, the file to take along, and what became of the rows.

        Raises:
            UserError: the file is none of posts, or lacks a column.
        """
        from opinionlm.inference.files import Request, predict_file
        from opinionlm.inference.input_files import input_form

        form, output = input_form([self.folder], path, None, {"platform": None} if platform else {}), self._output()
        summary = predict_file(Request(path, str(output), form=form, platform=platform), lambda: self.model.predictor)
        with open(output, encoding="utf-8", newline="") as stream:
            csv.field_size_limit(sys.maxsize)
            header, *rows = islice(csv.reader(stream), SHOWN_ROWS + 1)
        return self._shown(header, rows), str(output), summary.describe(STANDARD)

    def _shown(self, header: list[str], rows: list[list[str]]) -> list[list[str]]:
        """The first rows as the page shows them."""
        records = [dict(zip(header, row, strict=True)) for row in rows[:SHOWN_ROWS]]
        return [[self._cell(name, record) for name in self.columns] for record in records]

    def _cell(self, name: str, record: dict[str, str]) -> str:
        """A cell in words: a label behind its parents, sets with commas, shares in per cent."""
        cell = record[name]
        if name == "text" or not cell:
            return cell
        value = self.model.predictor.json_value(name, cell)
        if name == "entities":
            return ", ".join(f"{one['text']} ({one['type']})" for one in value)
        if isinstance(value, list):
            return ", ".join(value)
        if name == "confidence":
            return f"{float(cell):.0%}"
        parents = [key for key in self.model.predictor.columns if key.startswith("level")]
        levels = [record[key] for key in parents if record[key]]
        return " › ".join(levels) if name == "predicted" and cell in levels else cell

    def _output(self) -> Path:
        """A file of its own for every answer, named as people will find it among what they have fetched."""
        return Path(tempfile.mkdtemp(dir=self.scratch)) / "labels.csv"

    def neighbours(self, texts: Sequence[str]) -> list[list[str]]:
        """Rows of the nearest training posts of texts."""
        if self.training is None:
            return []
        found = self.training.nearest(texts)
        return [
            [str(post + 1), f"{near.similarity:.2f}", near.label, near.text]
            for post, nearest in enumerate(found)
            for near in nearest
        ]


def page(answers: Answers, title: str) -> Blocks:
    """The page: pasted posts, a dropped file, and what programs call.

    Args:
        answers: what it asks.
        title: name of the run.
    """
    # It would ask its makers' server for news, and their fonts.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    platforms = answers.model.predictor.platforms
    pairs = answers.model.predictor.reads in ("pair", "context")
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["system-ui", "sans-serif"])
    # One model answers one question at a time; the others wait in line.
    turn: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
    others = len(answers.columns) - 1
    widths = ["46%", *[f"{54 / others:.0f}%"] * others]
    with gradio.Blocks(title=title, analytics_enabled=False) as blocks:
        gradio.Markdown(f"# {title}\n{about(answers)}")
        platform = gradio.Dropdown(
            ["", *(platforms or [])], value=(platforms or [""])[0], label="Platform", visible=platforms is not None
        )
        with gradio.Tab("Posts"):
            what = "Pairs, one a line, a tab between the two texts" if pairs else "Posts, one a line"
            written = gradio.Textbox(label=what, lines=5, max_lines=20)
            ask = gradio.Button("Label", variant="primary")
            table = gradio.Dataframe(headers=answers.columns, label="Answers", wrap=True, column_widths=widths)
            file = gradio.File(label="All columns, as CSV")
            nearest = gradio.Dataframe(
                headers=list(NEIGHBOURS),
                column_widths=list(NEIGHBOURS.values()),
                label="Nearest training posts",
                wrap=True,
                visible=answers.training is not None,
            )
            ask.click(spoken(answers.posts), [written, platform], [table, file, nearest], api_name=False, **turn)
        with gradio.Tab("File"):
            dropped = gradio.File(label="CSV, TSV, JSONL, text, CoNLL, Excel or parquet", file_types=FILE_TYPES)
            said = gradio.Markdown()
            first = f"The first {SHOWN_ROWS} answers"
            rows = gradio.Dataframe(headers=answers.columns, label=first, wrap=True, column_widths=widths)
            labels = gradio.File(label="All rows and columns, as CSV")
            dropped.upload(spoken(answers.file), [dropped, platform], [rows, labels, said], api_name=False, **turn)
        gradio.api(spoken(answers.predict), api_name="predict", **turn)
    blocks.theme = theme
    return blocks


def about(answers: Answers) -> str:
    """What the model reads and answers, in a line."""
    from opinionlm.data.encoding.features import PLATFORM  # loads datasets

    predictor = answers.model.predictor
    sets = " With sets that hold the right label as often as asked for." if "label_set" in predictor.columns else ""
    what = {"text": "a text", "pair": "a pair of texts", "context": "a question and its context", "words": "words"}
    beside = ", ".join(feature.name for feature in predictor.features if feature.name != PLATFORM)
    files = f" It reads {beside} beside it, so give files with these columns." if beside else ""
    length = f"{what[predictor.reads]} of at most {predictor.max_length:,} tokens"
    # Loaded by now, unlike when this module is imported.
    from opinionlm.models.classifier import OpinionClassifier

    if isinstance(predictor.model, OpinionClassifier) and predictor.model.config.read_ends:
        length += ", of longer ones the first and the last half of so many"
    return f"The model reads {length}.{files}{sets}"


def spoken(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; what it refuses is said on the page instead of written to the server's log."""
    import gradio

    @wraps(function)
    def speak(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UserError as error:
            raise gradio.Error(str(error), print_exception=False) from None

    return speak


if __name__ == "__main__":
    run_script(main)
