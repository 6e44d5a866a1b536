"""Calibration that tasks share: a temperature for probabilities, factors for errors.

Both are learnt on validation data, are plain JSON, and change no ranking of classes and no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

ONE_SIGMA = 0.6827  #: Share of a normal distribution within one standard deviation.


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

    best = minimize_scalar(loss, bounds=(np.log(limits[0]), np.log(limits[1])), method="bounded")
    return float(np.exp(best.x))


def fit_error_factors(
    residual: np.ndarray,
    error: np.ndarray,
    value: np.ndarray | None = None,
    *,
    bins: int = 4,
    coverage: float = ONE_SIGMA,
    least: int = 20,
) -> dict[str, Any]:
    """Factors that give stated errors the coverage they claim, bin by bin.

    Mondrian conformal prediction (Vovk et al. 2003; Angelopoulos & Bates 2023, doi:10.1561/2200000101): in each bin the
    factor is the ``ceil((n + 1) coverage) / n`` quantile of ``|residual| / error``.

    Parameters
    ----------
    residual : ndarray, shape (n,)
        Predicted minus true, NaN where unknown.
    error : ndarray, shape (n,)
        Stated one sigma.
    value : ndarray, shape (n,), optional
        What the bins are made of, such as signal-to-noise or the predicted value; one bin where None.
    bins : int
        Bins of equal number at most; fewer where a bin would hold less than ``least``.
    coverage : float
        Share of objects whose truth shall lie within the scaled error.
    least : int
        Objects of a bin.

    Returns
    -------
    dict
        ``edges`` (inner ones), ``factors``, ``coverage`` and ``n``, for ``scale_errors``.
    """
    residual, error = np.asarray(residual, np.float64), np.asarray(error, np.float64)
    value = np.zeros_like(residual) if value is None else np.asarray(value, np.float64)
    good = np.isfinite(residual) & np.isfinite(error) & (error > 0) & np.isfinite(value)
    ratio, value = np.abs(residual[good] / error[good]), value[good]
    count = max(1, min(bins, ratio.size // least))
    edges = np.unique(np.quantile(value, np.arange(1, count) / count)) if ratio.size else np.zeros(0)
    which = np.searchsorted(edges, value, side="right")
    whole = _conformal(ratio, coverage)
    factors = [_conformal(part, coverage, whole) for part in (ratio[which == b] for b in range(edges.size + 1))]
    return {"edges": edges.tolist(), "factors": factors, "coverage": coverage, "n": int(ratio.size)}


def _conformal(ratio: np.ndarray, coverage: float, otherwise: float = 1.0) -> float:
    if ratio.size == 0:
        return otherwise
    rank = min(ratio.size, int(np.ceil((ratio.size + 1) * coverage)))
    return float(max(np.sort(ratio)[rank - 1], 1e-6))


def scale_errors(error: np.ndarray, factors: Mapping[str, Any], value: np.ndarray | None = None) -> np.ndarray:
    """Apply factors from ``fit_error_factors``.

    Parameters
    ----------
    error : ndarray, shape (n,)
        Stated one sigma.
    factors : mapping
        Calibration; ``{}`` leaves the errors as they are.
    value : ndarray, shape (n,), optional
        What the bins are made of; a value that is not finite gets the largest factor.

    Returns
    -------
    ndarray of float64, shape (n,)
        Calibrated one sigma.
    """
    error = np.asarray(error, np.float64)
    if not factors:
        return error
    scale = np.asarray(factors["factors"], np.float64)
    if value is None:
        return error * (scale[0] if scale.size == 1 else scale.max())
    value = np.broadcast_to(np.asarray(value, np.float64), error.shape)
    which = np.searchsorted(np.asarray(factors["edges"], np.float64), value, side="right")
    return error * np.where(np.isfinite(value), scale[np.minimum(which, scale.size - 1)], scale.max())


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
