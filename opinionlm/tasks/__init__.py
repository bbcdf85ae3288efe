"""What differs between the tasks of `train_classifier.py`, as the methods of one object per task."""

from typing import Any

from opinionlm.config.checks import other_task_problems
from opinionlm.config.chosen_metric import TASKS_OF
from opinionlm.config.config import Config
from opinionlm.config.unread import refuse_unread
from opinionlm.data.prepared import PreparedDataset
from opinionlm.errors import UserError
from opinionlm.tasks.head import HeadTask
from opinionlm.tasks.labels import LabelTask
from opinionlm.tasks.multi_label import MultiLabelTask
from opinionlm.tasks.sequence import SequenceTask
from opinionlm.tasks.similarity import SimilarityTask
from opinionlm.tasks.token import TokenTask


def task_for(prepared: PreparedDataset, config: Config) -> HeadTask[Any]:
    """The task of a prepared data set, once the options are known to fit it.

    Raises:
        UserError: the config says another task, an option is for another task, or the task is one of text to text.
    """
    asked = config.data.task
    if asked not in ("auto", prepared.task):
        raise UserError(
            f"{config.source}: task: {asked!r}, but {config.data.dataset} holds data of task {prepared.task!r}; leave "
            "task out, or give another dataset"
        )
    match prepared.task:
        case "sequence":
            task: HeadTask[Any] = SequenceTask(prepared, config)
        case "multi_label":
            task = MultiLabelTask(prepared, config)
        case "token":
            task = TokenTask(prepared, config)
        case "similarity":
            task = SimilarityTask(prepared, config)
        case name:
            raise UserError(
                f"{config.data.dataset}: task {name!r} is text to text, which train_instruct.py trains; "
                f"train_classifier.py takes {', '.join(TASKS_OF['train_classifier'])}"
            )
    if problems := other_task_problems(config, prepared.task):
        raise UserError(f"{config.source}: {problems[0]}")
    refuse_unread(config, task=prepared.task)
    if config.data.long_texts == "chunk" and task.reads_pairs:
        raise UserError(
            f"{config.source}: long_texts: 'chunk' reads single texts, and {config.data.dataset} holds pairs of them; "
            "leave it out"
        )
    if config.training.engine in ("sklearn", "tfidf") and not isinstance(task, LabelTask):
        raise UserError(
            f"{config.source}: engine: {config.training.engine!r} gives labels of texts, and {config.data.dataset} "
            f"holds data of task {prepared.task!r}; use engine: trainer or loop"
        )
    return task
