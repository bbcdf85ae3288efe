"""A tokenizer that puts task tokens into texts, so that training, predict.py and pipelines read them alike.

It is saved with a model and comes back from ``AutoTokenizer.from_pretrained`` once this package is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PaddingStrategy, TruncationStrategy

from opinionlm.adaptation.adapt.task_tokens import FILE_NAME, TaskTokens
from opinionlm.data.encoding.special_tokens import surrounding_ids
from opinionlm.errors import UserError
from opinionlm.models.classifier_config import OpinionClassifierConfig

# Of the tokenizer that is extended; all else is in its backend.
KEPT = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
)


class TaskTokenTokenizer(PreTrainedTokenizerFast):
    """Tokenises single texts, inserts task tokens, then truncates: what a cut leaves of a text does not change them.

    It has no ``__init__``: transformers would take a class with one for a tokenizer that builds its own backend.
    """

    vocab_files_names = PreTrainedTokenizerFast.vocab_files_names | {"task_tokens_file": FILE_NAME}
    task_tokens: TaskTokens

    @classmethod
    def extend(cls, tokenizer: PreTrainedTokenizerBase, task_tokens: TaskTokens) -> TaskTokenTokenizer:
        """A tokenizer's texts with task tokens; the given one stays as it is."""
        kept = {name: getattr(tokenizer, name) for name in KEPT}
        extended = cls(tokenizer_object=tokenizer.backend_tokenizer, **tokenizer.special_tokens_map, **kept)
        extended.task_tokens = task_tokens
        return extended

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> TaskTokenTokenizer:
        """Load what was saved.

        Raises:
            UserError: if the file of task tokens is missing or damaged.
        """
        tokenizer = super().from_pretrained(*args, **kwargs)
        file = tokenizer.init_kwargs.get("task_tokens_file")
        tokenizer.task_tokens = TaskTokens.load(Path(args[0]) if file is None else Path(file).parent)
        return tokenizer

    def _save_pretrained(self, save_directory: str, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        """Write the task tokens beside the tokenizer's own files."""
        self.task_tokens.save(Path(save_directory))
        return (*super()._save_pretrained(save_directory, *args, **kwargs), str(Path(save_directory) / FILE_NAME))

    def _encode_plus(
        self,
        text: str | list[str],
        text_pair: str | list[str] | None = None,
        add_special_tokens: bool = True,
        padding_strategy: PaddingStrategy = PaddingStrategy.DO_NOT_PAD,
        truncation_strategy: TruncationStrategy = TruncationStrategy.DO_NOT_TRUNCATE,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        verbose: bool = True,
        **kwargs: Any,
    ) -> BatchEncoding:
        """What calling the tokenizer does; ``input_ids`` and ``attention_mask`` come back.

        Raises:
            UserError: if asked for what an inserted token lacks: a place between texts, a word, offsets.
        """
        asked = [name for name in UNSERVED if kwargs.get(name)] + ([] if text_pair is None else ["text_pair"])
        if asked:
            raise UserError(f"{asked[0]}: task tokens are put into single texts only, and have no place in them")
        batched = not isinstance(text, str)
        bare = super()._encode_plus(list(text) if batched else [text], add_special_tokens=False, verbose=False)
        rows = self.task_tokens.insert(bare["input_ids"])
        before, after = surrounding_ids(self) if add_special_tokens else ([], [])
        if truncation_strategy != TruncationStrategy.DO_NOT_TRUNCATE and max_length is not None:
            room = max(max_length - len(before) - len(after), 0)
            right = self.truncation_side == "right"
            rows = [row[:room] if right else row[len(row) - min(room, len(row)) :] for row in rows]
        rows = [[*before, *row, *after] for row in rows]
        if batched and padding_strategy == PaddingStrategy.DO_NOT_PAD and return_tensors is None:
            # What `pad` would do one text at a time.
            return BatchEncoding({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]})
        return self.pad(
            {"input_ids": rows if batched or return_tensors else rows[0]},
            padding=padding_strategy,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
            verbose=verbose,
        )


UNSERVED = ("is_split_into_words", "return_offsets_mapping", "return_overflowing_tokens", "return_special_tokens_mask")


def register_task_token_tokenizer() -> None:
    """Let ``AutoTokenizer`` find the class by its name in a saved tokenizer's configuration; safe to call twice.

    Models without task tokens name their own tokenizer class there, which wins over this one.
    """
    AutoTokenizer.register(OpinionClassifierConfig, tokenizer_class=TaskTokenTokenizer, exist_ok=True)
