"""Steps whose loss or gradient is not a finite number: what is known of them, and when training stops."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from opinionlm.errors import UserError
from opinionlm.utils.distributed import wait_for_others
from opinionlm.utils.files import write_json


@dataclass(frozen=True)
class StepFacts:
    """An optimizer step, for the file that is written when its loss or its gradient is no number.

    Attributes:
        step: its number, the first is 1.
        losses: of the accumulated batches, shares of the step's loss, summed over processes.
        gradient_norm: before clipping.
        learning_rate: that it would have been made with.
        ids: of the texts, a list per accumulated batch, over all processes.
    """

    step: int
    losses: list[float]
    gradient_norm: float
    learning_rate: float
    ids: list[list[str]]


def refuse_nonfinite(facts: StepFacts, skipped: int, limit: int, folder: Path, is_main: bool) -> None:
    """Write down a step that cannot be made, and say that it is skipped, or stop.

    Raises:
        UserError: more steps than the limit; in the main process, the others leave silently.
    """
    path = folder / f"nonfinite_step_{facts.step}.json"
    loss = sum(facts.losses)
    if is_main:
        # JSON knows neither nan nor infinity: they are written as text.
        content = asdict(facts) | {
            "loss": shown(loss),
            "losses": [shown(value) for value in facts.losses],
            "gradient_norm": shown(facts.gradient_norm),
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    # The file is written before the first process that leaves ends the others.
    wait_for_others()
    line = f"step {facts.step}: loss {loss:g}, gradient norm {facts.gradient_norm:g}"
    if skipped > limit:
        if not is_main:
            raise SystemExit(2)
        raise UserError(
            f"{line}; {path} names its texts. Lower learning_rate or max_grad_norm, look at the texts, or let up to "
            "max_nonfinite_steps such steps be skipped"
        )
    if is_main:
        print(f"warning: {line}; the step is skipped ({skipped} of at most {limit}), see {path}", flush=True)


def shown(value: float) -> float | str:
    """A number for JSON."""
    return value if math.isfinite(value) else str(value)
