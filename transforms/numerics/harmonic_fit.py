"""One Fourier series shared by all bands, fitted at many trial frequencies at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.numerics.periodogram import Merged

#: Prior width of each harmonic's amplitude over the scatter of the data. Steep enough that twice the true period, which
#: needs the even harmonics, is not preferred for nothing; loose enough for the saw tooth of an RRab.
PRIOR = (1.4, 0.7, 0.5, 0.35)
_CHUNK = 250_000  # numbers in the largest temporary array: what a cache holds


@dataclass(frozen=True, slots=True)
class HarmonicFit:
    """Fits at ``m`` frequencies.

    Parameters
    ----------
    score : ndarray, shape (m,)
        Log evidence over that of a constant, noise scale marginalised.
    chi2 : ndarray, shape (m,)
        Weighted sum of squared residuals.
    chi2_constant : float
        The same for a constant in each band.
    coefficients : ndarray, shape (m, 2 * n_harmonic)
        ``cos`` and ``sin`` of each harmonic in turn; phase zero at time zero.
    offsets : ndarray, shape (m, n_band)
        Mean of each band.
    """

    score: np.ndarray
    chi2: np.ndarray
    chi2_constant: float
    coefficients: np.ndarray
    offsets: np.ndarray


def harmonics_for(n_point: int) -> int:
    """Number of harmonics that so many points can carry.

    Parameters
    ----------
    n_point : int
        Points of all bands.

    Returns
    -------
    int
        1 to 4.
    """
    return 4 if n_point >= 20 else 3 if n_point >= 14 else 2 if n_point >= 9 else 1


def waves(phase: np.ndarray, n_harmonic: int) -> np.ndarray:
    """Cosines and sines of a phase and its multiples.

    Parameters
    ----------
    phase : ndarray, shape (..., n)
        Cycles.
    n_harmonic : int
        Highest multiple.

    Returns
    -------
    ndarray, shape (..., 2 * n_harmonic, n)
        ``cos, sin`` of each harmonic in turn.
    """
    first = np.exp(2j * np.pi * phase)
    out = np.empty((*phase.shape[:-1], 2 * n_harmonic, phase.shape[-1]))
    power = first
    for k in range(n_harmonic):
        out[..., 2 * k, :], out[..., 2 * k + 1, :] = power.real, power.imag
        if k + 1 < n_harmonic:
            power = power * first
    return out


def fit_harmonics(merged: Merged, frequency: np.ndarray, n_harmonic: int) -> HarmonicFit:
    """Fit the shared series at every frequency.

    Parameters
    ----------
    merged : Merged
        The light curve.
    frequency : ndarray, shape (m,)
        Per day.
    n_harmonic : int
        Number of harmonics.

    Returns
    -------
    HarmonicFit
        Linear least squares with a normal prior on the amplitudes (``PRIOR``); the evidence integrates over amplitudes
        and over the scale of the noise, since quoted errors are not trusted (compare Gregory & Loredo 1992,
        ApJ 398, 146).
    """
    n_band = merged.scale.size
    weight = merged.error**-2
    offset_rows = np.zeros((n_band, merged.value.size))
    offset_rows[merged.band, np.arange(merged.value.size)] = 1.0
    offset_norm = np.maximum(offset_rows @ weight, 1e-12)
    constant = (offset_rows @ (weight * merged.value)) / offset_norm
    residual = merged.value - constant[merged.band]
    chi2_constant = float(np.sum(weight * residual**2))
    scatter = max(np.sqrt(chi2_constant / weight.sum()), 1e-9)
    prior = np.repeat(np.array(PRIOR[:n_harmonic]) * scatter, 2)
    frequency = np.atleast_1d(frequency)
    pieces = []
    step = max(1, _CHUNK // max(merged.value.size * (2 * n_harmonic + n_band), 1))
    for first in range(0, frequency.size, step):
        design = waves(frequency[first : first + step, None] * merged.time, n_harmonic)
        pieces.append(_solve(design, residual, weight, offset_rows, offset_norm, prior))
    chi2, penalised, logdet, coefficients, offsets = (np.concatenate(part) for part in zip(*pieces, strict=True))
    degrees = max(merged.value.size - n_band, 1)
    score = 0.5 * degrees * np.log(max(chi2_constant, 1e-30) / np.maximum(penalised, 1e-30)) - 0.5 * logdet
    return HarmonicFit(score, chi2, chi2_constant, coefficients, offsets + constant)


def _solve(
    design: np.ndarray, value: np.ndarray, weight: np.ndarray, bands: np.ndarray, norm: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Normal equations with the bands' offsets eliminated beforehand (they enter linearly and without a prior)."""
    weighted = design * weight
    means = weighted @ bands.T / norm  # (m, k, n_band)
    matrix = weighted @ design.swapaxes(1, 2) - (means * norm) @ means.swapaxes(1, 2)
    right = weighted @ value - means @ (bands @ (weight * value))
    scaled = matrix * prior[:, None] * prior[None, :]
    scaled[:, np.arange(prior.size), np.arange(prior.size)] += 1.0
    factor = np.linalg.cholesky(scaled)
    logdet = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    unit = np.linalg.solve(scaled, (right * prior)[..., None])[..., 0]
    coefficients = unit * prior
    base = float(np.sum(weight * value**2))
    fitted = np.einsum("mk,mk->m", coefficients, right)
    quadratic = np.einsum("mk,mkl,ml->m", coefficients, matrix, coefficients)
    chi2 = np.maximum(base - 2 * fitted + quadratic, 1e-12)
    penalised = np.maximum(base - fitted, 1e-12)
    offsets = (bands @ (weight * value)) / norm - np.einsum("mkb,mk->mb", means, coefficients)
    return chi2, penalised, logdet, coefficients, offsets


def evaluate(coefficients: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Value of a series.

    Parameters
    ----------
    coefficients : ndarray, shape (2 * n_harmonic,)
        ``cos`` and ``sin`` of each harmonic in turn.
    phase : ndarray, shape (n,)
        Cycles.

    Returns
    -------
    ndarray, shape (n,)
        Without the bands' means.
    """
    return coefficients @ waves(phase, coefficients.size // 2)
