"""Labelled toy spectra as survey records: several grids, noise levels, resolutions and velocities."""

from __future__ import annotations

import numpy as np

from finetune.task import Example
from transforms.records import Spectrum
from transforms.simulate.stellar_spectra import stellar_flux

GRIDS = (
    10 ** np.arange(3.56, 3.96, 1e-4),  # SDSS, LAMOST
    np.arange(3540.0, 7410.0, 0.9),  # MILES
    np.arange(3720.0, 7300.0, 2.0),
)


def simulate(n: int, seed: int) -> list[Example]:
    """Draw stars and observe them.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of everything.

    Returns
    -------
    list of Example
        Raw records with labels ``teff``, ``logg``, ``fe_h``; every star is its own group.
    """
    return [_observe(i, np.random.default_rng([seed, i])) for i in range(n)]


def _observe(number: int, rng: np.random.Generator) -> Example:
    teff = float(10 ** rng.uniform(np.log10(3300), np.log10(12000)))
    logg = float(rng.uniform(3.4, 4.8) if teff > 6500 or rng.random() < 0.5 else rng.uniform(0.5, 3.4))
    fe_h = float(np.clip(rng.normal(-0.3, 0.5), -2.5, 0.5))
    wave = GRIDS[number % len(GRIDS)]
    clean = stellar_flux(wave, teff, logg, fe_h, v_rad=float(rng.normal(0, 8)), sigma_kms=float(rng.uniform(50, 80)))
    sn = float(np.exp(rng.uniform(np.log(20), np.log(200))))
    sigma = np.sqrt(np.maximum(clean, 0.02)) / sn
    record = Spectrum(
        source=f"simulated/star_{number:05d}",
        object_id=f"star_{number:05d}",
        ra=float(rng.uniform(0, 360)),
        dec=float(np.degrees(np.arcsin(rng.uniform(-1, 1)))),
        mjd=61000.0 + number / 1440,
        time_scale="utc",
        wavelength=wave,
        flux=(clean + sigma * rng.normal(size=clean.size)).astype(np.float32),
        ivar=(1 / sigma**2).astype(np.float32),
        mask=np.zeros(clean.size, bool),
        frame="heliocentric",
    )
    labels = {"teff": teff, "logg": logg, "fe_h": fe_h}
    return Example(record=record, labels=labels, group=record.object_id, origin="simulated")
