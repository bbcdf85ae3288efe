"""Invented files for what a model may read beside short texts: posts longer than a model reads at once, and columns.

Both are labelled positive or negative, by something that a model which leaves a part out cannot see.
"""

from __future__ import annotations

import csv
import io
import json

from tools.sample_posts.grammar import Dice, Grammar, Polarity, capitalised, sentence

_LABELS: dict[Polarity, str] = {"pos": "positive", "neg": "negative"}
# What says nothing for or against, whatever stands around it.
_BLAND = ("More or less what I had expected.", "That is all there is to say.", "Others may see it differently.")


def build_inputs(seed: int) -> dict[str, bytes]:
    """File name to content; each file has its own sequence of choices."""
    texts = {"long.jsonl": long_file(Dice(seed + 9)), "reviews.csv": reviews_file(Dice(seed + 10))}
    return {name: text.encode("utf-8") for name, text in texts.items()}


def long_file(dice: Dice) -> str:
    """120 posts of 8 to 40 sentences of context, of which two near the end tell the opinion."""
    grammar = Grammar(dice)
    rows = []
    for number in range(120):
        grammar.new_post()
        side: Polarity = "pos" if number % 2 else "neg"
        lines = [sentence(grammar.expand("context")) for _ in range(dice.integer(8, 40))]
        for _ in range(2):
            lines.insert(len(lines) - dice.integer(0, 2), sentence(grammar.opinion(side)))
        rows.append({"id": f"long-{number}", "text": " ".join(lines), "label": _LABELS[side]})
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in dice.shuffled(rows))


def reviews_file(dice: Dice) -> str:
    """300 reviews of exchanges with title, stars and exchange, one with stars that are no number.

    The text alone tells the label of a third, its title of another, only the stars that of the rest.
    """
    grammar = Grammar(dice)
    rows = []
    for number in range(300):
        grammar.new_post()
        side: Polarity = "pos" if dice.chance(0.5) else "neg"
        opinion, bland = sentence(grammar.opinion(side)), dice.pick(_BLAND)
        title = capitalised(grammar.expand("chatter"))
        # No two texts alike: with and without their columns the reviews are the same ones.
        text = f"{bland} {sentence(grammar.expand('context'))} I am customer {1000 + number}."
        stars = str(dice.integer(4, 5) if side == "pos" else dice.integer(1, 2))
        match number % 3:
            case 0:
                text, stars = f"{opinion} {text}", ""
            case 1:
                title, stars = opinion, ""
        rows.append([f"review-{number}", title, stars, grammar.expand("exchange"), text, _LABELS[side]])
    rows[50][2] = "n/a"
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["id", "title", "rating", "exchange", "review", "label"], *rows])
    return file.getvalue()
