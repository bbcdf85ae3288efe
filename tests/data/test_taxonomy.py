import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opinionlm.data.preparation.label_parsing import LabelError, LabelParser
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from tests.data.conftest import LABELS

PAPER_ORDER = (
    "noise",
    "objective",
    "positive",
    "negative",
    "neutral_sentiment",
    "question",
    "advertisement",
    "miscellaneous",
)


@st.composite
def trees(draw: st.DrawFn) -> dict:
    """Trees of depth up to four whose leaves are numbered, so that no two share a name."""
    counter = iter(range(10_000))

    def node(depth: int) -> dict | None:
        if depth == 0 or draw(st.booleans()):
            return None
        return {
            f"{draw(st.text('abcXYZ', max_size=2))}{next(counter)}": node(depth - 1)
            for _ in range(draw(st.integers(1, 3)))
        }

    return {f"top{next(counter)}": node(3) for _ in range(draw(st.integers(1, 4)))}


def _leaves(tree: dict) -> list[str]:
    return [leaf for name, below in tree.items() for leaf in (_leaves(below) if below else [name])]


def test_the_papers_tree():
    taxonomy = Taxonomy.from_tree(LABELS)
    assert taxonomy.leaves == PAPER_ORDER
    assert taxonomy.depth == 3
    assert taxonomy.level_labels(1) == ("noise", "objective", "subjective")
    assert taxonomy.level_labels(2) == ("positive", "negative", "neutral")
    assert taxonomy.level_labels(3) == ("neutral_sentiment", "question", "advertisement", "miscellaneous")
    assert taxonomy.leaf_to_level(1) == [0, 1, 2, 2, 2, 2, 2, 2]
    assert taxonomy.leaf_to_level(2) == [-1, -1, 0, 1, 2, 2, 2, 2]
    assert taxonomy.label_at(taxonomy.leaf_id("question"), 2) == "neutral"
    assert taxonomy.label_at(0, 3) == ""


def test_ids_follow_the_tree_and_not_the_alphabet():
    assert Taxonomy.from_tree(["10", "9", "1"]).leaf_id("9") == 1


@given(trees())
def test_any_tree(tree):
    taxonomy = Taxonomy.from_tree(tree)
    assert list(taxonomy.leaves) == _leaves(tree)
    assert Taxonomy.from_tree(taxonomy.to_tree()) == taxonomy
    assert Taxonomy.from_tree(json.loads(json.dumps(taxonomy.to_lists(), sort_keys=True))) == taxonomy
    for level in range(1, taxonomy.depth + 1):
        names, places = taxonomy.level_labels(level), taxonomy.leaf_to_level(level)
        assert len(set(names)) == len(names)
        for leaf, place in enumerate(places):
            assert taxonomy.label_at(leaf, level) == ("" if place == -1 else names[place])
        # Tree order: the first leaf under each name comes in the order of the names.
        seen = [place for place in places if place >= 0]
        assert list(dict.fromkeys(seen)) == list(range(len(names)))
    assert all(taxonomy.label_at(i, len(path)) == taxonomy.leaves[i] for i, path in enumerate(taxonomy.paths))


def test_a_list_and_a_mapping_of_the_same_names_are_equal():
    assert Taxonomy.from_tree(["a", {"b": ["c", "d"]}]) == Taxonomy.from_tree({"a": None, "b": {"c": {}, "d": []}})


@pytest.mark.parametrize(
    "tree",
    [{}, [], None, ["a", "a"], {"a": ["x"], "b": ["x"], "a/x": None}, [True, False], ["a", ""], {"a": 3}, [1, 2], 7],
)
def test_a_wrong_tree_is_a_user_error(tree):
    with pytest.raises(UserError, match="labels"):
        Taxonomy.from_tree(tree)


def test_an_unknown_leaf_or_level_is_a_user_error():
    taxonomy = Taxonomy.from_tree(["a", "b"])
    with pytest.raises(UserError, match="a, b"):
        taxonomy.leaf_id("c")
    for level in (0, 2):
        with pytest.raises(UserError, match="level"):
            taxonomy.level_labels(level)


REPEATED = {"noise": None, "praise": ["product", "service"], "complaint": ["product", "service", "price"]}


def test_leaves_of_one_name_are_called_by_their_paths():
    taxonomy = Taxonomy.from_tree(REPEATED)
    leaves = ("noise", "praise/product", "praise/service", "complaint/product", "complaint/service", "price")
    assert taxonomy.leaves == leaves
    assert Taxonomy.from_tree(taxonomy.to_tree()) == Taxonomy.from_tree(taxonomy.to_lists()) == taxonomy
    assert taxonomy.level_labels(2) == leaves[1:] and taxonomy.names_at(2) == ("product", "service", "price")
    assert [taxonomy.label_at(leaf, 1) for leaf in range(6)] == ["noise", *["praise"] * 2, *["complaint"] * 3]
    assert taxonomy.leaf_to_level(2) == [-1, 0, 1, 2, 3, 4]
    # Files may write any leaf as its path; a name that several leaves share says nothing.
    assert taxonomy.leaf_id("complaint/price") == taxonomy.leaf_id("price") == 5
    with pytest.raises(UserError, match="several: write one of praise/product, complaint/product"):
        taxonomy.leaf_id("product")


def test_trees_without_repeated_names_know_no_paths():
    taxonomy = Taxonomy.from_tree({"noise": None, "opinion": ["good", "bad"]})
    assert taxonomy.leaves == ("noise", "good", "bad") and not taxonomy.is_leaf("opinion/good")


@pytest.mark.parametrize(
    ("fields", "codes", "expected"),
    [
        ({"label": "praise/product"}, {}, 1),
        ({"label": "complaint/price"}, {}, 5),
        ({"label": "product"}, {}, "ambiguous_label"),
        ({"label": "praise/price"}, {}, "unknown_code"),
        ({"label": "3"}, {"label": {"3": "complaint/product"}}, 3),
        ({"level1": "complaint", "level2": "product"}, {}, 3),
        ({"level1": "complaint", "level2": "complaint/product"}, {}, 3),
        ({"level1": "complaint", "level2": "praise/product"}, {}, "unknown_code"),
        ({"level1": "1", "level2": "0"}, {"level1": {"1": "praise"}, "level2": {"0": "service"}}, 2),
        ({"level1": "praise", "level2": "price"}, {}, "unknown_code"),
        ({"level1": "praise", "level2": ""}, {}, "incomplete_label"),
    ],
)
def test_files_name_leaves_by_path_or_by_levels(fields, codes, expected):
    label_parser = LabelParser(Taxonomy.from_tree(REPEATED), codes)
    if isinstance(expected, int):
        assert label_parser(fields) == expected
    else:
        with pytest.raises(LabelError) as caught:
            label_parser(fields)
        assert caught.value.code == expected
