"""A topmost block computed for some tokens alone says what the whole block says of them, and learns alike."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import PreTrainedModel

from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.method_options import MethodConfig
from opinionlm.models import classifier as classifier_module
from opinionlm.models import generative
from opinionlm.models.backbones import anatomy_of, new_backbone
from opinionlm.models.classifier import OpinionClassifier
from opinionlm.models.forward import hidden_states
from opinionlm.models.topmost_block import can_choose_tokens, choose_tokens, prepare_topmost_block
from tests.tiny import FAMILIES, padded, tiny_classifier, tiny_config

# The longest is longer than the sliding windows.
ROWS = [[2, *range(11, 30)], [2, 30, 31], [2, 40, 41, 42, 43, 44, 45]]
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
# Gemma 2 caps its scores, which sdpa cannot.
ATTENTIONS = [(name, "eager") for name in LLAMA_LIKE] + [(name, "sdpa") for name in LLAMA_LIKE if name != "gemma2"]


def backbone_of(family: str, attention: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny_config(family).get_text_config()
    if family == "mistral":
        config.sliding_window = 8
    if family.startswith("gemma"):
        # The topmost block shall have the window, too.
        config.layer_types = ["full_attention", "sliding_attention"] * 2
    config._attn_implementation = attention
    backbone = new_backbone(config).train()
    prepare_topmost_block(backbone)
    return backbone


def test_these_families_can_and_no_others() -> None:
    able = [name for name in FAMILIES if can_choose_tokens(backbone_of(name, "eager"))]
    assert able == [*LLAMA_LIKE, "gemma3"], "a new family: name it in LLAMA_LIKE, or set separate_queries to False"


@pytest.mark.parametrize("side", ["left", "right", "none"])
@pytest.mark.parametrize(("family", "attention"), ATTENTIONS)
def test_states_and_gradients_are_those_of_the_whole_block(family: str, attention: str, side: str) -> None:
    backbone = backbone_of(family, attention)
    rows = ROWS[:1] * 2 if side == "none" else ROWS
    batch = padded(rows, 20 if side == "none" else 25, "right" if side == "none" else side)
    generator = torch.Generator().manual_seed(1)
    # Two tokens of each text, in any order.
    places = [mask.nonzero().squeeze(1) for mask in batch["attention_mask"]]
    chosen = torch.stack([some[torch.randperm(len(some), generator=generator)[:2]] for some in places])
    found = {}
    for alone in (True, False):
        backbone.zero_grad()
        if alone:
            states = hidden_states(backbone, **batch, read_tokens=chosen)
        else:
            states = hidden_states(backbone, **batch)[torch.arange(len(rows)).unsqueeze(1), chosen]
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
        (states * weights).sum().backward()
        gradients = {name: weight.grad for name, weight in backbone.named_parameters() if weight.grad is not None}
        found[alone] = states.detach(), gradients
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-5, atol=1e-5)
    assert set(found[True][1]) == set(found[False][1])
    for name, gradient in found[False][1].items():
        # An embedding of small random numbers below a norm has gradients of any size.
        assert (found[True][1][name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


def test_threads_do_not_disturb_each_other() -> None:
    model = tiny_classifier("gemma3_text", pooling="last")
    batches = [padded([[2, *range(5, 5 + length)]], 24, "right") for length in (0, 1, 3, 9, 20)]

    def answer(number: int) -> torch.Tensor:
        with torch.inference_mode():
            return model(**batches[number % 5]).logits

    alone = [answer(number) for number in range(5)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(answer, range(100)))
    for number, logits in enumerate(found):
        torch.testing.assert_close(logits, alone[number % 5])


def test_models_can_be_copied_and_pickled() -> None:
    model, batch = tiny_classifier("gemma3_text", pooling="last"), padded(ROWS, 25, "right")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert list(anatomy_of(twin.backbone).blocks[-1]._forward_pre_hooks.values()) == [choose_tokens]
        assert torch.equal(twin(**batch).logits, model(**batch).logits)


ADAPTATIONS = ("full", "top_blocks", "lora", "dora", "ia3", "houlsby", "pfeiffer", "prefix", "prompt")


def lengths_seen(model: OpinionClassifier, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Logits, and how many tokens of a text the topmost feed-forward layer saw."""
    with recorded_lengths(model.backbone) as seen:
        logits = model(**batch).logits
    return logits, seen[0]


