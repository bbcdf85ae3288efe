"""What trials found: best values, what they cost, what fewer of them would have found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from opinionlm.runs.tuning_spaces import Space, edges
from opinionlm.utils.files import write_json, write_text
from opinionlm.utils.markdown import pipe_table
from opinionlm.utils.names import counted

End = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        number: from 0; it and the study's seed decide how values are drawn.
        values: option → value.
        state: how it ended.
        score: on validation; of a pruned trial its last, None of a failed one.
        seconds: from its start to its end, all of its processes.
    """

    number: int
    values: Mapping[str, Any]
    state: End
    score: float | None
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """What came of a study.

    Attributes:
        space: what was chosen from.
        metric: the validation score that chose.
        greater_is_better: its direction.
        trials: in the order of their numbers.
    """

    space: Space
    metric: str
    greater_is_better: bool
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The best trial that ran to its end; the first of equals.

        Raises:
            ValueError: there is none.
        """
        sign = 1 if self.greater_is_better else -1
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return max(complete, key=lambda trial: sign * (trial.score or 0.0))

    @property
    def seconds(self) -> float:
        """What all trials took."""
        return sum(trial.seconds for trial in self.trials)

    def expected_best(self, number: int) -> float | None:
        """See `expected_best`; None where fewer trials have a score."""
        scores = [trial.score for trial in self.trials if trial.score is not None]
        if number > len(scores):
            return None
        if self.greater_is_better:
            return expected_best(scores, number)
        return -expected_best([-score for score in scores], number)


def trials_folder(run_folder: Path) -> Path:
    """Where the trials of a run that asks for ``tune`` lie: beside it."""
    return run_folder.with_name(f"{run_folder.name}-tuning")


def write_report(folder: Path, name: str, tuned: Tuned) -> Path:
    """Write what the trials of a run found: ``tuning.md`` to read, ``tuning.json`` with what they took.

    Args:
        folder: of the trials.
        name: of the run.
        tuned: what they found.

    Returns:
        The file to read.
    """
    path = folder / "tuning.md"
    write_text(path, "\n".join(tuning_lines({name: tuned})) + "\n")
    write_json(folder / "tuning.json", {"seconds": tuned.seconds, "best": dict(tuned.best.values)})
    return path


def seconds_of_trials(run_folder: Path) -> float:
    """Seconds that the trials of a run with ``tune`` took, as `write_report` wrote them.

    Args:
        run_folder: of the run; its trials lie beside it.

    Raises:
        FileNotFoundError: the run has not come to its best values.
    """
    return json.loads((trials_folder(run_folder) / "tuning.json").read_text(encoding="utf-8"))["seconds"]


def expected_best(scores: Sequence[float], number: int) -> float:
    """The mean, over all choices of some trials, of the best of them: what a smaller budget would have found.

    Dodge et al. (2019, "Show Your Work", eq. 7) draw the trials with replacement, which underestimates (Tang et al.
    2020); this is the unbiased estimate without replacement. Both are about independent draws, which TPE's later
    trials are not.

    Args:
        scores: of all trials, larger is better.
        number: how many of them are chosen; from 1 to all.
    """
    ordered, whole = sorted(scores), math.comb(len(scores), number)
    return sum(math.comb(place, number - 1) * score for place, score in enumerate(ordered)) / whole


def budgets(trials: int) -> list[int]:
    """Numbers of trials that a report shows: 1, a quarter, a half and all."""
    return sorted({1, max(1, trials // 4), max(1, trials // 2), trials})


def tuning_lines(tuned: Mapping[str, Tuned]) -> list[str]:
    """The section about tuning below a table, as Markdown.

    Args:
        tuned: row → what its trials found; not empty.
    """
    some = next(iter(tuned.values()))
    shown = budgets(max(len(one.trials) for one in tuned.values()))
    header = ["row", "trials", "pruned", "failed", "seconds", f"best {some.metric}", "values"]
    rows: list[list[str | int | float]] = []
    for name, one in tuned.items():
        states = [trial.state for trial in one.trials]
        values = ", ".join(f"{option} {value_text(value)}" for option, value in one.best.values.items())
        rows.append(
            [
                name,
                len(states),
                states.count("pruned"),
                states.count("failed"),
                f"{one.seconds:,.0f}",
                f"{one.best.score:.4f}",
                values,
                *["" if (best := one.expected_best(k)) is None else f"{best:.4f}" for k in shown],
            ]
        )
    lines = [
        "### Tuning",
        "",
        f"Every row had the same budget of {len(some.trials)} trials, scored on validation; trials have no test rows.",
        "",
        *pipe_table([*header, *(f"expected best of {k}" for k in shown)], rows),
    ]
    warnings = [f"- {name}: {text}" for name, one in tuned.items() for text in edges(one.space, one.best.values)]
    if warnings:
        lines += ["", "Better values may lie beyond what was searched:", "", *warnings]
    return lines


def best_text(tuned: Tuned) -> str:
    """The best values and what they cost, in a line."""
    values = ", ".join(f"{option} {value_text(value)}" for option, value in tuned.best.values.items())
    pruned = sum(trial.state == "pruned" for trial in tuned.trials)
    trials = f"{counted(len(tuned.trials), 'trial')}, {pruned} given up, {tuned.seconds:,.0f} s"
    return f"{values}: {tuned.metric} {tuned.best.score:.3f} on validation ({trials})"


def value_text(value: Any) -> str:
    """A value to read."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
