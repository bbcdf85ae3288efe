"""The frozen blocks below those of a language model that train: computed once for every prompt with its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from peft import PeftModel
from transformers import PreTrainedModel, TrainingArguments

from opinionlm.adaptation.methods import trained_blocks
from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import anatomy_of
from opinionlm.models.frozen_prefix import LanguagePrefix
from opinionlm.training.instruct_trainer import InstructSplit
from opinionlm.training.prefix_cache import PrefixStates
from opinionlm.training.prefix_cache_building import cached_splits
from opinionlm.training.spending import Preparation, preparation_of


@dataclass(frozen=True)
class AnswerPrefix:
    """The splits as training reads them, the output of frozen blocks computed where it can be.

    Attributes:
        prefix: the model's frozen part; None where no block is frozen below all that trains.
        readers: of each split.
        states: what the frozen blocks put out, by split; None without a cache.
    """

    prefix: LanguagePrefix | None
    readers: dict[str, InstructSplit]
    states: dict[str, PrefixStates] | None

    def preparation(self) -> Preparation:
        """What this process spent before training."""
        return preparation_of(0.0, 0.0, self.states, int(self.readers["train"].learned.lengths.sum()))


def answer_prefix(
    model: PreTrainedModel | PeftModel,
    readers: dict[str, InstructSplit],
    method: MethodConfig,
    arguments: TrainingArguments,
    pad_id: int,
) -> AnswerPrefix:
    """Compute what the frozen blocks of a language model put out for prompts and answers.

    Scoring and writing answers need keys and values of every block, and so compute them all.

    Args:
        model: its adaptation applied.
        readers: the splits as training would read them without a cache.
        method: which blocks train, and whether and where states are kept.
        arguments: device, processes and autocast of the run.
        pad_id: fills batches while states are computed.

    Raises:
        UserError: ``cache_frozen: on`` and there is no frozen prefix, or no room for the cache.
    """
    prefix = language_prefix(model, method)
    if prefix is None:
        if method.cache_frozen == "on":
            raise UserError(
                "cache_frozen: on, but no block of this model is frozen below all that train, or it has an encoder "
                "whose output is not kept; use cache_frozen: auto"
            )
        return AnswerPrefix(None, readers, None)
    if method.cache_frozen == "off":
        return AnswerPrefix(prefix, readers, None)
    texts = {name: split.learned.as_encoded() for name, split in readers.items()}
    states = cached_splits(prefix, texts, method, arguments, pad_id)
    if states is not None:
        readers = {
            name: replace(split, learned=split.learned.with_states(states[name])) for name, split in readers.items()
        }
    return AnswerPrefix(prefix, readers, states)


def language_prefix(model: PreTrainedModel | PeftModel, method: MethodConfig) -> LanguagePrefix | None:
    """The frozen part of a causal language model whose top blocks train; None for any other."""
    if method.adaptation not in ("top_blocks", "bottom_frozen") or model.config.is_encoder_decoder:
        return None
    blocks = len(anatomy_of(model).blocks)
    frozen = blocks - trained_blocks(method, blocks)
    return LanguagePrefix(model, frozen) if frozen else None
