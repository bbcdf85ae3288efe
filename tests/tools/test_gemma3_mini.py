"""The bundled miniature: its folder keeps its promises, and the script that made it runs, resumes and learns."""

import csv
import json
import math
import re
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from opinionlm.errors import UserError
from tools.gemma3_mini import __main__ as pretrain_miniature
from tools.gemma3_mini import card as miniature_card
from tools.gemma3_mini.chunked import chunked_cross_entropy
from tools.gemma3_mini.corpus import SOURCES, clean, detokenise, load_corpus
from tools.gemma3_mini.tokenizer import train_tokenizer
from tools.gemma3_mini.training import document_losses, encode, learning_rate_at, pack

MEGABYTE = 2**20
ENGLISH = (
    "I really love this place, the people are so nice and the food was great.",
    "What do you think about the new season? I thought it was pretty bad to be honest.",
    "The company said on Monday that it would open three new stores in the city next year.",
    "In this paper we propose a new method and show that it performs better than previous work.",
)


@pytest.fixture(scope="module")
def folder(request):
    return request.config.rootpath / "models" / "gemma3-mini"


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


# ---- the committed folder ----------------------------------------------------------------------------------


def test_folder_is_small_and_stored_in_bf16(folder):
    from safetensors import safe_open

    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12 * MEGABYTE
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118 — no mapping


def test_architecture_is_gemma3_text(model, tokenizer):
    config = model.config
    assert type(model).__name__ == "Gemma3ForCausalLM"
    assert config.model_type == "gemma3_text"
    assert config.layer_types == ["sliding_attention"] * 5 + ["full_attention"]
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert config.vocab_size == len(tokenizer) == model.lm_head.weight.shape[0]
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):  # what blocks of 64 and packed 4-bit kernels need
            assert module.in_features % 64 == 0 and module.out_features % 64 == 0


def test_special_ids_agree(model, tokenizer):
    assert [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id] == [
        0,
        1,
        2,
        3,
    ]
    for config in (model.config, model.generation_config):
        assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, 1, 2)


def test_pretrained_weights_beat_random_ones_by_far(model, tokenizer):
    documents = encode(tokenizer, list(ENGLISH))
    predicted = sum(len(document) - 1 for document in documents)
    random_model = type(model)(model.config).eval()
    perplexity = math.exp(sum(document_losses(model, documents)) / predicted)
    random_perplexity = math.exp(sum(document_losses(random_model, documents)) / predicted)
    assert perplexity < 120 < 3000 < random_perplexity


def test_card_states_what_was_measured(folder):
    summary = json.loads((folder / "training_summary.json").read_text())
    card = (folder / "README.md").read_text()
    with (folder / "training_log.csv").open() as file:
        log = list(csv.DictReader(file))
    best = min(log, key=lambda row: float(row["heldout_loss"]))
    assert int(best["step"]) == summary["training"]["best_step"]
    assert int(log[-1]["tokens"]) == summary["training"]["tokens_seen"]
    # The log was taken in bf16 arithmetic, the summary in fp32 from the stored weights.
    assert summary["heldout"]["nats_per_token"] == pytest.approx(float(best["heldout_loss"]), abs=0.02)
    heldout = summary["heldout"]
    assert heldout["perplexity"] == pytest.approx(math.exp(heldout["nats_per_token"]))
    assert heldout["bits_per_character"] == pytest.approx(
        heldout["nats_per_token"] * heldout["tokens"] / math.log(2) / heldout["characters"]
    )
    for number in (
        f"{heldout['perplexity']:.2f}",
        f"{heldout['bits_per_character']:.3f}",
        f"{summary['training']['tokens_seen']:,}",
        f"{summary['training']['steps']:,}",
        f"{summary['random_weights']['perplexity']:.2f}",
    ):
        assert number in card
    for source in SOURCES:
        assert source.name in card and source.licence in card
    assert not re.search(r"cryptoqa", json.dumps(summary), re.IGNORECASE)
    assert "/work/" not in card + json.dumps(summary)


def test_pretraining_helped_in_the_comparison(folder):
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    scores = {(row["data"], row["model"]): row["macro_f1"] for row in rows}
    for data in {row["data"] for row in rows}:
        assert len(scores[data, "pretrained"]) >= 3
        assert min(scores[data, "pretrained"]) > max(scores[data, "random weights"])


# ---- tokenizer ---------------------------------------------------------------------------------------------

