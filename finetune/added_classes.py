"""Classes that are added to a model: which taught ones have become full, and whether the model has learnt them.

A class is added where it was taught to the model in production, or named by the user, and enough objects are
labelled with it. Of 30 objects nine are kept from the training; at least half of them must be found. A class whose true
recall is 0.8 passes in 98 of 100 cases, one with 0.2 in 2 of 100; with 10 objects, of which three are kept, it would be
90 and 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.bundle import Bundle
from finetune.commands import SPLIT, Say, quiet
from finetune.judge import answers
from finetune.predict import load_predictor
from finetune.snapshot import Material
from finetune.split import Split
from finetune.task import Example, Row, Task

FEWEST = 30  #: Labelled objects of a class that becomes a full one.
RECALL = 0.5  #: Of an added class on objects that were not trained on; below it the model is refused.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """What a retraining makes of the classes that its task does not have.

    Parameters
    ----------
    task : Task
        With the classes that the new model will have.
    added : mapping of str to int
        New ones, with their labelled objects.
    waiting : mapping of str to str
        Classes that stay taught, or unknown, and why.
    """

    task: Task
    added: Mapping[str, int]
    waiting: Mapping[str, str]


def taught_examples(start: Bundle | None) -> dict[str, tuple[str, ...]]:
    """What the classes of a model were taught by.

    Parameters
    ----------
    start : Bundle or None
        The model.

    Returns
    -------
    dict of str to tuple of str
        Identifiers of the examples by class.
    """
    space = start.space() if start is not None else None
    return {one.name: one.examples for one in space.taught} if space is not None else {}


def plan_classes(task: Task, start: Bundle | None, material: Material, fewest: int = FEWEST) -> Classes:
    """Decide which classes a retraining adds.

    Parameters
    ----------
    task : Task
        With the classes that the model in production has.
    start : Bundle or None
        That model.
    material : Material
        Labels; its ``add`` names further classes that the user wants.
    fewest : int
        Labelled objects of a full class.

    Returns
    -------
    Classes
        The task with them, and what became of each.
    """
    taught = taught_examples(start)
    added: dict[str, int] = {}
    waiting: dict[str, str] = {}
    for name in sorted({*taught, *material.add} - set(task.classes)):
        count = len(labelled(task, material, name))
        fault = _unfit(task, material, name)
        if fault or count < fewest:
            waiting[name] = fault or f"{count} labelled objects, {fewest} are needed"
        else:
            added[name] = count
    if added and task.with_classes is not None:
        task = task.with_classes((*task.classes, *added))
    return Classes(task=task, added=added, waiting=waiting)


def labelled(task: Task, material: Material, name: str) -> set[str]:
    """Objects with a label of one class.

    Parameters
    ----------
    task : Task
        Its first label column is that of the class.
    material : Material
        Labels.
    name : str
        Of the class.

    Returns
    -------
    set of str
        Their groups.
    """
    return {str(row["group"]) for row in material.rows if row.get(task.label_columns[0]) == name}


def _unfit(task: Task, material: Material, name: str) -> str:
    """Why a class cannot be added, however many objects it has; empty where it can."""
    if task.with_classes is None:
        return f"task {task.name} takes no further classes"
    if not _NAME.fullmatch(name):
        return "its name is not letters, digits and underscores, as the name of a column has to be"
    if f"p_{name}" in {column.name for column in task.all_columns()}:
        return f"the table has a column p_{name} already"
    known = {row.get(task.label_columns[0]) for row in material.rows} & set(task.classes)
    if len(known) < min(2, len(task.classes)):
        return "the labels hold fewer than two of the classes that are known: what it is told from would be forgotten"
    return ""


def judge_added(
    task: Task,
    names: Sequence[str],
    examples: Sequence[Example],
    candidate: Bundle,
    start: Bundle | None,
    *,
    say: Say = quiet,
) -> dict[str, dict[str, Any]]:
    """How well added classes are found among objects that the candidate was not trained on, before and after.

    Parameters
    ----------
    task : Task
        With the added classes.
    names : sequence of str
        Those that are new.
    examples : sequence of Example
        Labelled objects, also those that were trained on; they are left out by the candidate's split.
    candidate, start : Bundle, Bundle or None
        The model that has learnt them, and the one in production, to which they may have been taught.
    say : callable
        Told what was found.

    Returns
    -------
    dict of str to dict
        For each class ``objects``, ``examples`` (those of them that it was taught by, which the taught class finds
        without merit), ``others``, and for ``taught`` and ``full`` ``found`` (objects of the class that are named so)
        and ``false`` (others that are).
    """
    parts = Split.load(candidate.path / SPLIT).apply(examples)
    fresh = [*parts["validation"], *parts["test"]]
    label = task.label_columns[0]
    kept, after = answers(task, load_predictor(candidate.path, task=task), fresh)
    before: list[Row] = []
    if start is not None:
        _, before = answers(task, load_predictor(start.path, task=task), fresh)
    own = [example.labels.get(label) for example in kept]
    report: dict[str, dict[str, Any]] = {}
    for name in names:
        report[name] = {"objects": own.count(name), "others": len(own) - own.count(name)}
        shown = set(taught_examples(start).get(name, ()))
        mine = [one.record.object_id for one, truth in zip(kept, own, strict=True) if truth == name]
        report[name] |= {
            "examples": sum(one in shown for one in mine),
            "taught": _hits([row.get("taught_class") for row in before], own, name),
            "full": _hits([row.get(f"best_{label}") for row in after], own, name),
        }
        now = report[name]
        say(f"{name}: {now['full']['found']} of {now['objects']} found, {now['full']['false']} others named so")
    return report


def _hits(said: Sequence[Any], own: Sequence[Any], name: str) -> dict[str, int]:
    named = [truth == name for answer, truth in zip(said, own, strict=False) if answer == name]
    return {"found": sum(named), "false": len(named) - sum(named)}


def not_learnt(report: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Reasons to refuse a model that has not learnt what was added to it.

    Parameters
    ----------
    report : mapping
        From ``judge_added``.

    Returns
    -------
    list of str
        One for each such class.
    """
    return [
        f"added class {name!r}: {one['full']['found']} of {one['objects']} objects that were not trained on are found, "
        f"at least {RECALL:.0%} have to be"
        for name, one in report.items()
        if one["full"]["found"] < RECALL * one["objects"] or not one["objects"]
    ]
