"""The exactness of tiny random models, once more on real weights, whose activations overflow where random ones do not.

Gemma 3 270M and SmolLM2 135M; tests/weights.py says where they are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.data.encoding.tokenizers import entries_of_texts, load_tokenizer
from opinionlm.evaluation.label_scoring import score_labels
from opinionlm.models.backbones import anatomy_of, load_backbone, read_model_config
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.frozen_prefix import PrefixStandIn, prefix_states
from opinionlm.models.generative import load_generative, supervised_logits
from opinionlm.models.hub_facts import hub_facts, known_config
from opinionlm.models.quantization import quantized_modules
from tests.generative import full_sequence_score
from tests.tiny import LABELS, padded
from tests.weights import GEMMA, SMOLLM2, find_weights

pytestmark = [pytest.mark.weights, pytest.mark.slow]

FOX = "The quick brown fox jumps over the lazy dog. It was a bright cold day in April, and the clocks were striking "
FOX += "thirteen."
POSTS = [
    "Is this coin still worth holding, or should I sell before the next drop?",
    "BTC closed at 61,204 today 🚀🚀",
    "scam. they took my money and the support never answers, stay away from this exchange!!! " * 3,
]
# Blocks, width, vocabulary.
SHAPES = {GEMMA: (18, 640, 262_144), SMOLLM2: (30, 576, 49_152)}


@pytest.fixture(scope="module", params=SHAPES)
def folder(request: pytest.FixtureRequest) -> Path:
    """Of a model."""
    if (found := find_weights(request.param)) is None:
        pytest.skip(f"{request.param} is not here; make gemma-weights and make smollm2-weights fetch the weights")
    return found


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(ModelConfig(model_name_or_path=str(folder)))


@pytest.fixture(scope="module")
def writer(folder: Path) -> Iterator[PreTrainedModel]:
    """With its output layer, in float32."""
    options = ModelConfig(model_name_or_path=str(folder))
    yield load_generative(options, 0, read_model_config(options)).eval()


def classifier(folder: Path, blocks: int, **options: object) -> OpinionClassifier:
    """Top blocks and a head of fixed random weights train."""
    backbone = load_backbone(ModelConfig(model_name_or_path=str(folder), **options), blocks)
    torch.manual_seed(3)
    model = OpinionClassifier.from_backbone(backbone, LABELS, HeadConfig(head_hidden_sizes=[32]))
    apply_adaptation(model, MethodConfig(adaptation="top_blocks", trainable_blocks=blocks))
    return model.eval()


def test_what_a_dry_run_knows_is_true(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    name = f"outputs/models/{folder.name}.gguf"
    facts, known = hub_facts(name), known_config(name).to_dict()
    found = read_model_config(ModelConfig(model_name_or_path=str(folder))).to_dict()
    shape = {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"}
    shape |= {"num_attention_heads", "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings"}
    for key in shape | {"sliding_window"}:
        assert known.get(key) == found.get(key), key
    assert facts is not None and facts.tokenizer == entries_of_texts(tokenizer)
    assert facts.chat == (tokenizer.chat_template is not None)


def test_anatomy_and_perplexity(folder: Path, writer: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    blocks, width, vocabulary = SHAPES[folder.name if folder.name in SHAPES else GEMMA]
    anatomy = anatomy_of(writer)
    assert (len(anatomy.blocks), anatomy.hidden_size, anatomy.causal) == (blocks, width, True)
    assert anatomy.embedding.weight.shape == (vocabulary, width) and anatomy.final_norm is not None
    ids = torch.tensor([tokenizer(FOX)["input_ids"]])
    with torch.no_grad():
        perplexity = float(writer(ids, labels=ids).loss.exp())
    assert perplexity == pytest.approx({640: 20.4, 576: 40.4}[width], rel=0.05)


def test_padding_makes_no_difference(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model = classifier(folder, 1)
    rows = tokenizer(POSTS)["input_ids"]
    with torch.no_grad():
        together = model(**padded(rows, max(map(len, rows)) + 9, "right")).logits
        alone = torch.cat([model(**padded([row], len(row), "right")).logits for row in rows])
    assert alone.std() > 1e-3
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "nf4"])
def test_cached_states_give_the_same_logits(folder: Path, precision: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = classifier(folder, 2, load_in_4bit=precision == "nf4")
    batch = padded(rows := tokenizer(POSTS)["input_ids"], max(map(len, rows)), "right")
    with torch.no_grad():
        plain = model(**batch).logits
        states = prefix_states(model, batch["input_ids"], batch["attention_mask"])
        with PrefixStandIn(model):
            cached = model(**batch, prefix_states=states).logits
    assert torch.isfinite(plain).all() and torch.equal(cached, plain)


def test_four_bits_stay_near_and_spare_what_trains(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    plain, quantized = classifier(folder, 1), classifier(folder, 1, load_in_4bit=True)
    last = len(anatomy_of(quantized.backbone).blocks) - 1
    names = quantized_modules(quantized)
    assert names and not [name for name in names if f"layers.{last}." in name or "head" in name]
    batch = padded(rows := tokenizer(POSTS)["input_ids"], max(map(len, rows)), "right")
    with torch.no_grad():
        exact, near = (model.backbone(**batch).last_hidden_state[0, -1] for model in (plain, quantized))
    assert torch.nn.functional.cosine_similarity(exact, near, dim=0) > 0.8


def test_the_loss_counts_answers_alone(writer: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = tokenizer(POSTS)["input_ids"]
    batch = padded(rows, max(map(len, rows)), "right")
    labels = torch.full_like(batch["input_ids"], -100)
    for row, ids in enumerate(rows):
        labels[row, len(ids) - row - 1 : len(ids)] = torch.tensor(ids[len(ids) - row - 1 :])
    with torch.no_grad():
        found = supervised_logits(writer, writer, batch, labels)
        loss = torch.nn.functional.cross_entropy(found.logits, found.targets)
        expected = writer(**batch, labels=labels).loss
    assert found.targets.tolist() == labels[labels != -100].tolist()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_label_scores_are_those_of_separate_passes(
    writer: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts = [tokenizer(f"Post: {post}\nOpinion:")["input_ids"] for post in POSTS]
    answers = [" positive", " negative", " neutral, objective", " noise", " neutral"]
    labels = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
    expected = torch.tensor([[full_sequence_score(writer, prompt, label) for label in labels] for prompt in prompts])
    found = torch.from_numpy(score_labels(writer, prompts, labels, tokenizer.pad_token_id))
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=2e-3)
