"""Velocity by chi-squared against a bank of templates, at all lags at once by FFT.

For the line signal ``d`` (spectrum over continuum, minus one), weights ``w`` and a template ``t`` shifted by ``s``, the
amplitude that fits best lowers chi squared by ``(sum w d t_s)^2 / (sum w t_s^2)``: the first sum is a correlation with
``w d``, the second one with ``w``. (Tonry & Davis 1979, AJ 84, 1511, with weights as in Zucker 2003, MNRAS 342, 1291.)
The templates are combinations of a small basis, so that only the basis is correlated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

MIN_SEPARATION = 5  #: Pixels from the highest peak within which no second peak is looked for.
KEEP = 10  #: Templates that ``chi2_gain`` returns.
_POOL = 40  #: Templates that pass the coarse ranking.
_ANCHORS = 5  #: Lags at which the slowly varying second sum is computed; it is linear between them.


@dataclass(frozen=True, slots=True)
class Bank:
    """Templates prepared for one window of a logarithmic grid.

    Parameters
    ----------
    spectrum : ndarray of complex64, shape (k, m // 2 + 1)
        Conjugate Fourier transforms of the basis vectors over the window and ``max_lag`` pixels on both sides.
    coefficients : ndarray of float32, shape (n_template, k)
        Templates in the basis.
    squares : ndarray of float32, shape (n_template, n + 2 * max_lag)
        Squared templates.
    max_lag : int
        Largest lag, pixels.
    size : int
        Length ``m`` of the transform.
    """

    spectrum: np.ndarray
    coefficients: np.ndarray
    squares: np.ndarray
    max_lag: int
    size: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest peak of a curve of chi squared gained against lag.

    Parameters
    ----------
    lag : float
        Position in pixels, with a parabola through three points.
    error : float
        One sigma in pixels, from the curvature: chi squared rises by one.
    height : float
        Chi squared gained.
    ratio : float
        Height of the second peak over that of the first, 0 to 1.
    edge : bool
        True where the curve is highest at its end, so that there is no peak.
    """

    lag: float
    error: float
    height: float
    ratio: float
    edge: bool


def make_bank(basis: np.ndarray, coefficients: np.ndarray, max_lag: int) -> Bank:
    """Prepare templates.

    Parameters
    ----------
    basis : ndarray, shape (k, n + 2 * max_lag)
        Basis vectors of the line signal over a window and ``max_lag`` pixels on both sides.
    coefficients : ndarray, shape (n_template, k)
        Templates in it.
    max_lag : int
        Largest lag, pixels.

    Returns
    -------
    Bank
        For ``chi2_gain``.
    """
    basis = np.asarray(basis, dtype=np.float32)
    coefficients = np.asarray(coefficients, dtype=np.float32)
    size = fft.next_fast_len(basis.shape[1], real=True)
    return Bank(np.conj(fft.rfft(basis, size, axis=1)), coefficients, (coefficients @ basis) ** 2, max_lag, size)


def chi2_gain(
    signal: np.ndarray, weight: np.ndarray, bank: Bank, keep: int = KEEP
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chi squared that the best templates gain at each lag.

    All templates are ranked with a coarse second sum; for those that are kept it is exact at every lag. It must be:
    where the noise is lower in deep lines, as in real spectra, the second sum has the width of the lines itself.

    Parameters
    ----------
    signal : ndarray, shape (n,)
        Spectrum over continuum, minus one; finite.
    weight : ndarray, shape (n,)
        Inverse variance of ``signal``; zero where bad.
    bank : Bank
        Templates over the same window.
    keep : int
        How many templates to return.

    Returns
    -------
    which : ndarray of int64, shape (keep,)
        Templates, the best first.
    gain : ndarray of float64, shape (keep, 2 * max_lag + 1)
        At lags ``-max_lag .. max_lag``, positive where the spectrum is redshifted; zero for negative amplitudes.
    amplitude : ndarray of float64, same shape
        Best amplitude of the template.
    """
    lag = bank.max_lag
    data = fft.rfft((weight * signal).astype(np.float32), bank.size)
    turned = fft.irfft(data * bank.spectrum, bank.size, axis=1)  # turned[:, k] = sum_x data[x] basis[x - k]
    first = turned[:, np.arange(-2 * lag, 1)]  # template pixel x + lag - s stands under data pixel x
    top = bank.coefficients @ np.ascontiguousarray(first)
    anchors = np.linspace(-lag, lag, _ANCHORS).round().astype(int)
    coarse, _ = _gain(top, _between(bank.squares @ _shifted(weight, anchors, lag), anchors, lag))
    which = np.argsort(-coarse.max(axis=1), kind="stable")[: max(4 * keep, _POOL)]
    bottom = bank.squares[which] @ _shifted(weight, np.arange(-lag, lag + 1), lag)
    gain, amplitude = _gain(top[which].astype(np.float64), bottom.astype(np.float64))
    order = np.argsort(-gain.max(axis=1), kind="stable")[:keep]
    return which[order], gain[order], amplitude[order]


def _shifted(weight: np.ndarray, lags: np.ndarray, lag: int) -> np.ndarray:
    """Weights under the templates' pixels, a column for each lag."""
    padded = np.zeros(weight.size + 4 * lag, dtype=np.float32)
    padded[2 * lag : 2 * lag + weight.size] = weight
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.size + 2 * lag)
    return np.ascontiguousarray(windows[lag + lags].T)


def _gain(top: np.ndarray, bottom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    amplitude = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return np.where(amplitude > 0, top * amplitude, 0.0), amplitude


def _between(values: np.ndarray, anchors: np.ndarray, lag: int) -> np.ndarray:
    lags = np.arange(-lag, lag + 1)
    right = np.clip(np.searchsorted(anchors, lags), 1, anchors.size - 1)
    share = (lags - anchors[right - 1]) / (anchors[right] - anchors[right - 1])
    matrix = np.zeros((anchors.size, lags.size), dtype=np.float32)
    matrix[right - 1, np.arange(lags.size)] = 1 - share
    matrix[right, np.arange(lags.size)] += share
    return np.asarray(values @ matrix)


def find_peak(curve: np.ndarray) -> Peak:
    """Find the highest peak of one template's curve.

    Parameters
    ----------
    curve : ndarray, shape (2 * max_lag + 1,)
        From ``chi2_gain``.

    Returns
    -------
    Peak
        With ``edge`` True and no meaning in the rest where the maximum lies at an end.
    """
    curve = np.asarray(curve, dtype=np.float64)
    k, middle = int(np.argmax(curve)), curve.size // 2
    if k in (0, curve.size - 1) or curve[k] <= 0:
        return Peak(float(k - middle), np.inf, float(curve[k]), 1.0, True)
    left, top, right = curve[k - 1 : k + 2]
    bend = left - 2 * top + right
    offset = 0.5 * (left - right) / bend
    inner = (curve[1:-1] >= curve[:-2]) & (curve[1:-1] >= curve[2:])
    peaks = np.flatnonzero(inner) + 1
    others = curve[peaks[np.abs(peaks - k) >= MIN_SEPARATION]]
    height = top - 0.25 * (left - right) * offset
    ratio = float(others.max() / height) if others.size else 0.0
    return Peak(k - middle + offset, float(np.sqrt(-2.0 / bend)), float(height), min(max(ratio, 0.0), 1.0), False)
