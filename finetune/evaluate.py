"""Judge a model on labelled objects: learned, classical and best answer side by side, with intervals over groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.class_sets import set_report
from finetune.reports import class_report, error_report, reliability_report
from finetune.task import Example, Labels, Row, Task
from transforms.flags import decode as flag_names

#: Name of an answer, and the prefix of its columns.
ANSWERS = {"learned": "", "baseline": "baseline_", "best": "best_"}
DRAWS = 1000
#: A figure with its 95 % interval: value, low, high.
Figure = tuple[float | None, float | None, float | None]


def evaluate(
    task: Task, rows: Sequence[Row], examples: Sequence[Example], *, seed: int = 0, draws: int = DRAWS
) -> dict[str, Any]:
    """Judge the rows of labelled objects.

    Parameters
    ----------
    task : Task
        Gives the figures of merit.
    rows : sequence of dict
        Of a predictor, all columns.
    examples : sequence of Example
        Whose labels are the truth, in the same order.
    seed : int
        Of the bootstrap.
    draws : int
        Of the bootstrap.

    Returns
    -------
    dict
        JSON-able: ``n``, ``groups``, ``metrics`` and ``differences`` with intervals, ``classes``, ``reliability``
        and ``class_sets`` (classifiers), ``errors`` (columns with an error), ``origins``, ``flags`` and ``unanswered``.
    """
    labels = [example.labels for example in examples]
    groups = [example.group for example in examples]
    answers = (*task.best_columns, *task.columns, *task.baseline_columns)
    figures, differences = bootstrap(task, rows, labels, groups, seed=seed, draws=draws)
    report: dict[str, Any] = {
        "n": len(rows),
        "groups": len(set(groups)),
        "draws": draws,
        "metrics": figures,
        "differences": differences,
        "errors": {name: error_report(task, rows, labels, prefix, groups) for name, prefix in ANSWERS.items()},
        "origins": by_origin(task, rows, examples),
        "flags": dict(sorted(Counter(n for row in rows for n in flag_names(int(row["flags"]))).items())),
        "unanswered": {c.name: n for c in answers if (n := sum(row[c.name] is None for row in rows))},
    }
    if task.classes:
        reports = {name: class_report(task, rows, labels, prefix) for name, prefix in ANSWERS.items()}
        report["classes"] = {name: part for name, part in reports.items() if part}
        curves = {name: reliability_report(task, rows, labels, prefix) for name, prefix in ANSWERS.items()}
        report["reliability"] = {name: part for name, part in curves.items() if part}
        sets = {name: set_report(task, rows, labels, groups, prefix) for name, prefix in ANSWERS.items()}
        report["class_sets"] = {name: part for name, part in sets.items() if part}
    return report


def bootstrap(
    task: Task,
    rows: Sequence[Row],
    labels: Sequence[Labels],
    groups: Sequence[str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[dict[str, dict[str, Figure]], dict[str, dict[str, Figure]]]:
    """Figures of merit of the three answers and their paired differences, with intervals over groups.

    Parameters
    ----------
    task : Task
        Gives ``metrics``.
    rows, labels, groups : sequence
        One for each object.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    figures, differences : dict of dict
        By answer, or by ``"learned - baseline"`` and ``"best - baseline"``, and by figure.
    """

    def measure(index: Sequence[int]) -> dict[str, dict[str, float]]:
        part, truth = [rows[i] for i in index], [labels[i] for i in index]
        return {name: dict(task.metrics(part, truth, prefix)) for name, prefix in ANSWERS.items()}

    whole = measure(range(len(rows)))
    samples = [measure(index) for index in resample(groups, seed, draws)]
    figures = {
        answer: {name: interval(value, [s[answer].get(name) for s in samples]) for name, value in values.items()}
        for answer, values in whole.items()
    }
    differences = {
        f"{one} - baseline": difference(whole, samples, one, "baseline") for one in ANSWERS if one != "baseline"
    }
    return figures, differences


def resample(groups: Sequence[str], seed: int, draws: int) -> list[list[int]]:
    """Draw groups with replacement.

    Parameters
    ----------
    groups : sequence of str
        Group of each object.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    list of list of int
        Indices of the objects of each draw.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    names, rng = sorted(members), np.random.default_rng(seed)
    return [
        [index for pick in rng.integers(0, len(names), len(names)) for index in members[names[pick]]]
        for _ in range(draws)
    ]


