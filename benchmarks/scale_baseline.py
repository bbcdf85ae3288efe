"""What a competent user writes without this project: pandas, one row at a time, and a transformers pipeline.

    python benchmarks/scale_baseline.py preprocess DATA_DIR OUTPUT
    python benchmarks/scale_baseline.py predict MODEL POSTS.csv OUTPUT.csv --batch_size 64

`benchmarks/scale.py` runs both as processes of their own and compares what they write with what ours write. The steps
are the same ones: text cleaning even calls the same functions, so that what is compared is how the rows are driven
through them. Record numbers come from the csv module, because `pandas.read_csv` loses those of the records it skips.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TEXT_COLUMNS = {"reddit": "MAIN", "twitter": "Text", "youtube": "comment"}
LEVELS = ("Level 1", "Level 2", "Level 3")
LEAVES = {
    ("0", "", ""): "noise",
    ("1", "", ""): "objective",
    ("2", "1", ""): "negative",
    ("2", "2", ""): "positive",
    ("2", "0", "0"): "neutral_sentiment",
    ("2", "0", "1"): "question",
    ("2", "0", "2"): "advertisement",
    ("2", "0", "3"): "miscellaneous",
}
MODEL = Path(__file__).resolve().parent.parent / "models" / "gemma3-mini"


def preprocess(data_dir: Path, output: Path) -> None:
    """Read, drop what is broken, drop copies, clean, drop copies again, split, save."""
    import pandas as pd
    from datasets import ClassLabel, Dataset, DatasetDict
    from sklearn.model_selection import train_test_split
    from transformers import AutoTokenizer

    from opinionlm.data.cleaning import PROFILES, clean_text, text_steps

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    steps = text_steps(PROFILES["default"])

    def tokens(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    frame = pd.concat([read(data_dir / "sample" / f"{name}.csv", name) for name in TEXT_COLUMNS], ignore_index=True)
    frame["label"] = frame.apply(lambda row: LEAVES.get(tuple(row[level].strip() for level in LEVELS)), axis=1)
    bad = frame["label"].isna() | (frame["text"].str.strip() == "") | ~frame["whole"]
    rejected = [frame[bad].assign(reason="broken")]
    frame = frame[~bad]

    frame["raw_tokens"] = frame["text"].apply(tokens)
    frame["raw_copy"] = frame.groupby("raw_tokens")["label"].transform("nunique").gt(1)
    frame["raw_copy"] |= frame.duplicated("raw_tokens")
    frame["clean"] = frame["text"].apply(lambda text: clean_text(text, steps)[0])
    frame["tokens"] = frame["clean"].apply(tokens)
    frame["length"] = frame["tokens"].apply(len)
    frame["conflict"] = frame.groupby("tokens")["label"].transform("nunique").gt(1)
    gone = frame["raw_copy"] | frame["conflict"] | frame["clean"].eq("")
    rejected.append(frame[gone].assign(reason="copy"))
    frame = frame[~gone]
    copies = frame.duplicated("tokens")
    rejected.append(frame[copies].assign(reason="copy"))
    frame = frame[~copies]

    strata = frame["label"]
    train, rest = train_test_split(frame, train_size=0.7, stratify=strata, random_state=42)
    validation, test = train_test_split(rest, train_size=2 / 3, stratify=strata[rest.index], random_state=42)
    parts = {}
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        part = part.sort_index()[["id", "clean", "label", "platform"]].rename(columns={"clean": "text"})
        names = sorted(set(LEAVES.values()))
        parts[name] = Dataset.from_pandas(part, preserve_index=False).cast_column("label", ClassLabel(names=names))
    DatasetDict(parts).save_to_disk(str(output))
    pd.concat(rejected)[["id", "text", "reason"]].to_csv(output / "rejects.csv", index=False)
    described = frame.groupby("platform")["length"].describe()
    (output / "report.json").write_text(json.dumps(described.to_dict(), indent=2))


def read(path: Path, platform: str):  # noqa: ANN201 — a DataFrame; pandas is imported late
    """One file as a frame; records with a wrong number of fields keep their number and are marked."""
    import pandas as pd

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows)]
        records = [row for row in rows if row]
    width = len(header)
    frame = pd.DataFrame([row[:width] + [""] * (width - len(row)) for row in records], columns=header)
    frame = frame.rename(columns={TEXT_COLUMNS[platform]: "text"})[["text", *LEVELS]]
    frame["whole"] = [len(row) == width for row in records]
    frame["platform"] = platform
    frame["id"] = [f"{platform}-{number}" for number in range(1, len(frame) + 1)]
    return frame


def predict(model: Path, posts: Path, output: Path, batch_size: int) -> None:
    """A transformers pipeline over the posts of a CSV file, in file order, as its documentation shows it."""
    import torch
    from transformers import pipeline

    import opinionlm  # noqa: F401 — makes the model type known

    torch.set_num_threads(1)
    classify = pipeline("text-classification", model=str(model), device="cpu")
    with posts.open(encoding="utf-8", newline="") as source, output.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["text", "predicted", "confidence"])
        texts = [row["text"] for row in csv.DictReader(source)]
        answers = classify((text for text in texts), batch_size=batch_size, truncation=True)
        for text, answer in zip(texts, answers, strict=True):
            writer.writerow([text, answer["label"], answer["score"]])


def main(argv: list[str] | None = None) -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("preprocess", "predict"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--batch_size", type=int, default=64)
    arguments = parser.parse_args(argv)
    if arguments.job == "preprocess":
        preprocess(*arguments.paths)
    else:
        predict(*arguments.paths, arguments.batch_size)


if __name__ == "__main__":
    main()
