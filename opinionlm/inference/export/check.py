"""Answer with exported models where opinionlm is absent; run by its path, it imports nothing of the package.

    python -P check.py jobs.json

Every job names a folder, its task, whether its own code may run, and items; the answers to the items are written to
``<folder>/<output>``, one array per item.
"""

import json
import os
import sys

import numpy as np


def answers(job: dict) -> list[np.ndarray]:
    """Logits of every item of a job, by the Auto classes alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

    auto_class = AutoModelForTokenClassification if job["is_tagger"] else AutoModelForSequenceClassification
    trust = job["remote_code"]
    model = auto_class.from_pretrained(job["folder"], trust_remote_code=trust, use_safetensors=True).float().eval()
    tokenizer = AutoTokenizer.from_pretrained(job["folder"], trust_remote_code=False)
    texts = [item if isinstance(item, str) else item[0] for item in job["items"]]
    pairs = None if isinstance(job["items"][0], str) else [item[1] for item in job["items"]]
    # All in one batch: padding must not change an answer.
    batch = tokenizer(texts, pairs, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**batch).logits
    if not job["is_tagger"]:
        return list(logits.numpy())
    return [row[: int(mask.sum())].numpy() for row, mask in zip(logits, batch["attention_mask"], strict=True)]


def main(path: str) -> None:
    """Do all jobs of a file; whatever tries to import opinionlm fails."""
    # None makes every import fail, which typeshed does not know.
    sys.modules["opinionlm"] = None  # type: ignore[assignment]
    with open(path, encoding="utf-8") as file:
        jobs = json.load(file)
    for job in jobs:
        np.savez(os.path.join(job["folder"], job["output"]), *answers(job))


if __name__ == "__main__":
    main(sys.argv[1])
