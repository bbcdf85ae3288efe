"""The classifier: a backbone of any family, a pooling and a head, as one model the Auto classes know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from opinionlm.config.options import HeadConfig
from opinionlm.models.adapters import add_adapter
from opinionlm.models.backbones import anatomy_of, frozen_parts, new_backbone, plain_backbone
from opinionlm.models.chunks import over_chunks
from opinionlm.models.classifier_config import OpinionClassifierConfig
from opinionlm.models.forward import hidden_states
from opinionlm.models.heads import ClassificationHead, NativeHead, Pooling, last_token, pool
from opinionlm.models.native_heads import require_native_form
from opinionlm.models.quantization import (
    mend_cpu_kernels,
    move_quantization_config,
    name_unquantized_modules,
)
from opinionlm.models.stand_ins import StandIn
from opinionlm.models.task_embedding import add_task_rows
from opinionlm.models.topmost_block import can_choose_tokens, prepare_topmost_block

# The TF-IDF interpolation of a model lies in its folder: `opinionlm.models.linear.tfidf` writes and reads them.
WORD_FILES = ("words.json", "words.safetensors")


class OpinionClassifier(PreTrainedModel):
    """Backbone → pooling → head.

    Args:
        config: the classifier's configuration.
        backbone: a loaded backbone to use; without one, a new one with random weights is built from the config,
            as ``from_pretrained`` needs it.
    """

    config_class = OpinionClassifierConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    # Trainer: this class neither scales its loss by the optimizer step's size nor takes such an argument.
    accepts_loss_kwargs = False
    # Whether the head reads one pooled vector per text, or (a tagger) the state of every token.
    pools = True
    output_class: type[SequenceClassifierOutput] | type[TokenClassifierOutput] = SequenceClassifierOutput

    def __init__(self, config: OpinionClassifierConfig, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.prefix_blocks = 0
        self.stored_states: StandIn | None = None
        is_new = backbone is None
        if backbone is None:
            backbone = new_backbone(config.text_config, with_pooler=config.pooling == "pooler")
            if config.task_tokens:
                add_task_rows(backbone, config.task_tokens)
            if config.adapter is not None:
                backbone = add_adapter(backbone, config.adapter)
        self.backbone: PreTrainedModel = backbone
        anatomy = anatomy_of(self.backbone)
        self.pooling: Pooling = ("last" if anatomy.causal else "mean") if config.pooling == "auto" else config.pooling
        prepare_topmost_block(self.backbone)
        self.head = new_head(config, anatomy.hidden_size, self.pools)
        if is_new:
            self.post_init()
            # transformers looks for tied weights one level deep, and PEFT's wrapper is a level of its own.
            self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)
        else:
            self._initialise_head()
            move_quantization_config(self)

    @classmethod
    def from_backbone(
        cls,
        backbone: PreTrainedModel,
        labels: Sequence[str],
        head: HeadConfig | None = None,
        label_tree: dict | list | None = None,
        max_length: int | None = None,
        problem_type: str | None = None,
    ) -> OpinionClassifier:
        """Put a new head on a loaded backbone.

        Args:
            backbone: with its weights.
            labels: one per output.
            head: its form; by default a single linear layer. With ``head: native`` its pooling has to be the
                family's (`opinionlm.models.native_heads.with_native_pooling`).
            label_tree: see `OpinionClassifierConfig`, as for the next two.
            max_length: of a text.
            problem_type: ``regression`` for scores, ``multi_label_classification`` for any number of labels.
        """
        head = head or HeadConfig()
        # The path of the weights on the training machine is not published.
        backbone.config.name_or_path = ""
        config = cls.config_class(
            text_config=backbone.config,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            head=head.head,
            head_hidden_sizes=list(head.head_hidden_sizes),
            head_bias=head.head_bias,
            pooling=head.pooling,
            classifier_dropout=head.classifier_dropout,
            label_tree=label_tree,
            max_length=max_length,
            problem_type=problem_type,
            # A composite configuration hands its own attention implementation down, None by default.
            attn_implementation=backbone.config._attn_implementation,
        )
        return cls(config, backbone=backbone)

    def _initialise_head(self) -> None:
        """Head weights N(0, 0.02) and zero biases, in the backbone's own data type.

        ``post_init`` would also re-initialise the backbone that was just loaded.
        """
        for module in self.head.modules():
            self._init_weights(module)
        self.head.to(device=self.backbone.device, dtype=self.backbone.dtype)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise the head; the backbone initialises itself."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def set_output_bias(self, bias: torch.Tensor | None) -> None:
        """Let the head's last layer start from this bias, ``(outputs,)``, if it is given and the layer has one."""
        if bias is not None and self.head.output.bias is not None:
            with torch.no_grad():
                self.head.output.bias.copy_(bias)

    def add_task_tokens(self, count: int) -> None:
        """Add embedding rows for task tokens, drawn from torch's global generator; before any adapter is added."""
        if count:
            add_task_rows(self.backbone, count)
        self.config.task_tokens = count

    def add_adapter_to_backbone(self, adapter: dict[str, Any]) -> None:
        """Add an adapter that the saved model will carry; its parameters are the backbone's only ones that train."""
        if self.config.adapter is not None:
            raise ValueError("the backbone has an adapter already")
        self.backbone = add_adapter(self.backbone, adapter)
        self.config.adapter = adapter
        name_unquantized_modules(self)

    def freeze_prefix(self, blocks: int) -> None:
        """Declare the lowest blocks, and all before them, a frozen and deterministic prefix.

        Their dropout stays off in training too: what they compute for a text never changes, whether it is computed
        anew or read from the cache of `opinionlm.training.prefix_cache`.
        """
        self.prefix_blocks = blocks
        self.train(self.training)

    def train(self, mode: bool = True) -> OpinionClassifier:
        """Switch to training or evaluation mode; a frozen prefix stays in evaluation mode."""
        super().train(mode)
        if self.prefix_blocks:
            for part in frozen_parts(self.backbone, self.prefix_blocks):
                part.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's input embedding."""
        return self.backbone.get_input_embeddings()

    def token_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        prefix_states: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        read_tokens: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The backbone's output ``(batch, length, hidden)`` from ids, mask and segments ``(batch, length)``.

        With ``prefix_states`` (as `opinionlm.models.frozen_prefix.prefix_states` returns them) only what lies above
        the frozen prefix is computed; `PrefixStandIn` must be installed unless the whole backbone is frozen. With
        ``read_tokens`` the output is ``(batch, chosen, hidden)``, see `hidden_states`.
        """
        if prefix_states is not None and whole_backbone_frozen(self):
            return prefix_states
        if prefix_states is not None:
            if self.stored_states is None:
                raise RuntimeError("prefix_states are given, but no PrefixStandIn is installed to hand them out")
            self.stored_states.states = prefix_states
        return hidden_states(self.backbone, input_ids, attention_mask, token_type_ids, read_tokens)

    def pooled(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        prefix_states: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One vector per text: ``(batch, hidden)``; arguments as in `token_states`, or those of texts in chunks."""
        if prefix_states is not None and stores_pooled(self):
            return prefix_states.squeeze(1)
        if input_ids.dim() == 3:
            chunks = over_chunks(self.pooled, input_ids, attention_mask, prefix_states, token_type_ids)
            return pool(*chunks, self.config.chunk_pooling)
        if self.pooling == "last" and can_choose_tokens(self.backbone):
            read = last_token(attention_mask).unsqueeze(1)
            return self.token_states(input_ids, attention_mask, prefix_states, token_type_ids, read).squeeze(1)
        states = self.token_states(input_ids, attention_mask, prefix_states, token_type_ids)
        if self.pooling == "pooler":
            # The pooler reads the first position: that of the first token, whichever side is padded.
            return plain_backbone(self.backbone).pooler(pool(states, attention_mask, "first").unsqueeze(1))
        return pool(states, attention_mask, self.pooling)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        prefix_states: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | TokenClassifierOutput | tuple[torch.Tensor, ...]:
        """Classify, or score, a batch of texts or pairs of texts; of a tagger every token.

        Args:
            input_ids: token ids ``(batch, length)``, padded on either side; of texts in chunks
                ``(batch, chunks, length)``, as are mask, segments and states that are not pooled.
            attention_mask: ``(batch, length)``; without it every position counts as a token.
            labels: leaf ids ``(batch,)``, zeros and ones ``(batch, num_labels)`` when ``problem_type`` is
                multi_label_classification, scores when ``problem_type`` is regression, or tag ids ``(batch, length)``,
                -100 where none counts. With them the output carries the plain mean loss; training uses the losses of
                `opinionlm.training.losses.base` on the logits instead.
            token_type_ids: which text of a pair a token belongs to; see `hidden_states`.
            prefix_states: stored output of the frozen prefix, see `token_states`.
            return_dict: as in every transformers model.

        Returns:
            Logits ``(batch, num_labels)``, of a tagger ``(batch, length, num_labels)``, in float32, and the loss when
            labels are given.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        read = self.pooled if self.pools else self.token_states
        logits = self.head(read(input_ids, attention_mask, prefix_states, token_type_ids)).float()
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits.squeeze(-1), labels.float())
        elif labels is not None and self.config.problem_type == "multi_label_classification":
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), labels if self.pools else labels.flatten())
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return self.output_class(loss=loss, logits=logits)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> OpinionClassifier:
        """Load a saved classifier; its 4-bit layers compute rightly on every processor (`mend_cpu_kernels`)."""
        loaded = super().from_pretrained(*args, **kwargs)
        mend_cpu_kernels(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded


def new_head(config: OpinionClassifierConfig, width: int, pools: bool) -> ClassificationHead | NativeHead:
    """The head that a configuration describes, with weights as torch draws them."""
    if config.head == "native":
        form = require_native_form(config.text_config, pools)
        return NativeHead(form, width, config.num_labels, config.classifier_dropout)
    hidden = config.head_hidden_sizes or []
    return ClassificationHead(width, hidden, config.num_labels, config.classifier_dropout, config.head_bias)


def whole_backbone_frozen(model: OpinionClassifier) -> bool:
    """Whether the prefix is the whole backbone, so that only the head is left to compute."""
    return model.prefix_blocks == len(anatomy_of(model.backbone).blocks)


def stores_pooled(model: OpinionClassifier) -> bool:
    """Whether one pooled vector per text is all there is to keep: the whole backbone is frozen, and the head pools."""
    return model.pools and whole_backbone_frozen(model)
