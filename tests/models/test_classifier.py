"""The classifier of every family: padding, pooling, saving, pipelines, published sizes."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

import opinionlm  # noqa: F401  (registers the model type)
from opinionlm.adaptation.methods import apply_adaptation, count_parameters
from opinionlm.config.method_options import MethodConfig
from opinionlm.config.options import HeadConfig, ModelConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of, load_backbone, new_backbone, trained_block_names
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.heads import ClassificationHead, pool
from opinionlm.models.quantization import quantized_modules
from tests.tiny import FAMILIES, LABELS, padded, save_pretrained_model, tiny_classifier, tiny_config, tiny_tokenizer

ROWS = [[2, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21], [2, 30, 31], [2, 40, 41, 42, 43, 44, 45]]


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_do_not_depend_on_padding(family: str, pooling: str) -> None:
    model = tiny_classifier(family, pooling=pooling, head_hidden_sizes=[32, 16], labels=LABELS)
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([row])).logits for row in ROWS])
        for side in ("right", "left"):
            for length in (12, 13, 29):
                logits = model(**padded(ROWS, length, side)).logits
                torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    if pooling != "first" or not anatomy_of(model.backbone).causal:  # a causal model's first token sees nothing else
        assert not torch.allclose(alone[0], alone[1])


def test_pooling_by_hand() -> None:
    states = torch.arange(12.0).reshape(2, 3, 2)
    states[0, 2] = float("nan")  # padding may hold anything
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(states, mask, "first").tolist() == [[0, 1], [8, 9]]
    assert pool(states, mask, "last").tolist() == [[2, 3], [10, 11]]
    assert pool(states, mask, "mean").tolist() == [[1, 2], [9, 10]]


@pytest.mark.parametrize("family", FAMILIES)
def test_reload_gives_equal_logits(family: str, tmp_path) -> None:
    tree = ["noise", "objective", {"subjective": ["positive", "negative"]}]
    model = tiny_classifier(family, head_hidden_sizes=[32], label_tree=tree, max_length=50)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = padded(ROWS, 12, "right")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert type(loaded) is OpinionClassifier
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert loaded.config.label_tree == tree
    assert loaded.config.max_length == 50
    assert (tmp_path / "model.safetensors").is_file()
    assert not json.loads((tmp_path / "config.json").read_text())["text_config"].get("_name_or_path")
    assert json.loads((tmp_path / "config.json").read_text())["text_config"]["model_type"] != "opinionlm_classifier"


def test_pipeline_serves_a_saved_model(tmp_path) -> None:
    model = tiny_classifier()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    answer = pipeline("text-classification", model=str(tmp_path), device="cpu")(["is this good ?", "buy"], top_k=None)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**tokenizer(["is this good ?"], return_tensors="pt")).logits.softmax(-1)[0]
    scores = {entry["label"]: entry["score"] for entry in answer[0]}
    assert set(scores) == set(LABELS)
    assert [scores[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-5)


def test_plain_loss_and_tuple_output() -> None:
    model = tiny_classifier()
    batch = padded(ROWS, 12, "right")
    labels = torch.tensor([0, 3, 1])
    output = model(**batch, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits, labels)
    assert torch.equal(output.loss, expected)
    loss, logits = model(**batch, labels=labels, return_dict=False)
    assert torch.equal(loss, expected) and torch.equal(logits, output.logits)


def gemma3_1b() -> AutoConfig:
    """The published configuration of Gemma-3-1B, as far as sizes go."""
    return AutoConfig.for_model(
        "gemma3_text",
        vocab_size=262_144,
        hidden_size=1152,
        intermediate_size=6912,
        num_hidden_layers=26,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
    )


def test_gemma_recipe_has_the_published_sizes() -> None:
    with torch.device("meta"):
        backbone = new_backbone(gemma3_1b())
        model = OpinionClassifier.from_backbone(backbone, list("abcdefgh"), HeadConfig(head_hidden_sizes=[1024, 512]))
    apply_adaptation(model, MethodConfig(adaptation="top_blocks", trainable_blocks=1))
    assert sum(p.numel() for p in backbone.parameters()) == 999_885_952
    assert sum(p.numel() for p in model.head.parameters()) == 1_711_880
    anatomy = anatomy_of(backbone)
    assert sum(p.numel() for p in anatomy.blocks[-1].parameters()) == 26_842_112
    assert sum(p.numel() for p in anatomy.final_norm.parameters()) == 1_152
    assert count_parameters(model) == {
        "total_parameters": 999_885_952 + 1_711_880,
        "trainable_parameters": 28_555_144,
    }


def test_two_layer_head_and_linear_head() -> None:
    two_layers = ClassificationHead(1152, [1024], 8, 0.1)
    assert sum(p.numel() for p in two_layers.parameters()) == 2 * 1152 + 1152 * 1024 + 1024 + 1024 * 8 + 8
    linear = ClassificationHead(768, [], 6, 0.1)
    assert sum(p.numel() for p in linear.parameters()) == 4_614  # the methods paper's head on BERT


def test_multimodal_wrapper_loads_its_text_weights(tmp_path) -> None:
    model_config = save_pretrained_model(tmp_path, "gemma3")
    backbone = load_backbone(model_config, trained_blocks=1)
    assert backbone.config.model_type == "gemma3_text"
    assert not [name for name, _ in backbone.named_modules() if "vision" in name]
    from transformers import AutoModel

    original = AutoModel.from_pretrained(tmp_path)
    for name, weight in original.get_decoder().state_dict().items():
        assert torch.equal(weight, backbone.state_dict()[name])


def test_block_names_start_at_the_root_that_is_loaded() -> None:
    assert trained_block_names(tiny_config("gemma3_text"), 1) == ["layers.3"]
    assert trained_block_names(tiny_config("gemma3"), 2) == ["language_model.layers.2", "language_model.layers.3"]
    assert trained_block_names(tiny_config("bert"), 1) == ["encoder.layer.3"]
    assert trained_block_names(tiny_config("gpt2"), 0) == []


def test_unknown_family_is_named() -> None:
    with pytest.raises(UserError, match="'opt'.*bert, electra"):
        anatomy_of(
            new_backbone(AutoConfig.for_model("opt", hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
        )


def test_deberta_with_a_convolution_is_refused() -> None:
    config = tiny_config("deberta-v2")
    config.conv_kernel_size = 3
    with pytest.raises(UserError, match="conv_kernel_size.*deberta-v3-base"):
        anatomy_of(new_backbone(config))


def test_directory_without_weights_is_named(tmp_path) -> None:
    model_config = save_pretrained_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights.*random_weights"):
        load_backbone(model_config, trained_blocks=0)
    model_config.random_weights = True
    assert len(load_backbone(model_config, trained_blocks=0).layers) == 4


def test_missing_weights_are_not_left_random(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    model_config = save_pretrained_model(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    dropped = next(name for name in state if name.endswith("layers.2.mlp.up_proj.weight"))
    del state[dropped]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks 1 weights.*layers.2.mlp.up_proj"):
        load_backbone(model_config, trained_blocks=0)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma3", "llama"])
def test_four_bit_keeps_trained_parts_whole(family: str, tmp_path) -> None:
    folder = tmp_path / "pretrained"
    save_pretrained_model(folder, family, torch.bfloat16)
    model_config = ModelConfig(model_name_or_path=str(folder), load_in_4bit=True, dtype="bfloat16")
    backbone = load_backbone(model_config, trained_blocks=1)
    model = OpinionClassifier.from_backbone(backbone, LABELS, HeadConfig(head_hidden_sizes=[32, 16])).eval()
    apply_adaptation(model, MethodConfig(adaptation="top_blocks"))

    quantized = quantized_modules(model)
    assert len(quantized) == 3 * 7  # four attention and three feed-forward projections in each frozen block
    assert not [name for name in quantized if name.startswith(("head", "backbone.layers.3"))]
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert set(trained.values()) == {torch.bfloat16}
    assert {name.split(".")[0] for name in trained} == {"backbone", "head"}
    assert {name.split(".")[1] for name in trained if name.startswith("backbone")} == {"layers", "norm"}
    assert {name.split(".")[2] for name in trained if name.startswith("backbone.layers")} == {"3"}

    batch = padded(ROWS, 12, "right")
    with torch.no_grad():
        before = model(**batch).logits
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert quantized_modules(loaded) == quantized
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, before)


def test_evaluation_does_not_spoil_four_bit_gradients(tmp_path) -> None:
    # On CPUs with AVX512-BF16 bitsandbytes repacks weights in a no-grad forward; gradients were wrong afterwards.
    save_pretrained_model(tmp_path, "gemma3_text", torch.bfloat16)
    model_config = ModelConfig(model_name_or_path=str(tmp_path), load_in_4bit=True, dtype="bfloat16")
    batch, labels = padded(ROWS, 12, "right"), torch.tensor([0, 1, 2])

    def gradient(evaluate_first: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = OpinionClassifier.from_backbone(load_backbone(model_config, trained_blocks=1), LABELS).eval()
        if evaluate_first:
            with torch.no_grad():
                model(**batch)
        model(**batch, labels=labels).loss.backward()
        return torch.cat([p.grad.flatten().float() for p in model.backbone.layers[3].parameters()])

    assert torch.equal(gradient(evaluate_first=False), gradient(evaluate_first=True))


def test_four_bit_that_cannot_be_served_is_named(tmp_path, monkeypatch) -> None:
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    def refuse(self, *arguments, **named) -> None:
        raise RuntimeError("None of the available devices are supported\nby bitsandbytes")

    monkeypatch.setattr(Bnb4BitHfQuantizer, "validate_environment", refuse)
    model_config = save_pretrained_model(tmp_path)
    model_config.load_in_4bit = True
    with pytest.raises(UserError, match="cannot serve it here .*supported by bitsandbytes.*load_in_4bit: false"):
        load_backbone(model_config, trained_blocks=1)
