"""Toy stellar spectra with known parameters: a Planck curve under lines whose strengths go the way of real ones.

They serve tests and the demo, never a claim: strengths are round numbers chosen so that hydrogen peaks near 9,000 K,
metal lines grow with metallicity and towards cool stars, wings and magnesium grow with gravity, and molecules appear
below 4,000 K.
"""

from __future__ import annotations

import numpy as np

from transforms.constants import C_KMS

_HYDROGEN = (3890.2, 3971.2, 4102.9, 4341.7, 4862.7, 6564.6)
_IONISED = (3934.8, 3969.6)
_NEUTRAL = (4227.9, 5168.8, 5174.1, 5185.0, 5891.6, 5897.6)
_MOLECULES = (4763.0, 4956.0, 5168.0, 5450.0, 5848.0, 6159.0, 6651.0, 7054.0)
_FOREST = 260
H_C_OVER_K = 1.438776877e8  #: Angstrom K (CODATA 2018).


def stellar_flux(
    wavelength: np.ndarray, teff: float, logg: float, fe_h: float, *, v_rad: float = 0.0, sigma_kms: float = 60.0
) -> np.ndarray:
    """Flux density of a toy star.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        Vacuum wavelength in Angstrom.
    teff : float
        K.
    logg : float
        dex(cm / s2).
    fe_h : float
        dex.
    v_rad : float
        Radial velocity in km/s.
    sigma_kms : float
        Gaussian sigma of the instrument.

    Returns
    -------
    ndarray of float64, shape (n,)
        Scaled to a median of one.
    """
    rest = np.asarray(wavelength, np.float64) / (1 + v_rad / C_KMS)
    planck = rest**-5.0 / np.expm1(H_C_OVER_K / (rest * teff))
    log_t = np.log10(teff)
    metals, gravity = 10 ** (0.5 * fe_h), logg - 3.0
    cool = 1 / (1 + np.exp((teff - 6800.0) / 700.0))
    depth = np.zeros_like(rest)

    def line(centre: float, width_angstrom: float, broadening: float) -> np.ndarray:
        sigma = centre * np.hypot(sigma_kms, broadening) / C_KMS
        return width_angstrom / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((rest - centre) / sigma) ** 2)

    hydrogen = 9.0 * np.exp(-0.5 * ((log_t - np.log10(9000.0)) / 0.14) ** 2)
    for centre in _HYDROGEN:
        depth += line(centre, hydrogen, 250.0 * 10 ** (0.12 * gravity))
    for centre in _IONISED:
        depth += line(centre, 9.0 * metals * cool * 10 ** (-0.05 * gravity), 280.0)
    for centre in _NEUTRAL:
        depth += line(centre, 2.2 * metals * cool * 10 ** (0.15 * gravity), 90.0)
    forest = np.random.default_rng(20261124)
    centres, strengths = forest.uniform(3700, 7300, _FOREST), forest.exponential(0.35, _FOREST)
    excitation, ionised = forest.uniform(0.5, 1.5, _FOREST), forest.choice([-0.12, 0.04], _FOREST)
    for centre, strength, power, reaction in zip(centres, strengths, excitation, ionised, strict=True):
        width = strength * metals * (5200.0 / teff) ** (2.5 * power) * 10 ** (reaction * gravity)
        depth += line(centre, min(width, 3.0), 20.0)
    molecule = max(0.0, (4100.0 - teff) / 1200.0)
    for head in _MOLECULES:
        depth += molecule * np.where(rest > head, np.exp(-(rest - head) / 120.0), 0.0)
    flux = planck * np.exp(-depth)
    return flux / np.median(flux)