@contextmanager
def recorded_lengths(model: PreTrainedModel) -> Iterator[list[int]]:
    """How many tokens of a text the topmost feed-forward layer sees in each pass; a hook would change that."""
    layer = anatomy_of(model).blocks[-1].mlp
    with patch.object(layer, "forward", wraps=layer.forward) as forward:
        seen: list[int] = []
        yield seen
        seen += [call.args[0].shape[1] for call in forward.call_args_list]


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_classifiers_compute_one_token_unless_tokens_are_virtual(adaptation: str) -> None:
    model = tiny_classifier("gemma3_text", pooling="last")
    apply_adaptation(model, MethodConfig(adaptation=adaptation, trainable_blocks=1))
    model.eval()
    batch = padded(ROWS, 25, "right")
    logits, seen = lengths_seen(model, batch)
    with patch.object(classifier_module, "can_choose_tokens", lambda backbone: False):
        whole, seen_by_all = lengths_seen(model, batch)
    assert seen == (seen_by_all if adaptation in ("prefix", "prompt") else 1)
    assert seen_by_all >= 25
    torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-6)


def test_checkpointed_activations_need_every_token() -> None:
    model = tiny_classifier("gemma3_text", pooling="last")
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    assert not can_choose_tokens(model.backbone)
    model(**padded(ROWS, 25, "right")).logits.sum().backward()


@pytest.mark.parametrize("lengths", [(25, 25, 25), (25, 31, 40, 28)])
def test_compiled_models_answer_alike(lengths: tuple[int, ...]) -> None:
    model = tiny_classifier("gemma3_text", pooling="last")
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter)
    for length in lengths:
        batch = padded(ROWS, length, "right")
        torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, rtol=1e-5, atol=1e-6)
    # In one piece, and anew for another length at most once.
    assert counter.frame_count <= 2


def test_exported_models_read_every_token() -> None:
    model, batch = tiny_classifier("gemma3_text", pooling="last"), padded(ROWS, 25, "right")
    exported = torch.export.export(model, (), batch).module()
    torch.testing.assert_close(exported(**batch).logits, model(**batch).logits, rtol=1e-5, atol=1e-6)


def test_whoever_watches_the_block_sees_every_token() -> None:
    model, batch = tiny_classifier("gemma3_text", pooling="last"), padded(ROWS, 25, "right")
    shapes: list[int] = []
    layer = anatomy_of(model.backbone).blocks[-1].post_feedforward_layernorm
    handle = layer.register_forward_hook(lambda module, given, output: shapes.append(output.shape[1]))
    model(**batch)
    handle.remove()
    assert lengths_seen(model, batch)[1] == 1
    assert shapes == [25]


def test_other_poolings_see_every_token() -> None:
    for pooling in ("mean", "first"):
        assert lengths_seen(tiny_classifier("gemma3_text", pooling=pooling), padded(ROWS, 25, "left"))[1] == 25


def test_uneven_answers_of_compiled_models_give_the_same_gradients() -> None:
    config = tiny_config("gemma3_text")
    batch = padded(ROWS, 25, "right")
    labels = torch.full_like(batch["input_ids"], -100)
    for row, answer in enumerate((4, 1, 2)):
        end = len(ROWS[row])
        labels[row, end - answer : end] = batch["input_ids"][row, end - answer : end]
    found = []
    for way in ("whole", "chosen", "compiled"):
        torch.manual_seed(0)
        model = generative.generative_class(config).from_config(config).train()
        if way != "whole":
            prepare_topmost_block(model)
        called = torch.compile(model, backend="eager") if way == "compiled" else model
        result = generative.supervised_logits(called, model, batch, labels)
        torch.nn.functional.cross_entropy(result.logits, result.targets).backward()
        found.append((result.logits, [weight.grad for weight in model.parameters()]))
    for logits, gradients in found[1:]:
        torch.testing.assert_close(logits, found[0][0], rtol=1e-5, atol=1e-5)
        for gradient, whole in zip(gradients, found[0][1], strict=True):
            assert (gradient - whole).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize("supervised", [3, 20])
def test_answers_are_predicted_from_their_own_tokens(supervised: int) -> None:
    torch.manual_seed(0)
    model = generative.generative_class(tiny_config("gemma3_text")).from_config(tiny_config("gemma3_text")).eval()
    prepare_topmost_block(model)
    batch = padded(ROWS, 25, "left")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, :-supervised] = -100
    with recorded_lengths(model) as seen:
        found = generative.supervised_logits(model, model, batch, labels)
        with patch.object(generative, "can_choose_tokens", lambda base: False):
            whole = generative.supervised_logits(model, model, batch, labels)
    assert seen == ([3, 25] if supervised == 3 else [25, 25])
    torch.testing.assert_close(found.logits, whole.logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.targets, whole.targets)
    assert torch.equal(found.rows, whole.rows)
