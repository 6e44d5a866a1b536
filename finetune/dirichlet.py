"""Dirichlet calibration: a linear map of the log probabilities, beside the single temperature.

Kull et al. (2019), NeurIPS 32, arXiv:1910.12656, with their regularisation of off-diagonal weights and intercepts
(ODIR). A temperature makes all classes less sure alike; this one can say that the model takes one class for another too
often. It has K (K + 1) parameters, so it is used only where cross-validation on the validation objects prefers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.calibrate import softmax

STRENGTHS = (0.01, 0.1, 1.0)  #: Of the regularisation that are tried.
FOLDS = 5
FEWEST = 20  #: Validation objects for each class below which the temperature stays.
_TINY = 1e-12


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities that logits stand for.

    Parameters
    ----------
    logits : ndarray, shape (n, n_class)
        Raw outputs.

    Returns
    -------
    ndarray, shape (n, n_class)
        Not below ``log(1e-12)``.
    """
    return np.log(np.maximum(softmax(logits), _TINY))


def class_probabilities(logits: np.ndarray, calibration: Mapping[str, Any]) -> np.ndarray:
    """Calibrated probabilities.

    Parameters
    ----------
    logits : ndarray, shape (n, n_class)
        Raw outputs.
    calibration : mapping
        With ``dirichlet``, or ``temperature``, or neither.

    Returns
    -------
    ndarray, shape (n, n_class)
        Rows sum to one; NaN where a logit is not finite.
    """
    found = calibration.get("dirichlet")
    if not found:
        return softmax(logits, float(calibration.get("temperature", 1.0)))
    weights, bias = np.asarray(found["weights"], np.float64), np.asarray(found["bias"], np.float64)
    return softmax(log_probabilities(logits) @ weights.T + bias)


def fit_dirichlet(logits: np.ndarray, likelihood: np.ndarray, strength: float, temperature: float = 1.0) -> Any:
    """Fit the map.

    Parameters
    ----------
    logits : ndarray, shape (n, n_class)
        Raw outputs, finite.
    likelihood : ndarray, shape (n, n_class)
        Likelihood of the label under each class: one for the true class and zero for the others, or a partial label.
    strength : float
        Of the regularisation: of the mean square of the off-diagonal weights, and of the intercepts.
    temperature : float
        Where the fit starts.

    Returns
    -------
    dict
        ``weights`` (n_class, n_class) and ``bias`` (n_class,), as lists.
    """
    from scipy.optimize import minimize  # a second to import, and not needed to answer

    x, n, k = log_probabilities(logits), len(logits), logits.shape[1]
    off = strength / max(k * (k - 1), 1) * (1 - np.eye(k))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[: k * k].reshape(k, k), parameters[k * k :]
        p = softmax(x @ weights.T + bias)
        share = np.maximum(p * likelihood, 0)
        total = np.maximum(share.sum(axis=1, keepdims=True), _TINY)
        slope = (p - share / total) / n
        value = -np.log(total).mean() + (off * weights**2).sum() + strength / k * (bias**2).sum()
        by_weight, by_bias = slope.T @ x + 2 * off * weights, slope.sum(axis=0) + 2 * strength / k * bias
        return float(value), np.concatenate([by_weight.ravel(), by_bias])

    start = np.concatenate([(np.eye(k) / temperature).ravel(), np.zeros(k)])
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return {"weights": best[: k * k].reshape(k, k).round(6).tolist(), "bias": best[k * k :].round(6).tolist()}


def choose_map(
    logits: np.ndarray, likelihood: np.ndarray, fit_temperature: Any, *, seed: int = 0, folds: int = FOLDS
) -> dict[str, Any]:
    """Fit a temperature, and a Dirichlet map where cross-validation says that it is better by more than chance.

    Parameters
    ----------
    logits : ndarray, shape (n, n_class)
        Raw outputs on validation objects, finite.
    likelihood : ndarray, shape (n, n_class)
        Their labels.
    fit_temperature : callable
        ``fit_temperature(logits, likelihood) -> float``.
    seed : int
        Of the folds.
    folds : int
        How many.

    Returns
    -------
    dict
        ``temperature``, and ``dirichlet`` where its log loss on objects that were left out is below that of the
        temperature by more than the standard error of the difference. ``log_loss`` has both, as they were left out;
        neither is there where any class has fewer than ``FEWEST`` objects whose label names it alone.
    """
    temperature = float(fit_temperature(logits, likelihood))
    exact = (likelihood > 0).sum(axis=1) == 1
    if (likelihood[exact] > 0).sum(axis=0).min() < FEWEST:
        return {"temperature": temperature}
    fold = np.random.default_rng(seed).permutation(len(logits)) % folds
    lost = np.zeros((1 + len(STRENGTHS), len(logits)))
    for number in range(folds):
        rest, held = fold != number, fold == number
        own = float(fit_temperature(logits[rest], likelihood[rest]))
        maps: Sequence[Any] = [fit_dirichlet(logits[rest], likelihood[rest], s, own) for s in STRENGTHS]
        for row, calibration in enumerate([{"temperature": own}, *({"dirichlet": one} for one in maps)]):
            p = (class_probabilities(logits[held], calibration) * likelihood[held]).sum(axis=1)
            lost[row, held] = -np.log(np.maximum(p, _TINY))
    best = 1 + int(np.argmin(lost[1:].mean(axis=1)))
    gain = lost[0] - lost[best]
    found: dict[str, Any] = {
        "temperature": temperature,
        "log_loss": {"temperature": float(lost[0].mean()), "dirichlet": float(lost[best].mean())},
    }
    if gain.mean() > gain.std(ddof=1) / np.sqrt(gain.size):
        strength = STRENGTHS[best - 1]
        found["dirichlet"] = {**fit_dirichlet(logits, likelihood, strength, temperature), "strength": strength}
    return found
