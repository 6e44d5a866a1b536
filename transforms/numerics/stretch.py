"""From calibrated pixels to display values, and display images resampled: what an image network is shown."""

from __future__ import annotations

import numpy as np

SOFTENING = 10.0  #: S/N per pixel up to which the stretch is about linear.
CEILING = 300.0  #: S/N per pixel that is shown as white.
SKY_LEVEL = 6.0  #: Display value of empty sky, as in the survey's own JPEGs (SDSS: 2 to 8).


def asinh_display(sn: np.ndarray) -> np.ndarray:
    """Stretch signal to noise to display values, the same for every stamp.

    Parameters
    ----------
    sn : ndarray
        Flux over sky noise; finite.

    Returns
    -------
    ndarray of float32
        0 to 255. Never scaled by the stamp's own maximum: the same S/N gives the same value in every stamp.
    """
    scale = (255 - SKY_LEVEL) / np.arcsinh(CEILING / SOFTENING)
    return np.clip(SKY_LEVEL + scale * np.arcsinh(sn / SOFTENING), 0, 255).astype(np.float32)


def lupton_rgb(planes: np.ndarray, softening: float, stretch: float) -> np.ndarray:
    """Colour-preserving asinh display of Lupton et al. (2004, PASP 116, 133).

    Parameters
    ----------
    planes : ndarray, shape (3, ny, nx)
        Red, green, blue flux, sky-subtracted, already scaled so that a grey source is equal in all.
    softening : float
        Q: the larger, the more the bright end is compressed.
    stretch : float
        Flux at which the linear range ends.

    Returns
    -------
    ndarray of float32, shape (3, ny, nx)
        0 to 255; a pixel that would exceed white keeps its colour.
    """
    mean = planes.mean(axis=0)
    factor = np.arcsinh(softening * mean / stretch) / softening
    safe = np.where(np.abs(mean) > 1e-9, mean, 1.0)
    shown = planes * (factor / safe)
    top = shown.max(axis=0)
    return (255 * np.clip(shown / np.maximum(top, 1.0), 0, 1)).astype(np.float32)


def window(plane: np.ndarray, centre: tuple[float, float], side: float, fill: float) -> np.ndarray:
    """Cut a square about a point, filled where it leaves the plane.

    Parameters
    ----------
    plane : ndarray, shape (..., ny, nx)
        One or several planes.
    centre : tuple of float
        ``(y, x)`` in pixels.
    side : float
        Side of the square, rounded to whole pixels.
    fill : float
        Value outside of the plane.

    Returns
    -------
    ndarray, shape (..., side, side)
        A new array.
    """
    size = max(1, round(side))
    y0, x0 = (round(c - (size - 1) / 2) for c in centre)
    out = np.full((*plane.shape[:-2], size, size), fill, plane.dtype)
    ny, nx = plane.shape[-2:]
    ya, yb, xa, xb = max(0, y0), min(ny, y0 + size), max(0, x0), min(nx, x0 + size)
    if ya < yb and xa < xb:
        out[..., ya - y0 : yb - y0, xa - x0 : xb - x0] = plane[..., ya:yb, xa:xb]
    return out
