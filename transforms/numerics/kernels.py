"""Convolution with Gaussians of any width, narrower than a pixel too, that keeps the light and carries the variance.

The kernel is the discrete Gaussian, ``exp(-v) I_k(v)`` with the modified Bessel function (Lindeberg 1990, IEEE PAMI 12,
234): its sum is one and its variance exactly ``v``, which a sampled Gaussian narrower than a pixel has not.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import convolve1d
from scipy.special import ive

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
REACH = 5.0  #: Sigma at which a kernel ends; what is cut off is below 1e-6.
MIN_WEIGHT = 0.5  #: Share of the kernel that has to lie on good pixels, else the result is bad.


def gaussian_kernel(sigma: float) -> np.ndarray:
    """One-dimensional discrete Gaussian.

    Parameters
    ----------
    sigma : float
        Pixels, at least 0.

    Returns
    -------
    ndarray of float64, shape (2 k + 1,)
        Symmetric, of sum one.
    """
    half = math.ceil(REACH * sigma) + 3 if sigma > 0 else 0
    kernel = ive(np.abs(np.arange(-half, half + 1)), sigma**2)
    return np.asarray(kernel / kernel.sum())


def blur_plane(
    flux: np.ndarray, variance: np.ndarray | None, good: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Convolve an image with a round Gaussian; bad pixels and what lies beyond the edge lend no light.

    Parameters
    ----------
    flux : ndarray, shape (ny, nx)
        Pixel values.
    variance : ndarray, shape (ny, nx), or None
        Of each pixel, taken as independent of its neighbours.
    good : ndarray of bool, shape (ny, nx)
        Pixels to use.
    sigma : float
        Pixels.

    Returns
    -------
    flux : ndarray of float64, shape (ny, nx)
        Weighted mean of the good pixels under the kernel, so that a plane without bad pixels keeps its light up to what
        runs over the edge; 0 where bad.
    variance : ndarray of float64, shape (ny, nx), or None
        Of each pixel taken alone: neighbours are correlated now.
    good : ndarray of bool, shape (ny, nx)
        False where the pixel was bad, or where less than half of the kernel lies on good pixels.
    """
    kernel = gaussian_kernel(sigma)

    def smooth(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            plane = convolve1d(plane, weights, axis=axis, mode="constant")
        return plane

    weight = smooth(good.astype(np.float64), kernel)
    kept = good & (weight >= MIN_WEIGHT if sigma > 0 else good)
    # Beyond the edge the sky goes on: dividing by the weight keeps its level there, and light within is unchanged.
    safe = np.where(kept, weight, 1.0)
    out = np.where(kept, smooth(np.where(good, flux, 0.0).astype(np.float64), kernel) / safe, 0.0)
    if variance is None:
        return out, None, kept
    spread = smooth(np.where(good, variance, 0.0).astype(np.float64), kernel**2) / safe**2
    return out, np.where(kept, spread, 0.0), kept


def blur_series(
    flux: np.ndarray, variance: np.ndarray | None, good: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Convolve a series with a Gaussian whose width changes along it.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Density on pixels whose width changes slowly.
    variance : ndarray, shape (n,), or None
        Of each pixel, taken as independent of its neighbours.
    good : ndarray of bool, shape (n,)
        Pixels to use.
    sigma : ndarray, shape (n,)
        Pixels, at each pixel.

    Returns
    -------
    flux, variance, good : ndarray, ndarray or None, ndarray of bool
        As in ``blur_plane``. A flat continuum stays exactly as it is.
    """
    n = flux.size
    half = min(math.ceil(REACH * float(np.max(sigma, initial=0.0))) + 3, n - 1)
    planes = {"flux": flux, "good": np.ones(n), "variance": np.zeros(n) if variance is None else variance}
    padded = {k: np.pad(np.where(good, plane, 0.0).astype(np.float64), half) for k, plane in planes.items()}
    total, weight, spread = np.zeros(n), np.zeros(n), np.zeros(n)
    for step in range(-half, half + 1):
        share = ive(abs(step), np.square(sigma))
        part = slice(half + step, half + step + n)
        total += share * padded["flux"][part]
        weight += share * padded["good"][part]
        spread += share**2 * padded["variance"][part]
    kept = good & (weight >= MIN_WEIGHT)
    safe = np.where(kept, weight, 1.0)
    out = np.where(kept, total / safe, 0.0)
    return out, None if variance is None else np.where(kept, spread / safe**2, 0.0), kept
