"""The stellar templates that ship with the package: MILES on a logarithmic grid, as principal components.

854 stars of MILES (Sanchez-Blazquez et al. 2006, MNRAS 371, 703; labels of Cenarro et al. 2007, MNRAS 374, 664, as
distributed with the spectra), in vacuum and at rest, divided by their continuum. The continuum is kept at knots, so
that the flux can be had back. The file is written by ``benchmarks/build_spectral_templates.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from transforms.constants import C_KMS
from transforms.numerics.spectra.crosscorrelation import Bank, make_bank

PATH = Path(__file__).parent / "data" / "stellar_templates.safetensors"
FIRST, STEP, N_PIXEL = 3550.0, 1e-4, 3190  #: Angstrom, dex (69 km/s), pixels: to 7400 Angstrom.
PIXEL_KMS = C_KMS * (10.0**STEP - 1.0)
CONTINUUM_SIGMA = 80.0  #: Pixels (5500 km/s), the Gaussian that made the continua.
FWHM = 2.5  #: Angstrom (Falcon-Barroso et al. 2011, A&A 532, A95: 2.51).


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """All templates.

    Parameters
    ----------
    basis : ndarray of float32, shape (k, N_PIXEL)
        First row the mean line signal (spectrum over continuum, minus one), then principal components.
    coefficients : ndarray of float32, shape (n, k)
        Stars in the basis; the first column is one.
    continuum : ndarray of float32, shape (n, n_knot)
        log10 of the continuum over its mean at equal steps of the grid.
    zero_point : ndarray of float32, shape (n,)
        Velocity of the template against its fellows, km/s; to be added to what the template gives.
    teff, logg, fe_h : ndarray of float32, shape (n,)
        K, dex(cm/s2), dex; NaN where not known.
    names : tuple of str
        Stars.
    """

    basis: np.ndarray
    coefficients: np.ndarray
    continuum: np.ndarray
    zero_point: np.ndarray
    teff: np.ndarray
    logg: np.ndarray
    fe_h: np.ndarray
    names: tuple[str, ...]

    def flux(self, weights: np.ndarray) -> np.ndarray:
        """Flux of a mixture of stars.

        Parameters
        ----------
        weights : ndarray, shape (n,)
            Shares of the stars; continua are mixed in the logarithm.

        Returns
        -------
        ndarray of float64, shape (N_PIXEL,)
            Relative flux density, positive, mean about one.
        """
        use = np.flatnonzero(weights)
        signal = (weights[use] @ self.coefficients[use]) @ self.basis
        knots = weights[use] @ self.continuum[use]
        place = np.linspace(0, N_PIXEL - 1, knots.size)
        return np.asarray(np.clip(1.0 + signal, 0.02, None) * 10.0 ** np.interp(np.arange(N_PIXEL), place, knots))


@cache
def load() -> Templates:
    """Read the templates once a process.

    Returns
    -------
    Templates
        From the package's own file.
    """
    from safetensors import safe_open

    with safe_open(PATH, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        names = tuple(json.loads(file.metadata()["names"]))
    basis = arrays["basis"].astype(np.float32) * arrays["basis_scale"][:, None]
    scores = arrays["scores"].astype(np.float32) * arrays["score_scale"]
    coefficients = np.concatenate([np.ones((len(names), 1), dtype=np.float32), scores], axis=1)
    continuum = arrays["continuum"].astype(np.float32)
    labels = {key: arrays[key] for key in ("zero_point", "teff", "logg", "fe_h")}
    return Templates(basis=basis, coefficients=coefficients, continuum=continuum, names=names, **labels)


@cache
def grid() -> np.ndarray:
    """Centres of the templates' pixels.

    Returns
    -------
    ndarray of float64, shape (N_PIXEL,)
        Vacuum Angstrom.
    """
    return np.asarray(10.0 ** (np.log10(FIRST) + STEP * np.arange(N_PIXEL)))


@cache
def bank(first: float, last: float, max_lag: int) -> tuple[slice, Bank]:
    """Templates prepared for the cross-correlation in a window.

    Parameters
    ----------
    first, last : float
        The window, vacuum Angstrom.
    max_lag : int
        Largest lag, pixels.

    Returns
    -------
    window : slice
        Pixels of ``grid()``.
    bank : Bank
        The templates there.
    """
    start, stop = (int(k) for k in np.searchsorted(grid(), (first, last)))
    templates = load()
    wide = templates.basis[:, start - max_lag : stop + max_lag]
    return slice(start, stop), make_bank(wide, templates.coefficients, max_lag)
