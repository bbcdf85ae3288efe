"""The examples for Ray on a real cluster of two nodes on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

import opinionlm
from tests.saved_classifier import WORDS, save_tiny_classifier
from tests.tiny import tiny_classifier, tiny_scorer, wordpiece_tokenizer

ray = pytest.importorskip("ray")
ROOT = Path(__file__).parents[1]
# 2,000 posts and a tiny model; or as many as wanted, and a run's best/ (docs/scale.md).
POSTS, FILES = int(os.environ.get("OPINIONLM_RAY_POSTS", "2000")), 8
MODEL = os.environ.get("OPINIONLM_RAY_MODEL")
STORE = 200_000_000


@pytest.fixture
def cluster(monkeypatch) -> Iterator[str]:
    """Address of a running cluster of two nodes with one processor each."""
    from ray.cluster_utils import Cluster

    # Also for the workers, which import the examples' classes.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "examples")]))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # On a busy machine the niceness of 15 that Ray gives its workers would leave them next to nothing.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    nodes.add_node(num_cpus=1, object_store_memory=STORE)
    nodes.wait_for_nodes()
    try:
        yield nodes.address
    finally:
        ray.shutdown()
        nodes.shutdown()


def dying(worker: type, row: str, marker: Path) -> type:
    """A worker whose process kills itself once, as the kernel would, at the block that holds a row."""

    class Dying(worker):
        def __call__(self, block):
            if row in block["id"].to_pylist() and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(block)

    return Dying


@pytest.mark.slow
def test_a_killed_worker_costs_no_row(cluster: str, tmp_path: Path, monkeypatch) -> None:
    import ray_predict

    model = save_tiny_classifier(tmp_path / "best") if MODEL is None else Path(MODEL).resolve()
    ids = [f"{number:07}" for number in range(POSTS)]
    posts = [f"{' '.join(WORDS[number % 13 :: 1 + number % 7])} {number}" for number in range(POSTS)]
    texts = [post if number % 50 else "" for number, post in enumerate(posts)]
    for part in range(FILES):
        with open(tmp_path / f"posts{part}.csv", "w", encoding="utf-8", newline="") as file:
            rows = slice(part * POSTS // FILES, (part + 1) * POSTS // FILES)
            csv.writer(file).writerows([["id", "text"], *zip(ids[rows], texts[rows], strict=True)])
    marker = tmp_path / "killed"
    monkeypatch.setattr(ray_predict, "Labels", dying(ray_predict.Labels, ids[POSTS // 2], marker))
    files = [str(tmp_path / f"posts{part}.csv") for part in range(FILES)]
    output = ["--output", str(tmp_path / "labels"), "--block_rows", str(POSTS // 40), "--address", cluster]
    ray_predict.main(["--model", str(model), "--input", *files, *output])
    assert marker.exists()
    labelled = parquet.read_table(tmp_path / "labels").to_pylist()
    assert [row["id"] for row in labelled] == ids
    alone = opinionlm.load(model).predict(texts)
    assert [row["label"] for row in labelled] == [answer and answer.label for answer in alone]
    assert len({row["label"] for row in labelled}) > 2


def test_what_is_read_and_given_is_that_of_the_model(tmp_path: Path) -> None:
    import pyarrow as pa
    import ray_predict

    model = tiny_classifier("bert", max_length=24)
    model.config.problem_type = "multi_label_classification"
    model.config.features = [{"name": "stars", "kind": "number", "known": ["1", "5"]}]
    for folder, one in (("several", model), ("scorer", tiny_scorer("bert", max_length=24))):
        one.save_pretrained(tmp_path / folder)
        wordpiece_tokenizer().save_pretrained(tmp_path / folder)
    block = pa.table({"text": ["buy coin", None], "stars": [3, 4], "labels": ["a", "b"]})
    rows = ray_predict.Labels(str(tmp_path / "several"))(block).to_pylist()
    (alone, _) = opinionlm.load(tmp_path / "several").predict(block.to_pylist())
    assert rows[0] == {"text": "buy coin", "stars": 3, "input_labels": "a", "labels": list(alone.labels), "levels": []}
    assert rows[1]["labels"] is None
    with pytest.raises(ValueError, match="gives texts no labels"):
        ray_predict.Labels(str(tmp_path / "scorer"))


@pytest.mark.slow
def test_preprocessing_gives_the_rows_of_one_machine(cluster: str, tmp_path: Path) -> None:
    import ray_preprocess

    config = str(ROOT / "configs" / "datasets" / "sample.yaml")
    ray_preprocess.main(["--config", config, "--output", str(tmp_path / "cleaned"), "--address", cluster])
    cleaned = parquet.read_table(tmp_path / "cleaned").to_pylist()
    alone = opinionlm.prepare(config, output_dir=tmp_path / "alone").dataset
    rows = [row for split in alone.values() for row in split]
    assert sorted(cleaned, key=itemgetter("id")) == sorted(rows, key=itemgetter("id"))
