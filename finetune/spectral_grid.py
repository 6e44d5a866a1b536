"""The one grid on which stellar spectra meet the models, and what is measured on it. Arrays only."""

from __future__ import annotations

import numpy as np

N_PIXEL = 2880
LOG_FIRST, LOG_STEP = float(np.log10(3727.0)), 1e-4  #: SDSS and LAMOST step, 69 km/s per pixel.
PIXEL_KMS = float(np.log(10) * LOG_STEP * 299_792.458)
BINNING = 2  #: Pixels per bin of the models' input: 138 km/s, about two thirds of a resolution element of LAMOST.
N_BIN = N_PIXEL // BINNING
PATCH = 48  #: Bins of a token of a transformer.
N_PATCH = N_BIN // PATCH
MAX_SN = 300.0  #: S/N per pixel above which flux calibration and line lists, not photons, limit a spectrum.
SCALE_WINDOW = (5000.0, 6000.0)  #: Angstrom; the mean flux here is one.
COVERAGE_WINDOW = (3800.0, 7200.0)  #: Angstrom; what ``coverage`` refers to.


def wavelengths() -> np.ndarray:
    """Centres of the pixels.

    Returns
    -------
    ndarray of float64, shape (N_PIXEL,)
        Vacuum wavelength in Angstrom.
    """
    return 10 ** (LOG_FIRST + LOG_STEP * np.arange(N_PIXEL))


def edges() -> np.ndarray:
    """Edges of the pixels.

    Returns
    -------
    ndarray of float64, shape (N_PIXEL + 1,)
        Vacuum wavelength in Angstrom.
    """
    return 10 ** (LOG_FIRST + LOG_STEP * (np.arange(N_PIXEL + 1) - 0.5))


def _between(first: float, last: float) -> np.ndarray:
    return (first < wavelengths()) & (wavelengths() < last)


_WAVE = wavelengths()
_SCALE = _between(*SCALE_WINDOW)
_COVERED = _between(*COVERAGE_WINDOW)


def flux_scale(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Level by which spectra are divided: the mean of 5000 to 6000 Angstrom, else the mean of all good pixels.

    Parameters
    ----------
    flux, ivar : ndarray, shape (..., N_PIXEL)
        Flux density and its inverse variance (0 = bad).

    Returns
    -------
    ndarray of float64, shape (...)
        Positive; NaN where no good pixel is left or their mean is not positive.
    """
    good = ivar > 0
    inside = good & _SCALE
    enough = inside.sum(-1, keepdims=True) > 0.3 * _SCALE.sum()
    used = np.where(enough, inside, good)
    count = used.sum(-1)
    level = np.where(used, flux, 0.0).sum(-1, dtype=np.float64) / np.maximum(count, 1)
    return np.where((count > 0) & (level > 0), level, np.nan)


def noise_sigma(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Noise of a spectrum that comes without errors, from its third-order differences.

    The DER_SNR estimator of Stoehr et al. (2008, ADASS XVII, ASP Conf. Ser. 394, 505). Spectral lines count as noise
    in it, so a sharp-lined star looks noisier than it is.

    Parameters
    ----------
    flux : ndarray, shape (..., n)
        Flux density on equal pixels.
    good : ndarray of bool, shape (..., n)
        Pixels to use.

    Returns
    -------
    ndarray of float64, shape (...)
        One sigma per pixel; NaN where fewer than ten triples of good pixels exist.
    """
    triple = good[..., 2:-2] & good[..., :-4] & good[..., 4:]
    difference = np.abs(2.0 * flux[..., 2:-2] - flux[..., :-4] - flux[..., 4:])
    enough = triple.sum(-1) >= 10
    safe = np.where(triple | ~enough[..., None], difference, np.nan)
    return np.where(enough, 1.482602 / np.sqrt(6.0) * np.nanmedian(safe, axis=-1), np.nan)


def signal_to_noise(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Median S/N of the good pixels.

    Parameters
    ----------
    flux, ivar : ndarray, shape (..., N_PIXEL)
        Flux density and its inverse variance (0 = bad).

    Returns
    -------
    ndarray of float64, shape (...)
        S/N per pixel of 69 km/s; 0 where there is no good pixel.
    """
    good = np.asarray(ivar > 0)
    empty = np.asarray(~good.any(-1))
    value = np.where(good | empty[..., None], flux * np.sqrt(ivar), np.nan)
    return np.where(empty, 0.0, np.nanmedian(value, axis=-1))


def coverage(ivar: np.ndarray) -> np.ndarray:
    """Share of good pixels between 3800 and 7200 Angstrom, and in its blue and red half.

    Parameters
    ----------
    ivar : ndarray, shape (..., N_PIXEL)
        Inverse variance (0 = bad).

    Returns
    -------
    ndarray of float64, shape (..., 3)
        All, below 5480 Angstrom, above it; 0 to 1.
    """
    good = np.asarray(ivar > 0)
    blue, red = _COVERED & (_WAVE < 5480), _COVERED & (_WAVE >= 5480)
    return np.stack([good[..., part].mean(-1) for part in (_COVERED, blue, red)], axis=-1)
