"""One file for each science task; the folder is the registry."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.task import Task


def names() -> tuple[str, ...]:
    """Names of all tasks, sorted, without importing them.

    Returns
    -------
    tuple of str
        A task's name is the name of its module.
    """
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


@cache
def get(name: str) -> Task:
    """Import one task.

    Parameters
    ----------
    name : str
        One of ``names()``.

    Returns
    -------
    Task
        Its definition.

    Raises
    ------
    KeyError
        For a name that is not there; the message lists those that are.
    """
    if name not in names():
        raise KeyError(f"no task named {name!r}; there are {', '.join(names())}")
    task: Task = importlib.import_module(f"finetune.tasks.{name}").TASK
    if task.name != name:
        raise ValueError(f"module finetune.tasks.{name} defines a task named {task.name!r}")
    return task
