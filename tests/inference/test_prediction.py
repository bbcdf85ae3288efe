"""predict.py: the same labels from every input form, nothing lost or doubled, whatever happens on the way."""

import csv
import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import opinionlm  # noqa: F401 — registers the Auto classes
import predict
from opinionlm.errors import UserError
from opinionlm.inference.loading import load_predictor, model_fingerprint
from opinionlm.inference.options import PredictionOptions
from opinionlm.inference.output import FileOutput
from tests.saved_classifier import LEAVES, WORDS, save_tiny_classifier

HEADER = ["id", "text", "predicted", "confidence", "level1", "level2", "level3"]
HEADER += [f"probability_{label}" for label in LEAVES]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return save_tiny_classifier(tmp_path_factory.mktemp("model"))


def some_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of mixed length, some of them equal, one blank, one with line ends and quotes."""
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(1, 40))) for _ in range(count - 4)]
    texts += ["", 'he said "buy",\nthen sold', texts[0], "größe 🚀 ,"]
    generator.shuffle(texts)
    return texts


def write_csv(path: Path, texts: list[str], text: str = "text", delimiter: str = ",") -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", text])
        writer.writerows([f"post-{number}", content] for number, content in enumerate(texts))
    return path


def read_csv(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def run_predict(model: Path, source: Path | str, output: Path | str, *options: object) -> None:
    predict.main(["--model", str(model), "--input", str(source), "--output", str(output), *map(str, options)])


def test_equals_one_text_at_a_time_in_order(model_folder, tmp_path):
    texts = some_texts(120)
    run_predict(model_folder, write_csv(tmp_path / "in.csv", texts), tmp_path / "out.csv", "--window", 50)
    header, *rows = read_csv(tmp_path / "out.csv")
    assert header == HEADER
    assert [row[0] for row in rows] == [f"post-{number}" for number in range(120)]
    assert [row[1] for row in rows] == texts

    model = AutoModelForSequenceClassification.from_pretrained(model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    for row, text in zip(rows, texts, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=24)).logits[0]
        if not text:
            # Nothing was read, so nothing is answered.
            assert row[2:] == [""] * len(row[2:])
            continue
        expected = logits.softmax(dim=0).numpy()
        assert np.allclose([float(value) for value in row[7:]], expected, atol=2e-6)
        assert row[2] == LEAVES[expected.argmax()]
    assert len({row[2] for row in rows}) > 1


def test_levels_follow_the_leaf_although_config_json_sorts_the_tree(model_folder, tmp_path):
    run_predict(model_folder, write_csv(tmp_path / "in.csv", some_texts(80)), tmp_path / "out.csv")
    paths = {
        "noise": ["noise", "", ""],
        "objective": ["opinion", "objective", ""],
        "positive": ["opinion", "subjective", "positive"],
        "negative": ["opinion", "subjective", "negative"],
    }
    assert all(row[4:7] == paths.get(row[2], [""] * 3) for row in read_csv(tmp_path / "out.csv")[1:])


def test_agrees_with_a_transformers_pipeline(model_folder, tmp_path):
    texts = [text for text in some_texts(40) if text]
    run_predict(model_folder, write_csv(tmp_path / "in.csv", texts), tmp_path / "out.csv")
    classify = pipeline("text-classification", model=str(model_folder), device="cpu")
    answers = classify(texts, truncation=True, max_length=24)
    assert [row[2] for row in read_csv(tmp_path / "out.csv")[1:]] == [answer["label"] for answer in answers]


def test_every_input_form_gives_the_same_labels(model_folder, tmp_path, monkeypatch):
    texts = [text.replace("\n", " ") for text in some_texts(60)]
    objects = "".join(json.dumps({"id": f"post-{at}", "text": text}) + "\n" for at, text in enumerate(texts))
    lines = "".join(text + "\n" for text in texts)
    write_csv(tmp_path / "a.csv", texts)
    write_csv(tmp_path / "b.tsv", texts, delimiter="\t")
    (tmp_path / "c.jsonl").write_text(objects, encoding="utf-8")
    (tmp_path / "d.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "f.data").write_bytes((tmp_path / "c.jsonl").read_bytes())

    sources = [tmp_path / name for name in ("a.csv", "b.tsv", "c.jsonl", "d.txt", "e.csv.gz")]
    jobs = [(source, []) for source in sources] + [(tmp_path / "f.data", ["--format", "jsonl"])]
    outputs = []
    for number, (source, options) in enumerate(jobs):
        run_predict(model_folder, source, tmp_path / f"out{number}.csv", *options)
        outputs.append(read_csv(tmp_path / f"out{number}.csv"))
    for number, (content, kind) in enumerate([(lines.encode(), "lines"), ((tmp_path / "a.csv").read_bytes(), "csv")]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        run_predict(model_folder, "-", tmp_path / f"std{number}.csv", "--format", kind)
        outputs.append(read_csv(tmp_path / f"std{number}.csv"))
    for rows in outputs:
        assert [row[1:] for row in rows] == [row[1:] for row in outputs[0]]
    assert [row[0] for row in outputs[3][1:]] == [str(number) for number in range(1, 61)]

    run_predict(model_folder, tmp_path / "a.csv", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["predicted"] or "" for row in rows] == [row[2] for row in outputs[0][1:]]
    assert list(rows[0]) == HEADER and isinstance(rows[0]["confidence"], float)
    assert not [path.name for path in tmp_path.iterdir() if ".part" in path.name]
    for rejects in tmp_path.glob("*.rejects.csv"):
        assert [row[2] for row in read_csv(rejects)] == ["reason", "empty_text"]


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("moment", ["before", "after rows", "after rejects", "after journal"])
@pytest.mark.parametrize("window", [1, 4])
def test_an_interrupted_job_ends_like_an_undisturbed_one(model_folder, tmp_path, monkeypatch, moment, window):
    source = write_csv(tmp_path / "in.csv", some_texts(70))
    with open(source, "a", encoding="utf-8") as file:
        file.write('too,many,fields\n"open quote\nx,fine\n')
    run_predict(model_folder, source, tmp_path / "whole.csv", "--window", 16)

    calls = 0
    write = FileOutput.write

    def dying(sink, rows, count, rejects, last_record):
        nonlocal calls
        calls += 1
        if calls != window:
            return write(sink, rows, count, rejects, last_record)
        match moment:
            case "after rows":
                with open(sink.part, "ab") as file:
                    file.write(rows[: len(rows) // 2])
            case "after rejects":
                for path in (sink.part, sink.rejects):
                    with open(path, "ab") as file:
                        file.write(rows)
            case "after journal":
                write(sink, rows, count, rejects, last_record)
        raise Stop

    output = tmp_path / "out.csv"
    monkeypatch.setattr(FileOutput, "write", dying)
    with pytest.raises(Stop):
        run_predict(model_folder, source, output, "--window", 16)
    assert not output.exists()
    monkeypatch.setattr(FileOutput, "write", write)
    run_predict(model_folder, source, output, "--window", 16)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert Path(f"{output}.rejects.csv").read_bytes() == (tmp_path / "whole.csv.rejects.csv").read_bytes()
    assert not Path(f"{output}.part").exists() and not Path(f"{output}.part.json").exists()


def test_an_unfinished_output_is_not_continued_from_something_else(model_folder, tmp_path, monkeypatch):
    source, output = write_csv(tmp_path / "in.csv", some_texts(40)), tmp_path / "out.csv"

    def interrupt() -> None:
        write = FileOutput.write

        def once(sink, *arguments):
            write(sink, *arguments)
            raise Stop

        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(FileOutput, "write", once)
            run_predict(model_folder, source, output, "--window", 10)

    interrupt()
    with pytest.raises(UserError, match="made from another format, column or window"):
        run_predict(model_folder, source, output, "--window", 11)
    with pytest.raises(UserError, match="made from another model or precision"):
        run_predict(model_folder, source, output, "--window", 10, "--bf16")
    with pytest.raises(UserError, match="made from another model or precision"):
        run_predict(model_folder, source, output, "--window", 10, "--backend", "onnx")
    os.utime(source, ns=(1, 1))
    with pytest.raises(UserError, match="made from another input.*--overwrite"):
        run_predict(model_folder, source, output, "--window", 10)
    run_predict(model_folder, source, output, "--window", 10, "--overwrite")
    assert len(read_csv(output)) == 41

    before = output.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        run_predict(model_folder, source, output)
    assert output.read_bytes() == before
    output.unlink()
    interrupt()
    Path(f"{output}.part").write_bytes(b"cut")
    with pytest.raises(UserError, match="shorter than its journal"):
        run_predict(model_folder, source, output, "--window", 10)
    Path(f"{output}.part.json").write_text("{")
    with pytest.raises(UserError, match="unreadable journal"):
        run_predict(model_folder, source, output, "--window", 10)


def test_labels_that_are_not_the_likeliest_are_counted(model_folder, tmp_path, capsys) -> None:
    source = write_csv(tmp_path / "in.csv", some_texts(60))
    counted = []
    for offsets in ([0.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]):
        folder = Path(shutil.copytree(model_folder, tmp_path / f"model{offsets[1]:.0f}"))
        config = json.loads((folder / "config.json").read_text())
        rule = {"decision": "thresholds", "decision_offsets": offsets}
        (folder / "config.json").write_text(json.dumps(config | rule))
        output = tmp_path / f"out{offsets[1]:.0f}.csv"
        run_predict(folder, source, output, "--window", 16)
        said = capsys.readouterr().err
        header, *rows = read_csv(output)
        at, own = [i for i, name in enumerate(header) if name.startswith("probability_")], header.index("confidence")
        less = sum(float(row[own]) < max(float(row[place]) for place in at) for row in rows if row[own])
        assert (f"{less} of them with another label than the likeliest" in said) == (less > 0)
        counted.append(less)
    assert counted[0] == 0 < counted[1]


def command(model: Path, *options: object) -> list[str]:
    return [sys.executable, predict.__file__, "--model", str(model), *map(str, options)]


@pytest.mark.slow
def test_kill_9_loses_and_doubles_nothing(model_folder, tmp_path):
    source = write_csv(tmp_path / "in.csv", some_texts(3000))
    call = command(model_folder, "--input", source, "--output", tmp_path / "out.csv", "--window", 20)
    part = tmp_path / "out.csv.part"
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (part.exists() and part.stat().st_size > 20_000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "out.csv").exists()
    again = subprocess.run(call, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout == ""
    assert "labelled 3,000 rows; " in again.stderr and "of them before an interruption" in again.stderr
    run_predict(model_folder, source, tmp_path / "whole.csv", "--window", 20)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


HOSTILE = (
    b"\xef\xbb\xbfid, text \r\n"
    b"1,fine\r\n"
    b"2,nul\x00byte\r\n"
    b"3,bad \xff\xfe utf8\r\n"
    b'4,"quoted, with ""quotes"" and\r\na line end"\r\n'
    b"5,too,many\r\n"
    b"too few\r\n"
    b"\r\n"
    b"6,\r\n"
    b'7,"closed" badly\r\n'
    b"8,also fine\r\n"
    b'9,"never closed\r\n'
    b"10,after it\r\n"
)


def test_hostile_csv_reconciles(model_folder, tmp_path, capsys):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(HOSTILE)
    run_predict(model_folder, source, output, "--window", 3)
    rows, rejects = read_csv(output)[1:], read_csv(Path(f"{output}.rejects.csv"))
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "6", "8", "10"]
    assert rows[1][1] == "nul\x00byte" and rows[2][1] == "bad \ufffd\ufffd utf8" and rows[4][1] == ""
    assert [(row[0], row[2]) for row in rejects[1:]] == [
        ("7", "too_many_fields"),
        ("8", "too_few_fields"),
        ("10", "empty_text"),
        ("11", "bad_quoting"),
        ("13", "bad_quoting"),
    ]
    err = capsys.readouterr().err
    assert f"{source}:7: rejected, too_many_fields: 3 fields instead of 2" in err
    assert "labelled 7 rows; 1 of them without an answer, as their texts are empty (see" in err
    assert "rejected 4 records (see" in err and "skipped 1 blank line between" in err
    assert "1 records hold bytes that are no text" in err


def test_jsonl_rejects_and_empty_results(model_folder, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "buy"}\n[1]\n{"txt": 1}\n{"text": null}\nnot json\n', encoding="utf-8")
    run_predict(model_folder, source, tmp_path / "out.jsonl", "--window", 1)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [("1", "buy"), ("4", "")]
    assert len(read_csv(tmp_path / "out.jsonl.rejects.csv")) == 5
    assert rows[1]["predicted"] is None and rows[1]["probability_noise"] is None

    only_rejects = tmp_path / "only.csv"
    only_rejects.write_text("text\na,b\nc,d\n")
    run_predict(model_folder, only_rejects, tmp_path / "only-out.csv", "--window", 1)
    assert read_csv(tmp_path / "only-out.csv") == [HEADER]
    no_records = tmp_path / "none.csv"
    no_records.write_text("text\n")
    run_predict(model_folder, no_records, tmp_path / "none-out.csv")
    assert read_csv(tmp_path / "none-out.csv") == [HEADER]


def test_bad_calls_get_one_clear_error_and_leave_nothing(model_folder, tmp_path):
    source = write_csv(tmp_path / "in.csv", ["buy"], text="body")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "in.docx").write_bytes(b"x")
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(b"text\n" + os.urandom(999))[:-20])
    cases = [
        (
            source,
            "out.csv",
            [],
            "column 'text'.*is not there.*expected text.*found 'id', 'body'; name .*--text_column",
        ),
        (source, "out.csv", ["--text_column", "body", "--id_column", "key"], "column 'key' \\(for id\\) is not there"),
        (tmp_path / "empty.csv", "out.csv", [], "the file is empty"),
        (tmp_path / "none.csv", "out.csv", [], "no such file"),
        (tmp_path / "in.docx", "out.csv", [], "--format"),
        (tmp_path / "broken.csv.gz", "out.csv", [], "cannot be read"),
        (source, "out.xlsx", ["--text_column", "body"], "neither .csv nor .jsonl"),
        (source, ".", ["--text_column", "body"], "is a folder"),
        (source, "in.csv", ["--text_column", "body", "--overwrite"], "the input itself"),
    ]
    if not torch.cuda.is_available():
        cases.append((source, "out.csv", ["--text_column", "body", "--device", "cuda"], "no GPU"))
    before = {path.name for path in tmp_path.iterdir()}
    for path, output, options, message in cases:
        with pytest.raises(UserError, match=message):
            run_predict(model_folder, path, tmp_path / output, *options)
        assert {path.name for path in tmp_path.iterdir()} == before, message


def test_model_folders_that_are_none(model_folder, tmp_path):
    source = write_csv(tmp_path / "in.csv", ["buy"])

    def broken(name: str, *without: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for path in model_folder.iterdir():
            if path.name not in without:
                (folder / path.name).write_bytes(path.read_bytes())
        return folder

    other = broken("other")
    (other / "config.json").write_text('{"model_type": "bert"}')
    damaged = broken("damaged")
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    incomplete = broken("incomplete", "model.safetensors")
    from safetensors.torch import load_file, save_file

    state = load_file(model_folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "head" not in k}, incomplete / "model.safetensors", {"format": "pt"})
    for folder, message in (
        (tmp_path / "absent", "no such folder"),
        (broken("bare", "config.json"), "has no config.json"),
        (other, "type 'bert'"),
        (broken("weightless", "model.safetensors"), "has no weights"),
        (broken("wordless", "tokenizer_config.json"), "has no tokenizer"),
        (damaged, "cannot be loaded"),
        (incomplete, "incomplete"),
    ):
        with pytest.raises(UserError, match=message):
            run_predict(folder, source, tmp_path / "out.csv")
        assert not list(tmp_path.glob("out.csv*"))


def test_cheap_mistakes_are_told_before_libraries_load(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "posts-seed42").mkdir(parents=True)
    (tmp_path / "posts.csv").write_text("text\nbuy\n")
    (tmp_path / "empty.csv").touch()
    mistyped = (
        r"no such folder: outputs/posts-seed4, did you mean outputs/posts-seed42\? .* where there is no outputs/"
    )
    for model, source, message in (
        ("outputs/posts-seed4", "posts.csv", mistyped),
        ("outputs/posts-seed42", "empty.csv", "--input: empty.csv: the file is empty; expected texts"),
        ("outputs/posts-seed42", "none.csv", "--input: no such file: none.csv"),
    ):
        with pytest.raises(UserError, match=message):
            predict.main(["--model", model, "--input", source, "--output", "out.csv"])
    assert "loading libraries" not in capsys.readouterr().err


@pytest.mark.slow
def test_command_line(model_folder, tmp_path):
    start = time.monotonic()
    help_text = subprocess.run(command(model_folder, "--help"), capture_output=True, text=True)
    assert help_text.returncode == 0 and "--text_column" in help_text.stdout
    assert time.monotonic() - start < 2  # one second where nothing else runs

    call = command(model_folder, "--input", "-", "--output", "-")
    done = subprocess.run(call, input="buy the coin\n\nsell\n", capture_output=True, text=True)
    assert done.returncode == 0
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert [row[:2] for row in rows[1:]] == [["1", "buy the coin"], ["2", ""], ["3", "sell"]]
    first, last = done.stderr.splitlines()
    assert first == f"- → {model_folder} → - (loading libraries)" and last.startswith("labelled 3 rows; ")

    failed = subprocess.run(call[:-1] + ["nowhere.txt"], input="x", capture_output=True, text=True, cwd=tmp_path)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.count("\n") == 2
    assert failed.stderr.splitlines()[1].startswith("error: --output: nowhere.txt ends in neither")


def test_batches_keep_their_limits_and_cover_everything(model_folder):
    predictor = load_predictor(model_folder, PredictionOptions("cpu", batch_size=8, max_tokens_per_batch=40))
    lengths = sorted([random.Random(1).randint(1, 60) for _ in range(200)], reverse=True)
    batches = list(predictor.batches(range(200), lengths))
    assert [index for batch in batches for index in batch] == list(range(200))
    for batch in batches:
        assert len(batch) <= 8 and (len(batch) == 1 or len(batch) * lengths[batch[0]] <= 40)


def test_batches_hold_little_padding(model_folder):
    predictor = load_predictor(model_folder, PredictionOptions("cpu"))
    lengths = sorted([random.Random(2).randint(1, 256) for _ in range(300)], reverse=True)
    batches = list(predictor.batches(range(300), lengths))
    assert [index for batch in batches for index in batch] == list(range(300))
    for batch in batches:
        # Without its shortest text a batch has too few tokens, or that text is padded by a tenth at most.
        width, shortest = lengths[batch[0]], lengths[batch[-1]]
        assert (len(batch) - 1) * width < 256 or shortest >= 0.9 * width
    assert sum(len(batch) * lengths[batch[0]] for batch in batches) < 1.06 * sum(lengths)


def test_equal_texts_are_computed_once(model_folder, monkeypatch):
    predictor = load_predictor(model_folder, PredictionOptions("cpu"))
    seen: Counter[int] = Counter()
    encode = type(predictor).encode

    def counting(self, texts):
        seen.update(texts)
        return encode(self, texts)

    monkeypatch.setattr(type(predictor), "encode", counting)
    done: list[int] = []
    probabilities = predictor.probabilities(["buy", "sell", "buy", "", "buy"], done.append)
    assert seen == {"buy": 1, "sell": 1, "": 1} and sum(done) == 5
    assert (probabilities[0] == probabilities[2]).all() and np.allclose(probabilities.sum(axis=1), 1)
    assert predictor.probabilities([]).shape == (0, 4)


def test_bf16_is_close(model_folder):
    texts = some_texts(50)
    exact = load_predictor(model_folder, PredictionOptions("cpu")).probabilities(texts)
    fast = load_predictor(model_folder, PredictionOptions("cpu", "bfloat16"))
    assert fast.model.dtype == torch.bfloat16
    assert np.abs(fast.probabilities(texts) - exact).max() < 0.1


def test_fingerprint_sees_every_byte_of_the_weights(model_folder, tmp_path):
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert model_fingerprint(tmp_path) == model_fingerprint(model_folder)
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert model_fingerprint(tmp_path) != model_fingerprint(model_folder)


def test_an_unfinished_output_of_an_adapter_ends_with_its_base_model(tmp_path, repository, monkeypatch):
    saved = repository / "tests" / "assets" / "saved"
    shutil.copytree(saved / "instruct_lora", tmp_path / "adapter")
    shutil.copytree(saved / "models" / "decoder", tmp_path / "tests" / "assets" / "saved" / "models" / "decoder")
    monkeypatch.chdir(tmp_path)
    source, output = write_csv(tmp_path / "in.csv", some_texts(40)), tmp_path / "out.csv"
    with monkeypatch.context() as stopped:
        write = FileOutput.write

        def interrupted(self, *arguments):
            write(self, *arguments)
            raise KeyboardInterrupt

        stopped.setattr(FileOutput, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_predict(tmp_path / "adapter", source, output, "--window", 8)
    (weights,) = (tmp_path / "tests").rglob("*.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(UserError, match="was made from another model or precision"):
        run_predict(tmp_path / "adapter", source, output, "--window", 8)


def test_options_that_a_merge_does_not_read_are_refused():
    for options, named in (
        (["--bf16", "--window", "3"], "--bf16, --window"),
        (["--label_sets", "0.9"], "--label_sets"),
    ):
        with pytest.raises(UserError, match=f"--merge alone does not read {named};"):
            predict.main(["--model", "somewhere", "--merge", "merged", *options])
