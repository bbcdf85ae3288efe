"""Invented posts: a small context-free grammar, read from ``sample_words.yaml``, and one way to compose each class.

The classes differ in what a post says, hardly in the words around it: opinion frames are shared by both sides,
sentences of context by all classes, negation and irony turn words around, adverts and complaints may be phrased as
questions, and facts may quote feelings. So no keyword gives a class away.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import yaml

Option = TypeVar("Option")
Polarity = Literal["pos", "neg", "mid"]
Label = Literal[
    "noise", "objective", "neutral_sentiment", "question", "advertisement", "miscellaneous", "negative", "positive"
]

_SYMBOL = re.compile(r"\{([+-]?)(\w+?)(\d?)\}")
_OPPOSITE: dict[Polarity, Polarity] = {"pos": "neg", "neg": "pos", "mid": "mid"}
_SIDES: tuple[Polarity, ...] = ("pos", "neg", "mid")
# A post stays with its subjects: the second {topic} of a post is the first one again. {topic2} is another one.
_REMEMBERED = frozenset({"topic", "coin", "exchange", "person", "everyday"})


class Dice:
    """Choices from ``random.random()`` alone, the one generator whose sequence Python promises never to change."""

    def __init__(self, seed: int) -> None:
        """Start the sequence of ``seed``."""
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, options: Sequence[Option]) -> Option:
        """One of the options."""
        return options[int(self._random.random() * len(options))]

    def weighted(self, weights: dict[Option, float]) -> Option:
        """One key, with probability proportional to its weight."""
        point = self._random.random() * sum(weights.values())
        for option, weight in weights.items():
            point -= weight
            if point < 0:
                return option
        return option

    def shuffled(self, items: Sequence[Option]) -> list[Option]:
        """A new list in random order (Fisher and Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.integer(0, last)
            result[last], result[other] = result[other], result[last]
        return result


class Grammar:
    """Expands symbols of ``sample_words.yaml``; remembers the subjects of the post in hand."""

    def __init__(self, dice: Dice) -> None:
        """Read the rules."""
        self.dice = dice
        text = (Path(__file__).parent / "sample_words.yaml").read_text(encoding="utf-8")
        rules: dict[str, str] = yaml.safe_load(text)
        self._rules = {
            symbol: [option.strip() for line in block.splitlines() for option in line.split(" / ") if option.strip()]
            for symbol, block in rules.items()
        }
        self._subjects: dict[str, str] = {}

    def new_post(self) -> None:
        """Forget the subjects of the post before."""
        self._subjects = {}

    def alternatives(self, symbol: str) -> list[str]:
        """All texts that a symbol lists, as they stand in the file."""
        return self._rules[symbol]

    def expand(self, symbol: str, polarity: Polarity = "mid") -> str:
        """Derive one text from a symbol.

        Args:
            symbol: a key of the YAML file; ``any_adj`` and its kin take the word list of a random side.
            polarity: which lists ``{+adj}`` (this side) and ``{-adj}`` (the other one) stand for.

        Raises:
            KeyError: the file has no such symbol.
        """
        option = self.dice.pick(self._rules[symbol])
        return _SYMBOL.sub(lambda match: self._replace(*match.groups(), polarity), option)

    def _replace(self, sign: str, name: str, number: str, polarity: Polarity) -> str:
        if sign:
            side = polarity if sign == "+" else _OPPOSITE[polarity]
            return self.expand(f"{side}_{name}", polarity)
        if name.startswith("any_"):
            side = self.dice.pick(_SIDES)
            return self.expand(f"{side}_{name.removeprefix('any_')}", polarity)
        if name not in _REMEMBERED:
            return self.expand(name, polarity)
        key = name + number
        if key not in self._subjects:
            fresh = self.expand(name, polarity)
            while number and fresh == self._subjects.get(name):
                fresh = self.expand(name, polarity)
            # Expanding {topic} may have remembered a {coin}; the subject itself is remembered here.
            self._subjects[key] = fresh
        return self._subjects[key]

    # -- what each class says ----------------------------------------------------------------------------------------

    def opinion(self, polarity: Polarity) -> str:
        """A statement of taste or experience; a third are forms only one side has (negation, irony, rhetoric)."""
        symbol = f"{polarity}_only" if self.dice.chance(0.55 if polarity == "mid" else 0.3) else "opinion"
        return self.expand(symbol, polarity)

    def core(self, label: Label) -> str:
        """What makes a post one of its class: a sentence, sometimes after one that other classes share."""
        text = self._core(label)
        if self.dice.chance(0.2):
            # Nobody opens a headline with "in my experience".
            opener = "headline" if label in ("objective", "advertisement", "miscellaneous") else "opener"
            text = f"{self.expand(opener)} {text}"
        if label in ("positive", "negative", "neutral_sentiment") and self.dice.chance(0.2):
            return f"{sentence(self.expand('fact'))} {capitalised(text)}"
        if label in ("question", "advertisement") and self.dice.chance(0.3):
            return f"{sentence(self.opinion(self.dice.pick(_SIDES)))} {capitalised(text)}"
        return text

    def _core(self, label: Label) -> str:
        match label:
            case "positive":
                return self.opinion("pos")
            case "negative":
                return self.opinion("neg")
            case "neutral_sentiment":
                if self.dice.chance(0.3):
                    first, second = self.dice.shuffled(("pos", "neg"))
                    link = self.dice.pick(
                        (", but", ", yet", ", although", ", still,", "; then again,", " and at the same time")
                    )
                    return f"{self.opinion(first).rstrip('?')}{link} {self.opinion(second)}"
                return self.opinion("mid")
            case "question":
                return self.expand("question" if self.dice.chance(0.7) else "silent_question")
            case "objective":
                return self.expand("fact")
            case "advertisement":
                return self.expand("advert")
            case "miscellaneous":
                return self.expand("misc")
            case "noise":
                return self.expand("chatter")

    def aside(self, label: Label) -> str:
        """A further sentence of a longer post.

        Mostly context that any class may carry, now and then more of the post's own kind, or a fact or a feeling in
        passing as people drop them anywhere. Opinions hold only asides of their own side: two sides would make
        another class.
        """
        match self.dice.weighted({"context": 55, "own": 22, "passing": 23}):
            case "context":
                return self.expand("closer" if self.dice.chance(0.1) else "context")
            case "own":
                return self.expand("misc_body") if label == "miscellaneous" else self._core(label)
            case _ if label in ("positive", "negative"):
                return self.expand("fact" if self.dice.chance(0.5) else f"{label[:3]}_event")
            case _:
                return self.expand("fact") if self.dice.chance(0.4) else self.opinion(self.dice.pick(_SIDES))


def capitalised(text: str) -> str:
    """The text with its first character in upper case."""
    return text[:1].upper() + text[1:]


def sentence(text: str, mark: str = ".") -> str:
    """Finish a derived text as a sentence: "an" before vowels, a capital first, a mark at the end if none is there."""
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIO])", r"\1n ", text)
    return capitalised(text) if text[-1:] in '?!.:)"' else capitalised(text) + mark
