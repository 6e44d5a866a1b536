"""Interstellar extinction by wavelength.

Fitzpatrick (1999), PASP 111, 63: a cubic spline through anchors in the optical and infrared, whose dependence on R_V is
that of the author's own program FM_UNRED, and the ultraviolet curve of Fitzpatrick and Massa (1990), ApJS 72, 163.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

SHORTEST, LONGEST = 1150.0, 60000.0  #: Angstrom; the law is not known beyond.
_UV = 2700.0  #: Angstrom; below, the analytic curve.


def _ultraviolet(x: np.ndarray, r_v: float) -> np.ndarray:
    """A(x)/E(B-V) for inverse micrometres above 3.7."""
    slope = -0.824 + 4.717 / r_v
    start = 2.030 - 3.007 * slope
    drude = x**2 / ((x**2 - 4.596**2) ** 2 + (0.99 * x) ** 2)
    far = np.maximum(x - 5.9, 0.0)
    return start + slope * x + 3.23 * drude + 0.41 * (0.5392 * far**2 + 0.05644 * far**3) + r_v


def extinction(wavelength: np.ndarray, ebv: float, r_v: float = 3.1) -> np.ndarray:
    """Extinction in magnitudes.

    Parameters
    ----------
    wavelength : ndarray
        Vacuum wavelength in Angstrom, 1150 to 60000.
    ebv : float
        Colour excess E(B-V), magnitudes.
    r_v : float
        Ratio of total to selective extinction, A(V)/E(B-V).

    Returns
    -------
    ndarray of float64
        A(lambda), magnitudes.

    Raises
    ------
    ValueError
        For a wavelength outside of the law.
    """
    wave = np.asarray(wavelength, dtype=np.float64)
    if wave.size and not (wave.min() >= SHORTEST and wave.max() <= LONGEST):
        raise ValueError(
            f"extinction is known from {SHORTEST:g} to {LONGEST:g} Angstrom, not at {wave.min():g} to {wave.max():g}"
        )
    anchors = 1e4 / np.array([np.inf, 26500.0, 12200.0, 6000.0, 5470.0, 4670.0, 4110.0, 2700.0, 2600.0])
    optical = np.polynomial.polynomial.polyval(
        r_v,
        np.array(
            [
                [-4.22809e-01, 1.00270, 2.13572e-04, 0.0, 0.0],
                [-5.13540e-02, 1.00216, -7.35778e-05, 0.0, 0.0],
                [7.00127e-01, 1.00184, -3.32598e-05, 0.0, 0.0],
                [1.19456, 1.01707, -5.46959e-03, 7.97809e-04, -4.45636e-05],
            ]
        ).T,
    )
    infrared = np.array([0.0, 0.26469, 0.82925]) * r_v / 3.1
    values = np.concatenate([infrared, optical, _ultraviolet(anchors[-2:], r_v)])
    x = 1e4 / wave
    curve = np.where(wave < _UV, _ultraviolet(x, r_v), CubicSpline(anchors, values, bc_type="natural")(x))
    return np.asarray(ebv * curve)
