"""Task tokens stand exactly where they belong, survive saving, and train alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from opinionlm.adaptation.adapt.matching import SequenceMatcher
from opinionlm.adaptation.adapt.task_tokens import TaskTokens
from opinionlm.adaptation.adapt.tokenizer import TaskTokenTokenizer
from opinionlm.adaptation.methods import apply_adaptation
from opinionlm.config.method_options import MethodConfig
from opinionlm.errors import UserError
from opinionlm.models.backbones import new_backbone
from opinionlm.models.task_embedding import TaskEmbedding, add_task_rows, task_rows
from tests.adaptation.adapt.oracles import occurs
from tests.tiny import FAMILIES, VOCABULARY, tiny_classifier, tiny_config, tiny_tokenizer

GENE = "gene brca1 indicates cancer predisposition , individuals with brca1 mutations have a higher risk"


@pytest.fixture(scope="module")
def gene_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer like BERT's, that splits the gene's name and the long word."""
    words = [word for word in GENE.split() if word not in ("brca1", "predisposition")]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "br", "##ca", "##1", "pre", "##disposition", *words]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_gene_example_of_the_paper(gene_tokenizer: PreTrainedTokenizerFast) -> None:
    brca, cancer = ids_of(gene_tokenizer, "brca1"), ids_of(gene_tokenizer, "cancer predisposition")
    tokens = TaskTokens((brca, cancer), max_gap=0, first_id=100)
    plain = list(ids_of(gene_tokenizer, GENE))
    (row,) = tokens.insert([plain])
    # Three more tokens: BRCA1 after "gene" and after "individuals with", the other after "indicates".
    assert len(row) == len(plain) + 3
    names = {100: "<brca1>", 101: "<cancer predisposition>"}
    read = [names.get(token) or gene_tokenizer.convert_ids_to_tokens(token) for token in row]
    assert " ".join(read) == (
        "gene <brca1> br ##ca ##1 indicates <cancer predisposition> cancer pre ##disposition , individuals with "
        "<brca1> br ##ca ##1 mutations have a higher risk"
    )
    assert [token for token in row if token < 100] == plain


def test_gene_example_through_the_tokenizer(gene_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    brca, cancer = ids_of(gene_tokenizer, "brca1"), ids_of(gene_tokenizer, "cancer predisposition")
    tokens = TaskTokens((brca, cancer), max_gap=0, first_id=100)
    tokenizer = TaskTokenTokenizer.extend(gene_tokenizer, tokens)
    tokenizer.save_pretrained(tmp_path)
    (inside,) = tokens.insert([list(ids_of(gene_tokenizer, GENE))])
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert type(one) is TaskTokenTokenizer and one.task_tokens == tokens and one.pad_token == "[PAD]"
        assert one(GENE)["input_ids"] == [2, *inside, 3]
        assert one([GENE], add_special_tokens=False)["input_ids"] == [inside]
        # Insertion comes before truncation: the cut text begins as the whole one does.
        cut = one(GENE, truncation=True, max_length=7)["input_ids"]
        assert cut == [2, *inside[:5], 3] and cut[2] == 100
        batch = one([GENE, "gene", ""], padding=True, return_tensors="pt")
        assert batch["input_ids"].shape == (3, len(inside) + 2) and batch["attention_mask"].sum(1)[1:].tolist() == [
            3,
            2,
        ]
        assert one("gene", return_tensors="pt")["input_ids"].shape == (1, 3)
        with pytest.raises(UserError, match="single texts only"):
            one("gene", "risk")
    left = TaskTokenTokenizer.extend(gene_tokenizer, tokens)
    left.truncation_side = "left"
    assert left(GENE, truncation=True, max_length=5)["input_ids"] == [2, *inside[-3:], 3]
    assert left(GENE, truncation=True, max_length=2)["input_ids"] == [2, 3]
    # The tokenizer that was extended knows nothing of it.
    assert max(gene_tokenizer(GENE)["input_ids"]) < 100


@pytest.mark.parametrize(
    ("sequences", "max_gap", "row", "expected"),
    [
        # Leftmost, not overlapping.
        ([(1, 1)], 0, [1, 1, 1], [90, 1, 1, 1]),
        ([(1, 1)], 0, [1, 1, 1, 1], [90, 1, 1, 90, 1, 1]),
        # Different sequences may overlap and begin at one token.
        ([(1, 2), (2, 3), (1, 2, 3)], 0, [1, 2, 3], [90, 92, 1, 91, 2, 3]),
        # A gap of one is allowed, of two is not.
        ([(1, 2)], 1, [1, 7, 2, 1, 7, 7, 2], [90, 1, 7, 2, 1, 7, 7, 2]),
        # The nearest second token leads nowhere; the next one does.
        ([(1, 2, 3)], 2, [1, 2, 2, 7, 7, 3], [90, 1, 2, 2, 7, 7, 3]),
        # The second token begins behind the first occurrence's earliest end.
        ([(1, 2)], 2, [1, 1, 2, 1, 2], [90, 1, 1, 2, 90, 1, 2]),
        ([(1, 2)], None, [1, 7, 7, 7, 7, 7, 2], [90, 1, 7, 7, 7, 7, 7, 2]),
        ([(5,)], 0, [5, 5], [90, 5, 90, 5]),
        ([(1, 2)], 0, [2, 1], [2, 1]),
        ([(1, 2)], 0, [], []),
        ([], 0, [1, 2], [1, 2]),
    ],
)
def test_insertion_by_hand(
    sequences: list[tuple[int, ...]], max_gap: int | None, row: list[int], expected: list[int]
) -> None:
    # Rows beside it do not matter, nor does a text that goes on in the next.
    rows = TaskTokens(tuple(sequences), max_gap, first_id=90).insert([[1], row, [2]])
    assert rows == [[1], expected, [2]]


def leftmost(text: list[int], sequence: tuple[int, ...], max_gap: int | None) -> list[int]:
    """Beginnings of the occurrences of one sequence, found the slow way."""
    begins, cursor = [], 0
    while cursor < len(text):
        stops = range(cursor + 1, len(text) + 1)
        ends = [stop for stop in stops if starts_here(text[cursor:stop], sequence, max_gap)]
        if ends:
            begins.append(cursor)
            cursor = ends[0]
        else:
            cursor += 1
    return begins


def starts_here(text: list[int], sequence: tuple[int, ...], max_gap: int | None) -> bool:
    """Whether an occurrence begins at a text's first token."""
    return occurs([-1, *text[1:]], (-1, *sequence[1:]), max_gap) and text[0] == sequence[0]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), max_size=14), max_size=5),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), max_size=6, unique=True),
    st.sampled_from([0, 1, 2, None]),
)
def test_matcher_equals_the_slow_way(
    rows: list[list[int]], sequences: list[tuple[int, ...]], max_gap: int | None
) -> None:
    found = list(zip(*(part.tolist() for part in SequenceMatcher(sequences, max_gap).find(rows)), strict=True))
    expected = [
        (row, begin, number)
        for row, text in enumerate(rows)
        for number, sequence in enumerate(sequences)
        for begin in leftmost(text, sequence, max_gap)
    ]
    assert found == sorted(expected)


