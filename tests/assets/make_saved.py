"""Make ``tests/assets/saved``: one small saved model of each kind, with what it answered when it was made.

Ran once, on commit 23834f9, before the house was rebuilt (``python -m tests.assets.make_saved`` from its root);
`tests/test_saved_before.py` proves that what was saved then still loads, answers the same and continues. Run again
only to add a kind: what is there has to stay as that commit wrote it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    Gemma3TextConfig,
    T5Config,
    T5ForConditionalGeneration,
)

import predict
import pretrain
import train_classifier
import train_instruct
from opinionlm.evaluation.decisions import AnswerRule
from opinionlm.inference.saved_decision import keep_members
from tests.classifier_runs import drawn_posts, write_posts
from tests.task_data import write_prepared
from tests.tiny import tiny_tokenizer, wordpiece_tokenizer

SAVED = Path("tests/assets/saved")
DECODER = {
    "vocab_size": 320,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 8,
    "max_position_embeddings": 128,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
ENCODER = {
    "vocab_size": 160,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
ENCODER_DECODER = {
    "vocab_size": 320,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
SHARED = {
    "learning_rate": "1e-2",
    "num_train_epochs": 2,
    "per_device_train_batch_size": 16,
    "max_length": 48,
    "report_to": "none",
    "use_cpu": "true",
    "cache_dir": SAVED / "cache",
    "output_dir": SAVED / "runs",
}
POSTS = [
    "great coin, love the gain",
    "price closed at volume report",
    "vote lisa giveaway",
    "Awful scam, loss again?! 🚀",
]


def run(main, **options: object) -> Path:
    """Run a script with flat options; returns its run folder."""
    main([part for name, value in options.items() for part in (f"--{name}", str(value))])
    return Path(str(options["output_dir"])) / str(options["run_name"])


def bases() -> None:
    """Pretrained models of three families, random and tiny, with their tokenizers."""
    torch.manual_seed(0)
    masking = wordpiece_tokenizer()
    masking.add_special_tokens({"mask_token": "[MASK]"})
    for name, model, tokenizer in (
        ("decoder", AutoModelForCausalLM.from_config(Gemma3TextConfig(**DECODER)), tiny_tokenizer()),
        ("encoder", AutoModelForMaskedLM.from_config(BertConfig(**ENCODER)), masking),
        ("encoder_decoder", T5ForConditionalGeneration(T5Config(**ENCODER_DECODER)), tiny_tokenizer()),
    ):
        model.save_pretrained(SAVED / "models" / name)
        tokenizer.save_pretrained(SAVED / "models" / name)


def keep(run_folder: Path, name: str) -> None:
    """Keep what predict.py needs of a run."""
    shutil.copytree(run_folder / "best", SAVED / name)


def interrupted(run_folder: Path, name: str) -> None:
    """Keep a run as a kill after its first epoch would have left it, and what the whole run reached."""
    metrics = json.loads((run_folder / "metrics.json").read_text())
    kept = SAVED / "runs" / name
    last = max((run_folder / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(last)
    for gone in ("best", "predictions", "figures"):
        shutil.rmtree(run_folder / gone)
    for gone in ("metrics.json", "history.json", "environment.json.tmp"):
        (run_folder / gone).unlink(missing_ok=True)
    if run_folder != kept:
        run_folder.rename(kept)
    scores = {split: metrics[split] for split in ("validation", "test")}
    (SAVED / f"{name}.json").write_text(json.dumps({"train": metrics["train"], **scores}, indent=1) + "\n")


def main() -> None:
    """Make everything."""
    shutil.rmtree(SAVED, ignore_errors=True)
    SAVED.mkdir(parents=True)
    bases()
    (SAVED / "model").mkdir()
    write_posts(SAVED, drawn_posts(120))
    spec = (SAVED / "posts.yaml").read_text().replace(str(SAVED / "model"), str(SAVED / "models/decoder"))
    (SAVED / "posts.yaml").write_text(spec)
    shutil.rmtree(SAVED / "model")
    (SAVED / "template.yaml").write_text('prompt: "post: {text}\\nlabel:"\n')
    posts = {"dataset": SAVED / "posts.yaml", "data_dir": SAVED, "prepared_dir": SAVED / "prepared"}
    decoder = SHARED | posts | {"model_name_or_path": SAVED / "models/decoder"}
    encoder = SHARED | posts | {"model_name_or_path": SAVED / "models/encoder"}
    classify = train_classifier.main

    keep(
        run(
            classify,
            **decoder,
            run_name="whole",
            adaptation="top_blocks",
            head_hidden_sizes="[8]",
            pooling="last",
            blend_words="true",
            decision="thresholds",
            class_weights="effective_number",
        ),
        "classifier",
    )
    keep(run(classify, **encoder, run_name="lora", adaptation="lora", lora_r=2), "classifier_lora")
    keep(run(classify, **encoder, run_name="prefix", adaptation="prefix", num_virtual_tokens=3), "classifier_prefix")
    keep(run(classify, **encoder, run_name="pfeiffer", adaptation="pfeiffer", adapter_size=4), "classifier_pfeiffer")
    keep(
        run(
            classify,
            **encoder,
            run_name="adapt",
            adaptation="adapt",
            sensitivity_warmup_steps=2,
            sensitivity_samples=16,
            sequence_min_length=1,
            sensitivity_budget=0.5,
        ),
        "classifier_adapt",
    )
    keep(
        run(classify, **decoder, run_name="nf4", adaptation="top_blocks", load_in_4bit="true", dtype="bfloat16"),
        "classifier_4bit",
    )
    keep(
        run(
            classify,
            **encoder,
            run_name="platforms",
            adaptation="bitfit",
            platform_prefix="true",
            loss="tree_conditional",
            decision="expected_cost",
        ),
        "classifier_platforms",
    )
    for task in ("token", "similarity"):
        data = write_prepared(SAVED / f"prepared_{task}", task)
        own = encoder | {"dataset": data, "run_name": task, "adaptation": "full"}
        keep(run(classify, **own), task)
    decoder.pop("cache_dir")
    posts_only = {name: value for name, value in SHARED.items() if name != "cache_dir"} | posts
    instruct = {"prompt_template": SAVED / "template.yaml", "max_length": 64}
    keep(run(train_instruct.main, **(decoder | instruct), run_name="answers", adaptation="top_blocks"), "instruct")
    keep(
        run(train_instruct.main, **(decoder | instruct), run_name="answers_lora", adaptation="lora", lora_r=2),
        "instruct_lora",
    )
    writer = posts_only | {"model_name_or_path": SAVED / "models/encoder_decoder"} | instruct
    keep(
        run(
            train_instruct.main,
            **writer,
            run_name="written",
            adaptation="full",
            decode="generate",
            max_answer_length=6,
            num_beams=2,
        ),
        "instruct_t5",
    )
    options = {k: v for k, v in encoder.items() if k not in ("report_to", "cache_dir")}
    shutil.copytree(run(pretrain.main, **options, run_name="domain") / "model", SAVED / "pretrained")

    next((SAVED / "prepared").iterdir()).rename(SAVED / "prepared_posts")
    resumable(decoder | instruct, encoder, decoder)
    keep_members(SAVED / "ensemble", [SAVED / "classifier_lora", SAVED / "classifier_prefix"], AnswerRule())
    answer()


def resumable(instruct: dict, encoder: dict, decoder: dict) -> None:
    """Interrupted runs on a folder that was prepared then: one of each engine, and of instruction tuning."""
    shutil.rmtree(SAVED / "runs", ignore_errors=True)
    data = {"dataset": SAVED / "prepared_posts"}
    classify, cache = train_classifier.main, SAVED / "cache"
    whole = run(classify, **(decoder | data), cache_dir=cache, run_name="resumed_trainer", adaptation="top_blocks")
    interrupted(whole, "resumed_trainer")
    interrupted(
        run(classify, **(encoder | data), run_name="resumed_loop", adaptation="lora", engine="loop"), "resumed_loop"
    )
    interrupted(
        run(train_instruct.main, **(instruct | data), run_name="resumed_instruct", adaptation="lora"),
        "resumed_instruct",
    )
    shutil.rmtree(cache, ignore_errors=True)


def answer() -> None:
    """Write down what each of them answers."""
    answers = SAVED / "answers"
    answers.mkdir(exist_ok=True)
    texts = SAVED / "posts.txt"
    texts.write_text("\n".join(POSTS) + "\n")
    pairs = SAVED / "pairs.csv"
    pairs.write_text("text,other\nthe price fell,price fell again\nwhy nobody,it will\n")
    for folder in sorted(path.parent for path in SAVED.glob("*/config.json")) + [SAVED / "instruct_lora"]:
        if folder.name in ("pretrained",):
            continue
        asked = ["--input", str(texts)]
        if folder.name == "similarity":
            asked = ["--input", str(pairs), "--pair_column", "other"]
        if folder.name == "classifier_platforms":
            asked += ["--platform", "forum"]
        predict.main(
            ["--model", str(folder), *asked, "--output", str(answers / f"{folder.name}.csv"), "--device", "cpu"]
        )
    predict.main(
        [
            "--model",
            str(SAVED / "ensemble"),
            "--input",
            str(texts),
            "--output",
            str(answers / "ensemble.csv"),
            "--device",
            "cpu",
        ]
    )


if __name__ == "__main__":
    main()
