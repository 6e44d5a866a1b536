"""What a classifier finds at which price: ROC and precision-recall of each class against all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.evaluate import DRAWS, Figure, interval, resample
from finetune.task import Labels, Row, Task

#: False-positive rates at which the recall of a class is told.
RATES = (0.01, 0.05, 0.1)
POINTS = 200  #: Most points of a curve that is kept.


def class_curves(
    task: Task,
    rows: Sequence[Row],
    labels: Sequence[Labels],
    groups: Sequence[str],
    prefix: str,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, dict[str, Any]]:
    """Curves of each class against all others, with intervals over groups.

    Parameters
    ----------
    task : Task
        A classifier; its first label column names the class.
    rows, labels, groups : sequence
        One for each object; one without an answer counts as the least likely of all.
    prefix : str
        Of the answer.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    dict of str to dict
        For each class with objects on both sides: ``n``, ``roc_auc``, ``average_precision`` and ``recall_at`` (by
        false-positive rate) with intervals, ``roc`` (false-positive rate, recall) and ``precision_recall`` (recall,
        precision). Empty where the answer has no probabilities.
    """
    label = task.label_columns[0] if task.label_columns else ""
    columns = [f"{prefix}p_{name}" for name in task.classes]
    if not columns or not set(columns) <= {c.name for c in task.all_columns()}:
        return {}
    known = [i for i, truth in enumerate(labels) if truth.get(label) in task.classes]
    if not known:
        return {}
    truth = np.array([task.classes.index(labels[i][label]) for i in known])
    score = np.array([[-1.0 if rows[i][c] is None else rows[i][c] for c in columns] for i in known])
    samples = [np.array(index) for index in resample([groups[i] for i in known], seed, draws)]
    found = {}
    for index, name in enumerate(task.classes):
        own = truth == index
        if own.any() and not own.all():
            found[name] = _curves(own, score[:, index], samples)
    return found


def _curves(own: np.ndarray, score: np.ndarray, samples: Sequence[np.ndarray]) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    whole = _figures(own, score)
    drawn = [_figures(own[s], score[s]) for s in samples if own[s].any() and not own[s].all()]
    figures: dict[str, Figure] = {key: interval(value, [d[key] for d in drawn]) for key, value in whole.items()}
    false, recall, _ = roc_curve(own, score)
    precision, found, _ = precision_recall_curve(own, score)
    return {
        "n": int(own.sum()),
        "roc_auc": figures["roc_auc"],
        "average_precision": figures["average_precision"],
        "recall_at": {f"{rate:g}": figures[f"{rate:g}"] for rate in RATES},
        "roc": _thinned(false, recall),
        "precision_recall": _thinned(found[::-1], precision[::-1]),
    }


def _figures(own: np.ndarray, score: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    false, recall, _ = roc_curve(own, score, drop_intermediate=False)
    return {
        "roc_auc": float(roc_auc_score(own, score)),
        "average_precision": float(average_precision_score(own, score)),
        # the highest recall whose price is not over the rate: no interpolation between thresholds that nobody can set
        **{f"{rate:g}": float(recall[false <= rate].max()) for rate in RATES},
    }


def _thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    keep = np.unique(np.linspace(0, x.size - 1, min(x.size, POINTS)).round().astype(int))
    return [np.round(x[keep], 5).tolist(), np.round(y[keep], 5).tolist()]
