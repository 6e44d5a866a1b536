"""Wavelengths in air and in vacuum, and pixel edges.

Reference: Morton (2000), ApJS 130, 403, equation 8, the formula that the IAU recommends; valid for dry air at 15 C,
1 atm, 450 ppm CO2. By convention wavelengths below 2000 Angstrom are given in vacuum and are left as they are.
"""

from __future__ import annotations

import numpy as np

VACUUM_BELOW = 2000.0  #: Angstrom; shorter wavelengths are in vacuum in every catalogue.


def refraction(vacuum: np.ndarray) -> np.ndarray:
    """Refractive index of standard air.

    Parameters
    ----------
    vacuum : ndarray
        Vacuum wavelength in Angstrom.

    Returns
    -------
    ndarray of float64
        Index (about 1.00028); 1 below 2000 Angstrom.
    """
    vacuum = np.asarray(vacuum, dtype=np.float64)
    sigma2 = (1e4 / np.maximum(vacuum, VACUUM_BELOW)) ** 2
    index = 1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - sigma2) + 1.5998e-4 / (38.9 - sigma2)
    return np.where(vacuum < VACUUM_BELOW, 1.0, index)


def vacuum_to_air(vacuum: np.ndarray) -> np.ndarray:
    """Convert vacuum wavelengths to air.

    Parameters
    ----------
    vacuum : ndarray
        Vacuum wavelength in Angstrom.

    Returns
    -------
    ndarray of float64
        Wavelength in standard air, Angstrom.
    """
    return np.asarray(vacuum, dtype=np.float64) / refraction(vacuum)


def air_to_vacuum(air: np.ndarray) -> np.ndarray:
    """Convert air wavelengths to vacuum: the exact inverse of ``vacuum_to_air``, by iteration.

    Parameters
    ----------
    air : ndarray
        Wavelength in standard air, Angstrom.

    Returns
    -------
    ndarray of float64
        Vacuum wavelength in Angstrom.
    """
    air = np.asarray(air, dtype=np.float64)
    vacuum = air
    for _ in range(4):  # each turn gains four digits: three reach float64, the fourth costs 20 microseconds
        vacuum = air * refraction(vacuum)
    return np.where(air < VACUUM_BELOW, air, vacuum)


def pixel_edges(centres: np.ndarray) -> np.ndarray:
    """Edges of pixels of which only the centres are known: the midpoints between neighbours.

    Parameters
    ----------
    centres : ndarray of float64, shape (n,)
        Strictly increasing, ``n >= 2``.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        The outer edges lie as far out as the inner ones of the same pixel lie in.

    Raises
    ------
    ValueError
        For fewer than two pixels.
    """
    centres = np.asarray(centres, dtype=np.float64)
    if centres.size < 2:
        raise ValueError(f"{centres.size} pixels have no edges; two are needed")
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def log_grid(first: float, step: float, n: int) -> np.ndarray:
    """Centres of a grid of constant velocity step.

    Parameters
    ----------
    first : float
        First wavelength, Angstrom.
    step : float
        Step of log10 wavelength (1e-4 = 69 km/s, the SDSS and LAMOST grid).
    n : int
        Number of pixels.

    Returns
    -------
    ndarray of float64, shape (n,)
        Wavelength in Angstrom.
    """
    return np.asarray(10.0 ** (np.log10(first) + step * np.arange(n)))
