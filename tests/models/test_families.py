"""A family is one entry: a made-up one trains, adapts and writes once it is described."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

import train_instruct
from opinionlm.errors import UserError
from opinionlm.models import families
from opinionlm.models.families import family_of
from opinionlm.models.family import Family, SublayerPaths
from tests.classifier_runs import train, write_setting
from tests.test_train_instruct import command_line
from tests.tiny import DECODER, tiny_config, tiny_tokenizer


class PebbleConfig(LlamaConfig):
    model_type = "pebble"


class PebbleBlock(nn.Module):
    """Pre-norm, under names of its own; a block also returns None in place of attention weights."""

    def __init__(self, config: PebbleConfig, index: int) -> None:
        super().__init__()
        self.calm, self.mix = LlamaRMSNorm(config.hidden_size), LlamaAttention(config, index)
        self.cool, self.think = LlamaRMSNorm(config.hidden_size), LlamaMLP(config)

    def forward(self, states: torch.Tensor, **named) -> tuple[torch.Tensor, None]:
        states = states + self.mix(self.calm(states), **named)[0]
        return states + self.think(self.cool(states)), None


class PebbleBase(PreTrainedModel):
    config_class = PebbleConfig
    base_model_prefix = "inner"
    _supports_sdpa = True


class PebbleModel(PebbleBase):
    def __init__(self, config: PebbleConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.tower = nn.ModuleList([PebbleBlock(config, index) for index in range(config.num_hidden_layers)])
        self.summit = LlamaRMSNorm(config.hidden_size)
        self.rotary = LlamaRotaryEmbedding(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.words = value

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutputWithPast:
        states = self.words(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            before = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = torch.arange(before, before + states.shape[1]).unsqueeze(0)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=states,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        rotation = self.rotary(states, position_ids=position_ids)
        for block in self.tower:
            states, _ = block(
                states, attention_mask=mask, past_key_values=past_key_values, position_embeddings=rotation
            )
        return BaseModelOutputWithPast(last_hidden_state=self.summit(states), past_key_values=past_key_values)


class PebbleForCausalLM(PebbleBase, GenerationMixin):
    def __init__(self, config: PebbleConfig) -> None:
        super().__init__(config)
        self.inner = PebbleModel(config)
        self.speak = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.inner.words

    def get_output_embeddings(self) -> nn.Module:
        return self.speak

    def get_decoder(self) -> nn.Module:
        return self.inner

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **unread,
    ) -> CausalLMOutputWithPast:
        output = self.inner(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.speak(output.last_hidden_state[:, kept])
        return CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)


def pebble(config: PreTrainedConfig) -> Family:
    """The entry."""
    return Family(
        blocks="tower",
        block=(
            SublayerPaths("attention", ("calm", "mix"), ("calm",), "mix.o_proj", "mix"),
            SublayerPaths("feed_forward", ("cool", "think"), ("cool",), "think.down_proj", "think"),
        ),
        before_blocks=("words",),
        final_norm="summit",
        causal=True,
        block_output="pair",
        low_rank_layers=("q_proj", "v_proj"),
        key_value_layers=("k_proj", "v_proj"),
        feed_forward_layer="think.down_proj",
        key_values=(config.num_key_value_heads, config.head_dim),
    )


@pytest.fixture(scope="module")
def pebble_setting(tmp_path_factory) -> dict[str, str]:
    """A data set, and a made-up model in the place of the pretrained one, known to transformers but not to us."""
    AutoConfig.register("pebble", PebbleConfig, exist_ok=True)
    AutoModel.register(PebbleConfig, PebbleModel, exist_ok=True)
    AutoModelForCausalLM.register(PebbleConfig, PebbleForCausalLM, exist_ok=True)
    folder = tmp_path_factory.mktemp("pebble")
    setting = write_setting(folder)
    torch.manual_seed(1)
    PebbleForCausalLM(PebbleConfig(**DECODER)).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    return setting | {"num_train_epochs": "2"}


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.FAMILIES, "pebble", pebble)


SLOW_METHODS = ["full", "ia3", "houlsby", "pfeiffer", "prefix", "p_tuning", "adapt"]
METHODS = ["lora", *(pytest.param(method, marks=pytest.mark.slow) for method in SLOW_METHODS)]


@pytest.mark.parametrize("method", METHODS)
def test_made_up_family_trains(method: str, pebble_setting, described, tmp_path: Path) -> None:
    result = train(pebble_setting, adaptation=method, output_dir=tmp_path)
    assert 0 <= result["test"]["macro_f1"] <= 1
    assert 0 < result["model"]["trainable_parameters"] <= result["model"]["total_parameters"]


@pytest.mark.slow
def test_its_cached_prefix_gives_the_same_scores(pebble_setting, described, tmp_path: Path) -> None:
    cached, computed = (
        train(pebble_setting, adaptation="top_blocks", cache_frozen=cache, output_dir=tmp_path / cache)
        for cache in ("on", "off")
    )
    assert cached["cost"]["train_flops"] < computed["cost"]["train_flops"]
    # States come from batches of another shape, which can change the order of sums (docs/caching.md).
    scores = ("loss", "macro_f1", "accuracy", "ece", "brier_uncalibrated")
    for name in scores:
        assert cached["test"][name] == pytest.approx(computed["test"][name], abs=1e-6)


@pytest.mark.parametrize("method", [pytest.param("top_blocks", marks=pytest.mark.slow), "lora"])
def test_it_learns_to_write(method: str, pebble_setting, described, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text('prompt: "post: {text}\\nlabel:"\n')
    unread = {"head_hidden_sizes", "max_length"} | ({"cache_dir"} if method == "lora" else set())
    setting = {name: value for name, value in pebble_setting.items() if name not in unread}
    options = {"adaptation": method, "max_length": 64, "prompt_template": template, "output_dir": tmp_path}
    result = train_instruct.main(command_line(setting, **options))
    assert 0 <= result["test"]["macro_f1"] <= 1


def test_without_an_entry_the_family_is_refused(pebble_setting, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'pebble' is not known; give a model of one of bert, .*families.py"):
        train(pebble_setting, output_dir=tmp_path)


def test_wrappers_are_of_their_text_models_family() -> None:
    assert family_of(tiny_config("gemma3")) == family_of(tiny_config("gemma3").text_config)
