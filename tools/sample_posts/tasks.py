"""Invented files of the other tasks: tagging, similarity, questions, summaries, instructions, several labels.

Sentences come from the grammar of the sample posts. Every file also holds a little of what real files of its kind do
wrong, so that a run over the sample shows where such records go.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tools.sample_posts.forms import EMOJI, contracted
from tools.sample_posts.grammar import Dice, Grammar, Label, Polarity, capitalised, sentence

# Entity type → symbol of the grammar whose alternatives are its names.
ENTITIES = {"coin": "coin", "exchange": "exchange", "place": "country"}
_TOKEN = re.compile(r"[@#]?\w+(?:[.,'’]\w+)*|[^\w\s]")
_LABELS: tuple[Label, ...] = ("objective", "question", "positive", "negative", "neutral_sentiment", "advertisement")
_SIDES: tuple[Polarity, ...] = ("pos", "neg")
# What is asked about a deal: the question, and the slot that answers it.
_DEAL_QUESTIONS = (
    ("How much did {who} spend on {coin}?", "amount"),
    ("Which coin did {who} buy?", "coin"),
    ("Where did {who} buy {coin}?", "exchange"),
    ("When did {who} buy {coin}?", "when"),
    ("Who bought {coin} on {exchange}?", "who"),
    ("How long does {who} want to hold {coin}?", "duration"),
    ("By how much has {coin} moved since?", "percent"),
)


def build_tasks(seed: int) -> dict[str, bytes]:
    """File name to content; each file has its own sequence of choices."""
    texts = {
        "tagging.conll": tagging_file(Dice(seed + 3)),
        "similarity.tsv": similarity_file(Dice(seed + 4)),
        "questions.jsonl": questions_file(Dice(seed + 5)),
        "summaries.jsonl": summaries_file(Dice(seed + 6)),
        "instructions.jsonl": instructions_file(Dice(seed + 7)),
        "several_labels.jsonl": several_labels_file(Dice(seed + 8)),
    }
    return {name: text.encode("utf-8") for name, text in texts.items()}


def tagging_file(dice: Dice) -> str:
    """300 sentences, tab separated, with document marks, white-space tokens, a few tags in IOB1 and a bad one."""
    grammar = Grammar(dice)
    blocks = []
    for number in range(300):
        grammar.new_post()
        text = sentence(contracted(grammar.core(dice.pick(_LABELS)), dice))
        if dice.chance(0.5):
            text += f" {capitalised(grammar.expand('fact'))}."
        if dice.chance(0.3):
            text = f"{grammar.expand('handle')} {text}"
        lines = [f"{token}\t{tag}" for token, tag in tag_text(grammar, text)]
        if number % 60 == 0:
            blocks.append("-DOCSTART-\tO")
        if number % 75 == 10:
            lines.insert(len(lines) // 2, "\u00a0\tO")
        if number % 20 == 5:
            lines = [re.sub(r"\tB-", "\tI-", line) for line in lines]
        if number == 150:
            lines[0] = lines[0].split("\t")[0] + "\tENTITY"
        blocks.append("\n".join(lines))
    blocks.insert(100, "\u200b\tO")
    return "\n\n".join(blocks) + "\n"


def tag_text(grammar: Grammar, text: str) -> list[tuple[str, str]]:
    """Tokens of a text with tags of the names that the grammar knows, the longest name first."""
    names = {
        tuple(_TOKEN.findall(name)): kind for kind, symbol in ENTITIES.items() for name in grammar.alternatives(symbol)
    }
    longest = max(map(len, names))
    tokens, tags = _TOKEN.findall(text), []
    while len(tags) < len(tokens):
        start = len(tags)
        for length in range(longest, 0, -1):
            kind = names.get(tuple(tokens[start : start + length]))
            if kind is not None:
                tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
                break
        else:
            tags.append("O")
    return list(zip(tokens, tags, strict=True))


def similarity_file(dice: Dice) -> str:
    """300 pairs with scores from 0 to 5, then a score that is none, one beyond 5 and two copies."""
    grammar = Grammar(dice)
    pairs = [_pair(grammar, dice.integer(0, 5)) for _ in range(300)]
    rows = [[f"pair-{i}", *texts, f"{score:.1f}"] for i, (*texts, score) in enumerate(pairs)]
    rows.insert(40, ["pair-odd-1", *pairs[3][:2], "n/a"])
    rows.insert(80, ["pair-odd-2", *pairs[5][:2], "5.6"])
    rows.append(["pair-odd-3", pairs[7][1], pairs[7][0], f"{pairs[7][2]:.1f}"])
    rows.append(["pair-odd-4", pairs[9][0], pairs[9][1], f"{5 - pairs[9][2]:.1f}"])
    header = ["id", "post1", "post2", "score"]
    return "".join("\t".join(row) + "\n" for row in [header, *rows])


def _pair(grammar: Grammar, level: int) -> tuple[str, str, float]:
    """Two posts that agree in less and less: wording, statement, side, subject, kind of post."""
    dice = grammar.dice
    grammar.new_post()
    side = dice.pick(_SIDES)
    first = grammar.opinion(side)
    match level:
        case 5:
            second = contracted(first, dice) if dice.chance(0.6) else f"{first} {dice.pick(EMOJI)}"
        case 4:
            second = f"{grammar.expand('opener')} {first}"
        case 3:
            second = grammar.opinion(side)
        case 2:
            second = grammar.opinion("neg" if side == "pos" else "pos")
        case 1:
            grammar.new_post()
            second = grammar.opinion(side)
        case _:
            grammar.new_post()
            second = grammar.expand(dice.pick(("chatter", "fact", "misc")))
    score = min(5.0, max(0.0, level + dice.integer(-2, 2) / 5))
    return sentence(first), sentence(second), score


def questions_file(dice: Dice) -> str:
    """200 questions about 50 paragraphs of 10 threads, in the form of SQuAD; the last one has no answer."""
    grammar = Grammar(dice)
    rows: list[dict[str, Any]] = []
    for number in range(50):
        grammar.new_post()
        slots = {"who": capitalised(grammar.expand("person"))}
        slots |= {name: grammar.expand(name) for name in ("coin", "exchange", "amount", "when", "duration", "percent")}
        lines = [
            "{who} bought {coin} for {amount} on {exchange} {when}.".format(**slots),
            "The plan is to hold it for {duration}.".format(**slots),
            "Since then the price has moved by {percent}.".format(**slots),
            sentence(grammar.expand("context")),
        ]
        context = " ".join(dice.shuffled(lines))
        for index, (question, slot) in enumerate(dice.shuffled(_DEAL_QUESTIONS)[:4]):
            answer = slots[slot]
            who = slots["who"][:1].lower() + slots["who"][1:]
            rows.append(
                {
                    "id": f"question-{number}-{index}",
                    "title": f"Thread_{number % 10}",
                    "context": context,
                    "question": question.format(**slots | {"who": who}),
                    "answers": {"text": [answer], "answer_start": [context.index(answer)]},
                }
            )
    rows[-1]["answers"] = {"text": [], "answer_start": []}
    return _lines(rows)


def summaries_file(dice: Dice) -> str:
    """150 long posts with what they come down to; every fifth has two summaries, one has none."""
    grammar = Grammar(dice)
    rows: list[dict[str, Any]] = []
    for number in range(150):
        grammar.new_post()
        core = grammar.opinion(dice.pick(_SIDES))
        asides = dict.fromkeys(sentence(grammar.expand("context")) for _ in range(dice.integer(3, 7)))
        post = [*asides, sentence(f"{grammar.expand('opener')} {core}")]
        summaries = [sentence(core)] + [sentence(contracted(core.lower(), dice))] * (number % 5 == 0)
        rows.append({"id": f"post-{number}", "post": " ".join(dice.shuffled(post)), "summaries": summaries})
    rows[75]["summaries"] = [""]
    return _lines(rows)


def instructions_file(dice: Dice) -> str:
    """250 instructions with answers; inputs may be blank or a filler, one output is empty, one record a copy."""
    grammar = Grammar(dice)
    rows = [_instruction(grammar) for _ in range(248)]
    rows.append({"instruction": "Say nothing at all.", "input": "", "output": ""})
    rows.append(rows[20])
    return _lines(rows)


def _instruction(grammar: Grammar) -> dict[str, str]:
    dice = grammar.dice
    grammar.new_post()
    side = dice.pick(_SIDES)
    coin, exchange, country = (grammar.expand(name) for name in ENTITIES.values())
    number = dice.integer(2, 9)
    post = sentence(grammar.opinion(side))
    instruction, given, output = dice.pick(
        (
            ("Is this post positive or negative?", post, "Positive." if side == "pos" else "Negative."),
            ("Write the post in capitals.", post, post.upper()),
            ("How many words has the post?", post, f"It has {len(post.split())} words."),
            ("What is the last word of the post?", post, post.split()[-1].strip('.?!"')),
            (f"Write one sentence about {coin} that is {'kind' if side == 'pos' else 'unkind'}.", "", post),
            (f"I bought {number} {coin} and sold one on {exchange}. How many are left?", "", f"{number - 1} {coin}."),
            (f"Ask somebody in {country} about {coin}.", "", f"What do people in {country} think of {coin}?"),
        )
    )
    if not given and dice.chance(0.3):
        given = dice.pick(("<noinput>", "No input", "N/A"))
    return {"instruction": instruction, "input": given, "output": output}


def several_labels_file(dice: Dice) -> str:
    """600 posts that say none to three things, with a label for each; behind them three whose labels are wrong.

    Posts that say nothing of these kinds are chatter, with an empty list. Some labels are rare, and a question is
    likelier beside an opinion than beside an advert, so that labels occur together more and less than by chance.
    """
    grammar = Grammar(dice)
    rows = [_several_labels(grammar, number) for number in range(600)]
    for number, labels in enumerate((["positive", "cheerful"], ["question", "question"], ["opinion"])):
        rows.append(_several_labels(grammar, 600 + number) | {"labels": labels})
    return _lines(rows)


def _several_labels(grammar: Grammar, number: int) -> dict[str, Any]:
    dice = grammar.dice
    grammar.new_post()
    kinds: dict[Label, float] = {"question": 5, "negative": 5, "objective": 4, "positive": 3, "advertisement": 1}
    labels: list[Label] = []
    for _ in range(dice.weighted({0: 1, 1: 5, 2: 3, 3: 1})):
        labels.append(dice.weighted({label: weight for label, weight in kinds.items() if label not in labels}))
        if labels[-1] == "advertisement":
            del kinds["question"]
            break
    said = [sentence(contracted(grammar.core(label), dice)) for label in labels] or [
        sentence(grammar.expand("chatter"))
    ]
    if dice.chance(0.4):
        said.append(sentence(grammar.expand("context")))
    return {"id": f"post-{number}", "post": " ".join(dice.shuffled(said)), "labels": sorted(labels)}


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
