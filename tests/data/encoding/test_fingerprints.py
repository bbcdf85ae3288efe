"""What was encoded is found again, and never in place of anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset, load_from_disk
from tokenizers import processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from opinionlm.adaptation.adapt.task_tokens import TaskTokens
from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding import fingerprints
from opinionlm.data.encoding.examples import encode_examples
from opinionlm.data.encoding.features import Feature, with_features
from opinionlm.data.encoding.fingerprints import code_digest, result_name, tokenizer_digest
from opinionlm.data.encoding.prompts import PromptEncoder
from opinionlm.data.encoding.templates import PromptTemplate
from opinionlm.data.encoding.texts import encode_texts
from opinionlm.data.encoding.tokenizers import load_tokenizer, separate_pairs
from opinionlm.data.encoding.word_alignment import encode_words
from tests.task_data import TAGS, token_rows
from tests.tiny import tiny_tokenizer, wordpiece_tokenizer

PLATFORM = [Feature("platform", "category", ("x",))]
TEXTS = ["is this coin any good ?", "buy now", "the price fell again", "<eos> buy"]


def posts(texts: list[str] = TEXTS, platform: str = "x") -> Dataset:
    rows = {"id": [str(row) for row in range(len(texts))], "text": texts, "label": [0, 1, 0, 1]}
    return Dataset.from_dict(rows | {"platform": [platform] * len(texts)})


def task_tokens(*sequences: tuple[int, ...], max_gap: int | None = 0) -> PreTrainedTokenizerBase:
    return TaskTokenTokenizer.extend(tiny_tokenizer(), TaskTokens(sequences, max_gap, 320))


def changed(change: Callable[[PreTrainedTokenizerFast], object]) -> PreTrainedTokenizerBase:
    tokenizer = tiny_tokenizer()
    change(tokenizer)
    return tokenizer


def one_file_changed(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder in whose tokenizer.json two entries have exchanged their ids."""
    tiny_tokenizer().save_pretrained(folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(content))
    return load_tokenizer(ModelConfig(model_name_or_path=str(folder)))


def test_every_change_of_a_tokenizer_changes_its_digest(tmp_path: Path) -> None:
    begin = processors.TemplateProcessing(single="<bos> <bos> $A", special_tokens=[("<bos>", 2)])
    tokenizers = {
        "as it is": tiny_tokenizer(),
        "another file": one_file_changed(tmp_path / "changed"),
        "another family": wordpiece_tokenizer(),
        "an added token": changed(lambda it: it.add_tokens(["coin any"])),
        "an added special token": changed(lambda it: it.add_special_tokens({"additional_special_tokens": ["buy"]})),
        "another padding token": changed(lambda it: setattr(it, "pad_token", "<eos>")),
        "cut on the left": changed(lambda it: setattr(it, "truncation_side", "left")),
        "special tokens of texts are text": changed(lambda it: setattr(it, "split_special_tokens", True)),
        "another beginning": changed(lambda it: setattr(it.backend_tokenizer, "post_processor", begin)),
        "pairs kept apart": changed(separate_pairs),
        "a chat template": changed(lambda it: setattr(it, "chat_template", "{{ messages }}")),
        "task tokens": task_tokens((40, 41)),
        "other task tokens": task_tokens((40, 42)),
        "task tokens with gaps": task_tokens((40, 41), max_gap=1),
    }
    digests = {name: tokenizer_digest(tokenizer) for name, tokenizer in tokenizers.items()}
    assert len(set(digests.values())) == len(digests), digests


