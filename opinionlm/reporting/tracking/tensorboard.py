"""TensorBoard event files: curves over optimizer steps, final scores, figures and tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from opinionlm.data.prepared import PreparedDataset
from opinionlm.evaluation.predictions import Predictions
from opinionlm.reporting.tracking.base import Tracker, flatten, is_number
from opinionlm.utils.markdown import markdown

# Groups of names that are curves: a final value among them would pass for one more point.
CURVES = ("train", "validation")


class TensorBoardTracking(Tracker):
    """Logs to TensorBoard event files.

    The files of an earlier part of a run are replaced: the curves up to the checkpoint are written anew from the
    run's own history, so that every step is there once.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = SummaryWriter(str(folder))
        self.last_step = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log as scalars, and write them at once: a killed process would take two minutes of them with it."""
        self.last_step = max(self.last_step, step)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def describe(self, values: Mapping[str, Any]) -> None:
        """Log what a run is and was made with as text."""
        for name, value in values.items():
            content = json.dumps(value, indent=2, ensure_ascii=False, default=str)
            self.writer.add_text(name, f"```json\n{content}\n```", self.last_step)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Numbers as scalars at the last step (``test/macro_f1``, ``final/validation/macro_f1``), groups as text."""
        for path, value in flatten(values).items():
            if is_number(value):
                name = f"final/{path}" if path.startswith(tuple(f"{group}/" for group in CURVES)) else path
                self.writer.add_scalar(name, value, self.last_step)
        self.describe({name: value for name, value in values.items() if not is_number(value)})
        self.writer.flush()

    def log_predictions(self, split: str, predictions: Predictions, figures: Mapping[str, Path]) -> None:
        """Log the figures, and the tables as text."""
        for name, file in figures.items():
            image = np.asarray(Image.open(file).convert("RGB"))
            self.writer.add_image(f"{split}/{name}", image, self.last_step, dataformats="HWC")
        for name, table in predictions.tables().items():
            self.writer.add_text(f"{split}/{name}", markdown(table), self.last_step)

    def log_artifacts(self, prepared: PreparedDataset, best: Path) -> None:
        """Name data and model as text; TensorBoard keeps no files."""
        place = str(best) if best.is_dir() else None
        self.describe({"artifacts": {"data": prepared.name, "fingerprint": prepared.fingerprint, "model": place}})

    def finish(self, failed: bool = False) -> None:
        """Flush and close the files."""
        self.writer.close()
