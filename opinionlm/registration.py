"""Let transformers' Auto classes find the saved models of this package, at no cost until they look for one.

Registering a model type needs its classes, and with them torch and transformers: five seconds. So the tables in which
the Auto classes look up model types and tokenizers get entries on demand: the first look for a name of this package
registers everything. transformers has no lazy registration of its own (`AutoConfig.register` takes a class).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

CONFIGURATIONS = "transformers.models.auto.configuration_auto"
TOKENIZERS = "transformers.models.auto.tokenization_auto"
# The model types, and the tokenizer class that saved tokenizers name.
NAMES = frozenset({"opinionlm_classifier", "opinionlm_tagger", "TaskTokenTokenizer"})


class OnDemand(dict):
    """A table of registered classes; the first look for a name of this package has its classes registered."""

    def __contains__(self, key: object) -> bool:
        """Whether the key is registered, after registering where it is one of `NAMES`."""
        if key in NAMES and not super().__contains__(key):
            register()
        return super().__contains__(key)


class OnDemandLoader(SourceFileLoader):
    """Loads a module of transformers and puts its table on demand."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then replace its table."""
        super().exec_module(module)
        put_on_demand(module)


class AutoModuleFinder:
    """Finds the two modules that hold the tables, and nothing else."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual specification of the module with another loader; None for any other module."""
        if name not in (CONFIGURATIONS, TOKENIZERS):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = OnDemandLoader(name, spec.origin)
        return spec


def register_on_demand() -> None:
    """Have the Auto classes find this package's models, whether transformers is imported already or later."""
    for name in (CONFIGURATIONS, TOKENIZERS):
        if name in sys.modules:
            put_on_demand(sys.modules[name])
    if AutoModuleFinder not in sys.meta_path:
        sys.meta_path.insert(0, AutoModuleFinder)


def put_on_demand(module: ModuleType) -> None:
    """Replace the table of one of the two modules by one with the same entries that registers on demand."""
    if module.__name__ == CONFIGURATIONS:
        module.CONFIG_MAPPING._extra_content = OnDemand(module.CONFIG_MAPPING._extra_content)
    else:
        names = vars(module)
        names["REGISTERED_TOKENIZER_CLASSES"] = OnDemand(names["REGISTERED_TOKENIZER_CLASSES"])


def register() -> None:
    """Register the model types and the tokenizer with the Auto classes; safe to call twice."""
    from opinionlm.adaptation.adapt.tokenizer import register_task_token_tokenizer
    from opinionlm.models.tagger import register_auto_classes

    register_auto_classes()
    register_task_token_tokenizer()
