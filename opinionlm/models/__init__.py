"""Backbones of any family, classification heads, the classifier, quantisation."""

import logging
import warnings

# bitsandbytes warns on every CPU import that an optional kernel package is absent; nobody can act on it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# PEFT 0.21 asks every model it wraps by the old name of this property, which transformers 5.23 warns of.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
