"""Mine the token sequences of a data set's training texts and write them as a readable list.

    python -m opinionlm.adaptation.adapt.mining --config configs/minilm.yaml
    python -m opinionlm.adaptation.adapt.mining --dataset configs/datasets/imdb.yaml \
        --model_name_or_path models/gemma3-mini --sequence_max_gap 0 --output imdb.csv

Any config and option of train_classifier.py is taken; data set, tokenizer and the sequence_* options decide. --output
names the CSV file, by default outputs/sequences.csv: one line per sequence that would become a token (sequence as
pieces, text, tokens, support, perplexity), best first. --all_sequences lists every closed sequence instead.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opinionlm.config.options import DataConfig
from opinionlm.config.parser import ConfigParser
from opinionlm.errors import UserError, run_script

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from opinionlm.adaptation.adapt.search import MinedSequence

COLUMNS = ("sequence", "text", "tokens", "support", "perplexity")
SHOWN = 20


def main(argv: list[str] | None = None) -> None:
    """Mine, write, and print the first lines."""
    parser = ConfigParser(__doc__, "mining")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("outputs/sequences.csv"), help="the list [%(default)s]"
    )
    parser.add_argument("--all_sequences", action="store_true", help="list every closed sequence, not only those kept")
    options, config = parser.parse_config(argv)

    # Imported late, so that --help and config errors answer at once.
    from opinionlm.adaptation.adapt.search import keep_best, mine
    from opinionlm.data.preparation.tokens import load_tokenizer
    from opinionlm.models.gguf import require_converted

    require_converted(config.model.tokenizer_name_or_path or config.model.model_name_or_path)
    tokenizer = load_tokenizer(config.model.tokenizer_name_or_path or config.model.model_name_or_path)
    rows = training_token_ids(config.data, config.training.seed, tokenizer)
    started = time.perf_counter()
    mined = mine(rows, config.adapt)
    kept = keep_best(mined, config.adapt, tokenizer.get_vocab_size())
    listed = mined if options.all_sequences else kept
    write_csv(options.output, listed, tokenizer)
    print(
        f"{len(rows):,} texts, {sum(map(len, rows)):,} tokens: {len(mined):,} closed sequences in "
        f"{time.perf_counter() - started:.1f} s, {len(kept):,} kept ({config.adapt.sequence_keep}); "
        f"{len(listed):,} in {options.output}"
    )
    print(table(listed[:SHOWN], tokenizer))


def training_token_ids(data: DataConfig, seed: int, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of the training texts that the options name, untruncated and without special tokens."""
    from opinionlm.data.encoding.columns import subset
    from opinionlm.data.loading import load_data
    from opinionlm.data.preparation.tokens import token_ids

    prepared = load_data(data)
    texts = subset(prepared.dataset["train"], data.max_train_samples, seed)
    return token_ids(tokenizer, list(texts["text"]))


def write_csv(path: Path, sequences: Sequence[MinedSequence], tokenizer: Tokenizer) -> None:
    """Write sequences as a CSV file with the columns `COLUMNS`.

    Raises:
        UserError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for one in sequences:
                ids = " ".join(map(str, one.tokens))
                writer.writerow([pieces(one, tokenizer), text(one, tokenizer), ids, one.support, one.perplexity])
    except OSError as error:
        raise UserError(f"--output: cannot write {path}: {error.strerror}; name another file") from error


def pieces(sequence: MinedSequence, tokenizer: Tokenizer) -> str:
    """The sequence's tokens as the tokenizer writes them."""
    return " ".join(str(tokenizer.id_to_token(token)) for token in sequence.tokens)


def text(sequence: MinedSequence, tokenizer: Tokenizer) -> str:
    """The sequence as text, as if its tokens stood side by side."""
    return tokenizer.decode(list(sequence.tokens), skip_special_tokens=False)


def table(sequences: Sequence[MinedSequence], tokenizer: Tokenizer) -> str:
    """Sequences as lines to read; those that end inside a character, as bytes of an emoji do, by their tokens."""
    lines = [f"{'support':>8}  {'perplexity':>10}  sequence"]
    for one in sequences:
        preview = " ".join(text(one, tokenizer).split())
        preview = pieces(one, tokenizer) if "\ufffd" in preview else preview
        preview = preview if len(preview) <= 80 else preview[:79] + "…"
        lines.append(f"{one.support:8,}  {one.perplexity:10.3f}  {preview}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
