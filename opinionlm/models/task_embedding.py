"""Embedding rows for task tokens: new rows that train beside old ones that cannot change."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from opinionlm.models.families import family_of

# AdaPT says "randomly initialize"; this is how the pretrained families initialise their embeddings.
STANDARD_DEVIATION = 0.02


class TaskEmbedding(nn.Module):
    """An embedding with further rows in a parameter of their own.

    Were the rows part of one weight, weight decay and momentum would reach the old ones whatever masks the gradient,
    and every step would make a gradient as large as the vocabulary.

    Args:
        old: the model's own embedding; it trains or not as before.
        count: number of rows to add, N(0, 0.02) from torch's global generator.
        scaled: whether the old embedding multiplies its rows by its ``embed_scale``.
    """

    def __init__(self, old: nn.Embedding, count: int, scaled: bool = False) -> None:
        super().__init__()
        self.scaled = scaled
        self.old = old
        self.first_id = old.num_embeddings
        weight = old.weight
        self.rows = nn.Parameter(torch.empty(count, old.embedding_dim, dtype=weight.dtype, device=weight.device))
        nn.init.normal_(self.rows, mean=0.0, std=STANDARD_DEVIATION)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed ``(batch, length)`` ids: old ones as the model did, new ones by the added rows."""
        is_new = input_ids >= self.first_id
        embedded = self.old(input_ids.masked_fill(is_new, 0))
        added = nn.functional.embedding((input_ids - self.first_id).clamp(min=0), self.rows)
        if self.scaled:
            added = added * self.old.embed_scale.to(added.dtype)
        return torch.where(is_new.unsqueeze(-1), added, embedded)


def add_task_rows(backbone: PreTrainedModel, count: int) -> TaskEmbedding:
    """Give a backbone embedding rows for ``count`` task tokens, whose ids begin where its own rows end."""
    family = family_of(backbone.config)
    embedding = TaskEmbedding(backbone.get_input_embeddings(), count, family.embedding_scaled)
    backbone.set_input_embeddings(embedding)
    if family.embedding_names is not None:
        # Saving has to know of both.
        alias, name = family.embedding_names
        backbone._tied_weights_keys = {f"{alias}.{part}": f"{name}.{part}" for part in ("old.weight", "rows")}
        backbone.all_tied_weights_keys = backbone.get_expanded_tied_weights_keys(all_submodels=False)
    return embedding


def task_rows(backbone: PreTrainedModel) -> nn.Parameter | None:
    """The rows that `add_task_rows` added; None where there are none."""
    embedding = backbone.get_input_embeddings()
    return embedding.rows if isinstance(embedding, TaskEmbedding) else None
