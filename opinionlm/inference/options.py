"""How a saved model is asked: on which device, in which precision and batches, and how far its labels are trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from opinionlm.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedConfig

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["torch", "onnx"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class TrustOptions:
    """What a user asks for beside labels.

    Attributes:
        coverage: sets of labels that hold the right one so often; None for no sets.
        abstain_below: no label where its probability is lower; None always gives one.

    Raises:
        UserError: a value that makes no sense.
    """

    coverage: float | None = None
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        if self.coverage is not None:
            from opinionlm.evaluation.conformal import COVERAGES  # loads numpy

            if not COVERAGES[0] <= self.coverage <= COVERAGES[-1]:
                raise UserError(
                    f"--label_sets: {self.coverage:g} is no coverage between {COVERAGES[0]:g} and {COVERAGES[-1]:g}"
                )
        if self.abstain_below is not None and not 0 < self.abstain_below <= 1:
            raise UserError(f"--abstain_below: {self.abstain_below:g} is no probability above 0")

    @property
    def given(self) -> str:
        """The options that were given, empty without any."""
        named = {"--label_sets": self.coverage, "--abstain_below": self.abstain_below}
        return " ".join(f"{name} {value:g}" for name, value in named.items() if value is not None)


@dataclass(frozen=True)
class PredictionOptions:
    """How a saved model computes its answers, and what is asked for beside them.

    Attributes:
        device: ``auto`` takes a GPU where there is one.
        precision: to compute in; ``auto`` is what training chose, or that of the weights.
        batch_size: at most so many texts at once.
        max_tokens_per_batch: at most so many tokens at once, padding included; one text is always let through.
        trust: what is asked for beside labels.
        backend: what computes; ``onnx`` runs the graph that ``opinionlm export`` wrote, on the CPU.

    Raises:
        UserError: a choice or a size that there is not.
    """

    device: Device = "auto"
    precision: Precision = "auto"
    batch_size: int = 64
    max_tokens_per_batch: int = 4096
    trust: TrustOptions = TrustOptions()
    backend: Backend = "torch"

    def __post_init__(self) -> None:
        for name, kind in (("device", Device), ("precision", Precision), ("backend", Backend)):
            if (value := getattr(self, name)) not in get_args(kind):
                raise UserError(f"--{name}: {value!r} is none of {', '.join(get_args(kind))}")
        for name in ("batch_size", "max_tokens_per_batch"):
            if (number := getattr(self, name)) < 1:
                raise UserError(f"--{name}: {number} must be at least 1")

    def torch_device(self) -> torch.device:
        """Where the model computes.

        Raises:
            UserError: a GPU is asked for, and there is none.
        """
        import torch

        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise UserError("--device: cuda was asked for, but torch sees no GPU; use --device cpu or auto")
        return torch.device("cuda" if has_gpu and self.device != "cpu" else "cpu")


def check_precision(folder: Path, config: PreTrainedConfig, precision: Precision) -> None:
    """Refuse a precision that 4-bit weights do not compute in.

    Raises:
        UserError: the model was saved in 4 bits, for another precision.
    """
    values = config.to_dict()
    saved = str(values["dtype"]).removeprefix("torch.")
    if "quantization_config" in values and precision not in ("auto", saved):
        raise UserError(
            f"--precision: the weights in {folder} are in 4 bits and compute in {saved}; leave the option out"
        )
