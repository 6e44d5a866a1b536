"""Take sky and cosmic rays out of an image. Pixels are marked, never replaced: photometry stays on native values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.numerics.background import BOX, MINIMUM_FREE, Sky, estimate_sky
from transforms.numerics.cosmic import cosmic_rays
from transforms.records import Image

#: Weights that differ from the noise of the pixels by more than this are taken as relative ones.
TRUSTED = 3.0
FAINTEST = 1e-18  #: The square of a smaller noise is no number in float32.
SAMPLED = 2.5  #: Seeing in pixels from which on a star can be told from a cosmic ray.


def find_sky(image: Image, box: int = BOX) -> Sky:
    """Estimate the sky of an image.

    Parameters
    ----------
    image : Image
        With its sky.
    box : int
        Pixels of a mesh cell.

    Returns
    -------
    Sky
        Level and noise.

    Raises
    ------
    Unusable
        For a plane without noise: what is significant in it can't be told.
    """
    sky = estimate_sky(image.flux, image.mask, box)
    if not np.isfinite(sky.noise_median) or sky.noise_median <= FAINTEST:
        value = float(np.median(image.flux[~image.mask]))
        what = "no noise" if sky.noise_median <= FAINTEST / 1e6 else "numbers too small for single precision"
        raise Unusable(f"the plane has {what}: its sky has rms {sky.noise_median:g} about a median of {value:g}")
    return sky


def subtract_background(image: Image, sky: Sky | None = None) -> Image:
    """Subtract the sky; give the image an inverse variance where it has none that can be trusted.

    Parameters
    ----------
    image : Image
        With its sky.
    sky : Sky, optional
        Estimated here where it is not given.

    Returns
    -------
    Image
        ``NO_ERROR`` is set where the noise was taken from the pixels, ``BACKGROUND_POOR`` where hardly any sky is free.
    """
    sky = find_sky(image) if sky is None else sky
    flags = image.flags | (bits("BACKGROUND_POOR") if sky.free < MINIMUM_FREE else 0)
    flux = np.where(image.mask & ~np.isfinite(image.flux), image.flux, image.flux - sky.level)
    ivar = image.ivar
    if ivar is None:
        ivar = np.where(image.mask, 0, 1 / np.maximum(sky.noise, FAINTEST) ** 2).astype(np.float32)
        flags |= bits("NO_ERROR")
    else:
        ratio = _noise_over_weight(flux, ivar, image.mask)
        if not 1 / TRUSTED < ratio < TRUSTED:
            ivar = (ivar / ratio**2).astype(np.float32)
            flags |= bits("NO_ERROR")
    return replace(image, flux=flux.astype(np.float32), ivar=ivar, flags=flags)


def _noise_over_weight(flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray) -> float:
    """Scatter of neighbour differences, which sources hardly change, over what the weights promise."""
    every = max(1, flux.size // 500_000)
    flux, ivar, mask = flux[::every], ivar[::every], mask[::every]  # half a million pixels tell it well enough
    good = ~mask[:, 1:] & ~mask[:, :-1] & (ivar[:, 1:] > 0) & (ivar[:, :-1] > 0)
    if good.sum() < 50:
        return 1.0
    differences = np.abs(flux[:, 1:] - flux[:, :-1])[good]
    stated = np.sqrt(1 / ivar[:, 1:][good] + 1 / ivar[:, :-1][good])
    ratio = 1.4826 * float(np.median(differences)) / float(np.median(stated))
    return ratio if ratio > 0 else 1.0


def can_tell_cosmic_rays(image: Image) -> bool:
    """Say whether cosmic rays should be looked for.

    Parameters
    ----------
    image : Image
        Any.

    Returns
    -------
    bool
        True for a single exposure with known gain and well-sampled stars that came without weights; with weights
        comes a mask in which its own pipeline has marked them.
    """
    return image.gain is not None and image.ivar is None and (image.psf_fwhm or 0) >= SAMPLED


def mask_cosmic_rays(image: Image, sky: Sky | None = None) -> Image:
    """Mask cosmic rays; the pixels keep their values.

    Parameters
    ----------
    image : Image
        A single exposure with known gain, with its sky.
    sky : Sky, optional
        Estimated here where it is not given.

    Returns
    -------
    Image
        With a larger mask.

    Raises
    ------
    Unusable
        Where the gain is not known.
    """
    if image.gain is None:
        raise Unusable(f"cosmic rays of {image.source} HDU {image.hdu} can't be told without a gain (gain is None)")
    sky = find_sky(image) if sky is None else sky
    hit = cosmic_rays(
        np.where(image.mask, sky.level, image.flux),
        image.mask,
        gain=image.gain,
        level=np.zeros_like(sky.level),
        noise=sky.noise,
        saturation=image.saturation,
    )
    return replace(image, mask=image.mask | hit)
