"""Log-probabilities of a closed set of answers: every prompt runs once, all labels share its key-value cache.

What all prompts begin with (instruction, demonstrations, and the virtual tokens of prompt methods) runs once for the
whole call. Logits exist only behind the tokens that a label needs, never for ``batch x length x vocabulary``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from peft import PeftModel, PeftType
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.errors import UserError
from opinionlm.evaluation.label_trie import LabelTree, build_label_tree, common_prefix
from opinionlm.models.families import family_of
from opinionlm.utils.memory import free_gpu_memory

Normalisation = Literal["sum", "mean"]
# Cached positions held at a time, as a multiple of the budget of computed ones: a cached one costs no activations.
CACHED_PER_COMPUTED = 8
# Bytes of the keys and values of a batch of prompts, and again of the copies that labels continue, on a processor; a
# GPU gives a quarter of its free memory. One prompt with all its labels always runs.
CACHE_LIMIT = 1 << 29
# Logits held at a time, in numbers (float32: 256 MB).
LOGIT_LIMIT = 1 << 26


def scored_ids(encoder: PromptEncoder) -> list[list[int]]:
    """Token ids by which labels are scored: their words without the end token.

    A `PromptEncoder` makes sure that no label begins with another, so the words alone tell them apart. The end token
    would cost one more distribution per label, and a model that was not trained on the template seldom ends there.
    """
    return [ids[: -len(encoder.end_ids)] for ids in encoder.label_ids]


@torch.inference_mode()
def score_labels(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    label_ids: Sequence[Sequence[int]],
    pad_token_id: int,
    normalisation: Normalisation = "sum",
    batch_size_tokens: int = 8192,
    given: Sequence[int] = (),
) -> np.ndarray:
    """Log-probability of every label behind every prompt.

    Args:
        model: a causal or an encoder-decoder language model, on its device; scored in evaluation mode.
        prompts: token ids, special tokens included; of any lengths.
        label_ids: token ids of each label, behind the prompt (for an encoder-decoder: behind its start token).
        pad_token_id: any valid id; padding is masked.
        normalisation: ``sum`` of the token log-probabilities, or their ``mean``, which does not favour short labels.
        batch_size_tokens: at most so many tokens are computed at once, padding included; one prompt always is.
        given: of every label so many tokens at its beginning are read and not scored; by default none.

    Returns:
        float64 ``(prompts, labels)``, in nats, rows in the order of the prompts.

    Raises:
        UserError: an empty prompt or label, two equal labels, or a model that is no language model.
    """
    tree = build_label_tree(label_ids, given)
    if not all(len(prompt) for prompt in prompts):
        raise UserError("prompt: a prompt has no tokens; give the template's prompt some text")
    scores = np.zeros((len(prompts), len(label_ids)))
    if not len(prompts):
        return scores
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if base.get_output_embeddings() is None:
        raise UserError(
            f"model_name_or_path: a {type(base).__name__} has no output layer over words, so it cannot score labels; "
            "give a causal or encoder-decoder language model"
        )
    was_training = model.training
    model.eval()
    try:
        scorer = Seq2SeqScorer if base.config.is_encoder_decoder else CausalScorer
        for rows, log_probabilities in scorer(model, base, tree, pad_token_id, batch_size_tokens).run(prompts):
            scores[rows] = log_probabilities @ tree.uses
    finally:
        model.train(was_training)
    return scores / tree.lengths if normalisation == "mean" else scores


@contextmanager
def logits_at(base: PreTrainedModel, positions: Tensor) -> Iterator[None]:
    """Within it the output layer sees only these rows of the hidden states ``(batch * length, hidden)``.

    The family's own scaling and soft-capping of logits still apply; logits come out as ``(positions, vocabulary)``.
    """

    def keep(module: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].flatten(0, 1)[positions],)

    handle = base.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


@dataclass
class LabelPass:
    """What both kinds of model share: batches, and reading the labels' tokens from logits.

    Attributes:
        model: as given, perhaps wrapped by PEFT.
        base: the language model itself; adapters that sit in its layers stay at work.
        tree: the labels.
        pad_token_id: fills batches.
        budget: tokens computed at once.
    """

    model: PreTrainedModel | PeftModel
    base: PreTrainedModel
    tree: LabelTree
    pad_token_id: int
    budget: int

    @property
    def device(self) -> torch.device:
        """Where the embeddings are, and so where ids go."""
        return self.base.get_input_embeddings().weight.device

    @property
    def virtual(self) -> PeftType | None:
        """The kind of prompt learning, None for models without virtual tokens."""
        if not isinstance(self.model, PeftModel) or not self.model.active_peft_config.is_prompt_learning:
            return None
        return self.model.active_peft_config.peft_type

    @cached_property
    def cached_positions(self) -> int:
        """At most so many positions of a batch have keys and values at a time; worked out once."""
        heads, blocks = family_of(self.base.config).key_values, self.base.config.get_text_config().num_hidden_layers
        assert heads is not None, "families that write have keys and values"
        position = 2 * blocks * heads[0] * heads[1] * self.base.dtype.itemsize
        limit = free_gpu_memory(self.device) // 4 if self.device.type == "cuda" else CACHE_LIMIT
        return min(CACHED_PER_COMPUTED * self.budget, limit // position)

    def logit_rows(self, per_prompt: int) -> int:
        """Prompts whose logits fit into memory together."""
        return max(1, LOGIT_LIMIT // (per_prompt * self.base.get_output_embeddings().weight.shape[0]))

    def paths(self) -> Tensor:
        """The tree's paths, padded on the right: ``(paths, steps)``."""
        rows = [[*path, *[self.pad_token_id] * (self.tree.steps - len(path))] for path in self.tree.paths]
        return torch.tensor(rows, device=self.device)

    def prompt_positions(self, batch: int, length: int) -> Tensor:
        """Rows of hidden states ``(batch * length)`` that the tree needs from the prompt's pass, prompt by prompt."""
        last = torch.arange(length - self.tree.prompt_rows, length)
        return (torch.arange(batch)[:, None] * length + last).flatten().to(self.device)

    def path_positions(self, batch: int) -> Tensor:
        """Rows of hidden states ``(batch * paths * steps)`` that the tree's nodes need, prompt by prompt."""
        inside = torch.tensor([path * self.tree.steps + position for path, position in self.tree.nodes])
        first = torch.arange(batch)[:, None] * (len(self.tree.paths) * self.tree.steps)
        return (first + inside).flatten().to(self.device)

    def read(self, logits: Tensor, batch: int, first_row: int) -> np.ndarray:
        """Log-probabilities ``(batch, scored tokens)`` of the tokens that the given distributions score, 0 elsewhere.

        Args:
            logits: ``(batch * distributions, vocabulary)``.
            batch: prompts.
            first_row: number of the first of these distributions in the tree.
        """
        logits = logits.float().view(batch, -1, logits.shape[-1])
        rows = self.tree.rows - first_row
        here = np.flatnonzero((rows >= 0) & (rows < logits.shape[1]))
        index = torch.from_numpy(rows[here]).to(logits.device)
        tokens = torch.from_numpy(self.tree.tokens[here]).to(logits.device)
        values = logits[:, index, tokens] - logits.logsumexp(dim=-1)[:, index]
        result = np.zeros((batch, len(rows)))
        result[:, here] = values.double().cpu().numpy()
        return result


