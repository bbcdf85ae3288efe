"""Labels for posts in three ways: scored with a shared cache, scored one by one, and read from what is generated.

The model has Gemma 3's architecture with few narrow blocks and its full vocabulary of 262,144 entries; weights and
token ids are random, since speed depends on neither.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedModel

from benchmarks.report import Row, agree, compare
from benchmarks.ways import layer_types
from opinionlm.evaluation.label_scoring import score_labels

VOCABULARY = 262_144
BLOCKS = 6
NEW_TOKENS = 8
PADDING = 0
# Posts per batch where labels are generated or scored one by one.
BATCH_SIZE = 16
# Tokens of the eight opinion labels where the common words have a token each, as in large vocabularies.
LABEL_LENGTHS = (1, 1, 1, 1, 2, 1, 1, 2)
# Instruction with the list of labels, one demonstration with its answer, and what stands behind the post.
INSTRUCTION_TOKENS, TAIL_TOKENS = 40, 3
POST_TOKENS = (60, 150)


@dataclass(frozen=True)
class Posts:
    """Prompts of one kind.

    Attributes:
        name: of the kind.
        prompts: token ids, longest first.
        labels: token ids of the labels.
    """

    name: str
    prompts: list[list[int]]
    labels: list[list[int]]


def gemma_shape() -> Gemma3TextConfig:
    """Gemma 3 with six blocks of width 256: 5.7 million parameters in the blocks, 67 million in the vocabulary."""
    return Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
        sliding_window=512,
        layer_types=layer_types(BLOCKS),
    )


def make_posts(shots: int, count: int, seed: int = 0) -> Posts:
    """Random prompts with the lengths of real ones.

    Args:
        shots: demonstrations, the same in all prompts.
        count: posts.
        seed: of lengths and tokens.
    """
    draw = random.Random(seed)

    def tokens(size: int) -> list[int]:
        return [draw.randrange(10, VOCABULARY) for _ in range(size)]

    beginning = tokens(INSTRUCTION_TOKENS)
    for _ in range(shots):
        beginning += tokens(draw.randint(*POST_TOKENS) + TAIL_TOKENS + 2)
    tail = tokens(TAIL_TOKENS)
    prompts = [beginning + tokens(draw.randint(*POST_TOKENS)) + tail for _ in range(count)]
    labels = [tokens(length) for length in LABEL_LENGTHS]
    return Posts(f"{shots} shots", sorted(prompts, key=len, reverse=True), labels)


def padded_left(rows: Sequence[Sequence[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch that ends in one column."""
    width = max(map(len, rows))
    ids = torch.tensor([[PADDING] * (width - len(row)) + list(row) for row in rows], device=device)
    places = torch.arange(width, device=device)
    mask = places >= torch.tensor([[width - len(row)] for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask.long()}


@torch.inference_mode()
def generated(model: PreTrainedModel, posts: Posts) -> None:
    """Let transformers write eight tokens behind every prompt; reading them is not counted."""
    for start in range(0, len(posts.prompts), BATCH_SIZE):
        batch = padded_left(posts.prompts[start : start + BATCH_SIZE], model.device)
        model.generate(
            **batch, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=PADDING
        )


@torch.inference_mode()
def scored_separately(model: PreTrainedModel, posts: Posts) -> np.ndarray:
    """Run every prompt once with every label behind it, with logits at the label's tokens only."""
    scores = np.zeros((len(posts.prompts), len(posts.labels)))
    for column, label in enumerate(posts.labels):
        wanted = torch.tensor(label, device=model.device)
        for start in range(0, len(posts.prompts), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            batch = padded_left([prompt + label for prompt in posts.prompts[rows]], model.device)
            places = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
            logits = model(**batch, position_ids=places, use_cache=False, logits_to_keep=len(label) + 1).logits
            logits = logits[:, :-1].float()
            values = logits[:, torch.arange(len(label)), wanted] - logits.logsumexp(dim=-1)
            scores[rows, column] = values.sum(dim=1).cpu().numpy()
    return scores


def scored_together(model: PreTrainedModel, posts: Posts) -> np.ndarray:
    """Our way."""
    return score_labels(model, posts.prompts, posts.labels, PADDING)


def measured(ways: dict[str, Callable[[], object]], repetitions: int, wait: Callable[[], None]) -> dict[str, float]:
    """Median seconds of every way; they take turns, every second round in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(repetitions):
        order = list(ways) if round_number % 2 == 0 else list(reversed(ways))
        for name in order:
            wait()
            started = time.perf_counter()
            ways[name]()
            wait()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}


def scoring_rows(
    repetitions: int = 5,
    count: int = 32,
    separate_count: int = 4,
    device: str = "cpu",
    shape: Gemma3TextConfig | None = None,
    dtype: str = "float32",
    shots: int = len(LABEL_LENGTHS),
) -> list[Row]:
    """Posts per second of the three ways, with and without demonstrations, and whether scores agree.

    Without demonstrations every post's prompt has to run in full either way, so that nothing is claimed there
    against generating: the prompts take most of both.

    Args:
        repetitions: of each way.
        count: posts.
        separate_count: posts whose labels are scored one by one, which takes longest by far; its rate is per post.
        device: cpu or cuda.
        shape: of the model, by default `gemma_shape`.
        dtype: of its parameters; in bfloat16 scores agree to its 8 bits, and ties may fall either way.
        shots: demonstrations of the first half of the rows.
    """
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape or gemma_shape(), dtype=getattr(torch, dtype)).eval()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    rows = []
    for demonstrations in (shots, 0):
        posts = make_posts(demonstrations, count)
        few = Posts(posts.name, posts.prompts[:: count // separate_count][:separate_count], posts.labels)
        ours, separate = scored_together(model, few), scored_separately(model, few)
        alike = int((ours.argmax(axis=1) == separate.argmax(axis=1)).sum())
        largest = float(np.abs(ours - separate).max())
        exact = dtype == "float32"
        rows += [
            agree(
                f"{posts.name}: posts with the same arg-max", len(few.prompts), alike, "posts", 0 if exact else count
            ),
            agree(f"{posts.name}: largest difference of scores", 0.0, largest, "nats", 1e-4 if exact else 0.25),
        ]
        seconds = measured(
            {
                "ours": lambda posts=posts: scored_together(model, posts),
                "generated": lambda posts=posts: generated(model, posts),
                "separate": lambda few=few: scored_separately(model, few),
            },
            repetitions,
            wait,
        )
        counts = {"ours": count, "generated": count, "separate": separate_count}
        rate = {name: counts[name] / value for name, value in seconds.items()}
        for way, name, goal in (
            ("generated", f"against generating {NEW_TOKENS} tokens", 5.0 if demonstrations else None),
            ("separate", f"against scoring {len(posts.labels)} labels one by one", 4.0),
        ):
            goal = None if shape else goal  # claimed of the default shape
            rows.append(
                compare(f"{posts.name}: {name}", rate[way], rate["ours"], "posts/s", goal, more_is_better=True)
            )
    return rows
