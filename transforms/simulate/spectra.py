"""Spectra of stars with known labels and velocity, as different spectrographs would see them.

A star is a mixture of two to four templates that are neighbours in labels; its labels are the mixture's (Teff in the
logarithm), which holds as far as spectra change linearly between neighbours. What is simulated is judged by real
spectra: see the model cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from transforms import spectral_templates as templates
from transforms.constants import C_KMS
from transforms.numerics.spectra.wavelengths import log_grid
from transforms.records import Spectrum

#: Distances of one in labels: log10 Teff (dex), logg (dex), [Fe/H] (dex).
SCALE = np.array([0.02, 0.35, 0.25])
NEIGHBOURS = 12
EDGE_KMS = 700.0  #: Room for shifts at the ends of the templates.


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """A spectrograph.

    Parameters
    ----------
    name : str
        Key of ``instruments()``.
    wavelength : ndarray of float64, shape (n,)
        Vacuum Angstrom.
    sigma_kms : float
        Gaussian broadening beyond that of the templates, km/s.
    frame : str
        As in ``Spectrum``.
    """

    name: str
    wavelength: np.ndarray
    sigma_kms: float
    frame: str


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """A spectrum and the truth about it.

    Parameters
    ----------
    spectrum : Spectrum
        As a reader would give it.
    truth : mapping of str to float
        ``teff`` (K), ``logg`` (dex(cm/s2)), ``fe_h`` (dex), ``v_rad`` (km/s), ``snr`` (per 69 km/s).
    group : str
        Template with the largest share: spectra of one group are not independent.
    """

    spectrum: Spectrum
    truth: Mapping[str, float]
    group: str = field(default="")


@cache
def instruments() -> dict[str, Instrument]:
    """Instruments that the files of this package come from, as far as the templates reach (3560 to 7380 Angstrom).

    Returns
    -------
    dict of str to Instrument
        ``lamost``, ``sdss``, ``desi``, ``aaomega`` and ``linear``.
    """
    step = 1e-4
    return {
        item.name: item
        for item in (
            Instrument("lamost", log_grid(3700.0, step, 2990), 50.0, "heliocentric"),
            Instrument("sdss", log_grid(3800.0, step, 2870), 15.0, "heliocentric"),
            Instrument("desi", 3600.0 + 0.8 * np.arange(4711), 0.0, "barycentric"),
            Instrument("aaomega", 3755.0 + 1.04 * np.arange(3460), 90.0, "topocentric"),
            Instrument("linear", 3580.0 + 0.9 * np.arange(4200), 0.0, ""),
        )
    }


@cache
def _labels() -> tuple[np.ndarray, np.ndarray]:
    """Templates with all labels, and the labels with Teff as log10."""
    library = templates.load()
    labels = np.stack([np.log10(library.teff), library.logg, library.fe_h], axis=1).astype(np.float64)
    known = np.flatnonzero(np.isfinite(labels).all(axis=1))
    return known, labels[known]


def draw_star(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float], str]:
    """Draw a star.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    flux : ndarray of float64, shape (N_PIXEL,)
        On ``spectral_templates.grid()``, mean about one, at rest.
    labels : dict
        ``teff``, ``logg``, ``fe_h``.
    group : str
        Template with the largest share.
    """
    known, labels = _labels()
    first = int(rng.integers(known.size))
    distance = np.sum(((labels - labels[first]) / SCALE) ** 2, axis=1)
    near = np.argsort(distance, kind="stable")[:NEIGHBOURS]
    near = near[distance[near] < 9.0]  # a lonely star stays alone
    chosen = np.unique(np.append(rng.choice(near, size=min(3, near.size), replace=False), first))
    shares = rng.dirichlet(np.ones(chosen.size))
    weights = np.zeros(len(templates.load().names))
    weights[known[chosen]] = shares
    log_teff, logg, fe_h = shares @ labels[chosen]
    library = templates.load()
    offset = float(weights @ library.zero_point)  # the templates are not quite at rest
    flux = CubicSpline(templates.grid(), library.flux(weights))(templates.grid() * (1.0 + offset / C_KMS))
    labels_of_mixture = {"teff": float(10**log_teff), "logg": float(logg), "fe_h": float(fe_h)}
    return flux, labels_of_mixture, library.names[known[chosen[np.argmax(shares)]]]


def observe(
    flux: np.ndarray,
    instrument: Instrument,
    rng: np.random.Generator,
    *,
    v_rad: float,
    snr: float,
    gaps: bool = True,
    tilt: float = 0.05,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let an instrument observe a star.

    Parameters
    ----------
    flux : ndarray of float64, shape (N_PIXEL,)
        At rest on the templates' grid.
    instrument : Instrument
        What observes.
    rng : numpy.random.Generator
        Source of chance.
    v_rad : float
        km/s, at most ``EDGE_KMS``.
    snr : float
        Median signal-to-noise ratio per 69 km/s.
    gaps : bool
        Mask a few short runs of pixels, and put cosmic rays into them.
    tilt : float
        Amplitude of a smooth error of the flux calibration.

    Returns
    -------
    flux, ivar : ndarray of float64, shape (n,)
        Noisy flux and its inverse variance, zero where masked.
    mask : ndarray of bool, shape (n,)
        True = bad.

    Raises
    ------
    ValueError
        For a velocity that shifts the templates off the instrument's range.
    """
    if abs(v_rad) > EDGE_KMS:
        raise ValueError(f"v_rad is {v_rad} km/s; the templates reach {EDGE_KMS} km/s beyond the instrument's range")
    wide = gaussian_filter1d(flux, max(instrument.sigma_kms / templates.PIXEL_KMS, 1e-6), mode="nearest")
    wavelength = instrument.wavelength
    model = CubicSpline(templates.grid() * (1.0 + v_rad / C_KMS), wide)(wavelength)
    x = np.linspace(-1.0, 1.0, wavelength.size)
    model = model * (1.0 + tilt * np.polynomial.legendre.legval(x, np.append(0.0, rng.uniform(-1, 1, 3))))
    pixel = C_KMS * np.gradient(np.log(wavelength))
    level = np.maximum(model, 1e-3) / np.median(model)
    sigma = np.median(model) / snr * np.sqrt((0.8 * level + 0.2) * templates.PIXEL_KMS / pixel)
    noisy, mask = model + rng.normal(0.0, sigma), np.zeros(wavelength.size, dtype=bool)
    for _ in range(int(rng.integers(0, 5)) if gaps else 0):
        start, length = int(rng.integers(wavelength.size)), int(rng.integers(3, 60))
        mask[start : start + length] = True
        noisy[start : start + length] += 10.0 * rng.exponential() * np.median(model)
    return np.where(mask, 0.0, noisy), np.where(mask, 0.0, 1.0 / sigma**2), mask


