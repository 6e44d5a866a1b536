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
SMALLEST = 0.2  #: Pixels; widths below are mixed with none at all.
MIN_WEIGHT = 0.5  #: Share of the kernel within the frame that has to lie on good pixels, else the result is bad.


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
        False where the pixel was bad, or where less than half of the kernel's part within the frame lies on good
        pixels.
    """
    kernel = gaussian_kernel(sigma)

    def smooth(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            plane = convolve1d(plane, weights, axis=axis, mode="constant")
        return plane

    weight = smooth(good.astype(np.float64), kernel)
    kept = good & (weight >= MIN_WEIGHT * smooth(np.ones(good.shape), kernel))
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
    planes = [np.where(good, plane, 0.0).astype(np.float64) for plane in (flux, np.ones(good.size))]
    planes.append(np.ones(good.size))
    spread = np.where(good, 0.0 if variance is None else variance, 0.0).astype(np.float64)
    wanted = np.square(np.asarray(sigma, np.float64))
    nodes = _nodes(float(wanted.min()), float(wanted.max()))
    total, weight, inside, noise = (np.zeros(good.size) for _ in range(4))
    for k, node in enumerate(nodes):
        # Between two nodes the mean of both kernels has the sum one and the variance asked for.
        share = np.interp(wanted, nodes, np.eye(nodes.size)[k])
        kernel = gaussian_kernel(math.sqrt(node))
        for out, plane in zip((total, weight, inside), planes, strict=True):
            out += share * convolve1d(plane, kernel, mode="constant")
        noise += share * convolve1d(spread, kernel**2, mode="constant")
    kept = good & (weight >= MIN_WEIGHT * inside)
    safe = np.where(kept, weight, 1.0)
    blurred = np.where(kept, total / safe, 0.0)
    return blurred, None if variance is None else np.where(kept, noise / safe**2, 0.0), kept


def _nodes(low: float, high: float) -> np.ndarray:
    """Variances between which kernels are mixed: neighbours differ by a fifth in width, so that a mix is a Gaussian."""
    first = max(low, min(high, SMALLEST**2))
    count = max(math.ceil(math.log(max(high / first, 1.0)) / (2 * math.log(1.2))) + 1, 1) if first > 0 else 1
    nodes = np.geomspace(first, high, count) if first > 0 else np.zeros(1)
    return np.unique(np.concatenate([[0.0] if low < first else [], nodes]))
