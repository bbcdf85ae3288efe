"""Prompts: what is cut, what is refused, and that no label gets in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from opinionlm.data.encoding.collators import InstructCollator
from opinionlm.data.encoding.examples import encode_examples
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.special_tokens import plain
from opinionlm.data.encoding.templates import Example, PromptTemplate, label_words, load_template, template_from
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.training.instruct_data import AnswerSplit, shortened_note
from tests.tiny import tiny_tokenizer

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "configs" / "prompts").glob("*.yaml"))
CHAT = (
    "{% for m in messages %}<bos>{{ m['role'] }}: {{ m['content'] }}<unk>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant:\n{% endif %}"
)
TREE = Taxonomy.from_tree({"noise": None, "subjective": ["positive", "negative", "neutral_sentiment"]})
PLAIN = PromptTemplate('which of {labels}?\npost: "{text}"\nlabel:', labels={"noise": "nothing"})


def encoder_of(template: PromptTemplate = PLAIN, max_length: int = 96, **options) -> PromptEncoder:
    options.setdefault("words", tuple(label_words(template, TREE)))
    return PromptEncoder(template, options.pop("tokenizer", tiny_tokenizer()), max_length, **options)


def posts(labels: list[int], texts: list[str]) -> Dataset:
    return Dataset.from_dict({"id": [str(row) for row in range(len(texts))], "text": texts, "label": labels})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_shipped_templates_work_with_demonstrations(path: Path) -> None:
    template = load_template(path)
    words = ["good", "bad"]
    shown = template.render("THE TEXT", "THE CONTEXT", [Example("a text", "good", "a context")], words)
    assert shown.count("THE TEXT") == 1
    # A prefix of T5 has no place for examples.
    assert ("a text" in shown and "good" in shown) == bool(template.example)
    assert shown.count("THE CONTEXT") == int(template.shows_context)
    bare = template.render("THE TEXT", "", (), words)
    assert "a text" not in bare and "THE CONTEXT" not in bare and not bare.endswith(" ")
    assert template_from(template.to_dict(), "again").render("t", "c", (), words) == template.render(
        "t", "c", (), words
    )


def test_words_of_labels() -> None:
    assert label_words(PLAIN, TREE) == ["nothing", "positive", "negative", "neutral sentiment"]
    assert "which of nothing, positive, negative, neutral sentiment?" in plain(encoder_of().written_prompt("x"))


def test_braces_in_texts_mean_nothing() -> None:
    assert '"{text} {0} {{"' in PLAIN.render("{text} {0} {{", "", (), ["a"])


@pytest.mark.parametrize("label", range(4))
def test_a_prompt_is_the_same_whatever_the_label(label: int) -> None:
    # The longest label and the shortest: neither may cut the text more, or be seen in any way.
    texts = ["is this coin any good ? " * 20, "buy now"]
    encoder = encoder_of()
    prompts = encode_examples(posts([label, label], texts), encoder)["prompt_ids"]
    assert prompts == encode_examples(posts([0, 0], texts), encoder)["prompt_ids"]


@pytest.mark.parametrize("text", ["the price fell again " * 50, "é" * 300, "🚀" * 200, " ", "x", "a {text}"])
@pytest.mark.parametrize("label", range(4))
def test_only_the_text_is_cut(text: str, label: int) -> None:
    encoder = encoder_of()
    row = encode_examples(posts([label], [text]), encoder)[0]
    assert row["reason"] == "" and row["length"] <= 96
    written = encoder.tokenizer.decode(row["prompt_ids"], skip_special_tokens=True)
    before, after = PLAIN.render("|", "", (), encoder.words).split("|")
    assert written.startswith(before) and written.endswith(after)
    assert text.startswith(written[len(before) : len(written) - len(after)].rstrip("�"))
    answer = encoder.tokenizer.decode(row["answer_ids"])
    assert answer == f" {encoder.words[label]}<eos>"
    whole = encoder.tokenizer(written + " " + encoder.words[label])["input_ids"]
    assert row["prompt_ids"] + row["answer_ids"] == [*whole, 1]
    if len(text) > 200:
        assert row["length"] > 96 - 20, "much more was cut than had to be"


def test_context_is_cut_before_the_text() -> None:
    template = PromptTemplate("q: {text} c: {context}\na:")
    encoder = encoder_of(template, words=(), answer_room=10)
    prompt = plain(encoder.written_prompt("is this coin any good ?", "the price fell again " * 40))
    assert "is this coin any good ?" in prompt and "the price fell again" in prompt
    assert len(encoder.prompt_ids("is this coin any good ?", "the price fell again " * 40)) <= 86


def test_prompts_that_lack_a_part_of_their_text_are_told() -> None:
    # A long text, one with blanks that a chat template trims, and one whose rest stands elsewhere in the prompt.
    texts = ["is this coin any good ? " * 20, " buy now ", "which of" + " post" * 200, "x"]
    template = replace(PLAIN, chat=True)
    chat = tiny_tokenizer()
    chat.chat_template = CHAT
    for encoder in (encoder_of(), encoder_of(template, 140, tokenizer=chat)):
        encoded = encode_examples(posts([0] * 4, texts), encoder)
        assert encoded["shortened"] == [True, False, True, False]
    splits = {"train": AnswerSplit(posts([0] * 4, texts), encoded), "test": AnswerSplit(encoded, encoded)}
    assert shortened_note(splits, 96) == (
        "length  shortened to fit max_length: 96: train 2 of 4, test 2 of 4 prompts, contexts first, at their ends"
    )
    whole = encode_examples(posts([0], ["x"]), encoder)
    assert shortened_note({"train": AnswerSplit(whole, whole)}, 96) == (
        "length  no prompt is longer than max_length: 96 allows"
    )


def test_demonstrations_are_never_cut() -> None:
    template = PromptTemplate("{examples}post: {text}\nlabel:", example="post: {text}\nlabel:{answer}\n")
    encoder, shots = encoder_of(template), [Example("buy now", "positive")] * 2
    assert plain(encoder.written_prompt("x" * 500, "", shots)).startswith("post: buy now\nlabel: positive\n" * 2)
    assert encoder.prompt_length(shots) > encoder.prompt_length([])
    with pytest.raises(UserError, match="20 examples and the template are .* tokens longer"):
        encoder.prompt_ids("x", "", shots * 10)


def test_chat_template_of_the_tokenizer() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT
    template = PromptTemplate("label {text}", answer="{answer}", chat=True)
    encoder = encoder_of(template, tokenizer=tokenizer)
    assert plain(encoder.written_prompt("this")) == "<bos>user: label this<unk>\n<bos>assistant:\n"
    # The turn ends with <unk> in this template, and so does the answer.
    assert encoder.end_ids == [tokenizer.unk_token_id] and encoder.label_ids[1][-1] == tokenizer.unk_token_id
    assert encoder.prompt_ids("this").count(tokenizer.bos_token_id) == 2
    row = encode_examples(posts([1], ["buy now " * 100]), encoder)[0]
    assert row["length"] <= 96 and encoder.tokenizer.decode(row["prompt_ids"]).endswith("<bos>assistant:\n")


def test_encoder_decoder_splits_prompt_and_answer() -> None:
    encoder = encoder_of(encoder_decoder=True)
    assert encoder.prompt_budget == 96
    assert encoder.tokenizer.decode(encoder.answer_ids("positive")) == "positive<eos>"
    rows = encode_examples(posts([1, 3], ["buy now", "again"]), encoder)
    numbered = [{"prompt_ids": row["prompt_ids"], "answer_ids": row["answer_ids"], "weight": 1.0} for row in rows]
    batch = InstructCollator(0, encoder_decoder=True)(numbered)
    assert batch["input_ids"].shape[1] == max(len(row["prompt_ids"]) for row in rows)
    assert batch["labels"][0].tolist()[: len(rows[0]["answer_ids"])] == rows[0]["answer_ids"]


def test_labels_lie_behind_the_prompt() -> None:
    rows = [
        {"prompt_ids": [2, 5, 6], "answer_ids": [7, 1], "weight": 2.0},
        {"prompt_ids": [2], "answer_ids": [8, 9, 1], "weight": 1.0},
    ]
    batch = InstructCollator(0, encoder_decoder=False, fixed_length=6)(rows)
    assert batch["input_ids"].tolist() == [[2, 5, 6, 7, 1, 0], [2, 8, 9, 1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 7, 1, -100], [-100, 8, 9, 1, -100, -100]]
    assert batch["weights"].tolist() == [2.0, 1.0]


def free(answers: list[list[str]], max_length: int = 60, room: int = 8) -> Dataset:
    template = PromptTemplate("q: {text}\na:")
    rows = {"id": ["0"] * len(answers), "text": ["buy now"] * len(answers), "context": [""] * len(answers)}
    return encode_examples(
        Dataset.from_dict(rows | {"answers": answers}), encoder_of(template, max_length, words=(), answer_room=room)
    )


def test_what_cannot_be_learned_is_reported() -> None:
    rows = free([["buy now", "never read"], ["the price fell again " * 3], [""]])
    assert rows["reason"][0] == ""
    assert "where max_answer_length is 8" in rows["reason"][1]
    assert rows["answer_ids"][1] == [] and rows["prompt_ids"][1] == rows["prompt_ids"][0]
    with pytest.raises(UserError, match="max_length: 60 tokens are fewer than the answer"):
        free([["zq" * 100]])


def test_misaligned_answers_are_rejected() -> None:
    # The template ends in a blank, which the tokenizer joins with the answer's first word.
    template = PromptTemplate("q: {text}\na: ", answer="{answer}")
    rows = {"id": ["0"], "text": ["x"], "context": [""], "answers": [["good ?"]]}
    encoder = encoder_of(template, words=(), answer_room=8)
    assert encode_examples(Dataset.from_dict(rows), encoder)["reason"] == ["prompt and answer share a token"]
    with pytest.raises(UserError, match="joins the prompt's end and 'noise' to one token"):
        encoder_of(template)
    # Behind this text alone the first token of the answer is another one.
    glued = PromptTemplate("{text}", answer="{answer}")
    with pytest.raises(UserError, match="nothing but the text"):
        encoder_of(glued, words=(), answer_room=8, tokenizer=without_begin())
    behind = encoder_of(PromptTemplate("a {text}", answer="{answer}"), words=(), answer_room=8)
    rows = {"id": ["0"], "text": ["the pr"], "context": [""], "answers": [["ice fell"]]}
    assert encode_examples(Dataset.from_dict(rows), behind)["reason"] == [
        "the answer's tokens are others behind this prompt"
    ]


def without_begin() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    return tokenizer


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"prompt": "no"}, "prompt: lacks the field {text}"),
        ({"prompt": "{text} {gold}"}, "unknown field {gold}"),
        ({"prompt": "{text!r}"}, "unknown field {text!r}"),
        ({"prompt": "{text} {"}, "a brace of the text is written twice"),
        ({"prompt": "{text}", "answer": "x"}, "answer: lacks the field {answer}"),
        ({"prompt": "{text}", "answer": "{answer}, {answer}"}, "answer: writes {answer} more than once"),
        ({"prompt": "{text}{examples}"}, "`example` does not say how one is written"),
        ({"prompt": "{text}", "example": "{text}"}, "example: lacks the field {answer}"),
        ({"prompt": "{text}", "example": "{text}{context}{answer}"}, "shows {context}, which the prompt does not"),
        ({"prompt": "{text}", "lables": {}}, "lables: unknown"),
        ({"prompt": "{text}", "chat": "yes"}, "chat: 'yes' is not true or false"),
        ({"prompt": 3}, "prompt: 3 is not text"),
        ({"prompt": "{text}", "labels": {"a": True}}, "is not a mapping of labels to their words"),
        ({}, "a mapping with at least `prompt`"),
        ("text", "a mapping with at least `prompt`"),
    ],
)
def test_bad_templates_are_named(content: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        template_from(content, "a.yaml")
    assert message in str(caught.value) and str(caught.value).startswith("a.yaml")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"positive": "good", "negative": "good"}, "have the same answer"),
        ({"positive": "Good", "negative": "good "}, "have the same answer"),
        ({"positive": "very  good", "negative": "very good"}, "have the same answer"),
        ({"positive": "good", "negative": "good ?"}, "begins like 'good'"),
        ({"positive": " "}, "has no words"),
        ({"happy": "good"}, "'happy' is not one of the data's labels"),
    ],
)
def test_colliding_labels_are_refused(labels: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        encoder_of(PromptTemplate("post: {text}\nlabel:", labels=labels))
    assert message in str(caught.value)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="where max_length 20 leaves"):
        encoder_of(max_length=20)
    with pytest.raises(UserError, match="leave no room for a prompt beside an answer"):
        encoder_of(max_length=5)
    with pytest.raises(UserError, match="has no chat template"):
        encoder_of(PromptTemplate("{text}:", chat=True))
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="has no end token"):
        encoder_of(tokenizer=tokenizer)
