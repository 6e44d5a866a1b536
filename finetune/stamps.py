"""What an image network is shown of a stamp: two square views, whatever the number of bands and the kind of file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from transforms.bands import wavelength
from transforms.morphology import NUMBERS, PREFIX, measure_morphology
from transforms.numerics.stretch import SKY_LEVEL, asinh_display, window
from transforms.records import Cutout

SIDE = 160  #: Pixels of a view.
CLOSE = 8.0  #: Side of the close view in half-light radii; SDSS display stamps have about 17.


def views(cutout: Cutout, r50: float | None) -> np.ndarray:
    """Show the whole stamp and its middle.

    Parameters
    ----------
    cutout : Cutout
        Display values, or flux in any unit with or without ivar.
    r50 : float or None
        Half-light radius in pixels, which sets the side of the close view (between a quarter and the whole of the
        stamp); half of the stamp where None.

    Returns
    -------
    ndarray of uint8, shape (2, 3, SIDE, SIDE)
        Whole and close view in red, green, blue; masked pixels are shown as sky.
    """
    shown = rgb(cutout)
    side = max(shown.shape[1:])
    close = 0.5 * side if r50 is None else float(np.clip(CLOSE * r50, 0.25 * side, side))
    centre = ((shown.shape[1] - 1) / 2, (shown.shape[2] - 1) / 2)
    return np.stack([_resized(window(shown, centre, s, SKY_LEVEL)) for s in (side, close)])


def rgb(cutout: Cutout) -> np.ndarray:
    """Three display planes of a stamp.

    Parameters
    ----------
    cutout : Cutout
        The stamp; one band is shown as grey, two as their mean between them, of more the reddest, middle and bluest.

    Returns
    -------
    ndarray of float32, shape (3, ny, nx)
        0 to 255.
    """
    flux = np.asarray(cutout.flux, np.float32)
    good = ~cutout.mask & np.isfinite(flux)
    if cutout.unit == "display":
        planes = np.where(good, np.clip(flux, 0, 255), SKY_LEVEL).astype(np.float32)
    else:
        planes = np.stack([asinh_display(_signal_to_noise(cutout, flux, good, i)) for i in range(len(flux))])
        order = sorted(range(len(flux)), key=lambda i: (_rank(cutout, i), i), reverse=True)  # red first
        planes = planes[order]
    if len(planes) == 1:
        return np.repeat(planes, 3, axis=0)
    if len(planes) == 2:
        return np.stack([planes[0], planes.mean(axis=0), planes[1]])
    return planes[[0, len(planes) // 2, -1]]


def _rank(cutout: Cutout, index: int) -> float:
    name = cutout.bands[index] if index < len(cutout.bands) else ""
    return wavelength(name) or 0.0


def _signal_to_noise(cutout: Cutout, flux: np.ndarray, good: np.ndarray, index: int) -> np.ndarray:
    """One plane over its sky noise: the median of ivar, or the scatter of neighbouring pixels."""
    plane, use = flux[index], good[index].copy()
    if cutout.ivar is not None:
        use &= np.isfinite(cutout.ivar[index]) & (cutout.ivar[index] > 0)
        sigma = float(np.median(cutout.ivar[index][use])) ** -0.5 if use.any() else 0.0
    else:
        rest = np.diff(np.where(use, plane, np.nan), axis=1)
        rest = rest[np.isfinite(rest)]
        sigma = float(1.4826 * np.median(np.abs(rest)) / np.sqrt(2)) if rest.size else 0.0
    if not (np.isfinite(sigma) and sigma > 0):
        return np.zeros_like(plane)
    return np.where(use, plane / sigma, 0).astype(np.float32)


def _resized(planes: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0) + 0.5).astype(np.uint8))
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def prepare_stamp(cutout: Cutout) -> Mapping[str, np.ndarray]:
    """Turn a stamp into the input of the morphology model; pure, and never raises for poor data.

    Parameters
    ----------
    cutout : Cutout
        With or without the morphology numbers in ``measured`` (they are measured here where they are not).

    Returns
    -------
    mapping of str to ndarray
        ``views`` uint8 (2, 3, SIDE, SIDE); ``numbers`` float32 (n,), 0 where missing; ``known`` float32 (n,), 1 where
        a number is there; ``usable`` float32 (), 0 where the stamp holds no data at all.
    """
    measured: Mapping[str, float | None] = cutout.measured
    if any(PREFIX + name not in measured for name in NUMBERS):
        measured = measure_morphology(cutout)
    values = [measured[PREFIX + name] for name in NUMBERS]
    known = np.array([v is not None and np.isfinite(v) for v in values], np.float32)
    numbers = np.array([v if k else 0.0 for v, k in zip(values, known, strict=True)], np.float32)
    good = ~cutout.mask & np.isfinite(cutout.flux)
    if cutout.ivar is not None:
        good &= np.isfinite(cutout.ivar) & (cutout.ivar > 0)
    enough = bool(good.mean() >= 0.02) and float(np.ptp(cutout.flux[good])) > 0 if good.any() else False
    return {
        "views": views(cutout, measured[PREFIX + "r50"]),
        "numbers": numbers,
        "known": known,
        "usable": np.float32(enough) * np.ones((), np.float32),
    }
