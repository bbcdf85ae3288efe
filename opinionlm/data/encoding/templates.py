"""Templates of prompts and answers: read from files, written out, and read back from what a model writes."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from opinionlm.errors import UserError, one_line
from opinionlm.utils.shipped import find_shipped
from opinionlm.utils.yaml import load_yaml

if TYPE_CHECKING:
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
            write a word and the blank before it as one token, so a prompt should not end in a blank. What it writes
            around the answer is taken off again from what a model writes, see `read_answer`.
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
        if len(self._answer_parts) != 2:
            raise UserError(f"{self.source}: answer: writes {{answer}} more than once; write it once")
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

    def read_answer(self, written: str) -> str:
        """The answer in what a model wrote, the inverse of `render_answer` but for blanks.

        What the template writes before and behind an answer is taken off where it is there.
        """
        before, behind = (part.strip() for part in self._answer_parts)
        return written.strip().removeprefix(before).removesuffix(behind).strip()

    @property
    def _answer_parts(self) -> list[str]:
        """What `answer` writes before and behind the answer."""
        return self.render_answer("\0").split("\0")

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


def normalised(text: str) -> str:
    """Text without differences of case and of blanks, as two are compared."""
    return " ".join(text.casefold().split())


def label_words(template: PromptTemplate, taxonomy: Taxonomy) -> list[str]:
    """The answer of every leaf, in the order of the leaves.

    Raises:
        UserError: words for a label that is not there, no words at all, or the same words for two labels (capitals
            and blanks make no difference to whoever reads an answer).
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
        if (read := normalised(word)) in seen:
            raise UserError(
                f"{template.source}: labels: {seen[read]!r} and {leaf!r} have the same answer {word!r}; "
                "give one of them other words"
            )
        seen[read] = leaf
    return words