# "▁" stands for the blank in every SentencePiece vocabulary, so it cannot come back as itself.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=80)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_round_trip_of_any_unicode_text(tokenizer, text):
    # Special tokens are read as such here, and skipped; Hypothesis tries the strings that stand in this repository.
    assume(not any(token in text for token in tokenizer.added_tokens_encoder))
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "text", ["a  b\n\n c\t", " HODL!!! 🚀🚀 čau — “q”", "line\r\nline\n\n\n\nend", "ไทย עברית 日本語", ""]
)
def test_round_trip_of_awkward_texts(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_case_digits_and_line_breaks_have_tokens_of_their_own(tokenizer):
    assert tokenizer.tokenize("Not") != tokenizer.tokenize("not")
    assert tokenizer.tokenize("a\n\nb") == ["a", "\n\n", "b"]
    assert tokenizer.tokenize("x 2026")[-3:] == ["0", "2", "6"]


def test_chat_template_is_gemmas(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Label this. "},
        {"role": "assistant", "content": "noise"},
    ]
    expected = (
        "<bos><start_of_turn>user\nBe brief.\n\nLabel this.<end_of_turn>\n<start_of_turn>model\nnoise<end_of_turn>\n"
    )
    assert tokenizer.apply_chat_template(messages, tokenize=False) == expected
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<end_of_turn>\n<start_of_turn>model\n")
    assert tokenizer.convert_tokens_to_ids("<start_of_turn>") == 5
    assert len(tokenizer("<end_of_turn>", add_special_tokens=False)["input_ids"]) == 1


def test_learning_the_tokenizer_twice_gives_the_same_one():
    texts = [
        f"{a}{b} 你{c}" for a in "abcxyz" for b in "éüñøß" for c in "αβγδεζηθικλμ"
    ]  # many equally rare characters
    first, second = (train_tokenizer(texts, 320, 64, max_alphabet=12) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()


# ---- corpus ------------------------------------------------------------------------------------------------


def test_detokenise_and_clean():
    assert detokenise("I do n't know ( ever ) , why ? # fun") == "I don't know (ever), why? #fun"
    assert clean("@someone  see https://t.co/AbC12 or me@mail.org") == "@user see https://t.co or user@mail"


@pytest.fixture
def tiny_data(tmp_path):
    """All seven sources in miniature, with one text that two of them share."""
    data = tmp_path / "data"
    for source in SOURCES:
        (data / source.file).parent.mkdir(parents=True)
    words = list(dict.fromkeys(" ".join(ENGLISH).replace(",", "").replace(".", "").split()))[:15]
    line = [f"the {a} and the {b} are {c}" for a in words for b in words for c in words[::5]]
    tweets = "\n\n".join("\n".join(f"{token}\tO" for token in text.split()) for text in line[:60])
    (data / "goemotions/train.tsv").write_text("".join(f"{text}\t3\tid{i}\n" for i, text in enumerate(line[60:600])))
    (data / "wnut17/train.conll").write_text(tweets + "\n")
    (data / "broad-twitter-corpus/train.conll").write_text(tweets.replace("the", "that") + "\n")
    rows = [
        {"context": f"Context {i // 3}. {line[i // 3]}", "question": f"What is {text}?"}
        for i, text in enumerate(line[:90])
    ]
    (data / "squad/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [
        {"paper_id": str(i), "document": f"We show {text}.", "summaries": ["Good."]}
        for i, text in enumerate(line[:40])
    ]
    (data / "scitldr/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"text": f"This , [[ {text} ]] , is cited ."} for text in line[:40]]
    (data / "acl-arc/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "sciie-relations/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def test_heldout_documents_share_no_text_and_no_group_with_training(tiny_data):
    corpus = load_corpus(tiny_data, 0.1, seed=3)
    train, heldout = ({document.text.casefold() for document in part} for part in (corpus.train, corpus.heldout))
    assert not train & heldout
    assert len(train) == len(corpus.train) and len(heldout) == len(corpus.heldout)
    groups = [{document.group for document in part} for part in (corpus.train, corpus.heldout)]
    assert not groups[0] & groups[1]
    assert {document.source for document in corpus.heldout} == {source.name for source in SOURCES}
    assert corpus.duplicates > 0
    assert load_corpus(tiny_data, 0.1, seed=3) == corpus


def test_missing_source_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="goemotions.*--data_dir"):
        load_corpus(tmp_path, 0.1, seed=3)


# ---- training ----------------------------------------------------------------------------------------------


def test_chunked_loss_equals_cross_entropy():
    torch.manual_seed(0)
    hidden, weight = torch.randn(600, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (600,))
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(hidden @ weight.t(), targets), (hidden, weight))
    loss = chunked_cross_entropy(hidden, weight, targets)
    for ours, theirs in zip(torch.autograd.grad(loss, (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_packed_documents_do_not_see_each_other(model, tokenizer):
    """Packing with restarting positions gives the loss of each document read alone."""
    documents = encode(tokenizer, list(ENGLISH))
    packed = pack(documents, sum(map(len, documents)), order_seed=1)
    with torch.no_grad():
        logits = model(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False).logits
    targets = packed.input_ids[:, 1:].masked_fill(packed.position_ids[:, 1:] == 0, -100)
    total = torch.nn.functional.cross_entropy(logits[0, :-1], targets[0], reduction="sum").item()
    assert total == pytest.approx(sum(document_losses(model, documents)), rel=1e-4)


def test_learning_rate_warms_up_and_falls():
    rates = [learning_rate_at(step, 100, 10, 1.0) for step in range(101)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[100] == pytest.approx(0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def small_run(data, output, *more):
    shape = "--vocab_size 420 --hidden_size 64 --intermediate_size 64 --head_dim 32 --num_attention_heads 2"
    rest = "--sequence_length 64 --batch_size 4 --num_train_epochs 1 --warmup_steps 5 --heldout_fraction 0.1"
    arguments = ["--data_dir", str(data), "--output_dir", str(output), *shape.split(), *rest.split(), *more]
    pretrain_miniature.main(arguments)


@pytest.fixture
def one_sample(monkeypatch):
    """Models continue one prompt instead of all, one token at a time."""
    monkeypatch.setattr(miniature_card, "PROMPTS", miniature_card.PROMPTS[:1])


# Slow: three trainings; nobody's run depends on the script that made the bundled model.
@pytest.mark.slow
@pytest.mark.usefixtures("drawn_figures", "one_sample")
def test_script_trains_resumes_exactly_and_writes_a_card(tiny_data, tmp_path):
    from safetensors.torch import load_file

    small_run(tiny_data, tmp_path / "whole", "--max_steps", "12")
    small_run(tiny_data, tmp_path / "parts", "--max_steps", "5")
    small_run(tiny_data, tmp_path / "parts", "--max_steps", "12", "--resume")
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    summary = json.loads((tmp_path / "whole" / "training_summary.json").read_text())
    assert summary["training"]["steps"] == 12
    assert summary["heldout"]["perplexity"] < summary["random_weights"]["perplexity"]
    assert f"{summary['heldout']['perplexity']:.2f}" in (tmp_path / "whole" / "README.md").read_text()
    assert (tmp_path / "whole" / "loss_curve.png").stat().st_size < 200_000


def test_random_weights_option_writes_the_same_architecture(folder, tmp_path):
    from transformers import AutoConfig

    pretrain_miniature.main(["--tokenizer_dir", str(folder), "--output_dir", str(tmp_path), "--random_weights"])
    ours, theirs = (AutoConfig.from_pretrained(path).to_dict() for path in (tmp_path, folder))
    assert {name: value for name, value in ours.items() if name != "_name_or_path"} == {
        name: value for name, value in theirs.items() if name != "_name_or_path"
    }


@pytest.mark.usefixtures("one_sample")
def test_user_mistakes_are_one_line(tmp_path, tiny_data):
    with pytest.raises(UserError, match="--data_dir"):
        pretrain_miniature.main(["--output_dir", str(tmp_path / "x")])
    with pytest.raises(UserError, match="no checkpoint"):
        small_run(tiny_data, tmp_path / "none", "--resume")
    small_run(tiny_data, tmp_path / "other", "--max_steps", "1")
    with pytest.raises(UserError, match="another corpus"):
        small_run(tiny_data, tmp_path / "other", "--resume", "--seed", "99")
    with pytest.raises(UserError, match="no training summary"):
        pretrain_miniature.main(["--output_dir", str(tmp_path / "none"), "--card_only"])


def test_help_is_fast():
    started = time.perf_counter()
    command = [sys.executable, "-m", "tools.gemma3_mini", "--help"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--random_weights" in output
    assert time.perf_counter() - started < 3  # under a second when the machine is idle
