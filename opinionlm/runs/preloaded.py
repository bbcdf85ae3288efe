"""What runs import, for the fork server of `opinionlm.runs.processes` to import once; nothing else imports this.

Where there is a GPU, runs import their libraries themselves, after the fork: bitsandbytes, which peft imports, asks
the GPU what it can do, and CUDA cannot be used in a process whose parent has used it.
"""

import os
from contextlib import suppress
from importlib import import_module

from opinionlm.utils.loading import libraries_loading

MODULES = ("runs.train_classifier", "runs.train_instruct", "runs.prompting", "runs.seeds", "reporting.charts")
# Elsewhere imported at the end of a run, so that the first step does not wait for them.
LATE = ("sklearn.feature_extraction.text", "scipy.stats")
# W&B loads a quarter of its code when a run is opened, all of it for jobs that it starts itself.
TRACKERS = ("opinionlm.reporting.tracking.wandb", "wandb.sdk.launch.inputs.internal")

try:
    with libraries_loading():
        # Asks the driver's management library, which leaves CUDA alone.
        from accelerate.utils import is_cuda_available

        if not is_cuda_available():
            for name in (*(f"opinionlm.{module}" for module in MODULES), *LATE):
                import_module(name)
            for name in TRACKERS:
                # Not installed, or moved: runs then import for themselves what they need.
                with suppress(ImportError):
                    import_module(name)
except KeyboardInterrupt:
    # Ctrl-C reaches all processes of a terminal; the one that started this one says so.
    os._exit(130)
