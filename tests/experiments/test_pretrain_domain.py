"""Pretraining on the training texts: nothing else is read, the folder is usable, an interrupted run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoModelForMaskedLM, TrainingArguments

from opinionlm.config.config import Config
from opinionlm.config.parser import parse_config
from opinionlm.data.prepared import PreparedDataset, load_prepared
from opinionlm.errors import UserError
from opinionlm.models.generative import generative_class
from opinionlm.scripts.pretrain import main
from opinionlm.training.pretraining import (
    TextCollator,
    encode_texts,
    perplexity,
    pretraining_arguments,
    summed_loss,
    text_trainer,
    training_texts,
)
from opinionlm.utils.shipped import model_identity
from tests.classifier_runs import train
from tests.tiny import ENCODERS, save_generative_model, save_pretrained_model, tiny_config, wordpiece_tokenizer
from tests.training.test_loop import Killer

KEPT = ("dataset", "data_dir", "prepared_dir", "max_length", "use_cpu", "learning_rate")


def split_of(prepared: PreparedDataset, config: Config) -> tuple[list[str], list[str]]:
    return training_texts(prepared, config.data, config.pretrain.held_out_share, config.training.seed)


def arguments_of(config: Config) -> TrainingArguments:
    return pretraining_arguments(config.training, config.source)


def masking_tokenizer():
    tokenizer = wordpiece_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    return tokenizer


def save_encoder(folder: Path) -> Path:
    """BERT as sentence encoders are saved: with its pooler and without an output layer."""
    save_pretrained_model(folder, "bert")
    masking_tokenizer().save_pretrained(folder)
    return folder


def run(setting: dict[str, str], model: Path, output: Path, **options: object) -> dict | None:
    values = {name: setting[name] for name in KEPT} | {"model_name_or_path": model, "output_dir": output}
    values |= {"run_name": "domain", "num_train_epochs": 3} | options
    return main([part for name, value in values.items() for part in (f"--{name}", str(value))])


def test_encoder_end_to_end(setting, tmp_path, capsys) -> None:
    source = save_encoder(tmp_path / "source")
    metrics = run(setting, source, tmp_path)
    assert metrics["held_out"]["perplexity_after"] < 0.9 * metrics["held_out"]["perplexity_before"]
    assert metrics["model"]["new_output_layer"] and metrics["held_out"]["texts"] >= 1
    printed = capsys.readouterr().out
    assert "so a new one is drawn, tied to the embedding" in printed and "perplexity of the held-out texts" in printed
    folder = tmp_path / "domain" / "model"
    # The output layer is saved and tied; the pooler, which nothing trained, is that of the source.
    whole, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    before, after = AutoModel.from_pretrained(source), AutoModel.from_pretrained(folder)
    assert torch.equal(before.pooler.dense.weight, after.pooler.dense.weight)
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(before.state_dict()[name], after.state_dict()[name])
    # It is a backbone like any other, and a second round finds the output layer.
    options = {"output_dir": tmp_path, "num_train_epochs": 1, "adaptation": "full"}
    scores = train(setting | {"model_name_or_path": str(folder)}, **options, run_name="tuned", pooling="pooler")
    assert 0 <= scores["test"]["macro_f1"] <= 1
    again = run(setting, folder, tmp_path, run_name="second", num_train_epochs=1)
    assert not again["model"]["new_output_layer"]
    assert again["held_out"]["perplexity_before"] == pytest.approx(metrics["held_out"]["perplexity_after"], rel=1e-4)
    # Both rounds saw the training texts, and nobody else's.
    (folder,) = Path(setting["prepared_dir"]).glob("posts-*")
    prepared = load_prepared(folder)
    seen = [np.load(tmp_path / run_name / "model" / "seen_texts.npy") for run_name in ("domain", "second")]
    assert len(seen[0]) == len(set(prepared.dataset["train"]["text"])) and np.array_equal(*seen)
    facts = json.loads((tmp_path / "domain" / "environment.json").read_text())
    assert facts["model_fingerprint"] == model_identity(source)
    # A finished run is left alone.
    assert run(setting, source, tmp_path) is None
    assert json.loads((tmp_path / "domain" / "metrics.json").read_text()) == metrics


def test_decoder_end_to_end(setting, tmp_path) -> None:
    save_generative_model(tmp_path / "source", "gpt2")
    metrics = run(setting, tmp_path / "source", tmp_path)
    assert metrics["held_out"]["perplexity_after"] < 0.9 * metrics["held_out"]["perplexity_before"]
    assert not metrics["model"]["new_output_layer"]
    scores = train(
        setting | {"model_name_or_path": str(tmp_path / "domain" / "model")}, output_dir=tmp_path, run_name="tuned"
    )
    assert 0 <= scores["test"]["macro_f1"] <= 1


def test_steps_that_rounding_loses_are_warned_of(setting, tmp_path, capsys) -> None:
    save_generative_model(tmp_path / "source", "gpt2", single=True)
    run(setting, tmp_path / "source", tmp_path, num_train_epochs=1, dtype="bfloat16")
    warning = "warning: the parameters that train are bfloat16, which loses steps much smaller than a weight"
    assert warning in capsys.readouterr().out


class OnlyTrain(dict):
    """Splits of which only one may be asked for."""

    def __getitem__(self, name: str) -> Dataset:
        assert name == "train", f"the {name} split was read"
        return super().__getitem__(name)

    def values(self):
        raise AssertionError("all splits were read")


def test_only_the_training_split_is_read() -> None:
    texts = {"text": [f"text {number % 40}" for number in range(50)]}
    splits = {name: Dataset.from_dict(texts) for name in ("train", "validation", "test")}
    prepared = PreparedDataset(OnlyTrain(splits), None, "posts", "0" * 64, Path("posts"))
    config = parse_config(["--held_out_share", "0.1"], "test", "pretrain")
    kept, held_out = split_of(prepared, config)
    assert len(kept) == 36 and len(held_out) == 4 and not set(kept) & set(held_out)
    assert split_of(prepared, config) == (
        kept,
        held_out,
    )
    prepared.task = "summarization"
    with pytest.raises(UserError, match="is text to text"):
        split_of(prepared, config)


def test_words_and_pairs_become_texts() -> None:
    config = parse_config(["--held_out_share", "0.5"], "test", "pretrain")
    words = Dataset.from_dict({"tokens": [["a", "b"], ["c"]]})
    prepared = PreparedDataset(OnlyTrain(train=words), None, "tags", "0" * 64, Path("tags"), task="token")
    assert sorted(sum(split_of(prepared, config), [])) == ["a b", "c"]
    pairs = Dataset.from_dict({"text": ["a", "b"], "text_pair": ["c", "d"]})
    prepared = PreparedDataset(OnlyTrain(train=pairs), None, "pairs", "0" * 64, Path("pairs"), task="similarity")
    assert sorted(sum(split_of(prepared, config), [])) == ["a", "b", "c", "d"]


def decoder() -> tuple[torch.nn.Module, object, list[list[int]]]:
    torch.manual_seed(3)
    config = tiny_config("gpt2")
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    tokenizer = masking_tokenizer()
    texts = ["buy now", "is this coin any good ?", "the price fell again and again", "b", "coins fell"] * 3
    return generative_class(config).from_config(config), tokenizer, encode_texts(texts, tokenizer, 12)


def parsed(folder: Path, *arguments: str):
    given = ["--output_dir", str(folder), "--run_name", "run", "--use_cpu", "--logging_steps", "1", *arguments]
    return parse_config(given, "test", "pretrain")


def test_perplexity_is_that_of_the_tokens(tmp_path) -> None:
    model, tokenizer, rows = decoder()
    losses, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            losses += model.eval()(input_ids=ids, labels=ids).loss.item() * (len(row) - 1)
        count += len(row) - 1
    config = parsed(tmp_path, "--per_device_eval_batch_size", "4")
    arguments = pretraining_arguments(config.training, config.source)
    assert perplexity(model, rows, tokenizer, arguments, masked=None) == pytest.approx(
        math.exp(losses / count), rel=1e-5
    )


def test_a_perplexity_over_no_token_is_refused(tmp_path) -> None:
    config = parsed(tmp_path)
    model = AutoModelForMaskedLM.from_config(tiny_config("bert"))
    arguments = pretraining_arguments(config.training, config.source)
    with pytest.raises(UserError, match="perplexity: there are no tokens to take it over"):
        perplexity(model, [[2, 50, 3]], masking_tokenizer(), arguments, masked=1e-9)


@pytest.mark.parametrize("family", [*ENCODERS, "gpt2"])
def test_only_labelled_positions_are_computed(family: str) -> None:
    config, masks = tiny_config(family), family != "gpt2"
    torch.manual_seed(0)
    model = (AutoModelForMaskedLM if masks else generative_class(config)).from_config(config).eval()
    collate = TextCollator(
        masking_tokenizer(), mlm=masks, mlm_probability=0.5 if masks else None, seed=1 if masks else None
    )
    batch = collate([{"input_ids": [2, 50, 51, 52, 53, 3]}, {"input_ids": [2, 50, 3]}])
    assert (batch["labels"][:, 0] == -100).all() and (batch["labels"][1, 3:] == -100).all()
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"] if masks else batch["labels"][:, 1:]
    logits = logits if masks else logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    loss, count = summed_loss(model, model, batch, masks)
    torch.testing.assert_close(loss, expected)
    assert count == (labels != -100).sum() > 1


def test_accumulation_equals_one_big_batch(tmp_path) -> None:
    losses = []
    for batch, accumulation in ((8, 1), (2, 4)):
        model, tokenizer, rows = decoder()
        sizes = ("--per_device_train_batch_size", str(batch), "--gradient_accumulation_steps", str(accumulation))
        config = parsed(tmp_path / str(batch), *sizes, "--max_steps", "2")
        trainer = text_trainer(
            model, pretraining_arguments(config.training, config.source), rows, tokenizer, config, None, []
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_an_interrupted_run_goes_on_exactly(tmp_path) -> None:
    def trainer(folder: Path, *callbacks):
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(tiny_config("bert"))
        _, tokenizer, rows = decoder()
        config = parsed(folder, "--num_train_epochs", "3", "--per_device_train_batch_size", "4", "--seed", "1")
        return text_trainer(
            model,
            pretraining_arguments(config.training, config.source),
            rows,
            tokenizer,
            config,
            config.pretrain.mlm_probability,
            list(callbacks),
        )

    whole = trainer(tmp_path / "whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "broken", Killer(6)).train()
    again = trainer(tmp_path / "broken")
    again.train(resume_from_checkpoint=str(tmp_path / "broken" / "run" / "checkpoints" / "checkpoint-4"))
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_pretrained_is_refused(setting, tmp_path) -> None:
    save_pretrained_model(tmp_path / "t5", "t5")
    with pytest.raises(UserError, match="was pretrained on spans"):
        run(setting, tmp_path / "t5", tmp_path)
    save_pretrained_model(tmp_path / "bert", "bert")
    with pytest.raises(UserError, match="has no mask token"):
        run(setting, tmp_path / "bert", tmp_path)
    for nowhere in (tmp_path / "nowhere", Path("outputs/never/model")):
        with pytest.raises(UserError, match=f"there is no folder {nowhere}; make it first"):
            run(setting, nowhere, tmp_path)
