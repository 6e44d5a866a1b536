"""Errors of generated numbers, learnt from what was held back: a log-linear variance, scaled to cover 68 percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

SHRINK = 0.3  #: Strength, in objects, with which weights are drawn to zero: a rare kind of hole keeps the common error.
COVERED = 0.6827
LIMITS = (-16.0, 16.0)  #: Natural log of a variance.


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """Variance of the truth about what was generated, by features of the place.

    Parameters
    ----------
    middle, weights : ndarray, shape (n_feature,)
        Log variance is ``offset + (features - middle) @ weights``.
    offset : float
        At the middle.
    factor : float
        Of the error, by which 68 percent of the held-back residuals lie within one error.
    """

    middle: np.ndarray
    weights: np.ndarray
    offset: float
    factor: float

    def error(self, features: np.ndarray) -> np.ndarray:
        """One sigma, the noise of an observation not included.

        Parameters
        ----------
        features : ndarray, shape (..., n_feature)
            As in the fit.

        Returns
        -------
        ndarray, shape (...)
            In the unit of the residuals.
        """
        log = self.offset + (features - self.middle) @ self.weights
        return self.factor * np.exp(0.5 * np.clip(log, *LIMITS))

    def content(self) -> dict[str, Any]:
        """Plain values, for JSON.

        Returns
        -------
        dict
            For ``of``.
        """
        return {
            "middle": self.middle.tolist(), "weights": self.weights.tolist(), "offset": self.offset,
            "factor": self.factor,
        }  # fmt: skip

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ErrorModel:
        """Read what ``content`` gave.

        Parameters
        ----------
        content : mapping
            Plain values.

        Returns
        -------
        ErrorModel
            The same.
        """
        middle, weights = np.array(content["middle"]), np.array(content["weights"])
        return cls(middle, weights, float(content["offset"]), float(content["factor"]))


def fit_errors(residual: np.ndarray, noise: np.ndarray, features: np.ndarray, groups: np.ndarray) -> ErrorModel:
    """Fit the variance by its Gaussian likelihood, then scale it by what it covers.

    Parameters
    ----------
    residual : ndarray, shape (n,)
        Held-back value less what was generated.
    noise : ndarray, shape (n,)
        One sigma of the held-back value.
    features : ndarray, shape (n, n_feature)
        Of the places.
    groups : ndarray of int, shape (n,)
        Object of each residual: all of an object count together as one.

    Returns
    -------
    ErrorModel
        Of the truth, without the noise.
    """
    weight = 1 / np.bincount(groups)[groups]
    total = weight.sum()
    middle = np.average(features, axis=0, weights=weight)
    centred = features - middle
    start = np.zeros(features.shape[1] + 1)
    wide = weighted_quantile(np.abs(residual), weight, COVERED)
    start[0] = 2 * np.log(max(wide, 1e-6))
    wild = np.clip(np.abs(residual), 0, 5 * max(wide, 1e-6))  # a single blunder does not set the error of all

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        raw = x[0] + centred @ x[1:]
        log = np.clip(raw, *LIMITS)
        variance = np.exp(log)
        sum_ = variance + noise**2
        loss = 0.5 * np.sum(weight * (np.log(sum_) + wild**2 / sum_)) / total
        slope = 0.5 * weight * (1 / sum_ - wild**2 / sum_**2) * variance * (raw == log) / total
        pull = SHRINK / total
        gradient = np.concatenate([[slope.sum()], slope @ centred + pull * x[1:]])
        return float(loss + 0.5 * pull * np.sum(x[1:] ** 2)), gradient

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    model = ErrorModel(middle, found[1:], float(found[0]), 1.0)
    return ErrorModel(middle, found[1:], float(found[0]), _factor(model.error(features), residual, noise, weight))


def _factor(error: np.ndarray, residual: np.ndarray, noise: np.ndarray, weight: np.ndarray) -> float:
    """Factor of the error by which the wanted share is covered, found by bisection."""
    low, high = 0.05, 20.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        inside = np.abs(residual) <= np.hypot(middle * error, noise)
        low, high = (middle, high) if np.average(inside, weights=weight) < COVERED else (low, middle)
    return high


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    """Quantile of weighted values.

    Parameters
    ----------
    values, weight : ndarray, shape (n,)
        Of any order.
    share : float
        0 to 1.

    Returns
    -------
    float
        The least value below which that share of the weight lies.
    """
    order = np.argsort(values)
    mass = np.cumsum(weight[order])
    return float(values[order][min(int(np.searchsorted(mass, share * mass[-1])), len(values) - 1)])
