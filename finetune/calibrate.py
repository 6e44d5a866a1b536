"""Calibration of probabilities that tasks share: a temperature, learnt on validation data, and how it is judged.

Factors for errors live in ``finetune.conformal``.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of logits.

    Parameters
    ----------
    logits : ndarray, shape (n, n_class)
        Raw outputs.
    temperature : float
        Divides them; above 1 makes a model less sure.

    Returns
    -------
    ndarray of float64, shape (n, n_class)
        Rows sum to 1.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_temperature(logits: np.ndarray, target: np.ndarray, limits: tuple[float, float] = (0.05, 20.0)) -> float:
    """Temperature with the best likelihood: Guo et al. (2017), arXiv:1706.04599.

    Parameters
    ----------
    logits : ndarray, shape (n, n_class)
        Raw outputs on validation data.
    target : ndarray of int, shape (n,)
        True classes; negative where unknown.
    limits : (float, float)
        Smallest and largest temperature.

    Returns
    -------
    float
        1.0 where no object has a class and finite logits.
    """
    logits, target = np.asarray(logits, np.float64), np.asarray(target).reshape(-1)
    good = (target >= 0) & np.isfinite(logits).all(axis=-1)
    if not good.any():
        return 1.0
    logits, target = logits[good], target[good]

    def loss(log_temperature: float) -> float:
        p = softmax(logits, float(np.exp(log_temperature)))[np.arange(target.size), target]
        return float(-np.log(np.maximum(p, 1e-300)).mean())

    from scipy.optimize import minimize_scalar  # a second to import, and not needed to answer

    best = minimize_scalar(loss, bounds=(np.log(limits[0]), np.log(limits[1])), method="bounded")
    return float(np.exp(best.x))


def reliability(probability: np.ndarray, predicted: np.ndarray, target: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """How often the model is right when it says how sure it is.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        Probability of the predicted class.
    predicted, target : ndarray of int, shape (n,)
        Predicted and true classes.
    bins : int
        Bins of equal width from 0 to 1.

    Returns
    -------
    dict
        ``ece``, the expected calibration error (Naeini et al. 2015), and for each filled bin ``low``, ``high``, ``n``,
        ``confidence`` and ``accuracy``.
    """
    probability, right = np.asarray(probability, np.float64), np.asarray(predicted) == np.asarray(target)
    which = np.clip((probability * bins).astype(int), 0, bins - 1)
    rows = []
    for number in np.unique(which):
        inside = which == number
        rows.append({
            "low": float(number / bins), "high": float((number + 1) / bins), "n": int(inside.sum()),
            "confidence": float(probability[inside].mean()), "accuracy": float(right[inside].mean()),
        })  # fmt: skip
    total = max(probability.size, 1)
    return {"ece": float(sum(r["n"] * abs(r["confidence"] - r["accuracy"]) for r in rows) / total), "bins": rows}
