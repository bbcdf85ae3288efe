"""Hidden states behind learned virtual tokens: equal to PEFT's own pass, whatever the padding."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

from opinionlm.models.backbones import new_backbone
from opinionlm.models.families import family_of
from opinionlm.models.forward import hidden_states
from tests.tiny import FAMILIES, padded, tiny_config

ROWS = [[2, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21], [2, 30, 31], [2, 40, 41, 42, 43, 44, 45]]
TASK = "FEATURE_EXTRACTION"


def with_virtual_tokens(family: str, kind: str) -> PeftModel:
    torch.manual_seed(0)
    backbone = new_backbone(tiny_config(family))
    match kind:
        case "prefix":
            options = PrefixTuningConfig(task_type=TASK, num_virtual_tokens=5)
        case "prompt":
            # PEFT finds no width in a DistilBERT configuration.
            width = backbone.get_input_embeddings().embedding_dim
            shape = {"token_dim": width, "num_layers": 4, "num_attention_heads": 4}
            options = PromptTuningConfig(task_type=TASK, num_virtual_tokens=5, **shape)
        case "p_tuning":
            options = PromptEncoderConfig(task_type=TASK, num_virtual_tokens=5, encoder_hidden_size=16)
    return get_peft_model(backbone, options).eval()


PREFIX_FAMILIES = [name for name in FAMILIES if name != "t5" and family_of(tiny_config(name)).key_values is not None]
CASES = [(family, "prefix") for family in PREFIX_FAMILIES] + [(family, "prompt") for family in FAMILIES]


@pytest.mark.parametrize(("family", "kind"), [*CASES, ("bert", "p_tuning")])
@torch.no_grad()
def test_padding_does_not_matter_behind_virtual_tokens(family: str, kind: str) -> None:
    backbone = with_virtual_tokens(family, kind)
    alone = [hidden_states(backbone, torch.tensor([row]), torch.ones(1, len(row)).long())[0] for row in ROWS]
    for side in ("right", "left"):
        for length in (12, 13, 29):
            batch = padded(ROWS, length, side)
            states = hidden_states(backbone, **batch)
            assert states.shape[:2] == batch["input_ids"].shape
            for row, expected in enumerate(alone):
                torch.testing.assert_close(states[row][batch["attention_mask"][row].bool()], expected)


@pytest.mark.parametrize(("family", "kind"), CASES)
@torch.no_grad()
def test_equals_the_pass_of_peft(family: str, kind: str) -> None:
    backbone = with_virtual_tokens(family, kind)
    ids = torch.tensor(ROWS[:1])
    theirs = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    ours = hidden_states(backbone, ids, torch.ones_like(ids))
    torch.testing.assert_close(ours, theirs[:, -ids.shape[1] :])
    # The virtual tokens do something.
    plain = hidden_states(backbone.get_base_model(), ids, torch.ones_like(ids))
    assert not torch.allclose(ours, plain)


@torch.no_grad()
def test_segments_reach_bert_only() -> None:
    ids, mask = torch.tensor(ROWS[:1]), torch.ones(1, len(ROWS[0])).long()
    second_half = (torch.arange(ids.shape[1]) > 5).long().unsqueeze(0)
    for family in ("bert", "distilbert", "gpt2"):
        torch.manual_seed(0)
        backbone = new_backbone(tiny_config(family)).eval()
        same = torch.equal(hidden_states(backbone, ids, mask, second_half), hidden_states(backbone, ids, mask))
        assert same == (family != "bert")
    backbone = with_virtual_tokens("bert", "prompt")
    batch = padded(ROWS[:1], 20, "left")
    segments = torch.zeros_like(batch["input_ids"])
    segments[:, -12:] = second_half
    left = hidden_states(backbone, **batch, token_type_ids=segments)[:, -12:]
    torch.testing.assert_close(left, hidden_states(backbone, ids, mask, second_half))
