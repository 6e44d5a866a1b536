"""What tables there are and what their columns mean: all of it derives from the tasks and the measured columns."""

from __future__ import annotations

from typing import Any

from transforms.columns import IDENTITY, PROVENANCE, REJECTS, Column, unique
from transforms.flags import REGISTRY


def table_names() -> tuple[str, ...]:
    """Names of all tables of a catalog.

    Returns
    -------
    tuple of str
        The tasks, and ``rejects``.
    """
    from finetune import tasks

    return (*tasks.names(), "rejects")


def table_columns(name: str) -> tuple[Column, ...]:
    """All columns of one table, in catalog order.

    Parameters
    ----------
    name : str
        A task's name, or ``rejects``.

    Returns
    -------
    tuple of Column
        Identity, best, learned and classical answers, measurements, provenance.

    Raises
    ------
    KeyError
        For a table that does not exist; the message lists those that do.
    """
    if name == "rejects":
        return REJECTS
    if name not in table_names():
        raise KeyError(f"no table named {name!r}; there are {', '.join(table_names())}")
    from finetune import tasks
    from transforms import measure

    task = tasks.get(name)
    return unique((*IDENTITY, *task.all_columns(), *measure.columns(task.record), *PROVENANCE))


def describe_table(name: str) -> dict[str, Any]:
    """Everything that ``nightcat describe`` shows, as plain values.

    Parameters
    ----------
    name : str
        A task's name, or ``rejects``.

    Returns
    -------
    dict
        ``table``, ``description``, ``reference``, ``columns`` and ``flags``.
    """
    about: dict[str, Any] = {"table": name, "description": "Inputs that were refused, and why", "reference": ""}
    if name != "rejects":
        columns = table_columns(name)
        from finetune import tasks

        task = tasks.get(name)
        about.update(description=task.description, reference=task.reference, version=task.version)
    else:
        columns = REJECTS
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
