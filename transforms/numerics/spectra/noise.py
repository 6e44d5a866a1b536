"""Noise of a spectrum that comes without errors, and signal-to-noise on a common scale."""

from __future__ import annotations

import numpy as np

from transforms.constants import C_KMS


def difference_noise(flux: np.ndarray, good: np.ndarray, block: int = 200) -> np.ndarray:
    """Estimate the noise of each pixel from differences of third order, block by block.

    DER_SNR of Stoehr et al. (2008, ASP Conf. Ser. 394, 505). Sharp lines count as noise, so that it is an upper limit
    for a sharp-lined star at high signal-to-noise.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Flux on nearly equal pixels.
    good : ndarray of bool, shape (n,)
        Pixels to use.
    block : int
        Length over which the noise is taken as constant, pixels.

    Returns
    -------
    ndarray of float64, shape (n,)
        One sigma; the median of the other blocks where a block has too few good pixels, NaN where all have.
    """
    flux = np.asarray(flux, dtype=np.float64)
    n = flux.size
    sigma = np.full(n, np.nan)
    if n >= 5:
        triple = np.zeros(n, dtype=bool)
        triple[2:-2] = good[2:-2] & good[:-4] & good[4:]
        difference = np.zeros(n)
        difference[2:-2] = np.abs(2 * flux[2:-2] - flux[:-4] - flux[4:])
        for start in range(0, n, block):
            part = slice(start, start + block)
            if triple[part].sum() >= 10:
                sigma[part] = 1.482602 / np.sqrt(6.0) * np.median(difference[part][triple[part]])
    known = np.isfinite(sigma)
    return np.where(known, sigma, np.median(sigma[known]) if known.any() else np.nan)


def signal_to_noise(
    wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray, good: np.ndarray, step_kms: float
) -> float | None:
    """Median signal-to-noise ratio per velocity step, whatever the pixels of the file are.

    Parameters
    ----------
    wavelength : ndarray of float64, shape (n,)
        Increasing, ``n >= 2``.
    flux, ivar : ndarray, shape (n,)
        Flux and inverse variance.
    good : ndarray of bool, shape (n,)
        Pixels to use.
    step_kms : float
        Velocity step that the ratio refers to, km/s; noise is taken as independent from pixel to pixel.

    Returns
    -------
    float or None
        None where no pixel is good.
    """
    if not good.any():
        return None
    pixel = C_KMS * np.gradient(np.log(wavelength))
    ratio = flux[good] * np.sqrt(ivar[good].astype(np.float64) * step_kms / pixel[good])
    return float(np.median(ratio))
