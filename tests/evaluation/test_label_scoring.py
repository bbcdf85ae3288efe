"""Label scores from a shared cache are those of separate passes over the whole sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, TaskType, get_peft_model

from opinionlm.config.options import ModelConfig
from opinionlm.errors import UserError
from opinionlm.evaluation import label_scoring as scoring
from opinionlm.evaluation.label_scoring import score_labels
from opinionlm.evaluation.label_trie import build_label_tree, common_prefix
from opinionlm.models.backbones import read_model_config
from opinionlm.models.generative import load_generative
from tests.generative import GENERATIVE, full_sequence_score, random_prompts, tiny_language_model
from tests.tiny import save_generative_model

# Different lengths, common beginnings at several depths, and one label that is the beginning of another.
LABELS = [[5], [6, 7], [6, 8, 9], [6, 8, 10, 11], [12, 13, 14], [6]]
ANSWER_PREFIX = [[20, 21, 5], [20, 21, 6, 7], [20, 21]]
SINGLE_TOKENS = [[3], [4], [5]]
PROMPTS = random_prompts(4, longest=30, shared=11) + random_prompts(1, longest=3, shared=11)


def separate_scores(model, prompts: list[list[int]], labels: list[list[int]]) -> np.ndarray:
    return np.array([[full_sequence_score(model, prompt, label) for label in labels] for prompt in prompts])


# What the labels share is the same to every family; how a prompt's keys are kept is not.
SHARED = [(family, LABELS) for family in GENERATIVE]
SHARED += [(family, labels) for family in ("gpt2", "gemma3_text", "t5") for labels in (ANSWER_PREFIX, SINGLE_TOKENS)]


@pytest.mark.parametrize(("family", "labels"), SHARED)
def test_shared_cache_gives_the_scores_of_separate_passes(family: str, labels: list[list[int]]) -> None:
    # Windows of 8 tokens, so that most of a prompt lies outside of them.
    options = {"sliding_window": 8} if family in ("mistral", "phi3") else {}
    model = tiny_language_model(family, **options)
    expected = separate_scores(model, PROMPTS, labels)
    assert expected.std() > 0.04
    for budget in (1, 60, 8192):
        assert np.abs(score_labels(model, PROMPTS, labels, 0, "sum", budget) - expected).max() < 1e-5
    mean = score_labels(model, PROMPTS, labels, 0, "mean")
    assert np.abs(mean - expected / [len(label) for label in labels]).max() < 1e-5


ADAPTERS, ADAPTED = ("lora", "prompt", "prefix", "p_tuning"), ("gpt2", "gemma3_text", "t5")


@pytest.mark.parametrize("family", ADAPTED)
@pytest.mark.parametrize("method", ADAPTERS)
def test_adapters_and_virtual_tokens_are_at_work(family: str, method: str) -> None:
    # With a common beginning and without take turns, so that each is met with every family and every method.
    shared = 11 * ((ADAPTERS.index(method) + ADAPTED.index(family)) % 2)
    kind = TaskType.SEQ_2_SEQ_LM if family == "t5" else TaskType.CAUSAL_LM
    match method:
        case "lora":
            config = LoraConfig(task_type=kind, init_lora_weights=False, fan_in_fan_out=family == "gpt2")
        case "prompt":
            config = PromptTuningConfig(task_type=kind, num_virtual_tokens=12)
        case "prefix":
            config = PrefixTuningConfig(task_type=kind, num_virtual_tokens=12)
        case "p_tuning":
            config = PromptEncoderConfig(task_type=kind, num_virtual_tokens=12, encoder_hidden_size=16)
    plain = tiny_language_model(family)
    prompts = random_prompts(5, longest=20, shared=shared)
    without = score_labels(plain, prompts, LABELS, 0)
    model = get_peft_model(plain, config).eval()
    expected = separate_scores(model, prompts, LABELS)
    assert np.abs(score_labels(model, prompts, LABELS, 0) - expected).max() < 1e-5
    # Prefixes start at zero in PEFT, which still takes attention away from the text.
    assert np.abs(expected - without).max() > 1e-3


def test_scores_do_not_depend_on_the_batch_nor_on_the_padding_token() -> None:
    model = tiny_language_model("gemma3_text")
    together = score_labels(model, PROMPTS, LABELS, 0)
    one_by_one = np.concatenate([score_labels(model, [prompt], LABELS, 0) for prompt in PROMPTS])
    reordered = score_labels(model, PROMPTS[::-1], LABELS, 200)[::-1]
    assert np.abs(together - one_by_one).max() < 1e-5
    assert np.abs(together - reordered).max() < 1e-5


@pytest.mark.parametrize("family", ["gemma3_text", "mistral", "t5"])
def test_log_odds_of_yes_are_those_of_separate_passes(family: str) -> None:
    model = tiny_language_model(family, **({"sliding_window": 8} if family == "mistral" else {}))
    # Three questions of one to three tokens, two of which begin alike; yes and no of one or two tokens.
    questions, answers = [[20], [20, 21], [22, 23, 24]], ([30], [31, 32])
    labels = [[*question, *answer] for question in questions for answer in answers]
    given = [len(question) for question in questions for _ in answers]
    expected = separate_scores(model, PROMPTS, labels)
    expected = expected[:, 0::2] - expected[:, 1::2]
    assert expected.std() > 0.04

    def log_odds(prompts: list[list[int]], budget: int = 8192) -> np.ndarray:
        scores = score_labels(model, prompts, labels, 0, "sum", budget, given)
        return scores[:, 0::2] - scores[:, 1::2]

    for budget in (1, 60, 8192):
        assert np.abs(log_odds(PROMPTS, budget) - expected).max() < 1e-5
    one_by_one = np.concatenate([log_odds([prompt]) for prompt in PROMPTS])
    assert np.abs(one_by_one - expected).max() < 1e-5
    mean = score_labels(model, PROMPTS, labels, 0, "mean", given=given)
    sums = score_labels(model, PROMPTS, labels, 0, "sum", given=given)
    assert np.allclose(mean, sums / [1, 2, 1, 2, 1, 2])


def test_questions_cost_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_language_model("llama")
    rows = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(output.shape[:-1].numel()))
    score_labels(model, PROMPTS, [[5, 6, 7, 8], [5, 6, 7, 9], [5, 10, 8], [5, 10, 9]], 0, given=[3, 3, 2, 2])
    # Behind the prompt and the tokens that all begin with, and behind each of the two questions.
    assert sum(rows) == 1 + len(PROMPTS) * (2 + 2)


def test_logits_exist_only_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_language_model("llama")
    rows = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(output.shape[:-1].numel()))
    score_labels(model, PROMPTS, SINGLE_TOKENS, 0)
    assert sum(rows) == 1 + len(PROMPTS), "the shared beginning and every prompt, one each"
    rows.clear()
    score_labels(model, PROMPTS, LABELS, 0)
    # Behind 6, behind 6 8, behind 6 8 10, behind 12 and behind 12 13.
    assert sum(rows) == 1 + len(PROMPTS) * (1 + 5)
    monkeypatch.setattr(scoring, "LOGIT_LIMIT", 320 * 10)
    rows.clear()
    score_labels(model, PROMPTS, LABELS, 0)
    assert sum(rows) == 1 + len(PROMPTS) * (1 + 5) and max(rows) <= 10


def test_the_beginning_of_all_prompts_runs_once() -> None:
    model = tiny_language_model("llama")
    tokens = []
    model.model.layers[0].register_forward_hook(lambda module, inputs, output: tokens.append(inputs[0].shape[:2]))
    prompts = [[*range(3, 53), 60 + row] for row in range(6)]
    score_labels(model, prompts, SINGLE_TOKENS, 0)
    assert [tuple(shape) for shape in tokens] == [(1, 50), (6, 1)]


@pytest.mark.parametrize("labels", [SINGLE_TOKENS, LABELS])
def test_keys_and_values_take_no_more_bytes_than_the_limit(monkeypatch: pytest.MonkeyPatch, labels) -> None:
    model = tiny_language_model("llama")
    prompts = [[*range(3, 53), 60 + row] for row in range(20)]
    expected = score_labels(model, prompts, labels, 0)
    # Two of float32, of every block, head and dimension.
    position = 2 * 4 * 4 * 2 * 16
    sizes = []

    def attended(block, given, named) -> None:
        cached = named["past_key_values"].get_seq_length(0) + given[0].shape[1]
        sizes.append(len(given[0]) * cached * position)

    model.model.layers[0].register_forward_pre_hook(attended, with_kwargs=True)
    monkeypatch.setattr(scoring, "CACHE_LIMIT", 6 * 60 * position)
    found = score_labels(model, prompts, labels, 0)
    assert max(sizes) <= 6 * 60 * position
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bfloat16_and_training_mode() -> None:
    model = tiny_language_model("gemma3_text").to(torch.bfloat16)
    model.train()
    model.config.attention_dropout = 0.5
    first, second = (score_labels(model, PROMPTS, LABELS, 0) for _ in range(2))
    assert model.training, "left as it was"
    assert np.array_equal(first, second), "dropout is off"
    assert np.abs(first - separate_scores(model.eval(), PROMPTS, LABELS)).max() < 0.5


def test_four_bits(tmp_path) -> None:
    pytest.importorskip("bitsandbytes")
    save_generative_model(tmp_path)
    options = ModelConfig(model_name_or_path=str(tmp_path), dtype="bfloat16", load_in_4bit=True)
    model = load_generative(options, 0, read_model_config(options)).eval()
    scores = score_labels(model, PROMPTS, LABELS, 0)
    assert np.abs(scores - separate_scores(model, PROMPTS, LABELS)).max() < 0.05


@pytest.mark.parametrize(
    ("prompts", "labels", "message"),
    [
        ([[1, 2], []], [[3], [4]], "prompt has no tokens"),
        ([[1, 2]], [[3], []], "at least one token"),
        ([[1, 2]], [], "at least one token"),
        ([[1, 2]], [[3, 4], [3, 4]], "same tokens"),
    ],
)
def test_what_cannot_be_scored_is_named(prompts: list, labels: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_labels(tiny_language_model("gpt2"), prompts, labels, 0)


def test_no_prompts_give_no_rows() -> None:
    assert score_labels(tiny_language_model("gpt2"), [], LABELS, 0).shape == (0, len(LABELS))


LABEL_SETS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8, unique=True
)


@given(LABEL_SETS)
def test_a_tree_holds_every_token_of_every_label_once(labels: list[tuple[int, ...]]) -> None:
    tree = build_label_tree(labels)
    # A distribution is named by what stands before it: reconstruct the names from paths and nodes.
    names = [tree.shared[:size] for size in range(tree.prompt_rows)]
    names += [tree.shared + tree.paths[path][: position + 1] for path, position in tree.nodes]
    assert len(set(names)) == len(names), "no distribution twice"
    for column, label in enumerate(labels):
        used = np.flatnonzero(tree.uses[:, column])
        steps = {(names[tree.rows[index]], tree.tokens[index]) for index in used}
        assert steps == {(label[:size], label[size]) for size in range(len(label))}
    assert not any(one != other and other[: len(one)] == one for one in tree.paths for other in tree.paths)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=5))
def test_common_prefix_leaves_every_sequence_a_token(sequences: list[list[int]]) -> None:
    prefix = list(common_prefix(sequences))
    assert all(row[: len(prefix)] == prefix and len(row) > len(prefix) for row in sequences)
    following = {tuple(row[: len(prefix) + 1]) for row in sequences}
    assert len(following) > 1 or min(map(len, sequences)) == len(prefix) + 1
