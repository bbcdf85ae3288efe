"""Label posts with an exported graph where there is neither opinionlm nor torch nor transformers.

    pip install onnxruntime tokenizers numpy
    opinionlm export outputs/<run> --format onnx
    python examples/onnx_labels.py outputs/<run>/onnx posts.txt > labels.csv

For models with one label per text; a post a line. The graph gives raw logits, config.json how they become the label of
`predict.py`. Cleaning, columns in front of texts, TF-IDF beside the model and expected_cost are predict.py's alone.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def main(folder: Path, posts: Path) -> None:
    """Write every post with its label and its calibrated probability."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "opinionlm_classifier" or config.get("problem_type") or config["text_pairs"]:
        sys.exit("this model does not give every post one label; use opinionlm: predict.py --backend onnx")
    beside = [config[name] for name in ("word_share", "cleaning", "features", "platforms")]
    if any(beside) or config["decision"] == "expected_cost":
        sys.exit("this model needs more than its graph; use opinionlm: predict.py --backend onnx")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # A special token inside a post is ordinary text.
    tokenizer.encode_special_tokens = True
    length = config["max_length"]
    # A model of long_texts: ends reads both ends of a long post, as many tokens as others read of its beginning.
    if not config.get("read_ends"):
        tokenizer.enable_truncation(length)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    writer = csv.writer(sys.stdout)
    writer.writerow(["text", "predicted", "confidence"])
    # Not `splitlines`, which also cuts at characters within a post, such as U+2028.
    for text in posts.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        ids = tokenizer.encode(text).ids
        if len(ids) > length:
            ids = ids[: length - length // 2] + ids[-(length // 2) :]
        inputs = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        feeds = {name: np.array([row], dtype=np.int64) for name, row in inputs.items() if name in taken}
        logits = session.run(None, feeds)[0][0].astype(np.float64)
        scores = logits / config["temperature"] + np.array(config["calibration_biases"] or 0.0)
        probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        label = int(np.argmax(scores + np.array(config["decision_offsets"] or 0.0)))
        writer.writerow([text, config["id2label"][str(label)], f"{probabilities[label]:.6f}"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
