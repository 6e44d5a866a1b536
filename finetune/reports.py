"""Reports on labelled rows: by class, by stated probability, by stated error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.calibrate import reliability
from finetune.coverage import share_interval
from finetune.task import Labels, Row, Task


def class_report(task: Task, rows: Sequence[Row], labels: Sequence[Labels], prefix: str) -> dict[str, Any]:
    """Precision, recall and F1 of each class, and the confusion matrix.

    Parameters
    ----------
    task : Task
        A classifier; its first label column names the class.
    rows, labels : sequence
        One for each object.
    prefix : str
        Of the answer.

    Returns
    -------
    dict
        ``classes`` (``""`` last: no answer), ``confusion`` (rows: truth) and ``report``; empty where the answer has
        no such column.
    """
    label = task.label_columns[0] if task.label_columns else ""
    column = f"{prefix}{label}"
    if column not in {c.name for c in task.all_columns()}:
        return {}
    names = [*task.classes, ""]
    matrix = np.zeros((len(task.classes), len(names)), int)
    for row, truth in zip(rows, labels, strict=True):
        if truth.get(label) in task.classes:
            answer = row[column] if row[column] in task.classes else ""
            matrix[task.classes.index(truth[label]), names.index(answer)] += 1
    report = {}
    for index, name in enumerate(task.classes):
        hit, true, said = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
        report[name] = {
            "precision": _share(hit, said),
            "recall": _share(hit, true),
            "f1": _share(2 * hit, true + said),
            "support": int(true),
        }
    return {"classes": names, "confusion": matrix.tolist(), "report": report}


def reliability_report(task: Task, rows: Sequence[Row], labels: Sequence[Labels], prefix: str) -> dict[str, Any]:
    """Reliability of the probabilities ``p_<class>``.

    Parameters
    ----------
    task : Task
        A classifier.
    rows, labels : sequence
        One for each object.
    prefix : str
        Of the answer.

    Returns
    -------
    dict
        From ``reliability``; empty where the answer has no probabilities.
    """
    label = task.label_columns[0] if task.label_columns else ""
    columns = [f"{prefix}p_{name}" for name in task.classes]
    if not set(columns) <= {c.name for c in task.all_columns()}:
        return {}
    pairs = [
        ([row[c] for c in columns], task.classes.index(truth[label]))
        for row, truth in zip(rows, labels, strict=True)
        if truth.get(label) in task.classes and all(row[c] is not None for c in columns)
    ]
    if not pairs:
        return {}
    probabilities, target = np.array([p for p, _ in pairs]), np.array([t for _, t in pairs])
    return reliability(probabilities.max(axis=1), probabilities.argmax(axis=1), target)


def error_report(
    task: Task, rows: Sequence[Row], labels: Sequence[Labels], prefix: str, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Residuals and coverage of the errors of each label that is a number.

    Parameters
    ----------
    task : Task
        Its label ``x`` is judged where the answer has a column ``x``; its error is ``x_err``, the half-width of its
        68 % interval, and ``x_err95`` where there is one that of its 95 % interval (else 1.96 times the error).
    rows, labels : sequence
        One for each object.
    prefix : str
        Of the answer.
    groups : sequence of str, optional
        Of the split, for the intervals; each object its own where None.

    Returns
    -------
    dict of str to dict
        ``n``, ``bias`` (median), ``mae`` (median absolute), ``scatter`` (1.4826 MAD), and where there are errors
        ``within_1_sigma`` and ``within_2_sigma``, and ``coverage_68`` and ``coverage_95`` with their intervals.
    """
    groups = groups or [str(number) for number in range(len(rows))]
    there = {c.name for c in task.all_columns()}
    report: dict[str, Any] = {}
    for label in task.label_columns:
        column, error = f"{prefix}{label}", f"{prefix}{label}_err"
        if column not in there:
            continue
        apart = residuals(rows, labels, prefix, label)
        pairs = [(r, row.get(error)) for r, row in zip(apart, rows, strict=True) if r is not None]
        if not pairs:
            continue
        residual = np.array([r for r, _ in pairs])
        bias = float(np.median(residual))
        report[label] = {
            "n": len(pairs), "bias": bias, "mae": float(np.median(np.abs(residual))),
            "scatter": float(1.4826 * np.median(np.abs(residual - bias))),
        }  # fmt: skip
        ratio = np.array([abs(r) / e for r, e in pairs if e is not None and _is_number(e) and e > 0])
        if ratio.size:
            report[label] |= {f"within_{k}_sigma": float((ratio <= k).mean()) for k in (1, 2)}
        for share, wide, factor in ((68, error, 1.0), (95, f"{error}95" if f"{error}95" in there else error, 1.96)):
            factor = 1.0 if wide.endswith("95") else factor
            covered = [
                (abs(r) <= factor * row[wide], group)
                for r, row, group in zip(apart, rows, groups, strict=True)
                if r is not None and _is_number(row.get(wide))
            ]
            if covered:
                report[label][f"coverage_{share}"] = share_interval(
                    [hit for hit, _ in covered], [g for _, g in covered]
                )
    return report


def residuals(rows: Sequence[Row], labels: Sequence[Labels], prefix: str, label: str) -> list[float | None]:
    """Answers minus the truth.

    Parameters
    ----------
    rows, labels : sequence
        One for each object.
    prefix : str
        Of the answer.
    label : str
        Its name, and that of the answer's column after the prefix.

    Returns
    -------
    list of float or None
        One for each object; None where either is not known.
    """
    column = f"{prefix}{label}"
    pairs: list[tuple[Any, Any]] = [(r.get(column), truth.get(label)) for r, truth in zip(rows, labels, strict=True)]
    return [a - b if _is_number(a) and _is_number(b) else None for a, b in pairs]


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
