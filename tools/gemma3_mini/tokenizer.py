"""A small tokenizer of Gemma's kind: BPE over characters, ``▁`` for the blank, bytes for everything unknown.

The vocabulary is learned here; the class that runs it is transformers' own ``GemmaTokenizer``, so a program that
works with the miniature's tokenizer works with the real one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Ids 0 to 4 are Gemma's own.
SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))

# Words with the blank before them, single digits, runs of punctuation, runs of line breaks. Only learning needs this
# pattern: a pair that never met inside a piece gets no merge, so the finished tokenizer cannot cross pieces either.
_PIECES = r"▁?[\p{L}\p{M}]+(?:['’]\p{L}+)?|▁?\p{N}|\n+|▁?[^\p{L}\p{M}\p{N}\s▁]+|▁+|\s"

# Runs that the corpus is too tidy to teach, each made of two halves that exist before it.
_EXTRA_MERGES = (("\n", "\n"), ("\n\n", "\n\n"), ("▁", "▁"), ("▁▁", "▁▁"))

# The turns of Gemma's instruction-tuned checkpoints; a system message becomes the head of the first user turn.
CHAT_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = '' -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else '') -}}
    {{ message['content'] | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' -}}
{%- endif -%}
"""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, model_max_length: int, max_alphabet: int = 300
) -> PreTrainedTokenizerBase:
    """Learn a BPE vocabulary and wrap it as a ``GemmaTokenizer``.

    Args:
        texts: training texts only; held-out texts would make the held-out perplexity look better than it is.
        vocab_size: entries in all, special tokens and 256 bytes included.
        model_max_length: positions of the model, in tokens.
        max_alphabet: characters that get an entry of their own, most frequent first; others become bytes.

    Returns:
        A tokenizer that puts ``<bos>`` first, keeps case and line breaks, and decodes to the text it was given (but
        for a literal ``▁``, which stands for the blank, as in every SentencePiece vocabulary).
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import GemmaTokenizer

    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    texts = list(texts)
    # The library would cut the alphabet itself, but breaks ties by chance; chosen here, it is the same every time.
    counts = Counter(character for text in texts for character in text if not character.isspace())
    ascii_characters = [chr(code) for code in range(33, 127)]
    frequent = [character for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    alphabet = sorted({"▁", "\n", "\t", *ascii_characters, *frequent[:max_alphabet]})
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(SPECIAL_TOKENS) - len(BYTE_TOKENS) - len(_EXTRA_MERGES),
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    learned_merges = [tuple(merge) for merge in learned["merges"]]
    merges = [merge for merge in _EXTRA_MERGES if merge not in learned_merges] + learned_merges
    # Order as in Gemma: special tokens, bytes, then pieces. Characters come before the pieces merged from them.
    pieces = sorted(learned["vocab"], key=learned["vocab"].get) + [left + right for left, right in _EXTRA_MERGES]
    vocab: dict[str, int] = {}
    for token in (*SPECIAL_TOKENS, *BYTE_TOKENS, *pieces):
        vocab.setdefault(token, len(vocab))
    return GemmaTokenizer(
        vocab=vocab,
        merges=merges,
        extra_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        model_max_length=model_max_length,
        chat_template=CHAT_TEMPLATE,
        add_bos_token=True,
        clean_up_tokenization_spaces=False,
    )
