"""Continuum by a running Gaussian mean that masks cannot bias, and the regions that the Earth's air spoils."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

#: ``(first, last, what, strong)``: vacuum Angstrom in the observer's frame. Strong ones are never fitted through.
#: Molecular bands: Kerber et al. (2014), A&A 564, A85, and Matheson et al. (2001), AJ 121, 2024; sky lines: Osterbrock
#: et al. (1996), PASP 108, 277.
TELLURIC = (
    (5575.0, 5583.0, "[O I] 5577 sky", True),
    (5890.0, 5899.0, "Na I D sky", False),
    (6276.0, 6320.0, "O2 gamma", False),
    (6300.0, 6304.0, "[O I] 6300 sky", True),
    (6364.0, 6367.5, "[O I] 6364 sky", True),
    (6868.0, 6962.0, "O2 B", True),
    (7168.0, 7340.0, "H2O", True),
    (7593.0, 7705.0, "O2 A", True),
    (8100.0, 8370.0, "H2O", False),
    (8940.0, 9860.0, "H2O", True),
)


def telluric_mask(wavelength: np.ndarray, strong_only: bool = True) -> np.ndarray:
    """Find the pixels within telluric bands and sky lines.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        Vacuum wavelength in the observer's frame (30 km/s of the Earth's motion is within the margins), Angstrom.
    strong_only : bool
        Leave out the weak ones, which matter only for equivalent widths.

    Returns
    -------
    ndarray of bool, shape (n,)
        True = spoilt.
    """
    bad = np.zeros(np.shape(wavelength), dtype=bool)
    for first, last, _, strong in TELLURIC:
        if strong or not strong_only:
            bad |= (wavelength >= first) & (wavelength <= last)
    return bad


def running_continuum(
    flux: np.ndarray, weight: np.ndarray, sigma: float, min_weight: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth a spectrum with a Gaussian of which masked pixels are no part.

    Parameters
    ----------
    flux : ndarray, shape (..., n)
        Flux on equal pixels, finite.
    weight : ndarray, shape (..., n)
        1 for good pixels, 0 for bad ones (or any weights).
    sigma : float
        Of the Gaussian, in pixels; a few times the width of the widest line to keep.
    min_weight : float
        Share of the Gaussian's weight that good pixels must hold.

    Returns
    -------
    continuum : ndarray of float64, shape (..., n)
        One where it is not defined.
    defined : ndarray of bool, shape (..., n)
        False where too few good pixels are near, or the continuum is not positive.
    """
    weight = np.asarray(weight, dtype=np.float64)
    kwargs = {"axis": -1, "mode": "constant", "truncate": 3.0}
    top = gaussian_filter1d(np.asarray(flux, dtype=np.float64) * weight, sigma, **kwargs)
    bottom = gaussian_filter1d(weight, sigma, **kwargs)
    enough = bottom > min_weight
    value = np.divide(top, bottom, out=np.zeros_like(top), where=enough)
    defined = enough & (value > 0)
    return np.where(defined, value, 1.0), defined
