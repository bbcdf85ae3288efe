"""Load a tokenizer, make it ready for pairs of texts, and save it beside a model."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from opinionlm.config.options import ModelConfig
from opinionlm.data.encoding.special_tokens import read_as_text
from opinionlm.errors import UserError
from opinionlm.utils.files import write_json
from opinionlm.utils.memory import return_freed_memory
from opinionlm.utils.shipped import find_model


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, padding on the right, with a padding token.

    Classification pads on the right: GPT-2's absolute positions differ otherwise. A tokenizer without a padding
    token (GPT-2, Llama, Mistral) pads with its end token; pooling reads the attention mask, never the token. Pairs are
    kept apart, see `separate_pairs`, and texts are never read for special tokens, see `read_as_text`.

    Raises:
        UserError: no tokenizer found, or neither a padding nor an end token.
    """
    name = str(find_model(model.tokenizer_name_or_path or model.model_name_or_path))
    # A commit of the model is none of another repository.
    own = model.tokenizer_name_or_path in (None, model.model_name_or_path)
    revision = model.model_revision if own else "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer_name_or_path: no tokenizer in '{name}' ({reason}); give the name of the model the tokenizer "
            "belongs to"
        ) from error
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"tokenizer_name_or_path: '{name}' has neither a padding nor an end token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    tokenizer.truncation_side = "right"
    separate_pairs(tokenizer)
    read_as_text(tokenizer)
    # Parsing the 33 MB of Gemma's tokenizer leaves 320 MB that would stand beside the weights while these are loaded.
    return_freed_memory()
    return tokenizer


def entries_of_texts(tokenizer: PreTrainedTokenizerBase) -> int:
    """Entries of a tokenizer up to the last one that an encoded text can hold; the embedding needs a row for each.

    Gemma 3's tokenizer of 262,145 entries ends with one that stands for an image, for which its text models of 262,144
    rows have none (transformers #37011). No text becomes it, since texts are never read for special tokens.
    """
    added = tokenizer.added_tokens_decoder
    used = {
        *(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id),
        *(tokenizer.sep_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id),
    }
    last = len(tokenizer) - 1
    while last in added and added[last].special and last not in used:
        last -= 1
    return last + 1


def separate_pairs(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer put its end token between the texts of a pair, where it would let them run together.

    BERT and T5 mark the border themselves; GPT-2, and whatever knows single texts only, does not. The tokenizer is
    changed in place and keeps the change when it is saved, so that pipelines read pairs as training did.
    """
    single = tokenizer.num_special_tokens_to_add(pair=False)
    if tokenizer.num_special_tokens_to_add(pair=True) > single or tokenizer.eos_token is None:
        return
    # What a single text is wrapped in stays around the pair.
    before = tokenizer("a", add_special_tokens=True)["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(at for at in range(len(before)) if before[at : at + len(bare)] == bare)
    front = tokenizer.convert_ids_to_tokens(before[:start])
    back = tokenizer.convert_ids_to_tokens(before[start + len(bare) :])
    template = processors.TemplateProcessing(
        single=[*front, "$A", *back],
        pair=[*front, "$A", tokenizer.eos_token, "$B", *back],
        special_tokens=[
            (token, tokenizer.convert_tokens_to_ids(token)) for token in {*front, *back, tokenizer.eos_token}
        ],
    )
    backend = tokenizer.backend_tokenizer
    # A byte-level step adds no tokens; it keeps blanks out of the characters that a token says it comes from.
    keeps = isinstance(backend.post_processor, processors.ByteLevel)
    backend.post_processor = processors.Sequence([backend.post_processor, template]) if keeps else template


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int, pads_right: bool) -> None:
    """Write a tokenizer for others to use with a trained model; whoever truncates with it cuts where training did.

    Args:
        tokenizer: of the model.
        folder: there already.
        max_length: where it cuts.
        pads_right: whoever pads with it pads on the right, as heads are trained; else on the family's own side.
            An attribute is not saved, and Gemma's class pads on the left.
    """
    tokenizer.model_max_length = max_length
    if pads_right:
        tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side = "right"
    if tokenizer.is_fast:
        # What its last call asked for would be saved too, and there was no call where encoded texts were kept.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    write_tokenizer(tokenizer, folder)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer with its added tokens in ``tokenizer_config.json``.

    transformers 5 leaves them out and then parses the whole ``tokenizer.json`` for them at every start, which takes a
    second for the 33 MB of Gemma's. It reads them there, as version 4 wrote them.

    Args:
        tokenizer: with or without a fast backend; one without is written as it is.
        folder: there already.
    """
    tokenizer.save_pretrained(folder)
    if tokenizer.is_fast:
        place = folder / "tokenizer_config.json"
        added = {str(number): token.__getstate__() for number, token in tokenizer.added_tokens_decoder.items()}
        write_json(place, json.loads(place.read_bytes()) | {"added_tokens_decoder": added})
