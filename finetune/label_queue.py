"""Which objects are most worth a label: those the model is unsure of or has seen nothing like, and not all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.neighbours import spread
from finetune.task import Task
from transforms.flags import bits

POOL = 20  #: Candidates for each object that is asked for; the rest is never compared with one another.
Rows = Sequence[Mapping[str, Any]]


def uncertainty_columns(task: Task) -> tuple[str, ...]:
    """Columns that say how sure the best answer is.

    Parameters
    ----------
    task : Task
        The task.

    Returns
    -------
    tuple of str
        Probabilities of the classes, or errors of the numbers.
    """
    names = [column.name for column in task.best_columns]
    if task.classes:
        return tuple(name for name in (f"best_p_{one}" for one in task.classes) if name in names)
    return tuple(name for name in names if name.endswith("_err"))


def uncertainty(task: Task, rows: Rows) -> np.ndarray:
    """How unsure the best answer is.

    Parameters
    ----------
    task : Task
        The task.
    rows : sequence of mapping
        With ``uncertainty_columns``.

    Returns
    -------
    ndarray, shape (n,)
        For a classifier 1 minus the margin of the two largest probabilities; for numbers the mean error in units of
        the median error of the objects. NaN where there is no answer.
    """
    names = uncertainty_columns(task)
    table = np.array([[np.nan if row[n] is None else row[n] for n in names] for row in rows], np.float64)
    table = table.reshape(len(rows), len(names))
    if not names or not len(rows):
        return np.full(len(rows), np.nan)
    if task.classes:
        top = np.sort(table, axis=1)[:, ::-1]
        return 1 - top[:, 0] + (top[:, 1] if len(names) > 1 else 0)
    known = np.isfinite(table)
    middle = np.array([np.median(c[k]) if k.any() else np.nan for c, k in zip(table.T, known.T, strict=True)])
    return np.where(known.all(1), (table / np.where(middle > 0, middle, np.nan)).mean(1), np.nan)


def queue(task: Task, rows: Rows, points: np.ndarray | None, count: int) -> list[tuple[int, list[str]]]:
    """Rank objects by what a label of them would teach.

    Parameters
    ----------
    task : Task
        The task.
    rows : sequence of mapping
        Candidates with ``uncertainty_columns``, ``novelty`` and ``flags``.
    points : ndarray, shape (n, k), or None
        Their places in the embedding; None: how alike they are is not known.
    count : int
        How many.

    Returns
    -------
    list of (int, list of str)
        Index and reasons, the worthiest first. Worth is the mean of the ranks of uncertainty and novelty, half a
        rank more where the learned and the classical answer disagree.
    """
    unsure = _rank(uncertainty(task, rows))
    novel = _rank(np.array([np.nan if row["novelty"] is None else row["novelty"] for row in rows], np.float64))
    flags = np.array([int(row["flags"]) for row in rows], np.int64)
    apart = (flags & bits("DISAGREE") > 0).astype(float)
    answered = np.isfinite(unsure) | np.isfinite(novel)
    worth = np.nan_to_num(unsure) + np.nan_to_num(novel) + 0.5 * apart
    order = np.argsort(-np.where(answered, worth, -np.inf), kind="stable")[: int(answered.sum())]
    if points is not None:
        pool = order[: POOL * count]
        scale = worth[pool] / max(float(worth[pool].max(initial=0)), 1e-9)
        order = pool[spread(points[pool], scale, count)]
    return [(int(i), _reasons(unsure[i], novel[i], apart[i])) for i in order[:count]]


def _reasons(unsure: float, novel: float, apart: float) -> list[str]:
    """What makes an object worth a label; of one that is nowhere extreme, what comes nearest to it."""
    told = [("unsure", unsure, 0.8), ("unlike the training objects", novel, 0.95), ("answers disagree", apart, 1.0)]
    found = [text for text, value, least in told if value >= least]
    return found or [max(told[:2], key=lambda one: float(np.nan_to_num(one[1], nan=-1.0)))[0]]


def _rank(values: np.ndarray) -> np.ndarray:
    """Share of the known values that are smaller; NaN stays."""
    known = np.isfinite(values)
    out = np.full(len(values), np.nan)
    ordered = np.sort(values[known])
    if ordered.size:
        out[known] = np.searchsorted(ordered, values[known]) / max(ordered.size - 1, 1)
    return out
