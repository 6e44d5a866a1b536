"""What another spectrograph or a worse night makes of a spectrum. Record in, record out.

Every function gives back the very record it got where there is nothing to do: data are never made better. The
line-spread function of a record that does not state it counts as two pixels wide, the least that its sampling can
hold; where it states one number, its width in pixels is the same everywhere.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from astropy.cosmology import Planck18

from transforms.constants import C_KMS
from transforms.numerics.extinction import LONGEST, SHORTEST, extinction
from transforms.numerics.kernels import FWHM_PER_SIGMA, blur_series
from transforms.numerics.spectra.noise import difference_noise, signal_to_noise
from transforms.numerics.spectra.resample import rebin
from transforms.records import Spectrum

NYQUIST = 2.0  #: Pixels; width at half maximum of a line where the record does not state it.
REFERENCE = 5500.0  #: Angstrom; where ``lsf_sigma`` holds.
STEP_KMS = 69.0  #: Velocity step that a signal-to-noise ratio refers to.
FEWEST = 50  #: Pixels that a spectrum keeps at least.
#: Strong lines of the night sky, Angstrom in vacuum: [O I], Na, [O I], and heads of the OH bands (Hanuschik 2003,
#: A&A 407, 1157).
SKY_LINES = (5578.9, 5891.6, 6302.0, 6365.5, 7278.3, 7343.0, 7752.8, 7796.4, 7916.0, 7966.8, 8347.2, 8401.6, 8432.5,
             8830.0, 8887.9, 8922.0, 9378.9, 9442.2, 9793.1)  # fmt: skip
SKY_SHARE = 0.5  #: Share of the sky in the variance of a median pixel.


def pixel_kms(record: Spectrum) -> np.ndarray:
    """Width of each pixel.

    Parameters
    ----------
    record : Spectrum
        Of two pixels or more.

    Returns
    -------
    ndarray of float64, shape (n,)
        km/s.
    """
    return np.asarray(C_KMS * np.gradient(np.log(record.wavelength)))


def line_width(record: Spectrum) -> np.ndarray:
    """Sigma of the line-spread function along a spectrum.

    Parameters
    ----------
    record : Spectrum
        The spectrum.

    Returns
    -------
    ndarray of float64, shape (n,)
        km/s.
    """
    width = pixel_kms(record)
    if record.lsf_sigma is None:
        return width * NYQUIST / FWHM_PER_SIGMA
    return width * record.lsf_sigma / float(np.interp(REFERENCE, record.wavelength, width))


def broadened(record: Spectrum, sigma: np.ndarray | float) -> Spectrum:
    """Broaden the lines.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    sigma : ndarray, shape (n,), or float
        Gaussian sigma to add in quadrature, km/s.

    Returns
    -------
    Spectrum
        ``ivar`` is that of each pixel alone; the same where nothing is added.
    """
    added = np.broadcast_to(np.asarray(sigma, np.float64), record.flux.shape)
    if record.flux.size < FEWEST or not (added > 0).any():
        return record
    good = ~record.mask & np.isfinite(record.flux)
    variance = None
    if record.ivar is not None:
        good = good & (record.ivar > 0)
        variance = 1 / np.where(good, record.ivar, 1.0).astype(np.float64)
    flux, variance, kept = blur_series(record.flux, variance, good, added / pixel_kms(record))
    total = np.hypot(line_width(record), added)
    ivar = None
    if variance is not None:
        ivar = np.where(kept, 1 / np.where(variance > 0, variance, np.inf), 0.0).astype(np.float32)
    return replace(
        record, flux=flux.astype(np.float32), ivar=ivar, mask=~kept,
        lsf_sigma=float(np.interp(REFERENCE, record.wavelength, total)),
    )  # fmt: skip


def to_resolution(record: Spectrum, power: np.ndarray | float) -> Spectrum:
    """Lower the resolving power.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    power : ndarray, shape (n,), or float
        Wavelength over the full width at half maximum of a line, afterwards.

    Returns
    -------
    Spectrum
        Where it is as low already, that part stays; the same where all of it is.
    """
    wanted = C_KMS / np.broadcast_to(np.asarray(power, np.float64), record.flux.shape) / FWHM_PER_SIGMA
    return broadened(record, np.sqrt(np.maximum(wanted**2 - line_width(record) ** 2, 0.0)))


def noise_restored(record: Spectrum, before: Spectrum, rng: np.random.Generator) -> Spectrum:
    """Add the noise that a convolution took from each pixel: a coarser spectrograph catches no more photons.

    Parameters
    ----------
    record, before : Spectrum
        After the convolution and before it, on the same pixels.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Spectrum
        With the variance of before; the same where the noise is not known.
    """
    if record is before or record.ivar is None or before.ivar is None:
        return record
    good = (record.ivar > 0) & (before.ivar > 0)
    new = np.where(good, 1 / np.where(good, record.ivar, 1.0).astype(np.float64), 0.0)
    missing = np.where(good, np.maximum(1 / np.where(good, before.ivar, 1.0).astype(np.float64) - new, 0.0), 0.0)
    flux = record.flux + rng.normal(size=new.size) * np.sqrt(missing)
    whole = np.where(good, 1 / np.where(good, new + missing, 1.0), record.ivar)
    return replace(record, flux=flux.astype(np.float32), ivar=whole.astype(np.float32))


def to_grid(record: Spectrum, wavelength: np.ndarray) -> Spectrum:
    """Rebin to other pixels, its light kept.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    wavelength : ndarray of float64, shape (m,)
        Centres of the new pixels, Angstrom in vacuum.

    Returns
    -------
    Spectrum
        On those of the new pixels that it covers; the same where they are narrower than its own in the median, or less
        than 50.
    """
    inside = (wavelength >= record.wavelength[0]) & (wavelength <= record.wavelength[-1])
    new = wavelength[inside]
    if new.size < FEWEST or np.median(np.gradient(np.log(new))) < 0.999 * np.median(
        np.gradient(np.log(record.wavelength[(record.wavelength >= new[0]) & (record.wavelength <= new[-1])]))
    ):
        return record
    width = line_width(record)
    flux, ivar, mask = rebin(record.wavelength, record.flux, record.ivar, record.mask, new)
    return replace(
        record, wavelength=new, flux=flux.astype(np.float32), ivar=None if ivar is None else ivar.astype(np.float32),
        mask=mask, lsf_sigma=float(np.interp(REFERENCE, record.wavelength, width)),
    )  # fmt: skip


def cut(record: Spectrum, keep: np.ndarray) -> Spectrum:
    """Keep some of the pixels.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    keep : ndarray of bool, shape (n,)
        True = kept.

    Returns
    -------
    Spectrum
        The same where all are kept, or less than 50 would be.
    """
    if keep.all() or keep.sum() < FEWEST:
        return record
    ivar = None if record.ivar is None else record.ivar[keep]
    return replace(
        record, wavelength=record.wavelength[keep], flux=record.flux[keep], ivar=ivar, mask=record.mask[keep]
    )


def known_ivar(record: Spectrum) -> np.ndarray:
    """Inverse variance, estimated from the scatter where the record has none.

    Parameters
    ----------
    record : Spectrum
        The spectrum.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 where masked.
    """
    good = ~record.mask & np.isfinite(record.flux)
    if record.ivar is not None:
        return np.where(good, record.ivar, 0.0).astype(np.float64)
    sigma = difference_noise(record.flux, good)
    level = float(np.median(np.abs(record.flux[good]))) if good.any() else 1.0
    sigma = np.maximum(np.nan_to_num(sigma, nan=level or 1.0), 1e-3 * (level or 1.0))
    return np.where(good, 1 / sigma**2, 0.0)


def to_signal_to_noise(record: Spectrum, ratio: float, rng: np.random.Generator) -> Spectrum:
    """Add noise until the median signal-to-noise ratio is as asked.

    Half of the variance of a median pixel is that of the source's own photons, half that of the sky with its lines.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    ratio : float
        Median signal-to-noise ratio per 69 km/s afterwards.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Spectrum
        With an ``ivar`` of the whole noise, also where it had none; the same where it is as low already.
    """
    ivar = known_ivar(record)
    good = ivar > 0
    if not good.any() or not ratio > 0:
        return record
    flux = record.flux.astype(np.float64)
    now = signal_to_noise(record.wavelength, flux, ivar, good, STEP_KMS)
    if now is None or not now > ratio:
        return record
    own = np.where(good, 1 / np.where(good, ivar, 1.0), 0.0)
    level = float(np.median(np.abs(flux[good])))
    shape = (1 - SKY_SHARE) * np.maximum(flux, 0.02 * level) + SKY_SHARE * level * (1 + 10 * sky_spectrum(record))

    def added(factor: float) -> np.ndarray:
        return np.where(good, np.maximum(factor * shape - own, 0.0), 0.0)

    low, high = 0.0, 1.0
    while _ratio(record, own + added(high), good) > ratio:
        high *= 4
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _ratio(record, own + added(middle), good) > ratio else (low, middle)
    extra = added(high)
    noisy = flux + rng.normal(size=flux.shape) * np.sqrt(extra)
    whole = np.where(good, 1 / np.where(good, own + extra, 1.0), 0.0)
    return replace(record, flux=noisy.astype(np.float32), ivar=whole.astype(np.float32))


def _ratio(record: Spectrum, variance: np.ndarray, good: np.ndarray) -> float:
    ivar = np.where(good, 1 / np.where(good, variance, 1.0), 0.0)
    return signal_to_noise(record.wavelength, record.flux.astype(np.float64), ivar, good, STEP_KMS) or 0.0


def sky_spectrum(record: Spectrum) -> np.ndarray:
    """Lines of the night sky as this spectrograph sees them.

    Parameters
    ----------
    record : Spectrum
        The spectrum.

    Returns
    -------
    ndarray of float64, shape (n,)
        Each line has a height of one.
    """
    width = line_width(record) / C_KMS
    lines = np.zeros(record.flux.size)
    for line in SKY_LINES:
        lines += np.exp(-0.5 * (np.log(record.wavelength / line) / width) ** 2)
    return lines


def sky_residual(record: Spectrum, size: float, rng: np.random.Generator) -> Spectrum:
    """Leave residuals of the lines of the sky, of either sign, and say so in the errors.

    Parameters
    ----------
    record : Spectrum
        In the frame of the observer.
    size : float
        Standard deviation of a residual, in sigma of a pixel.
    rng : Generator
        Source of the residuals.

    Returns
    -------
    Spectrum
        With their variance in ``ivar`` where it has one; the same where no line lies in its range.
    """
    ivar = known_ivar(record)
    good = ivar > 0
    if not good.any() or not size > 0:
        return record
    sigma = np.where(good, 1 / np.sqrt(np.where(good, ivar, 1.0)), 0.0)
    width = line_width(record) / C_KMS
    flux, spread = record.flux.astype(np.float64), np.zeros(record.flux.size)
    for line in SKY_LINES:
        profile = size * sigma * np.exp(-0.5 * (np.log(record.wavelength / line) / width) ** 2)
        flux = flux + rng.normal() * profile
        spread += profile**2
    if not (spread > 0).any():
        return record
    whole = np.where(good, 1 / np.where(good, sigma**2 + spread, 1.0), 0.0).astype(np.float32)
    return replace(record, flux=flux.astype(np.float32), ivar=None if record.ivar is None else whole)


def shifted(record: Spectrum, v_rad: float) -> Spectrum:
    """Give the source another velocity along the line of sight.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    v_rad : float
        km/s, away from us where positive, on top of what it has.

    Returns
    -------
    Spectrum
        On pixels that move along, so that nothing is interpolated; one at rest is heliocentric afterwards.
    """
    if v_rad == 0:
        return record
    frame = "heliocentric" if record.frame == "rest" else record.frame
    return replace(record, wavelength=record.wavelength * (1 + v_rad / C_KMS), frame=frame)


def redshifted(record: Spectrum, z: float, z_new: float) -> Spectrum:
    """Take a galaxy to a higher redshift, fainter by the distance of the Planck 2018 cosmology.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    z, z_new : float
        Redshift as it is and as it shall be; of a source at 0 only ``1 + z`` counts, its distance is not known.

    Returns
    -------
    Spectrum
        With errors that follow the flux; the same where ``z_new`` is not above ``z``.
    """
    if not z_new > z >= 0:
        return record
    stretch = (1 + z_new) / (1 + z)
    dimming = 1 / stretch
    if z > 0:
        distance = Planck18.luminosity_distance([z, z_new]).value
        dimming *= float(distance[0] / distance[1]) ** 2
    frame = "heliocentric" if record.frame == "rest" else record.frame
    moved = replace(record, wavelength=record.wavelength * stretch, frame=frame, z_header=None)
    return scaled(moved, np.full(record.flux.size, dimming))


def scaled(record: Spectrum, factors: np.ndarray) -> Spectrum:
    """Multiply a spectrum, and its errors with it.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    factors : ndarray, shape (n,)
        Positive.

    Returns
    -------
    Spectrum
        Signal to noise as before.
    """
    ivar = None if record.ivar is None else (record.ivar / factors**2).astype(np.float32)
    return replace(record, flux=(record.flux * factors).astype(np.float32), ivar=ivar)


def reddened(record: Spectrum, ebv: float) -> Spectrum:
    """Put dust before a spectrum.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    ebv : float
        Colour excess E(B-V) of Fitzpatrick (1999) dust with R_V = 3.1.

    Returns
    -------
    Spectrum
        With errors that follow the flux; the same without dust, or beyond the wavelengths of the law.
    """
    if not ebv > 0 or record.wavelength[0] < SHORTEST or record.wavelength[-1] > LONGEST:
        return record
    return scaled(record, 10 ** (-0.4 * extinction(record.wavelength, ebv)))


def noisier(record: Spectrum, factor: float, rng: np.random.Generator) -> Spectrum:
    """Lower the signal-to-noise ratio.

    Parameters
    ----------
    record : Spectrum
        The spectrum.
    factor : float
        By which.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Spectrum
        The same for a factor not above 1.
    """
    ivar = known_ivar(record)
    now = signal_to_noise(record.wavelength, record.flux.astype(np.float64), ivar, ivar > 0, STEP_KMS)
    if now is None or not now > 0 or not factor > 1 or not math.isfinite(now):
        return record
    return to_signal_to_noise(record, now / factor, rng)
