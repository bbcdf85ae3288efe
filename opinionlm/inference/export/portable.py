"""The classifier and the tagger in one file that needs torch and transformers alone, for ``trust_remote_code``.

`modelling_file` writes that file from this one: what is imported of the package below is put in its place, source by
source, so that both compute with the same code. `portable_model` turns a model into one of these classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from opinionlm.models.bottleneck import Bottleneck, adapt_output
from opinionlm.models.heads import ClassificationHead, NativeForm, NativeHead, pool


class PortableConfig(PreTrainedConfig):
    """What the model was built as, in plain values.

    Args:
        text_config: configuration of the backbone.
        build_arguments: of the backbone's ``from_config``: whether BERT's pooler is there.
        encoder_only: whether the backbone is the encoder of an encoder-decoder.
        call_arguments: constants of the backbone's forward pass.
        first_position: position id of the first token, None where the backbone takes none.
        segments: whether the backbone tells the texts of a pair apart.
        pooling: see `pool`, or ``pooler``.
        head_hidden_sizes, head_bias: see `ClassificationHead`.
        head_form: fields of a `NativeForm`, None for the head that the two before describe.
        classifier_dropout: of the head.
        bottlenecks: path, width and activation of every adapter inside the backbone.
        virtual_kind: ``prompt`` for learned vectors in front of a text, ``prefix`` for keys and values, or None.
        virtual_shape: of their tensor.
        chunks: how longer texts are cut: ``length`` and ``overlap`` of chunks, how many special tokens stand
            ``before`` and ``after`` a text, and the ``pooling`` of the chunks' vectors; None for texts that are read
            at once.
        ends: how many tokens of longer texts are read at the beginning and at the end; None for all that is given.
        cleaning: what was done to the training texts; nothing here does it to new ones.
    """

    model_type = "opinionlm_portable"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")}

    text_config: PreTrainedConfig | dict | None = None
    build_arguments: dict | None = None
    encoder_only: bool = False
    call_arguments: dict | None = None
    first_position: int | None = None
    segments: bool = False
    pooling: str = "mean"
    head_hidden_sizes: list[int] | None = None
    head_bias: bool = True
    head_form: dict | None = None
    classifier_dropout: float = 0.0
    bottlenecks: list[dict] | None = None
    virtual_kind: str | None = None
    virtual_shape: list[int] | None = None
    chunks: dict | None = None
    ends: list[int] | None = None
    cleaning: dict | None = None


class PortableClassifier(PreTrainedModel):
    """Backbone → pooling → head, as `opinionlm` trained it."""

    config_class = PortableConfig
    base_model_prefix = "backbone"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    # Whether the head reads one vector per text, or every token.
    pools = True

    def __init__(self, config: PortableConfig) -> None:
        super().__init__(config)
        auto_class = AutoModelForTextEncoding if config.encoder_only else AutoModel
        self.backbone = auto_class.from_config(config.text_config, **(config.build_arguments or {}))
        width = self.backbone.config.hidden_size
        for one in config.bottlenecks or ():
            site = self.backbone.get_submodule(one["path"])
            site.adapter = Bottleneck(width, one["size"], getattr(nn, one["activation"])())
            site.register_forward_hook(adapt_output)
        if config.virtual_kind is not None:
            self.virtual = nn.Parameter(torch.zeros(config.virtual_shape))
        if config.head_form is None:
            hidden = config.head_hidden_sizes or []
            self.head: nn.Module = ClassificationHead(
                width, hidden, config.num_labels, config.classifier_dropout, config.head_bias
            )
        else:
            self.head = NativeHead(NativeForm(**config.head_form), width, config.num_labels, config.classifier_dropout)
        self.post_init()
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's input embedding."""
        return self.backbone.get_input_embeddings()

    def token_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """The backbone's output ``(batch, length, hidden)``; positions count tokens and not padding."""
        config, inputs = self.config, dict(self.config.call_arguments or {})
        virtual, mask, segments = 0, attention_mask, token_type_ids
        if config.virtual_kind is None:
            inputs["input_ids"] = input_ids
        else:
            # Virtual tokens stand directly before the text, so the texts are moved to the left.
            order = attention_mask.argsort(dim=1, descending=True, stable=True)
            ids, mask = input_ids.gather(1, order), attention_mask.gather(1, order)
            segments = None if segments is None else segments.gather(1, order)
            virtual = self.virtual.shape[-2]
            mask = torch.cat([mask.new_ones(len(ids), virtual), mask], dim=1)
            inputs |= self.prefixed(ids) if config.virtual_kind == "prefix" else self.prompted(ids)
        behind = virtual if config.virtual_kind == "prefix" else 0
        if config.first_position is not None:
            positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0) + config.first_position
            inputs["position_ids"] = positions[:, behind:]
        if config.segments and segments is not None:
            inputs["token_type_ids"] = nn.functional.pad(segments, (virtual - behind, 0))
        states = self.backbone(attention_mask=mask, **inputs).last_hidden_state
        if config.virtual_kind is None:
            return states
        back = order.argsort(dim=1).unsqueeze(-1).expand(-1, -1, states.shape[-1])
        return states[:, virtual - behind :].gather(1, back)

    def prompted(self, input_ids: torch.Tensor) -> dict[str, Any]:
        """Learned vectors, then the text."""
        embedded = self.backbone.get_input_embeddings()(input_ids)
        learned = self.virtual.to(embedded.dtype).expand(len(embedded), -1, -1)
        return {"inputs_embeds": torch.cat([learned, embedded], dim=1)}

    def prefixed(self, input_ids: torch.Tensor) -> dict[str, Any]:
        """The text, behind learned keys and values of every block."""
        cache = DynamicCache()
        for block, (keys, values) in enumerate(self.virtual):
            shape = (len(input_ids), -1, -1, -1)
            cache.update(keys.expand(shape), values.expand(shape), block)
        return {"input_ids": input_ids, "past_key_values": cache}

    def pooled(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """One vector per text ``(batch, hidden)``, or per chunk of one."""
        states = self.token_states(input_ids, attention_mask, token_type_ids)
        if self.config.pooling == "pooler":
            return self.backbone.pooler(pool(states, attention_mask, "first").unsqueeze(1))
        return pool(states, attention_mask, self.config.pooling)

    def both_ends(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask of texts of any length, of long ones what opinionlm reads, padded on the right."""
        head, tail = self.config.ends
        rows = [row[mask] for row, mask in zip(input_ids, attention_mask.bool(), strict=True)]
        rows = [torch.cat([row[:head], row[-tail:]]) if len(row) > head + tail else row for row in rows]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return ids, nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)

    def in_chunks(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """One vector per text of any length ``(batch, hidden)``; long ones are cut where opinionlm cuts them."""
        cut, vectors = self.config.chunks, []
        for row, mask in zip(input_ids, attention_mask.bool(), strict=True):
            ids = row[mask]
            before, inner, after = ids.tensor_split([cut["before"], len(ids) - cut["after"]])
            size = cut["length"] - len(before) - len(after)
            last = max(0, len(inner) - size)
            starts = [*range(0, last, size - cut["overlap"]), last]
            chunks = torch.stack([torch.cat([before, inner[start : start + size], after]) for start in starts])
            found = torch.cat([self.pooled(part, torch.ones_like(part), None) for part in chunks.split(64)])
            vectors.append(pool(found[None], chunks.new_ones(1, len(found)), cut["pooling"]))
        return torch.cat(vectors)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | TokenClassifierOutput | tuple[torch.Tensor, ...]:
        """Logits ``(batch, labels)``, of a tagger ``(batch, length, tags)``, and the plain mean loss with labels."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.config.ends is not None and input_ids.shape[1] > sum(self.config.ends):
            # Only models of single texts do so, which have one segment.
            (input_ids, attention_mask), token_type_ids = self.both_ends(input_ids, attention_mask), None
        if not self.pools:
            states = self.token_states(input_ids, attention_mask, token_type_ids)
        elif self.config.chunks is not None and input_ids.shape[1] > self.config.chunks["length"]:
            states = self.in_chunks(input_ids, attention_mask)
        else:
            states = self.pooled(input_ids, attention_mask, token_type_ids)
        logits = self.head(states).float()
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits.squeeze(-1), labels.float())
        elif labels is not None and self.config.problem_type == "multi_label_classification":
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        output = SequenceClassifierOutput if self.pools else TokenClassifierOutput
        return output(loss=loss, logits=logits)


class PortableTagger(PortableClassifier):
    """Backbone → head per token."""

    pools = False
