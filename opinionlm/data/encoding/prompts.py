"""Prompts and answers as text: templates from files, labels as words, the text cut where it must be.

Two rules hold everywhere: whatever is too long, only the example's own text is cut, never the template and never the
answer; and nothing of an example's label enters its prompt, so that prompts are the same whatever the label.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from opinionlm.data.encoding.special_tokens import PromptPieces, from_data, plain
from opinionlm.errors import UserError, one_line
from opinionlm.utils.shipped import find_shipped
from opinionlm.utils.yaml import load_yaml

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from opinionlm.data.taxonomy import Taxonomy

# What may stand in braces in each part of a template.
PROMPT_FIELDS = frozenset({"text", "context", "labels", "examples"})
ANSWER_FIELDS = frozenset({"answer"})
CONTEXT_FIELDS = frozenset({"context"})
EXAMPLE_FIELDS = frozenset({"text", "context", "answer"})


@dataclass(frozen=True)
class Example:
    """A solved example, shown in a prompt: its text, the words of its answer, and its context where it has one."""

    text: str
    answer: str
    context: str = ""


@dataclass(frozen=True)
class PromptTemplate:
    """How an example is written down for a language model.

    Attributes:
        prompt: the prompt, with ``{text}``; it may hold ``{context}``, ``{labels}`` (all answers, by commas) and
            ``{examples}``. Double braces stand for braces.
        answer: how the answer ``{answer}`` continues the prompt, the blank in front of it included: most vocabularies
            write a word and the blank before it as one token, so a prompt should not end in a blank.
        context: how a context is written where there is one; without one nothing takes its place.
        example: one demonstration, with ``{text}``, ``{context}`` and ``{answer}``; used where ``{examples}`` stands.
        labels: label → words of its answer; by default the label with blanks for underscores.
        chat: write the prompt as a user's turn with the tokenizer's own chat template, the answer as the model's.
        source: the file, for error messages.
    """

    prompt: str
    answer: str = " {answer}"
    context: str = "{context}"
    example: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    chat: bool = False
    source: str = "the template"

    def __post_init__(self) -> None:
        for name, required, allowed in (
            ("prompt", {"text"}, PROMPT_FIELDS),
            ("answer", ANSWER_FIELDS, ANSWER_FIELDS),
            ("context", CONTEXT_FIELDS, CONTEXT_FIELDS),
            ("example", EXAMPLE_FIELDS - CONTEXT_FIELDS if self.example else set(), EXAMPLE_FIELDS),
        ):
            found = self._fields_of(name)
            if unknown := found - allowed:
                raise UserError(
                    f"{self.source}: {name}: unknown field {{{min(unknown)}}}; known are "
                    f"{', '.join(f'{{{known}}}' for known in sorted(allowed))}, and {{{{ }}}} stand for braces"
                )
            if missing := required - found:
                raise UserError(
                    f"{self.source}: {name}: lacks the field {{{min(missing)}}}; write it where it belongs"
                )
        if "examples" in self._fields_of("prompt") and not self.example:
            raise UserError(
                f"{self.source}: prompt: holds {{examples}}, but `example` does not say how one is written"
            )
        if "context" in self._fields_of("example") and "context" not in self._fields_of("prompt"):
            raise UserError(f"{self.source}: example: shows {{context}}, which the prompt does not")

    def _fields_of(self, name: str) -> set[str]:
        """What stands in braces in one part, conversions and formats included so that they are refused."""
        content = {"prompt": self.prompt, "answer": self.answer, "context": self.context, "example": self.example}
        try:
            return {
                found + (f":{form}" if form else "") + (f"!{conversion}" if conversion else "")
                for _, found, form, conversion in string.Formatter().parse(content[name])
                if found is not None
            }
        except ValueError as error:
            raise UserError(f"{self.source}: {name}: {error}; a brace of the text is written twice") from error

    @property
    def shows_context(self) -> bool:
        """Whether the prompt has a place for a context."""
        return "context" in self._fields_of("prompt")

    def render(self, text: str, context: str, examples: Sequence[Example], words: Sequence[str]) -> str:
        """The prompt as text, the chat template aside; braces within the texts mean nothing."""
        shown = [
            self.example.format(
                text=shot.text, context=self.render_context(shot.context), answer=self.render_answer(shot.answer)
            )
            for shot in examples
        ]
        return self.prompt.format(
            text=text, context=self.render_context(context), labels=", ".join(words), examples="".join(shown)
        )

    def render_context(self, context: str) -> str:
        """A context as the prompt writes it, nothing where there is none."""
        return self.context.format(context=context) if context else ""

    def render_answer(self, answer: str) -> str:
        """An answer as it continues the prompt."""
        return self.answer.format(answer=answer)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that it writes, wherever that comes from."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The content of a template's file."""
        content = asdict(self) | {"labels": dict(self.labels)}
        del content["source"]
        return content


