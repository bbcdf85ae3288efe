"""Models go to a stand-in of the hub and come back from it; the library is the real one."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import ModelCard

import opinionlm
import train_classifier
import train_instruct
from opinionlm.config.options import ModelConfig
from opinionlm.config.parser import Layer, new_config
from opinionlm.data.contamination import refuse_seen_texts, save_seen_texts, seen_among
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.experiments.cross_fit import refuse_taught
from opinionlm.inference.hub import fetched, named_card, push_model
from opinionlm.inference.loading import model_fingerprint
from opinionlm.inference.push import main
from opinionlm.inference.saved_generative import read_settings
from opinionlm.runs.run import Run
from tests.classifier_runs import command_line, drawn_posts, write_posts
from tests.generative import tiny_language_model
from tests.hub_server import TOKEN, Hub, Repository, serving
from tests.saved_classifier import save_tiny_classifier
from tests.tiny import tiny_tokenizer

TEXTS = ["buy the coin now", "never again !", "good news", "sell ?"]
CARD = """---
license: mit
library_name: transformers
tags: [opinionlm]
---
# run
classify = pipeline("text-classification", model="{folder}")
`python -m opinionlm predict --model {folder} --input posts.csv`
"""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    constants = huggingface_hub.constants
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def best(tmp_path) -> Path:
    folder = save_tiny_classifier(tmp_path / "run" / "best")
    (folder / "README.md").write_text(CARD.format(folder=folder))
    return folder


def test_a_model_answers_alike_behind_the_hub(hub, best, capsys) -> None:
    main([str(best.parent), "me/posts"])
    assert f"→ {hub.address}/me/posts" in capsys.readouterr().err
    assert hub.repositories["me/posts"].private
    assert hub.files("me/posts").keys() == {path.name for path in best.iterdir()}
    own, others = (opinionlm.load(one, device="cpu").predict(TEXTS) for one in (best, "me/posts"))
    assert own == others
    card = hub.files("me/posts")["README.md"].decode()
    assert str(best) not in card and 'model="me/posts"' in card and "--model me/posts --input" in card
    assert ModelCard(card).data.license == "mit" and str(best) in (best / "README.md").read_text()


def test_a_card_tells_nothing_of_the_folder_that_it_was_made_in(tmp_path) -> None:
    """Not even of one with blanks, which a command has in quotes."""
    for folder in ("outputs/run/best", "/home/a user/my run/best"):
        card = tmp_path / "README.md"
        card.write_text(CARD.replace("--model {folder}", f"--model {shlex.quote(folder)}").format(folder=folder))
        text = named_card(card, "me/posts").decode()
        assert 'model="me/posts")' in text and "--model me/posts --input posts.csv`" in text
        assert folder not in text and "my run" not in text


def test_an_interrupted_upload_goes_on(hub, best) -> None:
    weights = (best / "model.safetensors").read_bytes()
    (best / "words.safetensors").write_bytes(weights + b"more")
    hub.takes = 1
    with pytest.raises(
        UserError, match=r"push: me/posts: .*give the same command again: what it has is not"
    ) as caught:
        push_model(best, "me/posts")
    assert "\n" not in str(caught.value)
    # Nothing of the model is to be seen, and one of two files has arrived.
    assert hub.files("me/posts") == {} and len(hub.puts) == 1
    hub.takes = None
    push_model(best, "me/posts")
    assert hub.files("me/posts")["model.safetensors"] == weights
    assert len(hub.puts) == len(set(hub.puts)) == 2


def test_a_taken_name_is_overwritten_on_demand_alone(hub, best) -> None:
    push_model(best, "me/posts")
    first = hub.repositories["me/posts"].at("main")
    before = opinionlm.load("me/posts", device="cpu").predict(TEXTS)
    with pytest.raises(UserError, match="push: me/posts: the name is taken.*--overwrite"):
        push_model(best, "me/posts")
    (best / "new.json").write_text("{}")
    (best / "README.md").unlink()
    push_model(best, "me/posts", overwrite=True)
    assert "new.json" in hub.files("me/posts") and "README.md" not in hub.files("me/posts")
    # The earlier state stays under its commit.
    assert not (fetched("me/posts", first) / "new.json").exists() and (fetched("me/posts") / "new.json").exists()
    assert opinionlm.load("me/posts", device="cpu", revision=first).predict(TEXTS) == before


def test_nothing_is_published_by_mistake(hub, best) -> None:
    push_model(best, "lab/open", public=True)
    assert not hub.repositories["lab/open"].private
    with pytest.raises(UserError, match="is there and public; add --public"):
        push_model(best, "lab/open", overwrite=True)
    push_model(best, "lab/open", public=True, overwrite=True)
    push_model(best, "lab/closed")
    with pytest.raises(UserError, match="is there and private; leave out --public"):
        push_model(best, "lab/closed", public=True, overwrite=True)


def test_what_cannot_be_sent_is_one_line(hub, best, monkeypatch, tmp_path) -> None:
    def refusal(name: str = "me/posts", model: Path = best) -> str:
        with pytest.raises(UserError) as caught:
            push_model(model, name)
        assert "\n" not in str(caught.value) and not hub.repositories
        return str(caught.value)

    assert "give owner and name, such as user/model" in refusal("posts")
    assert "the token is that of me; give a name that begins with me or lab" in refusal("you/posts")
    assert "no such folder" in refusal(model=tmp_path / "none")
    assert "holds no saved model" in refusal(model=tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "it takes no such token; hf auth login, or set HF_TOKEN" in refusal()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert "there is no token; hf auth login" in refusal()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refusal()
    with pytest.raises(UserError, match="no such folder: me/none; .* reached .*; check the path, or give the same"):
        fetched("me/none")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, so that the hub is not asked; unset it" in refusal()


def test_what_cannot_be_fetched_is_one_line(hub, best, monkeypatch) -> None:
    push_model(best, "me/posts")
    for arguments, said in [
        (("me/none", None), "--model: no such folder: me/none; on the hub: there is no such model or revision"),
        (("me/posts", "v9"), "there is no such model or revision"),
        ((best, "v9"), "is a folder, and only models of the hub have revisions"),
    ]:
        with pytest.raises(UserError, match=said):
            fetched(*arguments)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="that you may read; check the name, or log in"):
        fetched("me/posts")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="no such folder: me/posts; on the hub: HF_HUB_OFFLINE is set"):
        fetched("me/posts")


def test_code_and_pickles_stay_where_they_are(hub, best) -> None:
    (best / "modeling_evil.py").write_text("raise SystemExit")
    (best / "pytorch_model.bin").write_bytes(pickle.dumps("harm"))
    push_model(best, "me/posts")
    assert {"modeling_evil.py", "pytorch_model.bin"} <= hub.files("me/posts").keys()
    assert not {path.suffix for path in fetched("me/posts").iterdir()} & {".py", ".bin"}
    # Weights that are pickles alone are no model.
    (best / "model.safetensors").unlink()
    push_model(best, "me/posts", overwrite=True)
    with pytest.raises(UserError, match=r"has no weights \(looked for \*.safetensors\)"):
        opinionlm.load("me/posts", device="cpu")


def test_texts_that_a_model_of_the_hub_saw_are_noticed(hub, best, tmp_path) -> None:
    texts = DatasetDict({name: Dataset.from_dict({"text": [name]}) for name in ("train", "validation", "test")})
    posts = PreparedDataset(texts, None, "posts", "f" * 64, Path("posts"))
    push_model(best, "me/posts")
    unknown = hub.repositories["me/posts"].at("main")
    refuse_seen_texts(ModelConfig(model_name_or_path="me/posts"), posts)
    save_seen_texts(best, ModelConfig(model_name_or_path=""), ["test"])
    push_model(best, "me/posts", overwrite=True)
    with pytest.raises(UserError, match="'me/posts' was trained on 1 of the 1 texts of posts's test split"):
        refuse_seen_texts(ModelConfig(model_name_or_path="me/posts"), posts)
    with pytest.raises(UserError, match="'me/posts' was trained on labels"):
        refuse_taught(ModelConfig(model_name_or_path="me/posts"))
    refuse_seen_texts(ModelConfig(model_name_or_path="me/posts", model_revision=unknown), posts)
    # What goes on from it hands the note on.
    save_seen_texts(tmp_path, ModelConfig(model_name_or_path="me/posts"), ["train"])
    assert seen_among(ModelConfig(model_name_or_path=str(tmp_path)), ["train", "validation", "test"]) == 2


def save_base(folder: Path, seed: int) -> Path:
    tiny_language_model("gemma3_text", seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_an_adapter_stays_on_the_commit_of_its_base(hub, tmp_path) -> None:
    write_posts(tmp_path, drawn_posts(60))
    push_model(save_base(tmp_path / "model", 0), "me/base")
    commit = hub.repositories["me/base"].at("main")
    data = {"dataset": tmp_path / "posts.yaml", "data_dir": tmp_path, "prepared_dir": tmp_path / "prepared"}
    data |= {"output_dir": tmp_path, "run_name": "run", "report_to": "none", "use_cpu": "true"}
    data |= {"model_name_or_path": "me/base", "adaptation": "lora", "max_length": "64", "max_steps": "1"}
    (tmp_path / "template.yaml").write_text('prompt: "post: {text}\\nlabel:"\n')
    data |= {"prompt_template": tmp_path / "template.yaml", "max_eval_samples": "8"}
    train_instruct.main([part for name, value in data.items() for part in (f"--{name}", str(value))])
    run = tmp_path / "run"
    best, before = run / "best", opinionlm.load(run, device="cpu").predict(TEXTS)
    fingerprint = model_fingerprint(best)
    push_model(save_base(tmp_path / "other", 1), "me/base", overwrite=True)
    assert hub.repositories["me/base"].at("main") != commit
    assert read_settings(best).base_options["model_revision"] == commit
    assert opinionlm.load(run, device="cpu").predict(TEXTS) == before and model_fingerprint(best) == fingerprint
    # The run has the options that it was given, and would go on with what it began with.
    assert "model_revision: main" in (run / "config.yaml").read_text()
    config = new_config(run / "config.yaml", Layer("the test", {}), "train_instruct")
    assert Run(config).pinned().model.model_revision == commit
    shutil.rmtree(run / "checkpoints")
    assert Run(config).pinned().model.model_revision == hub.repositories["me/base"].at("main")
    # An adapter of before there were commits is answered by what the branch stands for.
    settings = json.loads((best / "opinionlm.json").read_text())
    del settings["base_options"]
    (best / "opinionlm.json").write_text(json.dumps(settings))
    newest = model_fingerprint(best)
    push_model(save_base(tmp_path / "third", 2), "me/base", overwrite=True)
    assert model_fingerprint(best) != newest


@pytest.mark.slow
def test_training_ends_on_the_hub(hub, setting: dict[str, str], tmp_path) -> None:
    taken = Repository(private=True)
    taken.commit({"config.json": b"{}"})
    hub.repositories["me/taken"] = taken
    options = {"output_dir": tmp_path / "runs", "run_name": "run"}
    with pytest.raises(UserError, match="push_to_hub: me/taken: the name is taken"):
        train_classifier.main(command_line(setting, push_to_hub="me/taken", **options))
    assert not (tmp_path / "runs" / "run").exists(), "refused before it trains"
    train_classifier.main(command_line(setting, push_to_hub="me/posts", **options))
    best = tmp_path / "runs" / "run" / "best"
    assert hub.files("me/posts")["model.safetensors"] == (best / "model.safetensors").read_bytes()
    card = ModelCard(hub.files("me/posts")["README.md"].decode())
    assert card.data.library_name == "transformers" and card.data.eval_results and str(best) not in card.content


@pytest.mark.slow
def test_commands_talk_to_the_hub_that_the_environment_names(hub, best, tmp_path) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    posts = tmp_path / "posts.txt"
    posts.write_text("\n".join(TEXTS) + "\n")
    predict = ["predict", "--input", str(posts), "--model"]
    for arguments in (
        ["push", str(best), "me/posts"],
        [*predict, "me/posts", "--revision", "main", "--output", str(tmp_path / "hub.csv")],
        [*predict, str(best), "--output", str(tmp_path / "own.csv")],
    ):
        command = [sys.executable, "-m", "opinionlm", *arguments]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    rows = [list(csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("hub", "own")]
    assert rows[0] == rows[1] and len(rows[0]) == 1 + len(TEXTS)
    command = [sys.executable, "-m", "opinionlm", "push", str(best), "me/posts"]
    again = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.startswith("error: push: me/posts: the name is taken")
    assert again.stderr.count("\n") == 1
