"""What is known of hub models without a network or weights: configs/hub/models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from opinionlm.utils.shipped import find_shipped
from opinionlm.utils.typed_values import build
from opinionlm.utils.yaml import load_yaml

FACTS = "configs/hub/models.yaml"


@dataclass(frozen=True)
class HubFacts:
    """One hub model.

    Attributes:
        tokenizer: its entries up to the last that a text can hold.
        source: where this was found.
        confirmed: whether two public sources agree.
        chat: whether its tokenizer has a chat template.
        licence: as the hub calls it; blank where it was not looked up.
        made_by: the command that makes the model, where it is one of our own.
    """

    tokenizer: int
    source: str
    confirmed: bool
    chat: bool = False
    licence: str = ""
    made_by: str = ""


@cache
def _content() -> Mapping[str, Mapping[str, Any]]:
    return load_yaml(find_shipped(FACTS).read_text(encoding="utf-8"))


def hub_facts(name: str) -> HubFacts | None:
    """What is known of a model; None where it is not in the file."""
    entry = _content().get(name)
    if entry is None:
        return None
    return build(HubFacts, {key: value for key, value in entry.items() if key != "config"}, f"{FACTS}: {name}")


def known_config(name: str) -> PreTrainedConfig:
    """The configuration of a model of the file.

    Raises:
        KeyError: it is not in the file.
    """
    values = dict(_content()[name]["config"])
    return AutoConfig.for_model(values.pop("model_type"), **values)
