"""The two sub-layers of every transformer block, family by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from opinionlm.errors import UserError
from opinionlm.models.backbones import FAMILIES, anatomy_of
from opinionlm.models.quantization import weight_count

Kind = Literal["attention", "feed_forward"]


@dataclass(frozen=True)
class Sublayer:
    """An attention or feed-forward sub-layer.

    Attributes:
        block: index of its block, lowest first.
        kind: which of the two.
        parts: modules that hold its parameters, its normalisations among them.
        output: the module whose output is added to the residual stream.
    """

    block: int
    kind: Kind
    parts: tuple[nn.Module, ...]
    output: nn.Module

    @property
    def name(self) -> str:
        """For reports: ``3.attention``."""
        return f"{self.block}.{self.kind}"

    def parameters(self) -> list[nn.Parameter]:
        """All its parameters."""
        return [parameter for part in self.parts for parameter in part.parameters()]

    def size(self) -> int:
        """Number of its weights."""
        return sum(weight_count(parameter) for parameter in self.parameters())


def sublayers_of(backbone: PreTrainedModel) -> list[Sublayer]:
    """All sub-layers of a backbone, lowest first; each parameter of a block belongs to exactly one of them.

    Raises:
        UserError: the family is not known here.
    """
    found: list[Sublayer] = []
    for index, block in enumerate(anatomy_of(backbone).blocks):
        attention, feed_forward = _parts(backbone.config.model_type, block)
        found.append(Sublayer(index, "attention", *attention))
        found.append(Sublayer(index, "feed_forward", *feed_forward))
    return found


Parts = tuple[tuple[nn.Module, ...], nn.Module]


def _parts(family: str, block: nn.Module) -> tuple[Parts, Parts]:
    """Modules and output of a block's attention and of its feed-forward network."""
    match family:
        case "mpnet":
            attention = ((block.attention,), block.attention.attn.o)
            feed_forward = ((block.intermediate, block.output), block.output.dense)
        case "bert" | "roberta" | "xlm-roberta" | "deberta-v2":
            attention = ((block.attention,), block.attention.output.dense)
            feed_forward = ((block.intermediate, block.output), block.output.dense)
        case "distilbert":
            attention = ((block.attention, block.sa_layer_norm), block.attention.out_lin)
            feed_forward = ((block.ffn, block.output_layer_norm), block.ffn.lin2)
        case "modernbert":
            attention = ((block.attn_norm, block.attn), block.attn.Wo)
            feed_forward = ((block.mlp_norm, block.mlp), block.mlp.Wo)
        case "gpt2":
            attention = ((block.ln_1, block.attn), block.attn.c_proj)
            feed_forward = ((block.ln_2, block.mlp), block.mlp.c_proj)
        case "llama" | "mistral" | "qwen2" | "qwen3" | "phi3":
            attention = ((block.input_layernorm, block.self_attn), block.self_attn.o_proj)
            feed_forward = ((block.post_attention_layernorm, block.mlp), block.mlp.down_proj)
        case "gemma2" | "gemma3_text":
            # These normalise once more before the residual.
            after_attention, after_mlp = block.post_attention_layernorm, block.post_feedforward_layernorm
            attention = ((block.input_layernorm, block.self_attn, after_attention), after_attention)
            feed_forward = ((block.pre_feedforward_layernorm, block.mlp, after_mlp), after_mlp)
        case "t5":
            attention = ((block.layer[0],), block.layer[0].SelfAttention.o)
            feed_forward = ((block.layer[-1],), block.layer[-1].DenseReluDense.wo)
        case _:
            raise UserError(
                f"model_name_or_path: the sub-layers of the model type '{family}' are not known; looked for one of "
                f"{FAMILIES}. Add a case to opinionlm/adaptation/adapt/modules.py"
            )
    return attention, feed_forward