def load_template(path: str | Path) -> PromptTemplate:
    """Read a template from a YAML file, whose keys are the attributes of `PromptTemplate`.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value of the wrong kind, or a field missing or unknown.
    """
    place = find_shipped(path, "configs/prompts")
    try:
        content = load_yaml(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"prompt_template: no such file: {place}; the shipped ones are in configs/prompts/") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"prompt_template: cannot read {place}: {one_line(error)}") from error
    return template_from(content, str(place))


def template_from(content: object, source: str) -> PromptTemplate:
    """A template from the content of its file: what YAML, or the file of a saved model, holds.

    Raises:
        UserError: as `load_template`.
    """
    known = [option.name for option in fields(PromptTemplate) if option.name != "source"]
    if not isinstance(content, dict) or "prompt" not in content:
        raise UserError(f"{source}: a template is a mapping with at least `prompt`; known are {', '.join(known)}")
    if unknown := [key for key in content if key not in known]:
        raise UserError(f"{source}: {unknown[0]}: unknown; known are {', '.join(known)}")
    for key, value in content.items():
        match key:
            case "chat":
                fits, kind = isinstance(value, bool), "true or false"
            case "labels":
                fits = isinstance(value, dict) and all(isinstance(item, str) for item in (*value, *value.values()))
                kind = "a mapping of labels to their words (quote yes, no, on and off)"
            case _:
                fits, kind = isinstance(value, str), "text (quote it)"
        if not fits:
            raise UserError(f"{source}: {key}: {value!r} is not {kind}")
    return PromptTemplate(**content, source=source)


def label_words(template: PromptTemplate, taxonomy: Taxonomy) -> list[str]:
    """The answer of every leaf, in the order of the leaves.

    Raises:
        UserError: words for a label that is not there, no words at all, or the same words for two labels (capitals
            and blanks around them make no difference to whoever reads an answer).
    """
    if unknown := [name for name in template.labels if name not in taxonomy.leaves]:
        raise UserError(
            f"{template.source}: labels: {unknown[0]!r} is not one of the data's labels {', '.join(taxonomy.leaves)}"
        )
    words = [template.labels.get(leaf, leaf.replace("_", " ")).strip() for leaf in taxonomy.leaves]
    seen: dict[str, str] = {}
    for leaf, word in zip(taxonomy.leaves, words, strict=True):
        if not word:
            raise UserError(f"{template.source}: labels: {leaf}: has no words; give it some")
        if word.casefold() in seen:
            raise UserError(
                f"{template.source}: labels: {seen[word.casefold()]!r} and {leaf!r} have the same answer {word!r}; "
                "give one of them other words"
            )
        seen[word.casefold()] = leaf
    return words


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

    def prompt_text(self, text: str, context: str = "", examples: Sequence[Example] = ()) -> str:
        """A prompt as people read it: the context, then the text, cut at the end until it fits."""
        return plain(self.written_prompt(text, context, examples))

    def written_prompt(self, text: str, context: str = "", examples: Sequence[Example] = ()) -> str:
        """A prompt as `text_ids` tokenises it: cut as `prompt_text`, with marks around what comes from data."""
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
        """What ends an answer: the tokenizer's end token, or what ends a turn in its chat template."""
        end = [self.tokenizer.eos_token_id]
        if not self.template.chat:
            return end
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        rest = self.tokenizer.apply_chat_template(turns, tokenize=False).rpartition("!")[2]
        found = self._pieces.ids(rest, add_special_tokens=False)
        return [token for token in found if token in self.tokenizer.all_special_ids][:1] or end

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
