"""Prompt templates and the data they are for: one written from what a data set says of itself, mismatches noticed."""

from __future__ import annotations

import re

from opinionlm.data.encoding.templates import PromptTemplate, load_template
from opinionlm.data.prepared import PreparedDataset, read_manifest
from opinionlm.errors import UserError

# As `prompt_template`: write it from the description of the data.
AUTO = "auto"
LABELS = "configs/prompts/classify.yaml"
# Words that say what is to be done, not what with: those of templates for any data.
GENERAL = """about after answer answers according assign based before below between category chat choose class classes
classify closely complete context could describe determine each either english example examples exactly express
expresses expressed first following from give given into instruction just label labels language likely list message
model most must need nothing only options output please post posts predict prediction provide question read reply
respond response return second select sentence short shown should single summarise summarize summary tell text texts
than that their then there these this those three type user what when where whether which with without word words
write written would your"""
SHORTEST_WORD = 5
# Words are compared by so many letters, so that review and reviews are one.
STEM = 5


def template_for(name: str | None, prepared: PreparedDataset) -> PromptTemplate:
    """The template that an option names, or for ``auto`` the one that is written from the data.

    Without a name it is the general one for one label of a text, and elsewhere the one that is written.

    Raises:
        UserError: as `load_template`.
    """
    if name is None:
        name = LABELS if prepared.task == "sequence" else AUTO
    return written_template(prepared) if name == AUTO else load_template(name)


def written_template(prepared: PreparedDataset) -> PromptTemplate:
    """A template that tells what the data are, as their YAML describes them, and what is asked."""
    match prepared.task:
        case "question_answering":
            asked, text, answer = "Answer the question.", "Question", "Answer"
        case "summarization":
            asked, text, answer = "Summarise the text.", "Text", "Summary"
        case "instruction":
            asked, text, answer = "Follow the instruction.", "Instruction", "Response"
        case "multi_label":
            asked, text, answer = "Say which of the labels the text has, or none. Labels: {labels}.", "Text", "Labels"
        case _:
            asked, text, answer = "Choose the label of the text. Labels: {labels}.", "Text", "Label"
    about = description_of(prepared).replace("{", "{{").replace("}", "}}")
    shown = f"{text}: {{text}}{{context}}\n{answer}:"
    return PromptTemplate(
        prompt=f"{about} {asked}".strip() + f"\n\n{{examples}}{shown}",
        context="\nSecond text: {context}" if answer in ("Label", "Labels") else "\nContext: {context}",
        example=f"{shown}{{answer}}\n\n",
        source="prompt_template: auto",
    )


def template_warning(template: PromptTemplate, prepared: PreparedDataset) -> list[str]:
    """A line where a template speaks of labels, or of something else, of which the data say not a word."""
    if "{labels}" in template.prompt and prepared.taxonomy is None:
        return [f"warning: {template.source} shows {{labels}}, the data have none; prompt_template: auto fits them"]
    about = description_of(prepared)
    names = [] if prepared.taxonomy is None else [name for path in prepared.taxonomy.paths for name in path]
    known = stems(" ".join([about, prepared.name, *names]))
    own = {word for word in words_of(template.prompt) if word not in GENERAL.split()}
    if not about or not own or stems(" ".join(own)) & known:
        return []
    spoken = ", ".join(sorted(own))
    return [
        f"warning: {template.source} speaks of {spoken}, the data of nothing like it ({about.rstrip('.')}); "
        "prompt_template: auto writes one for them"
    ]


def require_place_for_pairs(template: PromptTemplate, prepared: PreparedDataset) -> None:
    """Refuse a template that would leave out the second text of every pair, or the contexts that there are.

    Raises:
        UserError: it shows no ``{context}``.
    """
    train = prepared.dataset["train"]
    if template.shows_context:
        return
    if "text_pair" in train.column_names:
        raise UserError(
            f"prompt_template: {template.source} shows no {{context}}, where the second text of a pair goes; write it "
            "into its prompt, or use prompt_template: auto"
        )
    if "context" in train.column_names and any(train["context"]):
        raise UserError(
            f"prompt_template: {template.source} shows no {{context}}, and texts of {prepared.name} have contexts; "
            "write it into its prompt, use prompt_template: auto, or take the column context out of the dataset YAML"
        )


def unread_features(prepared: PreparedDataset) -> list[str]:
    """A line where the data have columns beside the text, which no prompt holds."""
    names = ", ".join(feature.name for feature in prepared.features)
    return [f"reads   the text without {names}: prompts hold no features"] if names else []


def description_of(prepared: PreparedDataset) -> str:
    """What the dataset YAML says of the data; blank where it says nothing, or the folder is gone."""
    spec = (read_manifest(prepared.path) or {}).get("spec") or {}
    return str(spec.get("description", "")).strip()


def words_of(text: str) -> list[str]:
    """The longer words of a text in small letters, without fields in braces."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"\{\w*\}", " ", text).lower())
    return [word for word in words if len(word) >= SHORTEST_WORD]


def stems(text: str) -> set[str]:
    """The beginnings of the longer words of a text."""
    return {word[:STEM] for word in words_of(text.replace("_", " "))}
