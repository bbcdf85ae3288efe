"""The names of tasks are the same everywhere; what a new one lacks is named."""

from __future__ import annotations

from typing import get_args, get_type_hints

from opinionlm.config.chosen_metric import SCORES, TASKS_OF
from opinionlm.config.options import TaskConfig
from opinionlm.data.spec import Task
from opinionlm.data.spec_parsing import load_spec


def test_a_task_is_known_everywhere(repository) -> None:
    tasks = set(get_args(Task))
    assert set(SCORES) == tasks, "name its scores in SCORES of opinionlm/config/chosen_metric.py"
    assert set().union(*TASKS_OF.values()) == tasks, "name its script in TASKS_OF of opinionlm/config/chosen_metric.py"
    choices = set(get_args(get_type_hints(TaskConfig)["task"]))
    assert choices == {"auto", *TASKS_OF["train_classifier"]}, "name it in TaskConfig of opinionlm/config/options.py"
    samples = {load_spec(path).task for path in (repository / "configs" / "datasets").glob("sample*.yaml")}
    assert samples == tasks, "give it a YAML configs/datasets/sample_<task>.yaml"