@pytest.mark.parametrize("make", [tiny_tokenizer, wordpiece_tokenizer, lambda: task_tokens((40, 41))])
def test_the_digest_is_that_of_an_equal_tokenizer_whatever_it_was_called_for(
    make: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer, fresh = make(), make()
    tokenizer(TEXTS, truncation=True, max_length=3, padding=True)
    asked = tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding
    assert tokenizer_digest(tokenizer) == tokenizer_digest(fresh)
    assert (tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding) == asked


def test_a_copy_in_another_folder_has_the_same_digest(tmp_path: Path) -> None:
    for name in ("first", "second"):
        tiny_tokenizer().save_pretrained(tmp_path / name)
    first, second = (load_tokenizer(ModelConfig(model_name_or_path=str(tmp_path / n))) for n in ("first", "second"))
    assert tokenizer_digest(first) == tokenizer_digest(second)


@pytest.mark.slow
def test_another_process_finds_the_same_name(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    posts().save_to_disk(tmp_path / "posts")
    program = (
        "import sys\nfrom datasets import load_from_disk\nfrom opinionlm.config.config import ModelConfig\n"
        "from opinionlm.data.encoding.texts import encode_texts\n"
        "from opinionlm.data.encoding.tokenizers import load_tokenizer\n"
        "tokenizer = load_tokenizer(ModelConfig(model_name_or_path=sys.argv[1]))\n"
        "print(encode_texts(load_from_disk(sys.argv[2]), tokenizer, 16)._fingerprint)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "posts")]
    root = Path(__file__).resolve().parents[3]
    names = {subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout for _ in range(2)}
    assert len(names) == 1 and len(names.pop().strip()) == 64


def test_every_ingredient_of_texts_is_in_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    scored = posts().add_column("score", [0.0, 1.0, 0.5, 0.2])
    pair = posts().add_column("text_pair", TEXTS)
    encoded = {
        "as it is": encode_texts(posts(), tokenizer, 16),
        "cleaned otherwise": encode_texts(posts([text.lower().replace("?", "") for text in TEXTS]), tokenizer, 16),
        "another order": encode_texts(posts().select([1, 0, 2, 3]), tokenizer, 16),
        "a part": encode_texts(posts().select([0, 1]), tokenizer, 16),
        "cut elsewhere": encode_texts(posts(), tokenizer, 3),
        "another tokenizer": encode_texts(posts(), task_tokens((40, 41)), 16),
        "platform in front": encode_texts(with_features(posts(), PLATFORM), tokenizer, 16),
        "another platform in front": encode_texts(with_features(posts(platform="y"), PLATFORM), tokenizer, 16),
        "in chunks": encode_texts(posts(), tokenizer, 16, chunk_overlap=2),
        "in other chunks": encode_texts(posts(), tokenizer, 16, chunk_overlap=3),
        "by both ends": encode_texts(posts(), tokenizer, 16, read_ends=True),
        "another column": encode_texts(scored, tokenizer, 16),
        "another target": encode_texts(scored, tokenizer, 16, target="score"),
        "pairs": encode_texts(pair, tokenizer, 16),
    }
    monkeypatch.setattr(fingerprints, "PACKAGE", tmp_path)
    encoded["other code"] = encode_texts(posts(), tokenizer, 16)
    monkeypatch.undo()
    monkeypatch.setattr(fingerprints, "version", lambda package: "0.0.0")
    encoded["another version of tokenizers"] = encode_texts(posts(), tokenizer, 16)
    names = {what: data._fingerprint for what, data in encoded.items()}
    assert len(set(names.values())) == len(names), names
    monkeypatch.undo()
    assert encode_texts(posts(), tiny_tokenizer(), 16)._fingerprint == names["as it is"]


def test_every_ingredient_of_tagged_words_is_in_the_name() -> None:
    tokenizer, rows = tiny_tokenizer(), token_rows(6, seed=0)
    renamed = [tag.replace("coin", "ticker") for tag in TAGS]
    names = [
        encode_words(rows, tokenizer, 32, TAGS, all_subwords=False)._fingerprint,
        encode_words(rows, tokenizer, 32, TAGS, all_subwords=True)._fingerprint,
        encode_words(rows, tokenizer, 4, TAGS, all_subwords=False)._fingerprint,
        encode_words(rows, tokenizer, 32, renamed, all_subwords=False)._fingerprint,
        encode_words(token_rows(6, seed=1), tokenizer, 32, TAGS, all_subwords=False)._fingerprint,
        encode_words(rows, task_tokens_off := wordpiece_tokenizer(), 32, TAGS, all_subwords=False)._fingerprint,
    ]
    assert len(set(names)) == len(names)
    assert encode_words(rows, task_tokens_off, 32, TAGS, all_subwords=False)._fingerprint == names[-1]


def test_every_ingredient_of_prompts_is_in_the_name() -> None:
    template = PromptTemplate('post: "{text}"\nlabel:')
    base = PromptEncoder(template, tiny_tokenizer(), 64, ("good", "bad"))
    others = [
        replace(base, template=PromptTemplate('Post: "{text}"\nlabel:')),
        replace(base, template=PromptTemplate('post: "{text}"\nlabel:', answer=" it is {answer}")),
        replace(base, max_length=48),
        replace(base, words=("good", "awful")),
        replace(base, words=("bad", "good")),
        replace(base, tokenizer=changed(lambda it: it.add_tokens(["coin any"]))),
    ]
    names = [encode_examples(posts(), encoder)._fingerprint for encoder in (base, *others)]
    assert len(set(names)) == len(names)
    assert encode_examples(posts(), replace(base))._fingerprint == names[0]
    free = PromptEncoder(template, tiny_tokenizer(), 64, (), 8)
    rows = posts().add_column("context", [""] * 4).add_column("answers", [["yes"]] * 4)
    names = [encode_examples(rows, encoder)._fingerprint for encoder in (free, replace(free, answer_room=12))]
    assert len(set(names)) == 2


def test_code_is_read_whole_and_by_content(tmp_path: Path) -> None:
    def package(name: str, files: dict[str, str]) -> Path:
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(content)
        return tmp_path / name

    first = package("one", {"a.py": "1", "deep/b.py": "2", "note.txt": "3"})
    same = package("two", {"a.py": "1", "deep/b.py": "2", "note.txt": "4"})
    others = [
        package("three", {"a.py": "1", "deep/b.py": "3"}),
        package("four", {"a.py": "1", "b.py": "2"}),
        package("five", {"a.py": "12", "deep/b.py": ""}),
    ]
    assert code_digest(first) == code_digest(same)
    assert len({code_digest(folder) for folder in (first, *others)}) == 4


def test_two_steps_never_share_a_name() -> None:
    assert result_name("texts", posts(), {}) != result_name("words", posts(), {})


class CountingTokenizer(PreTrainedTokenizerFast):
    """Counts how often it is pickled and called."""

    pickled = 0
    called = 0

    def __reduce_ex__(self, protocol: int) -> object:
        type(self).pickled += 1
        return super().__reduce_ex__(protocol)

    def __call__(self, *args, **kwargs):
        type(self).called += 1
        return super().__call__(*args, **kwargs)


def test_tokenizers_are_not_pickled_and_texts_are_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # datasets pickles what it names results by: with 262,144 entries that is seconds, for every split and again.
    monkeypatch.setattr(CountingTokenizer, "pickled", 0)
    monkeypatch.setattr(CountingTokenizer, "called", 0)
    plain = tiny_tokenizer()
    tokenizer = CountingTokenizer(tokenizer_object=plain.backend_tokenizer, **plain.special_tokens_map)
    posts().save_to_disk(tmp_path / "posts")
    token_rows(4, seed=0).save_to_disk(tmp_path / "words")
    template = PromptTemplate('post: "{text}"\nlabel:')

    def encode() -> list[Dataset]:
        rows, words = load_from_disk(tmp_path / "posts"), load_from_disk(tmp_path / "words")
        encoder = PromptEncoder(template, tokenizer, 64, ("good", "bad"))
        return [
            encode_texts(rows, tokenizer, 16),
            encode_words(words, tokenizer, 16, TAGS, all_subwords=False),
            encode_examples(rows, encoder),
        ]

    first = encode()
    prompts_made = CountingTokenizer.called
    # The same ids as a plain call gives, in the same order.
    assert first[0]["input_ids"] == plain(TEXTS, truncation=True, max_length=16)["input_ids"]
    again = encode()
    assert CountingTokenizer.pickled == 0
    assert CountingTokenizer.called < 2 * prompts_made, "nothing was found again"
    assert [data[:] for data in first] == [data[:] for data in again]
    assert all(data.cache_files[0]["filename"].endswith(f"cache-{data._fingerprint}.arrow") for data in again)
