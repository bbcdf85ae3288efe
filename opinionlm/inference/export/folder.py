"""Write an export: all at once, and only if it answers like the model in a process without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opinionlm.data.contamination import SEEN_TEXTS
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.errors import UserError
from opinionlm.inference.arguments import best_of
from opinionlm.inference.export import check
from opinionlm.inference.export.card import EXPORTED, Format, exported_card
from opinionlm.inference.export.modelling_file import save_portable
from opinionlm.inference.export.onnx_graph import write_onnx
from opinionlm.inference.export.plain import plain_model, require_plain
from opinionlm.inference.export.source import Source, load_source, ready_model, require_folding
from opinionlm.models.families import family_of
from opinionlm.models.native_heads import native_form
from opinionlm.utils.files import copy_files, partial_folder, publish, require_folders_above, write_text
from opinionlm.utils.names import CARD

ANSWERS = "answers.npz"
# What an ONNX graph may lose of macro-F1 on validation.
MAX_F1_LOSS = 0.01
# What transformers takes for a tokenizer without a limit, which truncation=True leaves as it is.
WHOLE = int(1e30)


@dataclass(frozen=True)
class Written:
    """An export that is not yet checked.

    Attributes:
        folder: of it.
        is_tagger: whether it labels words.
        remote_code: whether its own modelling file has to run.
        items: what it is asked.
        expected: what it has to answer.
        largest: logit of the model, before anything is added to it.
        tolerance: see `Source.tolerance`.
    """

    folder: Path
    is_tagger: bool
    remote_code: bool
    items: list[Any]
    expected: list[np.ndarray]
    largest: float
    tolerance: float


def export_model(
    model: Path, output: Path | None, kind: Format, max_f1_loss: float = MAX_F1_LOSS, overwrite: bool = False
) -> Path:
    """Write a saved model in another form, check it, and give the folder its name.

    Args:
        model: folder of a run or of a saved model.
        output: the new folder; by default named by the format, beside ``best/``.
        kind: the format.
        max_f1_loss: what an ONNX graph may lose of macro-F1 on validation.
        overwrite: replace an earlier export, once this one is complete.

    Returns:
        The new folder.

    Raises:
        UserError: the folder exists, the model cannot be held in that form, or the export answers otherwise.
    """
    target = best_of(model).parent / kind if output is None else output
    require_free(target, overwrite)
    source = load_source(model)
    with partial_folder(target) as folder:
        match kind:
            case "transformers" | "remote_code":
                check_written([write_export(source, folder, kind)])
            case "onnx" | "onnx_int8":
                comparison = write_onnx(source, folder, kind == "onnx_int8", max_f1_loss)
                print(comparison.describe(), file=sys.stderr)
                write_text(folder / CARD, exported_card(source, kind) + f"\n{comparison.describe()}.\n")
        publish(folder, target, is_current=lambda: False)
    return target


def require_free(target: Path, overwrite: bool) -> None:
    """Refuse a place that an export must not take, before the model is loaded.

    Raises:
        UserError: something stands there, and is no earlier export that is to be replaced; or it lies under a file.
    """
    if not os.path.lexists(target):
        return require_folders_above("--output", target)
    if not overwrite:
        raise UserError(f"--output: {target} exists already; give another folder, or --overwrite to replace it")
    if target.is_symlink():
        raise UserError(f"--output: {target} is a link, and no link is overwritten; give the folder that it names")
    # Other models have a config.json and a card as well; every card of an export says that it is one.
    card = target / CARD
    if not card.is_file() or EXPORTED not in card.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"--output: {target} is no export, and is not overwritten; give another folder")


def write_export(source: Source, folder: Path, kind: Format) -> Written:
    """Write an export into a folder that is there.

    Args:
        source: the model, which is used up.
        folder: empty.
        kind: the format.

    Raises:
        UserError: the model cannot be held in that form.
    """
    require_folding(source, kind)
    predictor, expected = source.predictor, source.expected()
    largest = max(float(np.abs(row - source.shift).max()) for row in expected)
    written = Written(
        folder, source.is_tagger, kind == "remote_code", source.probes(), expected, largest, source.tolerance
    )
    tokenizer = predictor.tokenizer
    match kind:
        case "transformers":
            form = native_form(predictor.model.config, predictor.model.pools)
            ready = ready_model(source, may_add_bias=form is None or form.bias)
            form = require_plain(ready, tokenizer)
            plain_model(ready, form, tokenizer.pad_token_id).save_pretrained(folder)
        case "remote_code":
            save_portable(ready_model(source, may_add_bias=True), tokenizer, folder)
    if not family_of(predictor.model.config).segments:
        # The classes of some families have no room for segments, which ours leaves out.
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    # A text that the model cuts itself must reach it whole.
    cuts = predictor.model.config.chunk_overlap is not None or predictor.model.config.read_ends
    save_tokenizer(tokenizer, folder, WHOLE if cuts else predictor.max_length, pads_right=True)
    copy_files(source.folder, folder, [SEEN_TEXTS])
    write_text(folder / CARD, exported_card(source, kind))
    return written


def check_written(exports: Sequence[Written]) -> None:
    """Load exports in a process that has no opinionlm, and compare their answers.

    Raises:
        UserError: one cannot be loaded there, or answers otherwise.
    """
    jobs = [
        {
            "folder": str(export.folder),
            "output": ANSWERS,
            "is_tagger": export.is_tagger,
            "remote_code": export.remote_code,
            "items": export.items,
        }
        for export in exports
    ]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "jobs.json"
        file.write_text(json.dumps(jobs))
        environment = os.environ | {"HF_MODULES_CACHE": scratch, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-P", check.__file__, str(file)]
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if outcome.returncode:
        reason = (outcome.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"export: the written model cannot be loaded without opinionlm ({reason}); nothing is kept")
    for export in exports:
        compare(export)


def compare(export: Written) -> None:
    """Compare what an export answered with what it has to.

    Raises:
        UserError: they differ.
    """
    path = export.folder / ANSWERS
    with np.load(path) as found:
        answers = [found[name] for name in found.files]
    path.unlink()
    difference = max(
        float(np.abs(own - row).max()) if own.shape == row.shape else np.inf
        for own, row in zip(answers, export.expected, strict=True)
    )
    if not difference <= export.tolerance * export.largest:
        own, graph = "remote_code, which computes as opinionlm does", "onnx, which is compared on validation"
        raise UserError(
            f"export: the written model's logits differ by {difference:.2g} from the model's, whose largest is "
            f"{export.largest:.3g}; nothing is kept. Use --format {graph if export.remote_code else own}"
        )
