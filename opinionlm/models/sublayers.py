"""The sub-layers of every transformer block, attention and feed-forward, and the normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from opinionlm.models.backbones import anatomy_of
from opinionlm.models.family import Kind
from opinionlm.models.quantization import weight_count


@dataclass(frozen=True)
class Sublayer:
    """An attention or feed-forward sub-layer; `opinionlm.models.family.SublayerPaths` says where its modules lie.

    Attributes:
        block: index of its block, lowest first.
        kind: which of the two.
        parts: modules that hold its parameters, its normalisations among them.
        output: the module whose output is added to the residual stream.
        norms: its normalisation layers.
        adapter_site: module whose output a bottleneck adapter changes.
    """

    block: int
    kind: Kind
    parts: tuple[nn.Module, ...]
    output: nn.Module
    norms: tuple[nn.Module, ...] = ()
    adapter_site: nn.Module | None = None

    @property
    def name(self) -> str:
        """For reports: ``3.attention``."""
        return f"{self.block}.{self.kind}"

    def parameters(self) -> list[nn.Parameter]:
        """All its parameters."""
        return [parameter for part in self.parts for parameter in part.parameters()]

    def size(self) -> int:
        """Number of its weights."""
        return sum(weight_count(parameter) for parameter in self.parameters())


def sublayers_of(model: PreTrainedModel | PeftModel) -> list[Sublayer]:
    """All sub-layers of a text model, lowest first; each parameter of a block belongs to exactly one of them.

    Raises:
        UserError: if the family is not known.
    """
    anatomy = anatomy_of(model)
    sublayers = []
    for index, (block, layout) in enumerate(zip(anatomy.blocks, anatomy.layouts, strict=True)):
        for paths in layout:
            norms = [block.get_submodule(path) for path in paths.norms]
            sublayers.append(
                Sublayer(
                    index,
                    paths.kind,
                    tuple(block.get_submodule(path) for path in paths.parts),
                    block.get_submodule(paths.output),
                    # A block that normalises nothing in some place may have an identity there.
                    tuple(norm for norm in norms if not isinstance(norm, nn.Identity)),
                    block.get_submodule(paths.adapter_site or paths.output),
                )
            )
    return sublayers


def normalisation_layers(model: PreTrainedModel | PeftModel) -> list[nn.Module]:
    """Every normalisation layer of a text model."""
    return [*anatomy_of(model).norms, *(norm for sublayer in sublayers_of(model) for norm in sublayer.norms)]
