"""A spectrum of any grid becomes the models' input: at rest, on the common grid, of mean one, with errors."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from finetune import spectral_grid as grid
from finetune.task import Prepared
from transforms.constants import C_KMS
from transforms.flags import bits
from transforms.numerics.spectra.continuum import telluric_mask
from transforms.numerics.spectra.resample import rebin
from transforms.records import Spectrum

MAX_VELOCITY, MAX_VELOCITY_ERROR = 1000.0, 60.0  #: km/s; beyond, a velocity is not taken for a star's.
FLUX_LIMITS = (-20.0, 50.0)  #: In units of the mean flux; cosmic rays reach further.


def prepare(record: Spectrum) -> Prepared:
    """Bring a spectrum to the grid of the models, at rest where its velocity is known.

    Parameters
    ----------
    record : Spectrum
        With ``v_rad`` among its measurements where it could be measured.

    Returns
    -------
    mapping of str to ndarray
        ``flux`` and ``ivar``, float32, shape (N_PIXEL,): flux of mean one in 5000 to 6000 Angstrom, 0 where bad;
        ``calibrated``, float32, shape (): 1 after ``finetune.selfcalibrate``; ``star``, int64, shape (): a key by
        which a network in training knows the stars of its kernel ridge; ``instrument``, int64, shape (): a key of
        telescope and instrument.
    """
    out = normalise(*rebinned(record))
    return {
        **out,
        "calibrated": np.zeros((), np.float32),
        "star": np.array(star_key(record), np.int64),
        "instrument": np.array(_key(record.instrument), np.int64),
    }


def rebinned(record: Spectrum) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Bring a spectrum to the grid of the models, at rest where its velocity is known, in its own unit.

    Parameters
    ----------
    record : Spectrum
        As for ``prepare``.

    Returns
    -------
    flux, ivar, good : ndarray, shape (N_PIXEL,)
        For ``normalise``; what the Earth's atmosphere spoils is not good.
    """
    mask = record.mask
    if record.frame != "rest":
        mask = mask | telluric_mask(record.wavelength)
    wave = record.wavelength / (1 + rest_velocity(record) / C_KMS)
    flux, ivar, bad = rebin(wave, record.flux, record.ivar, mask, grid.wavelengths())
    return flux, ivar, ~bad


def star_key(record: Spectrum) -> int:
    """Key of a star: the same for all of its spectra that bear its identifier.

    Parameters
    ----------
    record : Spectrum
        With its identity.

    Returns
    -------
    int
        0 to 2 ** 62.
    """
    name = record.object_id or f"{record.source}:{record.hdu}:{record.row}"
    return _key(name)


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


def rest_velocity(record: Spectrum) -> float:
    """The velocity to remove: what was measured where it can be trusted, else zero.

    Parameters
    ----------
    record : Spectrum
        With its measurements and flags.

    Returns
    -------
    float
        km/s.
    """
    v_rad, error = record.measured.get("v_rad"), record.measured.get("v_rad_err")
    if record.frame == "rest" or v_rad is None or record.flags & bits("VELOCITY_UNCERTAIN"):
        return 0.0
    trusted = math.isfinite(v_rad) and abs(v_rad) < MAX_VELOCITY and (error is None or error < MAX_VELOCITY_ERROR)
    return float(v_rad) if trusted else 0.0


def normalise(flux: np.ndarray, ivar: np.ndarray | None, good: np.ndarray) -> dict[str, np.ndarray]:
    """Scale a rebinned spectrum and bound its weights.

    Parameters
    ----------
    flux : ndarray, shape (N_PIXEL,)
        Flux density.
    ivar : ndarray, shape (N_PIXEL,), or None
        Inverse variance; None: one error for all pixels is estimated from the scatter.
    good : ndarray of bool, shape (N_PIXEL,)
        Usable pixels.

    Returns
    -------
    dict of str to ndarray
        ``flux`` and ``ivar``, float32; all zero where the spectrum has no positive level.
    """
    ivar = _weights(flux, ivar, good)
    scale = grid.flux_scale(flux, ivar)
    if not np.isfinite(scale):
        return {name: np.zeros(grid.N_PIXEL, np.float32) for name in ("flux", "ivar")}
    weight = ivar * scale**2
    weight = weight / (1 + weight / (2 * grid.MAX_SN) ** 2)
    weight = np.where(weight > 1e-8, weight, 0.0)
    scaled = np.where(weight > 0, np.clip(flux / scale, *FLUX_LIMITS), 0.0)
    return {"flux": scaled.astype(np.float32), "ivar": weight.astype(np.float32)}


def unit_flux(record: Spectrum) -> float:
    """What one unit of the prepared flux is, in the unit of the file.

    Parameters
    ----------
    record : Spectrum
        As for ``prepare``.

    Returns
    -------
    float
        Positive; NaN where the spectrum has no positive level.
    """
    flux, ivar, good = rebinned(record)
    return float(grid.flux_scale(flux, _weights(flux, ivar, good)))


def _weights(flux: np.ndarray, ivar: np.ndarray | None, good: np.ndarray) -> np.ndarray:
    """Inverse variances, 0 where a pixel is not used."""
    good = good & np.isfinite(flux)
    if ivar is None:
        ivar = np.full(flux.shape, estimated_ivar(flux, good))
    return np.where(good & np.isfinite(ivar), ivar, 0.0)


def estimated_ivar(flux: np.ndarray, good: np.ndarray) -> float:
    """Inverse variance of a spectrum that comes without errors, from its scatter.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Flux density.
    good : ndarray of bool, shape (n,)
        Usable pixels.

    Returns
    -------
    float
        The same for all pixels; 0 where there is no good one.
    """
    if not good.any():
        return 0.0
    level = float(np.median(np.abs(flux[good])))
    sigma = float(grid.noise_sigma(flux, good))
    sigma = max(sigma, level / grid.MAX_SN) if math.isfinite(sigma) else level / 10
    return 1 / sigma**2 if sigma > 0 else 0.0