class CausalScorer(LabelPass):
    """Labels behind prompts of a causal model.

    Prompts are padded on the left, so that all end in the same column. The columns that they have in common, the
    context, come from a cache that was filled once. A prompt that is shorter than the longest of its batch takes as
    much less from the context and computes that much again, instead of padding: its columns stay contiguous, which
    sliding windows need, and positions count from its own first token.
    """

    def run(self, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Row numbers and ``(rows, scored tokens)`` log-probabilities, batch by batch, longest prompts first."""
        shared = common_prefix(prompts)
        context = self.context(shared)
        size = context.get_seq_length()
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True)
        start = 0
        while start < len(order):
            longest = len(prompts[order[start]])
            computed = longest - len(shared) + len(self.tree.shared)
            count = max(1, min(self.budget // computed, self.cached_positions // (size + computed)))
            batch = order[start : start + min(count, self.logit_rows(self.tree.prompt_rows))]
            if self.virtual is not None:
                # Virtual tokens stand in front of the context and cannot be computed again.
                batch = [row for row in batch if longest - len(prompts[row]) <= len(shared)]
            yield batch, self.score([prompts[row] for row in batch], context, computed)
            start += len(batch)

    def score(self, prompts: list[Sequence[int]], context: DynamicCache, computed: int) -> np.ndarray:
        """Log-probabilities ``(prompts, scored tokens)`` of one batch.

        Args:
            prompts: the longest first.
            context: keys and values of the beginning that all of them have.
            computed: columns to compute behind the context for the longest prompt and the labels' shared tokens.
        """
        size, count = context.get_seq_length(), len(prompts)
        ids = torch.full((count, computed), self.pad_token_id)
        padding = torch.tensor([len(prompts[0]) - len(prompt) for prompt in prompts])
        for row, prompt in enumerate(prompts):
            tail = [*prompt, *self.tree.shared][-computed:]
            ids[row, computed - len(tail) :] = torch.tensor(tail)
        # Column by column: the token's place in its own prompt; negative where the column is padding.
        places = torch.arange(size + computed) - padding[:, None]
        places, mask = places.clamp(min=0).to(self.device), (places >= 0).long().to(self.device)
        cache = shifted(context, places[:, :size])
        with logits_at(self.base, self.prompt_positions(count, computed)):
            logits = self.base(
                input_ids=ids.to(self.device),
                attention_mask=mask,
                position_ids=places[:, size:],
                past_key_values=cache,
                use_cache=True,
            ).logits
        scores = self.read(logits, count, 0)
        if self.tree.paths:
            columns = len(self.tree.paths) * (size + computed + self.tree.steps)
            at_once = min(self.cached_positions // columns, self.logit_rows(len(self.tree.nodes)))
            for rows in torch.arange(count, device=self.device).split(max(1, at_once)):
                scores[rows.cpu().numpy()] += self.score_paths(rows, cache, mask, places[:, -1] + 1)
        return scores

    def score_paths(self, rows: Tensor, cache: DynamicCache, mask: Tensor, lengths: Tensor) -> np.ndarray:
        """Log-probabilities of the tokens behind the first ones, for some prompts of a batch.

        Args:
            rows: prompts to score.
            cache: of the whole batch; it is not changed.
            mask: of its columns ``(batch, columns)``.
            lengths: tokens of each prompt ``(batch,)``.
        """
        paths = self.paths()
        copies = rows.repeat_interleave(len(paths))
        with logits_at(self.base, self.path_positions(len(rows))):
            logits = self.base(
                input_ids=paths.repeat(len(rows), 1),
                # Padding behind a path is seen by nothing that is read.
                attention_mask=pad(mask[copies], (0, paths.shape[1]), value=1),
                position_ids=lengths[copies, None] + torch.arange(paths.shape[1], device=self.device),
                past_key_values=cache_of((layer.keys[copies], layer.values[copies]) for layer in cache.layers),
                use_cache=True,
            ).logits
        return self.read(logits, len(rows), self.tree.prompt_rows)

    def context(self, shared: Sequence[int]) -> DynamicCache:
        """Keys and values of the virtual tokens, if there are any, and of the tokens that all prompts begin with.

        Every layer keeps all positions, sliding windows too: their limit is in the mask, which the models make.
        """
        cache = DynamicCache()
        match self.virtual:
            case None:
                pass
            case PeftType.PREFIX_TUNING:
                learned = self.model.get_prompt(batch_size=1)
                size = learned.get_seq_length()
                # A sliding layer dropped what lies outside its window; nothing will look there.
                gaps = [(0, 0, size - layer.keys.shape[2], 0) for layer in learned.layers]
                cache = cache_of(
                    (pad(layer.keys, gap), pad(layer.values, gap))
                    for layer, gap in zip(learned.layers, gaps, strict=True)
                )
            case _:
                prompt = self.model.get_prompt(batch_size=1).to(self.base.dtype)
                self.extend(cache, "inputs_embeds", prompt)
        if len(shared):
            self.extend(cache, "input_ids", torch.tensor([list(shared)], device=self.device))
        return cache

    def extend(self, cache: DynamicCache, kind: Literal["input_ids", "inputs_embeds"], inputs: Tensor) -> None:
        """Run one row behind what a cache holds and add it to the cache."""
        length = inputs.shape[1]
        places = torch.arange(cache.get_seq_length() + length, device=self.device)[None]
        with logits_at(self.base, torch.zeros(1, dtype=torch.long, device=self.device)):
            self.base(
                **{kind: inputs},
                attention_mask=torch.ones_like(places),
                position_ids=places[:, -length:],
                past_key_values=cache,
                use_cache=True,
            )


class Seq2SeqScorer(LabelPass):
    """Labels as the decoder's text: the encoder runs once per prompt, its keys and values serve all labels."""

    def run(self, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Row numbers and ``(rows, scored tokens)`` log-probabilities, batch by batch, longest prompts first."""
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True)
        distributions = max(self.tree.prompt_rows, len(self.tree.nodes))
        start = 0
        while start < len(order):
            length = len(prompts[order[start]])
            copies = max(1, len(self.tree.paths))
            count = min(self.budget // length, self.cached_positions // (length * copies))
            batch = order[start : start + max(1, min(count, self.logit_rows(distributions)))]
            yield batch, self.score([prompts[row] for row in batch])
            start += len(batch)

    def score(self, prompts: list[Sequence[int]]) -> np.ndarray:
        """Log-probabilities ``(prompts, scored tokens)`` of one batch, the longest prompt first."""
        count, length = len(prompts), len(prompts[0])
        ids = torch.full((count, length), self.pad_token_id)
        mask = torch.zeros(count, length, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
            mask[row, : len(prompt)] = 1
        states, mask = self.encode(ids.to(self.device), mask.to(self.device))
        start = torch.tensor([self.base.config.decoder_start_token_id, *self.tree.shared], device=self.device)
        with logits_at(self.base, self.prompt_positions(count, len(start))):
            output = self.base(
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                attention_mask=mask,
                decoder_input_ids=start.repeat(count, 1),
                past_key_values=self.model.get_prompt(count) if self.virtual is PeftType.PREFIX_TUNING else None,
                use_cache=True,
            )
        scores = self.read(output.logits, count, 0)
        if self.tree.paths:
            paths = self.paths()
            cache = output.past_key_values
            cache.batch_repeat_interleave(len(paths))
            with logits_at(self.base, self.path_positions(count)):
                logits = self.base(
                    encoder_outputs=BaseModelOutput(last_hidden_state=states.repeat_interleave(len(paths), dim=0)),
                    attention_mask=mask.repeat_interleave(len(paths), dim=0),
                    decoder_input_ids=paths.repeat(count, 1),
                    past_key_values=cache,
                    use_cache=True,
                ).logits
            scores += self.read(logits, count, self.tree.prompt_rows)
        return scores

    def encode(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder states ``(batch, length, hidden)`` and their mask, virtual tokens in front where there are some."""
        embeddings = self.base.get_input_embeddings()(ids)
        if self.virtual in (PeftType.PROMPT_TUNING, PeftType.P_TUNING):
            # PEFT keeps one prompt per sub-model; these methods put only the encoder's before the text.
            size = self.model.active_peft_config.num_virtual_tokens
            virtual = self.model.get_prompt(batch_size=len(ids))[:, :size]
            embeddings = torch.cat([virtual.to(embeddings.dtype), embeddings], dim=1)
            mask = pad(mask, (size, 0), value=1)
        encoder = self.base.get_encoder()
        return encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state, mask


def cache_of(layers: Iterable[tuple[Tensor, Tensor]]) -> DynamicCache:
    """A cache that holds the given keys and values, each ``(batch, heads, columns, width)``."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(layers):
        # Updating with nothing makes the layer; updating with everything would copy it once more.
        cache.update(keys[:, :, :0], values[:, :, :0], number)
        cache.layers[number].keys, cache.layers[number].values = keys, values
    return cache


def shifted(context: DynamicCache, places: Tensor) -> DynamicCache:
    """One copy of a context per row, moved to the right.

    Args:
        context: of one row.
        places: which of its positions stands in each column ``(rows, columns)``.
    """
    if not places.shape[1]:
        return DynamicCache()
    return cache_of(
        (layer.keys[0][:, places].transpose(0, 1), layer.values[0][:, places].transpose(0, 1))
        for layer in context.layers
    )