def test_original_tokens_stay_and_saving_changes_nothing(tmp_path: Path) -> None:
    generator = random.Random(0)
    rows = [[generator.randrange(6) for _ in range(40)] for _ in range(50)]
    sequences = tuple(tuple(generator.randrange(6) for _ in range(3)) for _ in range(12))
    tokens = TaskTokens(tuple(dict.fromkeys(sequences)), max_gap=2, first_id=6)
    inserted = tokens.insert(rows)
    assert [[token for token in row if token < 6] for row in inserted] == rows != inserted
    tokens.save(tmp_path)
    again = TaskTokens.load(tmp_path)
    assert again == tokens and again.insert(rows) == inserted
    (tmp_path / "task_tokens.json").write_text("{")
    with pytest.raises(UserError, match="copy the whole folder"):
        TaskTokens.load(tmp_path)


def test_tokenizer_without_a_last_special_token() -> None:
    tokens = TaskTokens((ids_of(tiny_tokenizer(), "buy now"),), max_gap=0, first_id=VOCABULARY)
    assert TaskTokenTokenizer.extend(tiny_tokenizer(), tokens)("buy now")["input_ids"][:2] == [2, VOCABULARY]


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_train_alone_and_old_rows_keep_every_bit(family: str) -> None:
    torch.manual_seed(0)
    backbone = new_backbone(tiny_config(family)).eval()
    ids, mask = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.long)
    without = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    old = backbone.get_input_embeddings().weight.detach().clone()
    embedding = add_task_rows(backbone, 3)
    # Texts without task tokens are embedded as before.
    assert torch.equal(backbone(input_ids=ids, attention_mask=mask).last_hidden_state, without)
    assert embedding.rows.shape == (3, old.shape[1]) and task_rows(backbone) is embedding.rows
    backbone.requires_grad_(False)
    embedding.rows.requires_grad_(True)
    before = embedding.rows.detach().clone()
    optimizer = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    ids = torch.tensor([[5, old.shape[0], 6, old.shape[0] + 2]])
    for _ in range(3):
        backbone(input_ids=ids, attention_mask=mask).last_hidden_state.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(embedding.old.weight, old)
    moved = (embedding.rows - before).abs().amax(dim=1)
    assert moved[0] > 1e-3 and moved[2] > 1e-3


def test_new_rows_are_drawn_as_bert_draws_its_own() -> None:
    torch.manual_seed(0)
    rows = TaskEmbedding(torch.nn.Embedding(10, 384), 3000).rows
    assert rows.mean().abs() < 1e-3 and rows.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_are_scaled_like_old_ones(family: str) -> None:
    backbone = new_backbone(tiny_config(family))
    embedding = add_task_rows(backbone, 1)
    with torch.no_grad():
        embedding.rows[0] = embedding.old.weight[9]
    old, new = backbone.get_input_embeddings()(torch.tensor([[9, embedding.first_id]]))[0]
    assert torch.equal(old, new) and torch.equal(old, embedding.old.weight[9]) != family.startswith("gemma")


# An adapter is saved another way, whatever the family.
@pytest.mark.parametrize(
    ("adaptation", "family"),
    [*(("adapt", family) for family in FAMILIES), *(("lora", family) for family in ("bert", "gpt2", "gemma3", "t5"))],
)
def test_a_saved_model_comes_back_with_its_rows(adaptation: str, family: str, tmp_path: Path) -> None:
    model = tiny_classifier(family)
    model.add_task_tokens(3)
    apply_adaptation(model, MethodConfig(adaptation=adaptation))
    embedding = model.get_input_embeddings()
    assert embedding.rows.requires_grad and not embedding.old.weight.requires_grad
    with torch.no_grad():
        embedding.rows.normal_()
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(again.get_input_embeddings().rows, embedding.rows)
    ids = torch.tensor([[5, embedding.first_id, 6, embedding.first_id + 2]])
    # Weights read from a file lie elsewhere in memory, which can change the order of sums.
    torch.testing.assert_close(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits, atol=1e-6, rtol=1e-5)
