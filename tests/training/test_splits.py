"""Splits as training reads them: what is cut, copied, ordered and counted, and only where it should be."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from opinionlm.config.parser import parse_config
from opinionlm.data.encoding.augmentation import MARK
from opinionlm.data.encoding.columns import IGNORED
from opinionlm.data.prepared import PreparedDataset
from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.tasks import task_for
from opinionlm.training.batching import BatchPlan, batch_plan, optimizer_steps
from opinionlm.training.splits import Split, untrained_note
from tests.tiny import tiny_tokenizer

LEAVES = ["noise", "objective", "positive"]
LENGTHS = np.arange(1, 21)
# Of the third label so few that augment_rare copies them.
LABELS = [0] * 12 + [1] * 12 + [2] * 3


def rows(name: str, labels: list[int]) -> Dataset:
    words = ["price", "closed", "volume", "report", "coin", "market"]
    texts = [" ".join(words[: 2 + at % 5]) for at in range(len(labels))]
    ids = [f"{name}{at}" for at in range(len(labels))]
    return Dataset.from_dict({"id": ids, "text": texts, "label": labels, "platform": [""] * len(labels)})


def prepared(labels: list[int] = LABELS) -> PreparedDataset:
    data = DatasetDict({name: rows(name, labels) for name in ("train", "validation", "test")})
    return PreparedDataset(data, Taxonomy.from_tree(LEAVES), "posts", "f" * 64, Path("posts"))


def encoded(*options: str, labels: list[int] = LABELS) -> dict[str, Split]:
    return task_for(prepared(labels), parse_config(list(options), "test")).encode(tiny_tokenizer())


def test_rare_labels_are_copied_in_training_and_nowhere_else() -> None:
    plain, augmented = encoded(), encoded("--augment_rare", "1.0")
    assert len(plain["train"].texts) == len(LABELS) < len(augmented["train"].texts)
    assert not any(MARK in name for name in plain["train"].texts["id"])
    for name in ("validation", "test"):
        assert list(augmented[name].texts["id"]) == list(plain[name].texts["id"])


def test_each_split_is_cut_to_its_own_size() -> None:
    splits = encoded("--max_train_samples", "20", "--max_eval_samples", "9")
    assert {name: len(split.encoded) for name, split in splits.items()} == {"train": 20, "validation": 9, "test": 9}
    assert {name: len(split.encoded) for name, split in encoded("--max_train_samples", "20").items()} == {
        "train": 20,
        "validation": len(LABELS),
        "test": len(LABELS),
    }


def test_training_reads_in_row_order_and_evaluation_the_longest_first() -> None:
    splits = encoded()
    assert splits["train"].order.tolist() == list(range(len(LABELS)))
    for name in ("validation", "test"):
        lengths = np.asarray(splits[name].encoded["length"])[splits[name].order]
        assert (np.diff(lengths) <= 0).all() and lengths[0] > lengths[-1]
        # What was computed in reading order goes back to where its text is.
        assert splits[name].in_text_order(splits[name].order).tolist() == list(range(len(LABELS)))
    reader = splits["validation"].reader(None)
    assert reader.name_of(0) == splits["validation"].texts["id"][int(splits["validation"].order[0])]


@pytest.mark.parametrize(("labels", "is_refused"), [([1] * 6, True), ([1] * 5 + [0], False)])
def test_a_model_needs_two_classes_to_tell_apart(labels: list[int], is_refused: bool) -> None:
    if not is_refused:
        assert set(encoded(labels=labels)) == {"train", "validation", "test"}
        return
    with pytest.raises(UserError, match="the training split holds a single class; a model needs at least two"):
        encoded(labels=labels)


def test_another_task_than_the_config_names_is_refused() -> None:
    task_for(prepared(), parse_config(["--task", "sequence"], "test"))
    with pytest.raises(UserError, match="task: 'token', but .* holds data of task 'sequence'"):
        task_for(prepared(), parse_config(["--task", "token"], "test"))


def test_soft_targets_are_of_labels_only(tmp_path) -> None:
    soft = tmp_path / "soft.csv"
    header = "id,text," + ",".join(f"probability_{leaf}" for leaf in LEAVES)
    soft.write_text("\n".join([header, *(f"train{at},x,0.2,0.3,0.5" for at in range(len(LABELS)))]))
    splits = encoded("--soft_labels", str(soft), "--soft_label_share", "0.5")
    assert splits["validation"].targets is None and splits["test"].targets is None
    assert splits["train"].targets[0].tolist() == pytest.approx([0.6, 0.15, 0.25])
    config = parse_config(["--soft_labels", str(soft)], "test")
    pairs = PreparedDataset(None, None, "pairs", "0" * 64, Path("pairs"), task="similarity")
    with pytest.raises(UserError, match="soft_labels: .* is not read by task: similarity"):
        task_for(pairs, config)
    assert task_for(pairs, parse_config([], "test")).soft_targets(rows("train", [0])) is None


def test_tags_are_counted_by_token_and_labels_by_text() -> None:
    tags = Dataset.from_dict({"labels": [[IGNORED, 0, 2], [0, IGNORED]], "length": [3, 2]})
    tagged = PreparedDataset(None, None, "tags", "0" * 64, Path("tags"), task="token", tags=("O", "B-x", "I-x"))
    config = parse_config([], "test")
    assert Counter(task_for(tagged, config).labels(Split(tags, tags, np.arange(2))).tolist()) == {0: 2, 2: 1}
    assert Counter(task_for(prepared(), config).labels(encoded()["train"]).tolist()) == {0: 12, 1: 12, 2: 3}


def arguments(**options) -> SimpleNamespace:
    values = {"process_index": 0, "world_size": 1, "max_steps": -1, "num_train_epochs": 3.0, "data_seed": None}
    return SimpleNamespace(**(values | {"gradient_accumulation_steps": 1} | options))


def planned(*options: str, lengths: np.ndarray = LENGTHS, **changes) -> BatchPlan:
    batches = [] if "--max_tokens_per_batch" in options else ["--per_device_train_batch_size", "4"]
    config = parse_config([*batches, *options], "test")
    return batch_plan(SimpleNamespace(lengths=lengths), config.data, config.training, arguments(**changes))


def test_a_plan_has_the_options_and_the_place_of_its_process() -> None:
    plan = planned("--seed", "7", "--shuffle", "once", "--group_by_length", "true", process_index=1, world_size=2)
    found = (plan.batch_size, plan.seed, plan.shuffle, plan.by_length, plan.rank, plan.processes)
    assert found == (4, 7, "once", True, 1, 2)
    assert len(plan) == 3  # 20 texts, eight at a time
    assert planned("--seed", "7", data_seed=0).seed == 0


# With a token budget epochs differ in their numbers of batches; the plan has that of the largest of its epochs.
@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        (["--num_train_epochs", "0.5"], 1),
        (["--num_train_epochs", "2.5"], 3),
        (["--num_train_epochs", "3"], 3),
    ],
)
def test_a_plan_is_made_for_every_epoch_that_is_begun(options: list[str], epochs: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 400)
    budget = ["--max_tokens_per_batch", "60"]
    plan = planned(*budget, *options, lengths=lengths)
    sizes = [len(plan.cut(epoch)) for epoch in range(12)]
    assert len(set(sizes)) > 1
    assert len(plan) == max(sizes[:epochs])


def test_steps_are_as_many_as_asked_for_and_the_plan_holds_their_epochs() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 400)
    budget = ["--max_tokens_per_batch", "60", "--gradient_accumulation_steps", "2"]
    first = len(planned(*budget, "--num_train_epochs", "1", lengths=lengths))
    # Five epochs of the first one's size; every epoch gets as many batches as the largest of them.
    plan = planned(*budget, "--max_steps", str(5 * first // 2), lengths=lengths)
    sizes = [len(plan.cut(epoch)) for epoch in range(12)]
    assert len(plan) == max(sizes[:5])


@pytest.mark.parametrize(
    ("epochs", "accumulation", "max_steps", "steps"),
    # 20 texts, four at a time: five batches an epoch; the rest of an epoch is a step of its own.
    [(3.0, 1, -1, 15), (3.0, 2, -1, 9), (1.5, 2, -1, 5), (3.0, 2, 0, 9), (3.0, 2, 4, 4), (3.0, 2, 1, 1)],
)
def test_steps_of_a_run(epochs: float, accumulation: int, max_steps: int, steps: int) -> None:
    told = arguments(num_train_epochs=epochs, gradient_accumulation_steps=accumulation, max_steps=max_steps)
    assert optimizer_steps(planned(), told) == steps


@pytest.mark.parametrize(("steps", "accumulation"), [(50, 1), (25, 2), (41, 1), (1, 1), (13, 4)])
def test_no_epoch_of_a_run_has_more_batches_than_its_plan(steps: int, accumulation: int, monkeypatch) -> None:
    """Of five epochs the last one has a batch more: a plan that had not looked at it would come out too short."""
    whole = [np.array([at]) for at in range(11)]
    monkeypatch.setattr(BatchPlan, "cut", lambda self, epoch: whole[: 11 if epoch == 4 else 10])
    plan = planned(
        *("--max_tokens_per_batch", "60", "--max_steps", str(steps)),
        *("--gradient_accumulation_steps", str(accumulation)),
    )
    for epoch in range(math.ceil(steps / math.ceil(len(plan) / accumulation))):
        assert len(plan.batches(epoch)) == len(plan)


@pytest.mark.parametrize(("epochs", "begun"), [("0.1", 1), ("1", 1), ("1.1", 2), ("2", 2), ("4.5", 5)])
def test_only_epochs_that_are_begun_are_looked_at(epochs: str, begun: int, monkeypatch) -> None:
    # Every epoch has a batch more than the one before it: the first has ten.
    monkeypatch.setattr(BatchPlan, "cut", lambda self, epoch: [np.array([at]) for at in range(10 + epoch)])
    assert len(planned("--max_tokens_per_batch", "60", "--num_train_epochs", epochs)) == 9 + begun


@pytest.mark.parametrize(
    ("steps", "accumulation", "begun"), [(1, 1, 1), (10, 1, 1), (11, 1, 2), (20, 1, 2), (3, 4, 1), (4, 4, 2)]
)
def test_only_epochs_whose_steps_are_made_are_looked_at(
    steps: int, accumulation: int, begun: int, monkeypatch
) -> None:
    # As above; of ten batches four make three steps, the last of them from two.
    monkeypatch.setattr(BatchPlan, "cut", lambda self, epoch: [np.array([at]) for at in range(10 + epoch)])
    options = ("--max_steps", str(steps), "--gradient_accumulation_steps", str(accumulation))
    assert len(planned("--max_tokens_per_batch", "60", *options)) == 9 + begun


def test_labels_without_a_training_text_are_said() -> None:
    options = ("--max_train_samples", "24")
    task = task_for(prepared(), parse_config(list(options), "test"))
    splits = task.encode(tiny_tokenizer())
    assert [line for line in task.notes(splits) if "no training text" in line] == []
    few = replace(splits["train"], texts=splits["train"].texts.filter(lambda row: row["label"] != 2))
    said = "warning: no training text has the label positive; it is not learned"
    assert said in task.notes(splits | {"train": few})


def test_of_many_labels_without_a_training_text_some_are_named() -> None:
    (line,) = untrained_note([f"l{at}" for at in range(12)], np.array([0] * 11 + [4]))
    assert "l0, l1, l2, l3, l4, l5, l6, l7 and 3 more; it" in line


@pytest.mark.parametrize("options", [(), ("--class_weights", "effective_number"), ("--loss", "ldam")])
def test_a_split_that_class_weights_leave_nothing_of_is_refused(options) -> None:
    """Its loss was nan, which metrics.json cannot hold: the run broke off when everything was trained."""
    data = DatasetDict(
        {name: rows(name, [0, 1] * 6 if name == "train" else [2] * 4) for name in ("train", "validation", "test")}
    )
    dataset = PreparedDataset(data, Taxonomy.from_tree(LEAVES), "posts", "f" * 64, Path("posts"))
    task = task_for(dataset, parse_config(list(options), "test"))
    with pytest.raises(UserError, match="no training text has a label of the validation texts"):
        task.checked_loss(task.encode(tiny_tokenizer()))
    plain = task_for(dataset, parse_config(["--class_weights", "none"], "test"))
    plain.checked_loss(plain.encode(tiny_tokenizer()))
