"""Prompts and answers as token ids: the text cut where it must be.

Two rules hold everywhere: whatever is too long, only the example's own text is cut, never the template and never the
answer; and nothing of an example's label enters its prompt, so that prompts are the same whatever the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

from opinionlm.data.encoding.special_tokens import PromptPieces, from_data, plain
from opinionlm.data.encoding.templates import Example, PromptTemplate
from opinionlm.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PromptEncoder:
    """Prompts and answers as token ids, so that a prompt's ids followed by an answer's are what the model reads.

    Attributes:
        template: how examples are written down.
        tokenizer: a fast tokenizer.
        max_length: tokens of prompt and answer together; of the prompt alone for encoder-decoder models.
        words: the answers of a closed label set in the order of the leaves; none for free answers.
        answer_room: with free answers, the tokens that every prompt leaves for one; labels need what the longest
            takes. It does not depend on a row's own answer, or the prompt would tell of it.
        encoder_decoder: the prompt goes to the encoder and the answer begins the decoder's text.

    Raises:
        UserError: no end token, no chat template where one is asked for, a template that leaves no room for a text,
            or labels that cannot be told apart (see `label_ids`).
    """

    template: PromptTemplate
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    words: tuple[str, ...] = ()
    answer_room: int = 0
    encoder_decoder: bool = False

    def __post_init__(self) -> None:
        source, name = self.template.source, self.tokenizer.name_or_path
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"tokenizer_name_or_path: '{name}' has no end token, with which an answer has to end")
        if self.template.chat and self.tokenizer.chat_template is None:
            raise UserError(f"{source}: chat: true, but the tokenizer '{name}' has no chat template; set chat: false")
        if not self.encoder_decoder and self.room >= self.max_length:
            raise UserError(
                f"max_length: {self.max_length} tokens leave no room for a prompt beside an answer of {self.room}; "
                "raise it"
            )
        empty = len(self.text_ids(self._written("", "", ())))
        if empty >= self.prompt_budget:
            raise UserError(
                f"{source}: prompt: {empty} tokens without any text, where max_length {self.max_length} leaves "
                f"{self.prompt_budget} beside the answer; shorten it or raise max_length"
            )
        if empty == 0:
            raise UserError(f"{source}: prompt: nothing but the text; a model needs words to continue from")

    @property
    def room(self) -> int:
        """Tokens that every prompt leaves for an answer."""
        return max(map(len, self.label_ids), default=self.answer_room)

    @cached_property
    def prompt_budget(self) -> int:
        """Tokens that a prompt may have."""
        return self.max_length if self.encoder_decoder else self.max_length - self.room

    def prompt_ids(self, text: str, context: str = "", examples: Sequence[Example] = ()) -> list[int]:
        """Token ids of a prompt, at most `prompt_budget` of them.

        Raises:
            UserError: template and examples alone are longer than that.
        """
        return self.text_ids(self.written_prompt(text, context, examples))

    def written_prompt(self, text: str, context: str = "", examples: Sequence[Example] = ()) -> str:
        """A prompt as `text_ids` tokenises it, marks around what comes from data, cut at the end until it fits."""
        while True:
            written = self._written(text, context, examples)
            excess = len(self.text_ids(written)) - self.prompt_budget
            if excess <= 0:
                return written
            if context:
                context = self._shortened(context, excess)
            elif text:
                text = self._shortened(text, excess)
            else:
                raise UserError(
                    f"{self.template.source}: prompt: {len(examples)} examples and the template are {excess} tokens "
                    f"longer than max_length {self.max_length} allows; show fewer or raise max_length"
                )

    def is_shortened(self, written: str, text: str, context: str = "", examples: Sequence[Example] = ()) -> bool:
        """Whether `written_prompt` had to cut the text or the context."""
        return written != self._written(text, context, examples)

    def prompt_length(self, examples: Sequence[Example]) -> int:
        """Tokens of a prompt with these examples and no text: what demonstrations cost before any is cut."""
        return len(self.text_ids(self._written("", "", examples)))

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer as it follows the prompt, end token included.

        A tokenizer may write the first word of a text otherwise than the same word further on, so the answer is
        tokenised behind the template's prompt, which is then taken off.

        Raises:
            UserError: the end of the template's prompt and the beginning of the answer form one token.
        """
        written = self._written_answer(answer)
        if self.encoder_decoder:
            # Here the answer continues nothing: the blank in front of it would be one at the beginning of a text.
            return self._pieces.ids(written.lstrip(), add_special_tokens=False) + self.end_ids
        prompt = self._written("", "", ())
        before, joint = self.text_ids(prompt), self.text_ids(prompt + written)
        if joint[: len(before)] != before:
            raise UserError(
                f"{self.template.source}: answer: the tokenizer joins the prompt's end and {plain(written)!r} to one "
                "token; let the prompt end in a colon or a line break, and the answer begin with the blank"
            )
        return joint[len(before) :] + self.end_ids

    @cached_property
    def label_ids(self) -> list[list[int]]:
        """Answer ids of every label, end token included, in the order of the leaves.

        No label is the beginning of another, even without the end token: its score would hold the other's, from a
        model that has not yet learned when to stop.

        Raises:
            UserError: a label without tokens, equal to another, or the beginning of another.
        """
        ids = [self.answer_ids(word) for word in self.words]
        bare = [row[: len(row) - len(self.end_ids)] for row in ids]
        for word, row in zip(self.words, bare, strict=True):
            if not row:
                raise UserError(f"{self.template.source}: labels: {word!r} has no tokens in this vocabulary")
        for (word, row), (other, longer) in permutations(zip(self.words, bare, strict=True), 2):
            if longer[: len(row)] == row:
                relation = "has the same tokens as" if longer == row else "begins like"
                raise UserError(
                    f"{self.template.source}: labels: {other!r} {relation} {word!r} ({len(row)} of its tokens), so "
                    "that their scores would be mixed up; give one of them other words under `labels`"
                )
        return ids

    def is_aligned(self, prompt: str, answer: str) -> bool:
        """Whether a written prompt and an answer, tokenised as one text, give the prompt's tokens, then the answer's.

        Only then does training see what generation will: the check of the opinion paper's section 9.4, step 4.4.
        For encoder-decoder models the two are separate texts, and nothing can go wrong.
        """
        if self.encoder_decoder:
            return True
        parts = self.text_ids(prompt) + self.answer_ids(answer)[: -len(self.end_ids)]
        return self.text_ids(prompt + self._written_answer(answer)) == parts

    @cached_property
    def end_ids(self) -> list[int]:
        """What ends an answer: the tokenizer's end token, or what ends a turn in its chat template.

        Gemma 3's tokenizer does not name ``<end_of_turn>`` among its special tokens, so that all are looked through
        that structure a conversation.
        """
        end = [self.tokenizer.eos_token_id]
        if not self.template.chat:
            return end
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        rest = self.tokenizer.apply_chat_template(turns, tokenize=False).rpartition("!")[2]
        found = self._pieces.ids(rest, add_special_tokens=False)
        return [token for token in found if token in self._pieces.control_ids][:1] or end

    def _written(self, text: str, context: str, examples: Sequence[Example]) -> str:
        """The prompt as text, in the model's turn where there are turns; what comes from data is marked."""
        shown = [
            Example(
                from_data(shot.text), shot.answer if self.words else from_data(shot.answer), from_data(shot.context)
            )
            for shot in examples
        ]
        prompt = self.template.render(from_data(text), from_data(context), shown, self.words)
        if not self.template.chat:
            return prompt
        turn = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)

    def text_ids(self, written: str) -> list[int]:
        """Token ids of a written prompt, behind the tokenizer's special tokens (a chat template writes its own)."""
        ids = self._pieces.ids(written, add_special_tokens=not self.template.chat)
        ends = bool(ids) and ids[-1] == self.tokenizer.eos_token_id
        return ids[:-1] if ends and not self.encoder_decoder else ids

    def _written_answer(self, answer: str) -> str:
        """An answer; the words of a label are the template's own, a free answer comes from data."""
        return self.template.render_answer(answer if self.words else from_data(answer))

    @cached_property
    def _pieces(self) -> PromptPieces:
        return PromptPieces(self.tokenizer)

    def _shortened(self, text: str, excess: int) -> str:
        """A text without its last ``excess`` tokens, at the least without its last character."""
        starts = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = starts["offset_mapping"]
        keep = len(offsets) - excess
        return text[: min(offsets[keep][0], len(text) - 1)] if keep > 0 else ""
