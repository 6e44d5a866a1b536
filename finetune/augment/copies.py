"""Augmented copies of training objects, measured and prepared like the objects themselves.

A copy is made once, before the training, and not anew in each batch: the classical steps have to measure it (a period,
a velocity, shape numbers are inputs of the models), which takes 0.1 s and more, a hundred times a training step. What a
task does to a batch (``Task.augment``) goes on as before, on originals and copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune.augment.plan import AugmentError, Plan, generator, parse_plan
from finetune.task import Example, Prepared, Task
from transforms.attempt import Tallies, attempt, describe
from transforms.measure import columns, measure
from transforms.records import Reject


@dataclass(frozen=True, slots=True)
class Copies:
    """Augmented copies.

    Parameters
    ----------
    examples : list of Example
        All copies of the first object, then of the next; labels, group and origin are the object's.
    prepared : list of Prepared
        Their inputs.
    changed : dict of str to int
        Copies that each augmentation changed.
    replaced : int
        Copies that could not be measured or prepared; the object itself stands for them, so that all objects weigh the
        same.
    """

    examples: list[Example]
    prepared: list[Prepared]
    changed: dict[str, int]
    replaced: int


def make_copies(
    task: Task, examples: Sequence[Example], prepared: Sequence[Prepared], texts: Sequence[str], count: int, seed: int
) -> Copies:
    """Make the augmented copies of training objects.

    Parameters
    ----------
    task : Task
        Gives ``prepare``.
    examples, prepared : sequence of Example, sequence of Prepared
        Training objects and their inputs.
    texts : sequence of str
        What is to be done; ``finetune.augment.plan.parse_plan``.
    count : int
        Copies of each object.
    seed : int
        Of the training.

    Returns
    -------
    Copies
        Empty where nothing is asked for.

    Raises
    ------
    AugmentError
        For an unknown name, and for one that changes not a single object: data are never made better, so that a
        telescope that is better than the data in every respect does nothing.
    """
    if not texts or not count:
        return Copies([], [], {}, 0)
    plan = parse_plan(texts, task.record)
    made: list[Example] = []
    inputs: list[Prepared] = []
    changed: Counter[str] = Counter(dict.fromkeys(plan.names(), 0))
    tried: Counter[str] = Counter()
    replaced, tallies = 0, Tallies()
    for example, own in zip(examples, prepared, strict=True):
        for number in range(count):
            results = list(
                attempt("augment", one_copy, tallies, task, plan, example, seed, number, where=describe(example.record))
            )
            if isinstance(results[0], Reject):
                replaced += 1
                made.append(example)
                inputs.append(own)
                continue
            copy, arrays, drawn, done = results[0]
            tried.update(drawn)
            changed.update(done)
            made.append(copy)
            inputs.append(own if arrays is None else arrays)
    idle = [name for name, n in changed.items() if tried[name] and not n]
    if idle:
        raise AugmentError(
            f"augment {', '.join(idle)} changes none of {len(made)} copies of {len(examples)} {task.record.__name__} "
            "records: what is asked for is better than the data in every respect, or the data lack what it needs "
            "(docs/augmentation.md)"
        )
    return Copies(made, inputs, dict(changed), replaced)


def one_copy(
    task: Task, plan: Plan, example: Example, seed: int, number: int
) -> tuple[Example, Prepared | None, tuple[str, ...], tuple[str, ...]]:
    """Make one copy.

    Parameters
    ----------
    task : Task
        Gives ``prepare``.
    plan : Plan
        What is done.
    example : Example
        The object.
    seed : int
        Of the training.
    number : int
        Of the copy.

    Returns
    -------
    example, prepared, drawn, done : Example, Prepared or None, tuple of str, tuple of str
        The copy, its input, what was drawn for it and what changed it; the object itself and None where nothing did.
    """
    record, drawn, done = plan.apply(example.record, generator(example.record, seed, number))
    if not done:
        return example, None, drawn, ()
    record = measured_again(record)
    return replace(example, record=record), task.prepare(record), drawn, done


def measured_again(record: Any) -> Any:
    """Measure an augmented record, if it was measured before: the old numbers are not its own.

    Parameters
    ----------
    record : Cutout, Spectrum or LightCurve
        With measurements of what it was.

    Returns
    -------
    Cutout, Spectrum or LightCurve
        With its own. Flags that it had stay.
    """
    kind: type = type(record)
    names = {column.name for column in columns(kind)}
    if not names & set(record.measured):
        return record
    bare = replace(record, measured={k: v for k, v in record.measured.items() if k not in names})
    return next(iter(measure(bare, {})))
