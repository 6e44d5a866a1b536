"""What another telescope, a worse night or a greater distance makes of a stamp. Record in, record out.

Every function gives back the very record it got where there is nothing to do: data are never made better. The point
spread function of a record that does not state it counts as two pixels wide, the least that its sampling can hold.
Display images (JPEG, PNG) have no linear flux: what needs one leaves them as they are, and seeing and pixels act on the
values shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from astropy.cosmology import Planck18

from transforms.bands import wavelength
from transforms.numerics.extinction import extinction
from transforms.numerics.kernels import FWHM_PER_SIGMA, blur_plane
from transforms.numerics.rescale import rescale_plane
from transforms.records import Cutout

NYQUIST = 2.0  #: Pixels; width at half maximum of a point where the record does not state it.
FEWEST = 8  #: Pixels of a side below which a stamp is not made smaller.
GAMMA = 0.039  #: Ivezic et al. (2019), ApJ 873, 111, equation 5: share of the sky in the noise at the 5 sigma limit.


def is_linear(record: Cutout) -> bool:
    """Whether pixel values are proportional to light.

    Parameters
    ----------
    record : Cutout
        Any.

    Returns
    -------
    bool
        False for display images.
    """
    return record.unit != "display"


def to_seeing(record: Cutout, fwhm: float) -> Cutout:
    """Broaden points to a given width, by the Gaussian that is missing.

    Parameters
    ----------
    record : Cutout
        The stamp.
    fwhm : float
        Full width at half maximum of a point afterwards, pixels.

    Returns
    -------
    Cutout
        Its light kept, ``ivar`` that of each pixel alone; the same where points are as wide already.
    """
    own = record.psf_fwhm or NYQUIST
    if not fwhm > own * (1 + 1e-6):
        return record
    flux, ivar, mask = _each(record, partial(blur_plane, sigma=math.sqrt(fwhm**2 - own**2) / FWHM_PER_SIGMA))
    return replace(record, flux=flux, ivar=ivar, mask=mask, psf_fwhm=fwhm)


def seen_through(record: Cutout, fwhm: float, rng: np.random.Generator) -> Cutout:
    """Worsen the seeing, and add the noise that the convolution took from each pixel: a worse night is not less noisy.

    Parameters
    ----------
    record : Cutout
        The stamp.
    fwhm : float
        Full width at half maximum of a point afterwards, pixels.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Cutout
        The same where points are as wide already.
    """
    worse = to_seeing(record, fwhm)
    return record if worse is record else to_noise(worse, sky_sigma(record), rng)


def to_larger_pixels(record: Cutout, factor: float) -> Cutout:
    """Put a stamp on larger pixels, its light kept.

    Parameters
    ----------
    record : Cutout
        The stamp.
    factor : float
        Size of a new pixel in old ones.

    Returns
    -------
    Cutout
        With fewer pixels; display values are means, not sums. The same where ``factor`` is not above 1, or where less
        than 8 pixels would be left.
    """
    if not factor > 1 + 1e-3 or min(record.flux.shape[1:]) / factor < FEWEST:
        return record
    flux, ivar, mask = _each(record, partial(rescale_plane, factor=factor))
    if not is_linear(record):
        flux = (flux / factor**2).astype(np.float32)
    # A mean over f pixels broadens by the variance of a box, less that of the old pixel.
    width = math.hypot(record.psf_fwhm or NYQUIST, FWHM_PER_SIGMA * math.sqrt((factor**2 - 1) / 12)) / factor
    return replace(
        record, flux=flux, ivar=ivar, mask=mask, psf_fwhm=width,
        pixel_scale=None if record.pixel_scale is None else record.pixel_scale * factor,
    )  # fmt: skip


def on_larger_pixels(record: Cutout, factor: float, rng: np.random.Generator) -> Cutout:
    """Put a stamp on larger pixels whose noise is independent, as that of a camera is: its variance goes with the area.

    Parameters
    ----------
    record : Cutout
        The stamp.
    factor : float
        Size of a new pixel in old ones.
    rng : Generator
        Source of the noise that sharing old pixels between new ones averaged away.

    Returns
    -------
    Cutout
        The same where ``to_larger_pixels`` leaves it.
    """
    coarse = to_larger_pixels(record, factor)
    return record if coarse is record else to_noise(coarse, factor * sky_sigma(record), rng)


def sky_sigma(record: Cutout) -> np.ndarray:
    """Noise of the sky in each band.

    Parameters
    ----------
    record : Cutout
        The stamp.

    Returns
    -------
    ndarray of float64, shape (n_band,)
        One sigma of a pixel by the median of ``ivar``, or by the differences of neighbours where it has none.
    """
    out = np.zeros(len(record.flux))
    for i, plane in enumerate(record.flux):
        good = ~record.mask[i] & np.isfinite(plane)
        if record.ivar is not None:
            good &= record.ivar[i] > 0
            out[i] = float(np.median(record.ivar[i][good])) ** -0.5 if good.any() else 0.0
        else:
            steps = np.diff(np.where(good, plane, np.nan), axis=1)
            steps = np.abs(steps[np.isfinite(steps)])
            out[i] = 1.4826 * float(np.median(steps)) / math.sqrt(2) if steps.size else 0.0
    return out


def to_noise(
    record: Cutout, sigma: Sequence[float] | np.ndarray, rng: np.random.Generator, photons: Sequence[float] = ()
) -> Cutout:
    """Add what noise is missing.

    Parameters
    ----------
    record : Cutout
        A stamp of linear flux.
    sigma : sequence of float
        Noise of the sky in a pixel of each band afterwards, in the record's unit; NaN leaves a band as it is.
    rng : Generator
        Source of the noise.
    photons : sequence of float
        Variance for one unit of the source's own light, in the record's unit, by band; none where empty.

    Returns
    -------
    Cutout
        With ``ivar`` of the whole noise where it was known; the same where every pixel is as noisy already.
    """
    if not is_linear(record):
        return record
    own = np.broadcast_to(np.square(sky_sigma(record))[:, None, None], record.flux.shape).astype(np.float64)
    if record.ivar is not None:
        own = np.where(record.ivar > 0, 1 / np.where(record.ivar > 0, record.ivar, 1.0).astype(np.float64), own)
    wanted = np.square(np.asarray(sigma, np.float64))[:, None, None] * np.ones(record.flux.shape)
    if len(photons):
        wanted += np.asarray(photons, np.float64)[:, None, None] * np.maximum(record.flux, 0)
    added = np.where(record.mask | ~np.isfinite(wanted), 0.0, np.maximum(wanted - own, 0.0))
    if not (added > 0).any():
        return record
    flux = record.flux + (rng.normal(size=added.shape) * np.sqrt(added)).astype(np.float32)
    ivar = None
    if record.ivar is not None:
        ivar = np.where(record.ivar > 0, 1 / (own + added), 0.0).astype(np.float32)
    return replace(record, flux=flux.astype(np.float32), ivar=ivar)


def depth_noise(depth: float, zero_point: float, fwhm: float) -> tuple[float, float]:
    """Noise of a pixel from the limit of a survey.

    Parameters
    ----------
    depth : float
        AB magnitude of a point seen at five sigma.
    zero_point : float
        AB magnitude of one unit of flux.
    fwhm : float
        Width of a point, pixels.

    Returns
    -------
    sigma, photons : float
        Of the sky, for a point that covers ``2.266 fwhm**2`` pixels (Rubin's SMTN-002); variance for one unit of a
        source's own light (``GAMMA``).
    """
    limit = 10 ** (-0.4 * (depth - zero_point))
    return math.sqrt(GAMMA) * limit / math.sqrt(2.266 * fwhm**2), (0.04 - GAMMA) * limit


def fainter(record: Cutout, magnitudes: float, rng: np.random.Generator) -> Cutout:
    """Dim a stamp and keep its noise.

    Parameters
    ----------
    record : Cutout
        A stamp of linear flux.
    magnitudes : float
        How much fainter.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Cutout
        The same where nothing is dimmed.
    """
    if not is_linear(record) or not magnitudes > 0:
        return record
    sigma = sky_sigma(record)
    return to_noise(scaled(record, np.full(len(record.flux), 10 ** (-0.4 * magnitudes))), sigma, rng)


def scaled(record: Cutout, factors: np.ndarray) -> Cutout:
    """Multiply each band, and its errors with it.

    Parameters
    ----------
    record : Cutout
        A stamp of linear flux.
    factors : ndarray, shape (n_band,)
        Positive.

    Returns
    -------
    Cutout
        The same for display images.
    """
    if not is_linear(record):
        return record
    by = np.asarray(factors, np.float64)[:, None, None]
    ivar = None if record.ivar is None else (record.ivar / by**2).astype(np.float32)
    return replace(record, flux=(record.flux * by).astype(np.float32), ivar=ivar)


def reddened(record: Cutout, ebv: float) -> Cutout:
    """Put dust before a stamp: each band dims as its middle does.

    Parameters
    ----------
    record : Cutout
        A stamp of linear flux with named bands.
    ebv : float
        Colour excess E(B-V) of Fitzpatrick (1999) dust with R_V = 3.1.

    Returns
    -------
    Cutout
        The same where a band is not known.
    """
    waves = [wavelength(band) for band in record.bands]
    if not ebv > 0 or not is_linear(record) or any(w is None for w in waves):
        return record
    return scaled(record, 10 ** (-0.4 * extinction(10.0 * np.array(waves, float), ebv)))


def keep_bands(record: Cutout, keep: Sequence[bool]) -> Cutout:
    """Drop bands.

    Parameters
    ----------
    record : Cutout
        The stamp.
    keep : sequence of bool
        For each band.

    Returns
    -------
    Cutout
        The same where all are kept, or none.
    """
    if all(keep) or not any(keep):
        return record
    chosen = np.flatnonzero(keep)
    names = tuple(record.bands[i] for i in chosen) if len(record.bands) == len(record.flux) else ("",) * len(chosen)
    ivar = None if record.ivar is None else record.ivar[chosen]
    return replace(record, flux=record.flux[chosen], ivar=ivar, mask=record.mask[chosen], bands=names)


def redshifted(record: Cutout, z: float, z_new: float, rng: np.random.Generator) -> Cutout:
    """Take a galaxy to a higher redshift: smaller, dimmed by ``(1 + z)**4`` in surface brightness, as noisy as before.

    Angular size goes with the distance of the Planck 2018 cosmology; the point spread function stays, by the Gaussian
    that is missing. The spectrum is taken as flat: no light moves from band to band.

    Parameters
    ----------
    record : Cutout
        A stamp of linear flux.
    z, z_new : float
        Redshift as it is and as it shall be.
    rng : Generator
        Source of the noise.

    Returns
    -------
    Cutout
        With fewer pixels of the same size; the same where the galaxy would look larger or less than 8 pixels be left.
    """
    if not is_linear(record) or not z_new > z > 0:
        return record
    distance = Planck18.angular_diameter_distance([z, z_new]).value
    factor = float(distance[1] / distance[0])
    if not factor > 1 + 1e-3 or min(record.flux.shape[1:]) / factor < FEWEST:
        return record
    sigma, width = sky_sigma(record), record.psf_fwhm or NYQUIST
    small = to_larger_pixels(record, factor)
    # The sum over factor**2 pixels times the dimming of each is the ratio of luminosity distances squared.
    small = scaled(small, np.full(len(small.flux), ((1 + z) / (1 + z_new)) ** 4 / factor**2))
    small = replace(small, pixel_scale=record.pixel_scale)
    return to_noise(to_seeing(small, width), sigma, rng)


def sky_residual(record: Cutout, size: float, rng: np.random.Generator) -> Cutout:
    """Leave a part of the sky in a stamp: a constant and a slope in each band.

    Parameters
    ----------
    record : Cutout
        A stamp of linear flux.
    size : float
        Standard deviation of the constant, and of the slope from the middle to the edge, in sigma of a pixel.
    rng : Generator
        Source of the residual.

    Returns
    -------
    Cutout
        ``ivar`` is as it was: a pipeline does not know what it left.
    """
    if not is_linear(record) or not size > 0:
        return record
    y, x = (np.linspace(-1, 1, n) for n in record.flux.shape[1:])
    level = rng.normal(size=(len(record.flux), 3)) * size * sky_sigma(record)[:, None]
    planes = level[:, :1, None] + level[:, 1:2, None] * y[:, None] + level[:, 2:, None] * x[None, :]
    return replace(record, flux=np.where(record.mask, record.flux, record.flux + planes).astype(np.float32))


def _each(record: Cutout, act: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Apply a function of (flux, variance, good) to each band."""
    known = record.ivar is not None
    out = []
    for i, plane in enumerate(record.flux):
        good = ~record.mask[i] & np.isfinite(plane)
        variance = None
        if record.ivar is not None:
            good = good & (record.ivar[i] > 0)
            variance = 1 / np.where(good, record.ivar[i], 1.0).astype(np.float64)
        out.append(act(plane, variance, good))
    flux = np.stack([one[0] for one in out]).astype(np.float32)
    mask = np.stack([~one[2] for one in out])
    if not known:
        return flux, None, mask
    weights = [np.where(good, 1 / np.where(spread > 0, spread, np.inf), 0.0) for _, spread, good in out]
    return flux, np.stack(weights).astype(np.float32), mask