def simulate_spectra(
    n: int, seed: int, instrument: str = "lamost", snr: tuple[float, float] = (10.0, 150.0)
) -> list[Simulated]:
    """Simulate stars.

    Parameters
    ----------
    n : int
        Number of stars.
    seed : int
        Of all chance.
    instrument : str
        Key of ``instruments()``.
    snr : tuple of float
        Range of the signal-to-noise ratio, drawn evenly in the logarithm.

    Returns
    -------
    list of Simulated
        Raw records, before the classical steps.
    """
    rng, tool, found = np.random.default_rng(seed), instruments()[instrument], []
    for k in range(n):
        star, labels, group = draw_star(rng)
        v_rad = float(np.clip(rng.normal(0.0, 60.0), -EDGE_KMS, EDGE_KMS))
        ratio = float(np.exp(rng.uniform(*np.log(snr))))
        flux, ivar, mask = observe(star, tool, rng, v_rad=v_rad, snr=ratio)
        spectrum = Spectrum(
            source=f"{instrument}-{seed}",
            row=k,
            object_id=f"sim-{instrument}-{seed}-{k}",
            ra=float(rng.uniform(0, 360)),
            dec=float(np.degrees(np.arcsin(rng.uniform(-1, 1)))),
            mjd=60_000.0 + float(rng.uniform(0, 365)),
            time_scale="utc",
            wavelength=tool.wavelength,
            flux=flux.astype(np.float32),
            ivar=ivar.astype(np.float32),
            mask=mask,
            unit="relative",
            frame=tool.frame,
        )
        found.append(Simulated(spectrum, {**labels, "v_rad": v_rad, "snr": ratio}, group))
    return found
