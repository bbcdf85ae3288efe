"""The training posts nearest to a text, against cosines of a library's vectors worked out whole."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics.pairwise import cosine_similarity

from opinionlm.inference.neighbours import TrainingTexts, training_texts
from opinionlm.models.linear.tfidf import new_vectorizer
from tests.classifier_runs import train

POSTS = ["buy the dip", "sell the dip now", "the moon is far", "to the moon we go", "a moon a dip", "sell now"]


@pytest.fixture
def posts() -> TrainingTexts:
    vectorizer = new_vectorizer()
    return TrainingTexts(POSTS, list("abcdef"), vectorizer, vectorizer.fit_transform(POSTS))


def test_the_nearest_are_those_with_the_largest_cosine(posts: TrainingTexts) -> None:
    texts = ["sell the moon", "dip now"]
    expected = cosine_similarity(posts.vectorizer.transform(texts), posts.words)
    for row, nearest in zip(expected, posts.nearest(texts, count=4), strict=True):
        assert [near.similarity for near in nearest] == pytest.approx(sorted(row[row > 0], reverse=True)[:4])
        assert all(POSTS.index(near.text) == "abcdef".index(near.label) for near in nearest)


def test_a_training_post_is_its_own_neighbour_and_strange_words_have_none(posts: TrainingTexts) -> None:
    own, none = posts.nearest(["sell the dip now", "xyzzy"], count=1)
    assert own[0].text == "sell the dip now" and np.isclose(own[0].similarity, 1)
    assert none == []


def test_a_run_finds_the_posts_that_it_was_trained_on(setting: dict[str, str], tmp_path: Path) -> None:
    train(setting, num_train_epochs=1, output_dir=tmp_path, run_name="run")
    run = tmp_path / "run"
    found = training_texts(run)
    assert found is not None and len(found.texts) == len(found.labels) == found.words.shape[0]
    options = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(options | {"max_train_samples": 20}))
    few = training_texts(run)
    assert few is not None and len(few.texts) == 20 and set(few.texts) < set(found.texts), "what it read, no more"
    facts = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(facts | {"data_fingerprint": "0" * 64}))
    assert training_texts(run) is None, "other data under the same name are not its own"
    assert training_texts(run / "best") is None
