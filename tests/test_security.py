"""What comes from outside can be wrong, but it cannot run code, leave its folder, or fill memory."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import predict
from opinionlm.config.checks import validate
from opinionlm.config.config import Config
from opinionlm.config.options import ModelConfig
from opinionlm.config.parser import parse_config
from opinionlm.data.readers import lines
from opinionlm.data.readers.records import SourceNotes, read_file
from opinionlm.data.spec import FileSpec
from opinionlm.data.spec_parsing import load_spec
from opinionlm.errors import UserError
from opinionlm.inference.output import csv_bytes
from opinionlm.utils.markdown import cell
from opinionlm.utils.names import is_folder_name
from opinionlm.utils.yaml import YamlTooLarge, load_yaml
from tests.saved_classifier import save_tiny_classifier
from tests.tiny import ENCODER

ROOT = Path(__file__).resolve().parent.parent


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_planted_pickle_is_never_loaded(tmp_path) -> None:
    from transformers import AutoModel, BertConfig

    from opinionlm.models.backbones import load_weights

    mark, folder = tmp_path / "executed", tmp_path / "model"
    BertConfig(**ENCODER).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    torch.save({"x": torch.zeros(1), "bomb": Bomb(mark)}, folder / "model.bin")
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert mark.exists(), "the pickle would do harm"
    mark.unlink()
    config = BertConfig.from_pretrained(folder)
    model = ModelConfig(model_name_or_path=str(folder))
    with pytest.raises(UserError, match="no weights"):
        load_weights(AutoModel, model, config, "auto", {}, "")
    assert not mark.exists()


def test_a_pickle_beside_a_saved_classifier_is_not_looked_at(tmp_path) -> None:
    from opinionlm.inference.loading import load_predictor
    from opinionlm.inference.options import PredictionOptions

    mark, folder = tmp_path / "executed", save_tiny_classifier(tmp_path / "best")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    load_predictor(folder, PredictionOptions("cpu"))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(UserError, match="--model"):
        load_predictor(folder, PredictionOptions("cpu"))
    assert not mark.exists()


def test_nothing_in_the_code_can_load_a_pickle() -> None:
    for path in [*ROOT.glob("*.py"), *(ROOT / "opinionlm").rglob("*.py")]:
        code = path.read_text(encoding="utf-8")
        assert "import pickle" not in code and "import joblib" not in code and "allow_pickle=True" not in code, path
        for call in code.split("torch.load(")[1:]:
            assert "weights_only=True" in call[:120], path
        assert "yaml.load(" not in code and "unsafe_load" not in code and "full_load" not in code, path


def test_every_model_is_loaded_from_safetensors_alone() -> None:
    loads = 0
    for path in [*ROOT.glob("*.py"), *(ROOT / "opinionlm").rglob("*.py")]:
        code = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(code)) if "from_pretrained" in code else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr != "from_pretrained" or "Config" in owner or "Tokenizer" in owner:
                continue
            # PeftModel takes safetensors first, else weights alone; super() hands on what its caller said.
            if owner not in ("PeftModel", "super()"):
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert keywords.get("use_safetensors") == "True", f"{path}:{node.lineno}"
                loads += 1
    assert loads >= 4


def test_remote_code_is_off_by_default() -> None:
    assert ModelConfig().trust_remote_code is False
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert "trust_remote_code: true" not in path.read_text(encoding="utf-8").lower(), path


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/..", "../a", "a/b", "a\\b", "/etc", "a\0b", "a\nb", "x" * 300, " . "]
)
def test_no_name_leaves_its_folder(tmp_path, name) -> None:
    assert not is_folder_name(name)
    config = Config()
    config.training.run_name = name
    with pytest.raises(UserError, match="run_name"):
        validate(config)
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump({"name": name, "labels": ["a", "b"], "files": []}), encoding="utf-8")
    with pytest.raises(UserError, match="name"):
        load_spec(path)


def test_ids_and_platforms_are_only_values(tmp_path) -> None:
    """Nothing is named after what a data file says."""
    from opinionlm.data.preparation.pipeline import prepare

    hostile = "../../../escaped"
    rows = [["id", "platform", "text", "label"]]
    rows += [[f"{hostile}{i}", hostile, f"post number {i} of {'ab'[i % 2]}", "ab"[i % 2]] for i in range(60)]
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "posts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    columns = {"id": "id", "platform": "platform", "text": "text", "label": "label"}
    content = {"name": "x", "labels": ["a", "b"], "files": [{"path": "posts.csv", "columns": columns}]}
    spec = tmp_path / "x.yaml"
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    before = set(tmp_path.rglob("*"))
    prepare(load_spec(spec), tmp_path / "in", tmp_path / "deep" / "down" / "out", num_proc=1)
    new = set(tmp_path.rglob("*")) - before
    assert new and all(path == tmp_path / "deep" or tmp_path / "deep" in path.parents for path in new)
    assert not list(tmp_path.parent.glob("escaped*"))


def test_yaml_is_bounded_and_plain() -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    for text in (laughs, "a: &a [*a]", "[" * 5_000 + "]" * 5_000, "[" * 60 + "]" * 60, "x" * 1_000_001):
        with pytest.raises(YamlTooLarge):
            load_yaml(text)
    for text in ("!!python/object/apply:os.system [ls]", "d: 2026-99-99", "{[]: 1}", "a: !!int x"):
        with pytest.raises(yaml.YAMLError):
            load_yaml(text)
    assert load_yaml("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}


def test_a_broken_list_on_the_command_line_is_a_user_error() -> None:
    with pytest.raises(UserError, match="target_modules|head_hidden_sizes"):
        parse_config(["--head_hidden_sizes", "[1, "], "")


def test_a_decompression_bomb_is_stopped(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lines, "FREE_BYTES", 100_000)
    bomb, honest = tmp_path / "bomb.csv.gz", tmp_path / "honest.csv.gz"
    bomb.write_bytes(gzip.compress(b"text,label\n" + b" " * 5_000_000))
    honest.write_bytes(gzip.compress(b"text,label\n" + b"".join(b"post %d,a\n" % i for i in range(20_000))))
    spec = FileSpec("x", {"text": "text", "label": "label"})
    with pytest.raises(UserError, match="expands to more than 200 times"):
        list(read_file(bomb, spec, SourceNotes()))
    assert sum(1 for _ in read_file(honest, spec, SourceNotes())) == 20_000


def test_a_gigantic_field_is_one_reject(tmp_path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "y" * 3_000_000 + ",a\nshort,a\n")
    first, second = read_file(path, FileSpec("x", {"text": "text", "label": "label"}), SourceNotes())
    assert first.reason == "oversized_record" and len(first.raw) <= 2_000
    assert second.fields == {"text": "short", "label": "a"}


def test_formulas_are_neutralised_where_asked_for(tmp_path) -> None:
    folder, posts, output = save_tiny_classifier(tmp_path / "best"), tmp_path / "posts.csv", tmp_path / "out.csv"
    texts = ['=HYPERLINK("http://x.example","buy")', "+1", "-1", "@SUM(A1)", "\tbuy", "buy =1"]
    with posts.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *[[f"={i}", text] for i, text in enumerate(texts)]])
    command = ["--model", str(folder), "--input", str(posts), "--output", str(output), "--overwrite"]
    for option, prefix in (([], ""), (["--neutralise_formulas"], "'")):
        predict.main([*command, *option])
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["text"] for row in rows] == [*(prefix + text for text in texts[:-1]), texts[-1]]
        assert [row["id"] for row in rows] == [f"{prefix}={i}" for i in range(len(texts))]
    header, row = csv.reader(io.StringIO(csv_bytes([["a"], ["\r=1"]], neutralise_formulas=True).decode(), newline=""))
    assert (header, row) == (["a"], ["'\r=1"])


def test_html_in_labels_and_posts_is_text_in_markdown() -> None:
    from opinionlm.reporting.model_card import f1_table

    hostile = "<script>alert(1)</script>|x"
    table = f1_table([hostile], {f"f1_{hostile}": 0.5}, {f"f1_{hostile}": 0.5})
    assert "<script" not in table and "<script" not in cell(hostile)
    assert table.splitlines()[2].count("|") - table.splitlines()[2].count("\\|") == 4


def test_every_launch_file_is_accepted_by_accelerate() -> None:
    """By its own loader, which refuses unknown keys."""
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
    assert {path.stem for path in files} >= {
        "cpu",
        "two_cpu_processes",
        "single_gpu",
        "ddp",
        "fsdp2",
        "deepspeed_zero2",
    }
    for path in files:
        config = load_config_from_file(str(path))
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert config.num_processes == content["num_processes"], path
        assert str(config.distributed_type.value) == content["distributed_type"], path


def test_the_slurm_example_is_a_script() -> None:
    path = ROOT / "configs" / "slurm" / "train.sbatch"
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert (ROOT / "configs/accelerate/ddp.yaml").is_file() and "configs/accelerate/ddp.yaml" in path.read_text()
    assert sys.version_info >= (3, 11)
