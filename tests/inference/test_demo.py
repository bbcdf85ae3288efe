"""The page to try a model: what it answers is what predict.py answers, for many people at once."""

import csv
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from opinionlm.errors import UserError
from opinionlm.inference.demo import Answers, about, main, page
from opinionlm.inference.loading import load_predictor
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.predictions import LoadedModel
from tests.inference.test_prediction import model_folder, some_texts  # noqa: F401 — a fixture
from tests.tiny import tiny_tagger, wordpiece_tokenizer


@pytest.fixture
def answers(model_folder: Path, tmp_path: Path) -> Answers:  # noqa: F811 — the fixture by its name
    return Answers(LoadedModel(load_predictor(model_folder, PredictionOptions())), model_folder, tmp_path, None)


def test_pasted_posts_and_a_file_of_them_get_the_answers_of_predict(answers: Answers, tmp_path: Path) -> None:
    texts = [text for text in some_texts(40) if text.strip() and "\n" not in text][:4]
    expected = answers.model.predict(texts)
    rows, path, near = answers.posts("\n".join(texts), "")
    source = tmp_path / "posts.txt"
    source.write_text("".join(f"{text}\n" for text in texts))
    rows_of_file, path_of_file, said = answers.file(str(source), "")
    # A line separator of Unicode ends no post.
    assert [row[0] for row in answers.posts("buy\u2028now\r\nsell", "")[0]] == ["buy\u2028now", "sell"]
    label = answers.columns.index("predicted")
    assert near == [] and f"labelled {len(texts)} rows" in said
    for found in (rows, rows_of_file):
        assert [row[0] for row in found] == texts
        assert [row[label] for row in found] == [" › ".join(answer.levels) for answer in expected]
        assert [row[label + 1] for row in found] == [f"{answer.confidence:.0%}" for answer in expected]
    for taken in (path, path_of_file):
        with open(taken, newline="") as stream:
            table = list(csv.DictReader(stream))
        assert [row["predicted"] for row in table] == [answer.label for answer in expected]
        assert sum(name.startswith("probability_") for name in table[0]) == len(expected[0].probabilities)


def test_entities_are_shown_in_words(tmp_path: Path) -> None:
    tagger = tiny_tagger("bert", max_length=10)
    with torch.no_grad():
        tagger.head.output.weight.zero_()
        tagger.head.output.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0]))  # every word is B-coin
    tagger.save_pretrained(tmp_path / "best")
    wordpiece_tokenizer().save_pretrained(tmp_path / "best")
    model = LoadedModel(load_predictor(tmp_path / "best", PredictionOptions("cpu")))
    rows, _, _ = Answers(model, tmp_path / "best", tmp_path, None).posts("buy coin", "")
    assert rows == [["buy coin", "B-coin, B-coin", "buy (coin), coin (coin)", "0"]]


def test_what_is_read_beside_posts_is_told(answers: Answers) -> None:
    assert "beside it" not in about(answers)
    answers.model.predictor.model.config.features = [{"name": "stars", "kind": "number", "known": ["1", "5"]}]
    assert "It reads stars beside it, so give files with these columns." in about(answers)


def test_that_long_posts_are_read_by_both_ends_is_told(answers: Answers) -> None:
    assert "ends" not in about(answers) and "half" not in about(answers)
    answers.model.predictor.model.config.read_ends = True
    assert "tokens, of longer ones the first and the last half of so many." in about(answers)


def test_what_cannot_be_labelled_is_told(answers: Answers, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no post"):
        answers.posts(" \n ", "")
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="text"):
        answers.file(str(table), "")


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="requirements-demo.txt is not installed")
    with pytest.raises(UserError, match="no such folder|holds no"):
        main([str(tmp_path / "nothing")])


@pytest.fixture
def address(answers: Answers) -> Iterator[str]:
    pytest.importorskip("gradio", reason="requirements-demo.txt is not installed")
    blocks = page(answers, "run")
    blocks.launch(server_name="127.0.0.1", quiet=True, ssr_mode=False, prevent_thread_lock=True, show_error=True)
    yield blocks.local_url
    blocks.close()


@pytest.mark.slow
def test_fifty_programs_at_once_lose_nothing(answers: Answers, address: str) -> None:
    from gradio_client import Client

    texts = [text for text in some_texts(40) if text.strip()]
    expected = [answer.label for answer in answers.model.predict(texts)]
    seconds, wrong = [], []

    def ask(client: Client) -> None:
        started = time.monotonic()
        found = client.predict(texts, None, None, api_name="/predict")
        seconds.append(time.monotonic() - started)
        if [answer["label"] for answer in found] != expected:
            wrong.append(found)

    # A busy machine is no failure.
    clients = [Client(address, verbose=False, httpx_kwargs={"timeout": 600}) for _ in range(50)]
    threads = [threading.Thread(target=ask, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seconds) == 50 and not wrong
    print(f"p95 of 50 clients at once: {sorted(seconds)[47]:.2f} s")


@pytest.mark.slow
def test_the_page_in_a_browser(answers: Answers, address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    texts = [text for text in some_texts(40) if text.strip() and "\n" not in text][:2]
    expected = [answer.label for answer in answers.model.predict(texts)]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium")
        window, asked = browser.new_page(), []
        window.on("request", lambda request: asked.append(request.url))
        window.goto(address)
        window.get_by_label("Posts, one a line").fill("\n".join(texts))
        window.get_by_role("button", name="Label", exact=True).click()
        for label in expected:
            window.get_by_role("gridcell", name=label).first.wait_for(timeout=60_000)
        assert all(url.startswith((address, "data:", "blob:")) for url in asked), "it asks no other machine"
        browser.close()
