"""Where the tests find real pretrained weights; those marked `weights` skip where there are none.

Each is looked for, as a GGUF file or as the folder of its converted copy, in the folders that the environment variable
OPINIONLM_WEIGHTS names (separated by colons), then in outputs/models, where ``make gemma-weights`` and ``make
smollm2-weights`` put them, and in ../gemma270m beside the checkout.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from opinionlm.models.gguf import require_converted
from opinionlm.utils.shipped import find_model

REPOSITORY = Path(__file__).resolve().parent.parent
GEMMA, SMOLLM2 = "gemma-3-270m-q4_k_m", "SmolLM2-135M-Instruct.Q4_1"


def find_weights(name: str) -> Path | None:
    """The folder of a model's weights; a GGUF file is converted first, into outputs/models of the checkout.

    Args:
        name: `GEMMA` or `SMOLLM2`.
    """
    named = filter(None, os.environ.get("OPINIONLM_WEIGHTS", "").split(":"))
    places = [*map(Path, named), REPOSITORY / "outputs" / "models", REPOSITORY.parent / "gemma270m"]
    for place in places:
        if (place / name / "model.safetensors").is_file():
            return place / name
    for place in places:
        if (place / f"{name}.gguf").is_file():
            with contextlib.chdir(REPOSITORY):
                require_converted(str(place / f"{name}.gguf"))
                return find_model(place / f"{name}.gguf").resolve()
    return None
