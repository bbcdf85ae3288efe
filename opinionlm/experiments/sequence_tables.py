"""Tables about mined sequences instead of runs: what a paper's case study shows, looked for in our data.

A table YAML of ``kind: sequences`` holds::

    kind: sequences
    title: …
    source: …
    note: …
    scales:
      small: {options: {…}, tasks: {SciERC: {dataset: configs/datasets/sciie.yaml}}}
    patterns:                      # task → group → the paper's pattern → the token ids that it prints
      SciERC: {Reference markers: {in order to: [1999, 2344, 2000]}}

The options are those of ``python -m opinionlm.adaptation.adapt.mining``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opinionlm.config.config import Config
from opinionlm.config.parser import Layer, new_config, read_yaml
from opinionlm.experiments.differences import difference_line, stated_differences
from opinionlm.experiments.grid import require_parts
from opinionlm.experiments.tables import heading
from opinionlm.utils.files import write_csv, write_text
from opinionlm.utils.markdown import pipe_table
from opinionlm.utils.typed_values import check_keys

if TYPE_CHECKING:
    from opinionlm.adaptation.adapt.search import MinedSequence

KEYS = {"kind", "title", "source", "note", "scales", "patterns", "differs"}
SHOWN = 10
COLUMNS = ["task", "group", "pattern", "printed ids", "ours", "texts", "token"]


@dataclass(frozen=True)
class SequenceTable:
    """A table about the sequences of some tasks.

    Attributes:
        title: heading.
        source: where it was published.
        note: what a reader must know.
        scale: which scale.
        tasks: name → what is mined.
        patterns: task → group → pattern → token ids as printed.
        differences: what its numbers differ from the paper's in.
    """

    title: str
    source: str
    note: str
    scale: str
    tasks: Mapping[str, Config]
    patterns: Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]
    differences: tuple[str, ...]


def load_sequence_table(path: Path, scale: str, overrides: Mapping[str, Any]) -> SequenceTable:
    """Read a table YAML of ``kind: sequences``.

    Raises:
        UserError: unknown keys or options, missing parts, or no such scale.
    """
    raw = read_yaml(path)
    chosen = require_parts(raw, KEYS, scale, path)
    check_keys(chosen, {"options", "tasks", "differs", "note"}, f"{path}: scales.{scale}", {"tasks"})
    tasks = {
        name: new_config(
            None, Layer(f"{path}: {name}", {**(chosen.get("options") or {}), **own, **overrides}), "mining"
        )
        for name, own in chosen["tasks"].items()
    }
    return SequenceTable(
        raw["title"],
        raw["source"],
        chosen.get("note") or raw.get("note", ""),
        scale,
        tasks,
        {name: groups for name, groups in (raw.get("patterns") or {}).items() if name in tasks},
        tuple(stated_differences(raw, scale)),
    )


def write_sequence_table(table: SequenceTable, folder: Path) -> list[Path]:
    """Mine every task and write ``table.md`` and ``table.csv``; the sequences of each task into a file of its own.

    Raises:
        UserError: data or tokenizer cannot be had, or the search explodes.
    """
    from opinionlm.adaptation.adapt.mining import training_token_ids
    from opinionlm.adaptation.adapt.mining import write_csv as write_sequences
    from opinionlm.adaptation.adapt.search import keep_best, mine
    from opinionlm.data.preparation.tokens import load_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    counts, rows, best, paths = [], [], [], []
    for name, config in table.tasks.items():
        tokenizer = load_tokenizer(config.model.tokenizer_name_or_path or config.model.model_name_or_path)
        texts = training_token_ids(config.data, config.training.seed, tokenizer)
        mined = mine(texts, config.adapt)
        kept = keep_best(mined, config.adapt, tokenizer.get_vocab_size())
        mean = sum(map(len, texts)) / len(texts)
        counts.append([name, f"{len(texts):,}", f"{mean:.1f}", f"{len(mined):,}", f"{len(kept):,}"])
        for group, patterns in table.patterns.get(name, {}).items():
            for pattern, printed in patterns.items():
                ids = tokenizer.encode(pattern, add_special_tokens=False).ids
                rows.append([name, group, pattern, *pattern_facts(ids, printed, texts, kept)])
        best += [
            [name, decoded, one.support, f"{one.perplexity:.2f}"]
            for one in kept[:SHOWN]
            if (decoded := " ".join(tokenizer.decode(list(one.tokens)).split()))
        ]
        paths.append(folder / f"sequences_{name.lower().replace(' ', '_')}.csv")
        write_sequences(paths[-1], kept, tokenizer)
    write_text(folder / "table.md", sequence_markdown(table, counts, rows, best))
    write_csv(folder / "table.csv", COLUMNS, rows)
    return [folder / "table.md", folder / "table.csv", *paths]


def pattern_facts(
    ids: Sequence[int], printed: Sequence[int], texts: Sequence[Sequence[int]], kept: Sequence[MinedSequence]
) -> list[str]:
    """What became of a pattern of the paper.

    Args:
        ids: of its tokens by our tokenizer.
        printed: those that the paper prints.
        texts: token ids of the training texts.
        kept: the sequences that became tokens, best first.

    Returns:
        The printed ids, whether ours are the same, how many texts hold the pattern without a gap, and the rank of the
        sequence that became a token: of the pattern itself, or the best one that holds it.
    """
    needle = joined(ids)
    found = sum(needle in joined(text) for text in texts)
    holding = [(rank, one) for rank, one in enumerate(kept, start=1) if needle in joined(one.tokens)]
    own = next((f"{rank}" for rank, one in holding if list(one.tokens) == list(ids)), None)
    part = f"within {holding[0][0]}" if holding else "no"
    same = "the same" if list(ids) == list(printed) else " ".join(map(str, ids))
    return [" ".join(map(str, printed)), same, f"{found:,}", own or part]


def joined(ids: Sequence[int]) -> str:
    """Token ids as a text in which one sequence stands within another exactly where its tokens do."""
    return f" {' '.join(map(str, ids))} "


def sequence_markdown(
    table: SequenceTable, counts: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], best: Sequence[Sequence[Any]]
) -> str:
    """The table as Markdown: what was mined, the paper's patterns, and the best sequences of each task."""
    lines = heading(table.title, f"{table.source}. Scale: {table.scale}.", table.scale == "smoke", table.note)
    lines += ["", *pipe_table(["task", "texts", "tokens per text", "closed sequences", "tokens of the task"], counts)]
    lines += ["", "**The paper's patterns**", "", *pipe_table(COLUMNS, rows)] if rows else []
    lines += ["", "**Best by perplexity**", "", *pipe_table(["task", "sequence", "texts", "perplexity"], best)]
    return "\n".join([*lines, "", difference_line(table.source, table.differences)]) + "\n"
