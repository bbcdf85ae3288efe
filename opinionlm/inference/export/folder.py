"""Write an export: all at once, and only if it answers like the model in a process without this package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opinionlm.data.contamination import SEEN_TEXTS
from opinionlm.data.encoding.tokenizers import save_tokenizer
from opinionlm.errors import UserError
from opinionlm.evaluation.multi_label_rules import MultiLabelRule
from opinionlm.inference.export import check
from opinionlm.inference.export.modelling_file import save_portable
from opinionlm.inference.export.onnx_graph import write_onnx
from opinionlm.inference.export.plain import plain_model, require_plain
from opinionlm.inference.export.source import Source, load_source, ready_model, require_folding
from opinionlm.models.families import family_of
from opinionlm.models.native_heads import native_form
from opinionlm.utils.files import partial_folder, publish, write_text

Format = Literal["transformers", "remote_code", "onnx", "onnx_int8"]
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
    source = load_source(model)
    target = source.folder.parent / kind if output is None else output
    if target.exists() and not overwrite:
        raise UserError(f"--output: {target} exists already; give another folder, or --overwrite to replace it")
    # The only folders to be replaced are those that could be exports.
    if target.exists() and (target.samefile(source.folder) or not (target / "config.json").is_file()):
        raise UserError(f"--output: {target} is no export, and is not overwritten; give another folder")
    with partial_folder(target) as folder:
        match kind:
            case "transformers" | "remote_code":
                check_written([write_export(source, folder, kind)])
            case "onnx" | "onnx_int8":
                comparison = write_onnx(source, folder, kind == "onnx_int8", max_f1_loss)
                print(comparison.describe(), file=sys.stderr)
                write_text(folder / "README.md", exported_card(source, kind) + f"\n{comparison.describe()}.\n")
        publish(folder, target, is_current=lambda: False)
    return target


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
    save_tokenizer(tokenizer, folder, WHOLE if cuts else predictor.max_length)
    if (source.folder / SEEN_TEXTS).is_file():
        shutil.copy(source.folder / SEEN_TEXTS, folder / SEEN_TEXTS)
    write_text(folder / "README.md", exported_card(source, kind))
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


FOLDED = (
    "Weights are float32, and nothing needs opinionlm. Temperature and offsets of the decision are part of the last "
    "layer: the largest logit is the label that opinionlm gives. Where a decision has offsets, softmax gives its "
    "scores and not calibrated probabilities."
)
FOLDED_LABELS = (
    "Weights are float32, and nothing needs opinionlm. Temperature and thresholds are part of the last layer: the "
    "labels that opinionlm gives are those whose score (the sigmoid of a logit) is at least 0.5, and scores are not "
    "calibrated probabilities."
)


def exported_card(source: Source, kind: Format) -> str:
    """The model's card, without what needs this package and with what was changed."""
    path = source.folder / "README.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else "# A model of opinionlm\n"
    card = card.replace("import opinionlm  # makes the model type known to transformers\n", "")
    card = card.replace(f'model="{source.folder}"', 'model="."')
    lines = [
        "",
        "## Exported",
        "",
        f"Written by `opinionlm export --format {kind}` from `{source.folder.name}/`.",
    ]
    folded = FOLDED_LABELS if isinstance(source.rule, MultiLabelRule) else FOLDED
    match kind:
        case "transformers":
            lines.append(folded)
        case "remote_code":
            lines += [folded, "Load it with `trust_remote_code=True`; its code is the one Python file here."]
            if source.predictor.model.config.chunk_overlap is not None:
                lines.append("In a pipeline, too, it reads long texts whole, in chunks.")
            if source.predictor.model.config.read_ends:
                lines.append("In a pipeline, too, it reads both ends of long texts.")
        case "onnx" | "onnx_int8":
            lines.append(
                "`opinionlm predict --backend onnx` answers with it; the graph gives raw logits, and config.json has "
                "the rule."
            )
    return card + "\n".join(lines) + "\n"
