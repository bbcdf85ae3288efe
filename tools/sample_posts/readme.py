"""The sample's README: what the files are, and counts taken from their bytes."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

TEMPLATE = """# Sample posts

Three files in exactly the raw form of the CryptOQA training files (FIRE 2025, task 1), a fifth of their length, for
tests and the quickstart. **Every post is synthetic**: derived from a grammar (`tools/sample_posts/sample_words.yaml`)
that was written for this project; names, handles, companies and links are invented or stand for no one, and no post
of any data set was copied. Licence: Apache-2.0, like the repository. They say nothing about crypto, people, or how
good a model is on real posts.

```
python -m tools.sample_posts --output_dir data/sample    # seed {seed}; writes these bytes again
```

Codes: Level 1: 0 noise, 1 objective, 2 subjective. Level 2 (if subjective): 0 neutral, 1 negative, 2 positive. Level
3 (if neutral): 0 neutral sentiments, 1 questions, 2 advertisements, 3 miscellaneous. A level that does not apply is
blank.

What makes the task hard, on purpose: opinions share their frames and differ in hundreds of words, many of them rare;
negation and irony turn them around; questions come with and without a question mark, complaints and adverts come as
questions; facts quote feelings; long posts hold context and asides of other kinds; about 6 % of the codes are an
annotator's slips.

What is wrong with the files, as in the real ones: Reddit and Twitter start with a byte order mark; Reddit and YouTube
end lines with CRLF, Twitter with LF; Reddit has a seventh column without name or values, literal `\\n` for line
breaks, and a `MAIN` that is title and body run together, in lower case, edited or shortened; two of YouTube's column
names end in a blank; three YouTube records carry a stray text for a code, one of them unquoted with a comma (six
fields); of five broken Twitter records two carry a stray sentence and three are pieces of one tweet without quotes
(the blank line among them is no record); Twitter and some Reddit texts are mojibake; YouTube texts lost the high byte
of every character, so emoji became pairs such as `=` and U+0002; texts repeat, some with different codes; some
Twitter rows break the hierarchy; some posts are not English.

{table}

## Files of the other tasks

From the same grammar, for `configs/datasets/sample_token.yaml`, `sample_similarity`, `sample_qa`,
`sample_summarization`, `sample_instruction` and `sample_multi_label`; and for long texts and columns beside the text,
`sample_long` and `sample_features`.

{tasks}
"""

# What a file of another task holds, and what is wrong with it on purpose.
TASK_FILES = {
    "tagging.conll": "token and tag (coin, exchange, place), tab separated; document marks, white-space tokens, a "
    "sentence of nothing else, tags in IOB1, one that is no tag",
    "similarity.tsv": "two posts and a score from 0 to 5; one score is no number, one is 5.6, one pair comes turned "
    "around, one with another score",
    "questions.jsonl": "questions about paragraphs in the form of SQuAD, ten threads; one has no answer",
    "summaries.jsonl": "long posts and what they come down to, some with two summaries; one summary is blank",
    "instructions.jsonl": "instruction, input, output in the form of Alpaca; blank inputs and fillers, one output is "
    "blank, one record is a copy",
    "several_labels.jsonl": "posts that say none to three things and their labels as lists; one holds an unknown "
    "label, one a label twice, one only the name of a group",
    "long.jsonl": "posts of up to 40 sentences, positive or negative; what tells it stands near the end",
    "reviews.csv": "title, rating, exchange and text, positive or negative; a third is told by the text, a third by "
    "the title, the rest by the rating; one rating is no number",
}


Codes = tuple[str, str, str]


def _count_file(name: str, content: bytes, names: dict[Codes, str]) -> dict[str, str]:
    """What the README says of one file, counted in its bytes."""
    text_column, columns = {"reddit.csv": (2, 7), "twitter.csv": (0, 4), "youtube.csv": (1, 5)}[name]
    first_code = columns - (4 if name == "reddit.csv" else 3)
    records = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1:]
    records = [fields for fields in records if fields]  # a blank line is no record
    codes_of: dict[str, list[Codes]] = {}
    classes: Counter[str] = Counter()
    broken = 0
    for fields in records:
        if len(fields) != columns or len(fields[first_code]) > 1:
            broken += 1
            continue
        codes = (fields[first_code], fields[first_code + 1], fields[first_code + 2])
        codes_of.setdefault(fields[text_column], []).append(codes)
        classes[names.get(codes, "(breaks the hierarchy)")] += 1
    line_feed = b"\n"
    crlf = content.count(b"\r\n")
    row = {label: str(classes[label]) for label in [*names.values(), "(breaks the hierarchy)"]}
    return row | {
        "broken records": str(broken),
        "records": str(len(records)),
        "repeats of an earlier text": str(sum(len(codes) - 1 for codes in codes_of.values())),
        "texts with several codes": str(sum(len(set(codes)) > 1 for codes in codes_of.values())),
        "texts with mojibake": str(sum(bool(re.search("[âÂÃðà][\u0080-\u2122]", text)) for text in codes_of)),
        "texts with control characters": str(sum(bool(re.search("[\x01-\x08\x0e-\x1f]", text)) for text in codes_of)),
        "texts over 300 words": str(sum(len(text.split()) > 300 for text in codes_of)),
        "CRLF line ends": f"{crlf:,}",
        "LF line ends": f"{content.count(line_feed) - crlf:,}",
        "bytes": f"{len(content):,}",
    }


def readme(files: dict[str, bytes], names: dict[Codes, str], seed: int, tasks: dict[str, bytes]) -> str:
    """The sample's README, its counts taken from the files themselves.

    Args:
        files: name to content.
        names: class name of every valid triple of codes.
        seed: of the generator.
        tasks: name to content of the files of other tasks.
    """
    counts = {name: _count_file(name, content, names) for name, content in files.items()}
    lines = ["| | " + " | ".join(counts) + " |", "| --- |" + " ---: |" * len(counts)]
    lines += [f"| {key} | " + " | ".join(row[key] for row in counts.values()) + " |" for key in counts["reddit.csv"]]
    others = ["| file | lines | bytes | what it holds |", "| --- | ---: | ---: | --- |"]
    for name, content in tasks.items():
        count = content.count(b"\n")
        others.append(f"| {name} | {count:,} | {len(content):,} | {TASK_FILES[name]} |")
    return TEMPLATE.format(seed=seed, table="\n".join(lines), tasks="\n".join(others))
