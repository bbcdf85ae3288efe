"""From training texts to a tokenizer that knows their sequences (AdaPT, Algorithms 1 and 2)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from opinionlm.adaptation.adapt.search import MinedSequence, keep_best, mine
from opinionlm.adaptation.adapt.task_tokens import TaskTokens
from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.config.checks import single_text_problem, uses_task_tokens
from opinionlm.config.config import Config
from opinionlm.data.encoding.columns import subset
from opinionlm.data.encoding.tokenizers import load_tokenizer
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.spec import LABEL_TASKS
from opinionlm.errors import UserError
from opinionlm.models.backbones import read_model_config


@dataclass(frozen=True)
class TaskVocabulary:
    """The sequences that became tokens.

    Attributes:
        sequences: the n-th has the n-th id behind the model's own; none without task tokens.
        seconds: that mining took.
    """

    sequences: tuple[MinedSequence, ...] = ()
    seconds: float = 0.0


def build_tokenizer(prepared: PreparedDataset, config: Config) -> tuple[PreTrainedTokenizerBase, TaskVocabulary]:
    """Load the model's tokenizer and, where the config asks for it, mine the training texts and extend it.

    Equal texts and options give equal sequences, so a run that goes on after a stop finds the same again.

    Raises:
        UserError: no tokenizer or model; or data that are not single texts with a label or hold no sequence, or a
            search that outgrows its memory.
    """
    model_config = read_model_config(config.model)
    tokenizer = load_tokenizer(config.model)
    if not uses_task_tokens(config.adapt, config.method.adaptation):
        return tokenizer, TaskVocabulary()
    check_texts(prepared, config.method.adaptation, config.source)
    started = time.perf_counter()
    texts = subset(prepared.dataset["train"], config.data.max_train_samples, config.training.seed)["text"]
    # Called, not encoded by the backend, whose own truncation a tokenizer.json may have set.
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    kept = keep_best(mine(rows, config.adapt), config.adapt, len(tokenizer))
    if not kept:
        adapt = config.adapt
        raise UserError(
            f"{config.source}: task_tokens: no sequence of {adapt.sequence_min_length} tokens or more occurs in "
            f"{adapt.sequence_min_frequency} of the {len(rows):,} training texts; lower sequence_min_frequency or "
            "sequence_min_length, or set task_tokens: off"
        )
    # Behind the rows of the embedding.
    first_id = model_config.get_text_config().vocab_size
    tokens = TaskTokens(tuple(one.tokens for one in kept), config.adapt.sequence_max_gap, first_id)
    extended = TaskTokenTokenizer.extend(tokenizer, tokens)
    return extended, TaskVocabulary(tuple(kept), time.perf_counter() - started)


def check_texts(prepared: PreparedDataset, adaptation: str, source: str) -> None:
    """AdaPT reads one text and labels it.

    Raises:
        UserError: if the data are of another kind.
    """
    pairs = "text_pair" in prepared.dataset["train"].column_names
    if prepared.task not in LABEL_TASKS or pairs:
        given_data = "pairs of texts" if pairs else f"data of task {prepared.task!r}"
        raise UserError(f"{source}: {single_text_problem(adaptation, given_data)}")
