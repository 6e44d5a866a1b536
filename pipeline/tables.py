"""What tables there are and what their columns mean: all of it derives from the tasks and the measured columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transforms.columns import IDENTITY, PROVENANCE, REJECTS, Column, unique
from transforms.flags import REGISTRY

_OTHERS = {
    "rejects": "Inputs that were refused, and why",
    "drift": "How each night differs from the reference nights (`nightcat drift`)",
}


def table_names() -> tuple[str, ...]:
    """Names of all tables of a catalog.

    Returns
    -------
    tuple of str
        The tasks, ``rejects`` and ``drift``.
    """
    from finetune import tasks

    return (*tasks.names(), *_OTHERS)


def table_columns(name: str, classes: Sequence[str] = ()) -> tuple[Column, ...]:
    """All columns of one table, in catalog order.

    Parameters
    ----------
    name : str
        A task's name, ``rejects`` or ``drift``.
    classes : sequence of str
        That the model knows, where it knows more than the task has.

    Returns
    -------
    tuple of Column
        Identity, best, learned and classical answers, measurements, provenance.

    Raises
    ------
    KeyError
        For a table that does not exist; the message lists those that do.
    """
    if name in _OTHERS:
        return _other(name)
    if name not in table_names():
        raise KeyError(f"no table named {name!r}; there are {', '.join(table_names())}")
    from finetune import tasks
    from transforms import measure

    task = tasks.get(name)
    if task.with_classes is not None and len(classes) > len(task.classes):
        task = task.with_classes(tuple(classes))
    return unique((*IDENTITY, *task.all_columns(), *measure.columns(task.record), *PROVENANCE))


def known_classes(name: str, columns: Iterable[str]) -> tuple[str, ...]:
    """Classes that a table with these columns knows: those of the task, and those that were added to a model of it.

    Parameters
    ----------
    name : str
        A task's name, ``rejects`` or ``drift``.
    columns : iterable of str
        Names of the columns that are there.

    Returns
    -------
    tuple of str
        A class beyond the task's is one that has all columns that the task gives a class; empty for no classifier.

    Raises
    ------
    KeyError
        For a table that does not exist.
    """
    if name in _OTHERS:
        return ()
    if name not in table_names():
        raise KeyError(f"no table named {name!r}; there are {', '.join(table_names())}")
    from finetune import tasks

    task = tasks.get(name)
    if task.with_classes is None:
        return task.classes
    there = list(dict.fromkeys(columns))
    mark = "some_further_class"  # stands for a name
    more = {column.name for column in task.with_classes((*task.classes, mark)).all_columns() if mark in column.name}
    (first, *others) = sorted(more, key=len)
    start = first.removesuffix(mark)
    found = [column.removeprefix(start) for column in there if column.startswith(start)]
    own = {column.name for column in task.all_columns()}
    added = [
        one for one in found
        if start + one not in own and one not in task.classes and all(c.replace(mark, one) in there for c in others)
    ]  # fmt: skip
    return (*task.classes, *added)


def describe_table(name: str, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that ``nightcat describe`` shows, as plain values.

    Parameters
    ----------
    name : str
        A task's name, ``rejects`` or ``drift``.
    classes : sequence of str
        That the model knows, where it knows more than the task has.

    Returns
    -------
    dict
        ``table``, ``description``, ``reference``, ``columns`` and ``flags``.
    """
    about: dict[str, Any] = {"table": name, "description": _OTHERS.get(name, ""), "reference": ""}
    columns = table_columns(name, classes)
    if name not in _OTHERS:
        from finetune import tasks

        task = tasks.get(name)
        about.update(description=task.description, reference=task.reference, version=task.version)
    about["columns"] = [
        {
            "name": column.name,
            "type": column.type,
            "unit": column.unit,
            "ucd": column.ucd,
            "nullable": column.nullable,
            "description": column.description,
        }
        for column in columns
    ]
    about["flags"] = [{"bit": f.bit, "name": f.name, "sentence": f.sentence} for f in REGISTRY]
    return about


def _other(name: str) -> tuple[Column, ...]:
    if name == "rejects":
        return REJECTS
    from pipeline.drift_table import COLUMNS

    return COLUMNS
