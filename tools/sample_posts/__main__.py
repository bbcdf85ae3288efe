"""Write the bundled sample: invented posts in exactly the raw form of the three real files, damage included.

Beside them a small file for every other task, from `tasks`, and for long texts and further columns, from `inputs`.

    python -m tools.sample_posts --output_dir data/sample

The same seed gives the same bytes on every machine and Python version. What the forms are was counted in the training
files of the CryptOQA track (FIRE 2025); every text comes from `sample_grammar`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opinionlm.errors import run_script
from opinionlm.utils.command_line import Parser
from tools.sample_posts.forms import lower, mojibake, record, reddit_post, tweet, youtube_comment
from tools.sample_posts.grammar import Dice, Grammar, Label, sentence
from tools.sample_posts.inputs import build_inputs
from tools.sample_posts.readme import Codes, readme
from tools.sample_posts.tasks import build_tasks

# (Level 1, Level 2, Level 3) as the files write them.
CODES: dict[Label, Codes] = {
    "noise": ("0", "", ""),
    "objective": ("1", "", ""),
    "neutral_sentiment": ("2", "0", "0"),
    "question": ("2", "0", "1"),
    "advertisement": ("2", "0", "2"),
    "miscellaneous": ("2", "0", "3"),
    "negative": ("2", "1", ""),
    "positive": ("2", "2", ""),
}
# Rows per class: the real mix per thousand, the rarest classes raised so that a tenth of them is still a few.
MIX: dict[str, dict[Label, int]] = {
    "reddit": {
        "noise": 127,
        "objective": 101,
        "neutral_sentiment": 95,
        "question": 450,
        "advertisement": 35,
        "miscellaneous": 55,
        "negative": 82,
        "positive": 55,
    },
    "twitter": {
        "noise": 305,
        "objective": 325,
        "neutral_sentiment": 36,
        "question": 56,
        "advertisement": 135,
        "miscellaneous": 16,
        "negative": 20,
        "positive": 72,
    },
    "youtube": {
        "noise": 155,
        "objective": 7,
        "neutral_sentiment": 277,
        "question": 200,
        "advertisement": 2,
        "miscellaneous": 4,
        "negative": 312,
        "positive": 40,
    },
}
# Twitter rows whose codes break the hierarchy: subjective without Level 2, neutral without Level 3, and four odd ones.
BROKEN_HIERARCHY: list[tuple[Codes, int]] = [
    (("2", "", ""), 11),
    (("2", "0", ""), 14),
    (("0", "0", "0"), 1),
    (("1", "0", "1"), 1),
    (("2", "2", "2"), 1),
    (("2", "2", "0"), 1),
]
# Share of rows that repeat an earlier text, and of these repeats the share that borrows it from another class.
REPEATS = {"reddit": (0.004, 0.5), "twitter": (0.48, 0.1), "youtube": (0.048, 0.02)}
# An annotator's slips: with this probability a post of a neighbouring class got the code.
LABEL_NOISE = 0.06
CONFUSED_WITH: dict[Label, dict[Label, float]] = {
    "noise": {"neutral_sentiment": 3, "miscellaneous": 1, "positive": 1, "question": 1},
    "objective": {"miscellaneous": 2, "advertisement": 1, "neutral_sentiment": 1, "noise": 1},
    "neutral_sentiment": {"negative": 2, "positive": 2, "objective": 1, "question": 1, "noise": 1},
    "question": {"neutral_sentiment": 2, "negative": 1, "miscellaneous": 1},
    "advertisement": {"objective": 1, "positive": 2, "question": 1},
    "miscellaneous": {"objective": 2, "question": 1, "noise": 1},
    "negative": {"neutral_sentiment": 3, "question": 1, "noise": 1},
    "positive": {"neutral_sentiment": 3, "advertisement": 1, "noise": 1},
}


@dataclass(frozen=True)
class Row:
    """One record before it is written: its text fields (three on Reddit, one elsewhere) and its codes."""

    fields: tuple[str, ...]
    codes: Codes


def labelled_rows(platform: str, dice: Dice, compose: Callable[[Label], tuple[str, ...]]) -> list[Row]:
    """Rows of every class in the platform's mix, slips and repeats included, in no order.

    Args:
        platform: a key of `MIX`.
        dice: the source of every choice.
        compose: writes the text fields of a post of the given class.
    """
    share, borrowed = REPEATS[platform]
    pools: dict[Label, list[tuple[str, ...]]] = {}
    rows: list[Row] = []
    for label, count in MIX[platform].items():
        fresh = max(1, round(count * (1 - share)))
        pools[label] = []
        for _ in range(fresh):
            said = dice.weighted(CONFUSED_WITH[label]) if dice.chance(LABEL_NOISE) else label
            pools[label].append(compose(said))
            rows.append(Row(pools[label][-1], CODES[label]))
    for label, count in MIX[platform].items():
        for _ in range(count - len(pools[label])):
            pool = pools[dice.pick(tuple(MIX[platform])) if dice.chance(borrowed) else label]
            # A few texts go round again and again: the earlier in the pool, the likelier.
            position = int(len(pool) * (dice.integer(0, 9_999) / 10_000) ** 2)
            rows.append(Row(pool[position], CODES[label]))
    if platform == "twitter":
        popular = pools["advertisement"][:6] + pools["question"][:3] + pools["positive"][:3]
        rows += [Row(dice.pick(popular), codes) for codes, count in BROKEN_HIERARCHY for _ in range(count)]
    return dice.shuffled(rows)


def reddit_file(dice: Dice) -> bytes:
    """BOM, CRLF, a seventh column without a name or a value."""
    grammar = Grammar(dice)
    rows = labelled_rows("reddit", dice, lambda label: reddit_post(grammar, label))
    rows.sort(key=lambda row: row.codes)
    # The one post whose body kept its real line breaks.
    title, body, _ = rows[len(rows) // 2].fields
    broken = body.replace("\\n\\n", "\r\n") + "\r\n" + sentence(grammar.expand("context"))
    rows[len(rows) // 2] = Row((title, broken, lower(f"{title} {broken}")), rows[len(rows) // 2].codes)
    # Two posts stand apart from their class, as in the real file, which is otherwise sorted.
    rows.insert(30, rows.pop(len(rows) * 2 // 3))
    rows.append(rows.pop(len(rows) // 3))
    text = record(["title", "selftext", "MAIN", "Level 1", "Level 2", "Level 3", ""], "\r\n")
    text += "".join(record([*row.fields, *row.codes, ""], "\r\n") for row in rows)
    return ("\ufeff" + text).encode("utf-8")


def twitter_file(dice: Dice) -> bytes:
    """BOM, LF, five records that are none: two with a stray sentence for a code, three without codes."""
    grammar = Grammar(dice)
    rows = labelled_rows("twitter", dice, lambda label: (tweet(grammar, label),))
    rows.sort(key=lambda row: row.codes[0])
    records = [record([*row.fields, *row.codes], "\n") for row in rows]
    stray = ["Wer hat denn das Licht angelassen", "Kapan hujan berhenti \u003e\u0014 besok kita jalan ke pantai?"]
    for position, text in zip((160, 700), stray, strict=True):
        records.insert(position, record([tweet(grammar, "objective"), text, "", ""], "\n"))
    # One tweet written without quotes: its comma and its line breaks end fields and records where none end. The last
    # of its lines carries the codes and passes for a record of its own.
    handle = grammar.expand("handle")
    unquoted = (
        f"rt {handle}: welcome to the otter den: #otters #gems #web3 p…, friends!\n\n"
        'i vote for otterplushie\n#ottersofautumn\n#otterhit of the year is #premioslontra…",0,,\n'
    )
    records.insert(280, mojibake(unquoted))
    return ("\ufeff" + record(["Text", "Level 1", "Level 2", "Level 3"], "\n") + "".join(records)).encode("utf-8")


def youtube_file(dice: Dice) -> bytes:
    """CRLF inside and after records, column names that end in a blank, three records with a stray text for a code."""
    grammar = Grammar(dice)
    rows = labelled_rows("youtube", dice, lambda label: (youtube_comment(grammar, label),))
    rows.sort(key=lambda row: row.codes)
    numbers = dice.shuffled(range(1, 254_000))
    records = [
        record([f"video_{number}", *row.fields, *row.codes], "\r\n")
        for number, row in zip(numbers, rows, strict=False)
    ]
    link = "https://video.example.org/watch?v=q7Xo2d"
    survey = "A quick poll. Two minutes. https://forms.example.org/k3Rt"
    records.insert(33, record([link, youtube_comment(grammar, "neutral_sentiment"), link, "", ""], "\r\n"))
    records.insert(120, record([survey, youtube_comment(grammar, "negative"), survey, "", ""], "\r\n"))
    # The comma of this stray sentence is not quoted: six fields instead of five.
    stray = "Hi (f31 NORWAY) I am building an open ledger for book clubs and look for two testers, write to me there ."
    records.insert(75, f"video_{numbers[-1]},Your phone rings at the end :o,{stray},,\r\n")
    header = record(["comment_id", "comment", "Level 1 ", "Level 2 ", "Level 3"], "\r\n")
    return (header + "".join(records)).encode("utf-8")


def build(seed: int) -> dict[str, bytes]:
    """File name to content of the whole sample; each file has its own sequence of choices."""
    return {
        "reddit.csv": reddit_file(Dice(seed)),
        "twitter.csv": twitter_file(Dice(seed + 1)),
        "youtube.csv": youtube_file(Dice(seed + 2)),
    }


def main(argv: list[str] | None = None) -> None:
    """Write the files and the README that counts them."""
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--output_dir", type=Path, default=Path("data/sample"))
    parser.add_argument("--seed", type=int, default=2026)
    args = parser.parse(argv)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    files, tasks = build(args.seed), build_tasks(args.seed) | build_inputs(args.seed)
    for name, content in (files | tasks).items():
        (args.output_dir / name).write_bytes(content)
        print(f"{args.output_dir / name}: {len(content):,} bytes")
    names = {codes: label for label, codes in CODES.items()}
    (args.output_dir / "README.md").write_bytes(readme(files, names, args.seed, tasks).encode("utf-8"))


if __name__ == "__main__":
    run_script(main)