def difference(
    whole: Mapping[str, Mapping[str, float]], samples: Sequence[Mapping[str, Mapping[str, float]]], one: str, two: str
) -> dict[str, Figure]:
    """Paired difference of two answers.

    Parameters
    ----------
    whole : mapping
        Figures of all objects, by answer.
    samples : sequence of mapping
        The same of each draw.
    one, two : str
        Answers; ``one`` minus ``two``.

    Returns
    -------
    dict of str to Figure
        For the figures that both have.
    """

    def minus(values: Mapping[str, Mapping[str, float]], name: str) -> float | None:
        a, b = values[one].get(name), values[two].get(name)
        return None if a is None or b is None else a - b

    shared = [name for name in whole[one] if name in whole[two]]
    return {name: interval(minus(whole, name), [minus(s, name) for s in samples]) for name in shared}


def interval(value: float | None, draws: Sequence[float | None]) -> Figure:
    """A figure with the 2.5 and 97.5 percent quantiles of its draws.

    Parameters
    ----------
    value : float or None
        Of all objects.
    draws : sequence of float or None
        Of the bootstrap; those that are not finite do not count.

    Returns
    -------
    (float or None, float or None, float or None)
        Value, low, high.
    """
    good = [d for d in draws if d is not None and math.isfinite(d)]
    low, high = (float(q) for q in np.quantile(good, [0.025, 0.975])) if good else (None, None)
    return (float(value) if value is not None and math.isfinite(value) else None, low, high)


def by_origin(task: Task, rows: Sequence[Row], examples: Sequence[Example]) -> dict[str, Any]:
    """Figures of merit for each origin, where there are several.

    Parameters
    ----------
    task : Task
        Gives ``metrics``.
    rows, examples : sequence
        One for each object.

    Returns
    -------
    dict of str to dict
        ``n`` and, for each answer, the figures.
    """
    origins = sorted({example.origin for example in examples})
    report: dict[str, Any] = {}
    for origin in origins if len(origins) > 1 else ():
        index = [i for i, example in enumerate(examples) if example.origin == origin]
        part, truth = [rows[i] for i in index], [examples[i].labels for i in index]
        report[origin or "(none)"] = {
            "n": len(index),
            **{name: _finite(task.metrics(part, truth, prefix)) for name, prefix in ANSWERS.items()},
        }
    return report


def against(
    task: Task,
    rows: Sequence[Row],
    others: Sequence[Row],
    examples: Sequence[Example],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, dict[str, Figure]]:
    """Paired difference between two models on the same objects.

    Parameters
    ----------
    task : Task
        Gives ``metrics``.
    rows, others : sequence of dict
        Answers of this model and of the other one.
    examples : sequence of Example
        The objects.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    dict of dict
        By answer and figure: this one minus the other.
    """
    labels = [example.labels for example in examples]

    def measure(index: Sequence[int], prefix: str) -> dict[str, dict[str, float]]:
        truth = [labels[i] for i in index]
        pair = {"this": rows, "other": others}
        return {name: dict(task.metrics([part[i] for i in index], truth, prefix)) for name, part in pair.items()}

    indices = resample([example.group for example in examples], seed, draws)
    return {
        answer: difference(
            measure(range(len(rows)), prefix), [measure(index, prefix) for index in indices], "this", "other"
        )
        for answer, prefix in ANSWERS.items()
        if answer != "baseline"
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(v) if v is not None and math.isfinite(v) else None for name, v in values.items()}
