"""Class probabilities: the mean of two methods, and how they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.calibrate import softmax
from finetune.task import Labels, Row


def blend(a: np.ndarray, b: np.ndarray, weight: float, temperature: float) -> np.ndarray:
    """Weighted mean of log probabilities.

    Parameters
    ----------
    a, b : ndarray, shape (n, n_class)
        Probabilities of two methods.
    weight : float
        Of the first.
    temperature : float
        The mean is divided by it.

    Returns
    -------
    ndarray, shape (n, n_class)
        Sum one.
    """
    log = weight * np.log(np.maximum(a, 1e-6)) + (1 - weight) * np.log(np.maximum(b, 1e-6))
    return softmax(log, temperature)


def fit_blend(a: np.ndarray, b: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """Weight and temperature of highest likelihood.

    Parameters
    ----------
    a, b : ndarray, shape (n, n_class)
        Probabilities of two methods; rows with NaN are left out.
    target : ndarray of int, shape (n,)
        True classes; negative where unknown.

    Returns
    -------
    dict
        ``weight`` of the first (0 to 1) and ``temperature``; even weights where fewer than 20 objects can be used.
    """
    usable = (target >= 0) & np.isfinite(a).all(1) & np.isfinite(b).all(1)
    if usable.sum() < 20:
        return {"weight": 0.5, "temperature": 1.0}
    a, b, target = a[usable], b[usable], target[usable]
    best, chosen = (-np.inf, 0.5, 1.0), np.arange(target.size)
    for weight in np.linspace(0, 1, 11):
        for temperature in np.geomspace(0.5, 2.5, 25):
            score = float(np.log(np.maximum(blend(a, b, weight, temperature)[chosen, target], 1e-12)).mean())
            best = max(best, (score, float(weight), float(temperature)))
    return {"weight": best[1], "temperature": best[2]}


def class_metrics(
    label: str, classes: Sequence[str], rows: Sequence[Row], labels: Sequence[Labels], prefix: str
) -> dict[str, float]:
    """Figures of merit.

    Parameters
    ----------
    label : str
        Name of the label, and of the column after the prefix.
    classes : sequence of str
        Classes that are judged.
    rows : sequence of dict
        Answers; a row without one counts as wrong.
    labels : sequence of mapping
        Truth; objects of other classes are left out.
    prefix : str
        ``""``, ``"baseline_"`` or ``"best_"``.

    Returns
    -------
    dict of str to float
        ``macro_f1`` over the classes that occur, ``accuracy``, ``ece`` (15 bins), ``log_loss``, ``recall_<class>``.
    """
    pairs = [(row, one[label]) for row, one in zip(rows, labels, strict=True) if one.get(label) in classes]
    if not pairs:
        return {}
    truth = np.array([name for _, name in pairs])
    answer = np.array([row[f"{prefix}{label}"] or "" for row, _ in pairs])
    p_max = np.array([row[f"{prefix}p_max"] or 0.0 for row, _ in pairs])
    p_true = np.array([row[f"{prefix}p_{name}"] or 1e-6 for row, name in pairs])
    right = answer == truth
    out = {"accuracy": float(right.mean()), "log_loss": float(-np.log(np.maximum(p_true, 1e-6)).mean())}
    scores = []
    for name in sorted(set(truth.tolist())):
        hits = float(np.sum(right & (truth == name)))
        scores.append(2 * hits / (np.sum(truth == name) + np.sum(answer == name)))
        out[f"recall_{name}"] = hits / float(np.sum(truth == name))
    bins = np.minimum((p_max * 15).astype(int), 14)
    gaps = [abs(float(np.sum(right[bins == k]) - np.sum(p_max[bins == k]))) for k in range(15)]
    return {"macro_f1": float(np.mean(scores)), "ece": sum(gaps) / len(pairs), **out}
