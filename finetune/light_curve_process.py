"""The classical answer for what a light curve lacks: a Gaussian process over bands, phase and time.

The covariance between bands is that of the population; how much of an object is periodic, at which of its candidate
periods and how smooth, is chosen for each object by the marginal likelihood (Rasmussen & Williams 2006, ch. 5).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import cho_solve, cholesky

JITTER = 0.02  #: Error, over the object's scatter, that no observation goes below.
LEVEL = 0.05  #: Variance of a band's median about its mean, on the same scale.
AT_ONCE = 4096  #: Moments that are asked for at a time: all of a dense cadence would not fit into memory.
LEAST_ROWS = 30  #: Visits with both bands that a covariance of the population needs.
#: Share that is periodic, number of the candidate period, smoothness in phase, memory in days of what is not periodic.
_CHOICES = (
    *((0.98, period, smooth, 30.0) for period in range(3) for smooth in (0.4, 0.9)),
    *((0.5, 0, smooth, memory) for smooth in (0.4, 0.9) for memory in (3.0, 100.0)),
    *((0.02, 0, 0.9, memory) for memory in (3.0, 100.0)),
)


def band_covariance(magnitude: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Covariance between bands of deviations at one moment, over a population.

    Parameters
    ----------
    magnitude, seen : ndarray, shape (n_visit, n_slot)
        From ``light_curve_tokens.prepare``, the visits of all objects one after another.

    Returns
    -------
    ndarray, shape (n_slot, n_slot)
        Positive definite. Bands that were seldom seen together count as equal but for a tenth.
    """
    both = seen.T @ seen
    moment = (magnitude * seen).T @ (magnitude * seen) / np.maximum(both, 1)
    alone = (
        np.diag(moment)
        if np.all(np.diag(both) >= LEAST_ROWS)
        else np.where(np.diag(both) >= LEAST_ROWS, np.diag(moment), 0.15)
    )
    equal = 0.9 * np.sqrt(np.outer(alone, alone))
    covariance = np.where(both >= LEAST_ROWS, moment, equal)
    np.fill_diagonal(covariance, alone)
    values, vectors = np.linalg.eigh(covariance)
    fixed: np.ndarray = (vectors * np.maximum(values, 1e-4 * values.max())) @ vectors.T
    return fixed


def condition(
    covariance: np.ndarray, seen: tuple[np.ndarray, ...], asked: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Say what was not observed from what was.

    Parameters
    ----------
    covariance : ndarray, shape (n_slot, n_slot)
        From ``band_covariance``.
    seen : tuple of ndarray
        ``time`` (n,) in days, ``phase`` (n, 3) in cycles of each candidate period, ``slot`` (n,), ``value`` and
        ``error`` (n,) over the object's scatter.
    asked : tuple of ndarray
        ``time`` (m,), ``phase`` (m, 3) and ``slot`` (m,).

    Returns
    -------
    mean, sigma : ndarray, shape (m,)
        Over the object's scatter; of the truth, without the noise of an observation.
    """
    time, phase, slot, value, error = seen
    best, found = -np.inf, None
    for choice in _choices(phase):
        gram = _kernel(covariance, (time, phase, slot), (time, phase, slot), choice)
        gram[np.diag_indices_from(gram)] += error**2 + JITTER**2
        lower = cholesky(gram, lower=True)
        weights = cho_solve((lower, True), value)
        likelihood = -0.5 * float(value @ weights) - float(np.log(np.diag(lower)).sum())
        if likelihood > best:
            best, found = likelihood, (choice, lower, weights)
    if found is None:
        raise ValueError("no observation to say anything from")
    choice, lower, weights = found
    mean, variance = np.zeros(len(asked[0])), np.zeros(len(asked[0]))
    for start in range(0, len(mean), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        some = (asked[0][rows], asked[1][rows], asked[2][rows])
        cross = _kernel(covariance, some, (time, phase, slot), choice)
        mean[rows] = cross @ weights
        explained = np.einsum("ij,ji->i", cross, cho_solve((lower, True), cross.T))
        variance[rows] = covariance[some[2], some[2]] + LEVEL - explained
    return mean, np.sqrt(np.maximum(variance, 1e-6))


def _choices(phase: np.ndarray) -> Iterator[tuple[float, int, float, float]]:
    """Those that differ: a candidate period that is missing stands for the one before it."""
    for choice in _CHOICES:
        number = choice[1]
        if number == 0 or not np.array_equal(phase[:, number], phase[:, number - 1]):
            yield choice


def _kernel(
    covariance: np.ndarray, one: tuple[np.ndarray, ...], two: tuple[np.ndarray, ...],
    choice: tuple[float, int, float, float],
) -> np.ndarray:  # fmt: skip
    share, number, smooth, memory = choice
    apart = np.sin(np.pi * (one[1][:, None, number] - two[1][None, :, number]))
    periodic = np.exp(-2 * apart**2 / smooth**2)
    other = np.exp(-np.abs(one[0][:, None] - two[0][None]) / memory)
    same = one[2][:, None] == two[2][None]
    out: np.ndarray = covariance[np.ix_(one[2], two[2])] * (share * periodic + (1 - share) * other) + LEVEL * same
    return out
