"""Stamps: cut from an image about a position, or come alone and measured as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from transforms.flags import bits
from transforms.morphology import detection_plane, measure_morphology
from transforms.numerics.background import native
from transforms.numerics.detection import HUGE, SEEING, detect
from transforms.numerics.photometry import Planes, photometry, windowed
from transforms.numerics.stamps import cut
from transforms.records import Cutout, Image
from transforms.source_columns import COLUMNS
from transforms.source_rows import add_magnitude, photometry_flags, plane_rows

__all__ = ["COLUMNS", "crop", "measure_cutout"]
CENTRAL = 0.25  #: The object of a stamp lies within this share of the side from the middle.


def crop(image: Image, y: float, x: float, side: int) -> dict[str, Any]:
    """Cut flux, inverse variance and mask of a square about a position.

    Parameters
    ----------
    image : Image
        Sky-subtracted, with ``ivar``.
    y, x : float
        Pixels of the full plane.
    side : int
        Pixels of a side.

    Returns
    -------
    dict
        ``flux``, ``ivar``, ``mask`` of shape ``(1, side, side)``: copies. Pixels outside of the image are masked.
    """
    y, x = y - image.origin[0], x - image.origin[1]
    mask = cut(image.mask, y, x, side, fill=True)
    flux = cut(image.flux, y, x, side, fill=0.0)
    flux[~np.isfinite(flux)] = 0.0
    ivar = None if image.ivar is None else cut(image.ivar, y, x, side, fill=0.0)
    return {"flux": flux[None], "ivar": None if ivar is None else ivar[None], "mask": mask[None]}


def measure_cutout(cutout: Cutout, options: Mapping[str, Any]) -> Cutout:
    """Measure the object in the middle of a stamp that came alone.

    Parameters
    ----------
    cutout : Cutout
        The stamp; several bands are averaged, a wide one in blocks.
    options : mapping
        ``threshold`` of detection; nothing else is used.

    Returns
    -------
    Cutout
        With ``measured`` and ``flags``: position, flux, size and shape of the object, and its morphology. Where there
        is no object at the middle the flag ``MEASURE_FAILED`` stands and its numbers are null.
    """
    measured: dict[str, Any] = {
        "band": ",".join(band for band in cutout.bands if band) or None,
        "pixel_scale": cutout.pixel_scale,
        "psf_fwhm": cutout.psf_fwhm,
        "flux_unit": cutout.unit,
        "is_forced": False,
    }
    plane, good, sigma, block = detection_plane(cutout)
    if plane.size == 0 or not good.any():
        return replace(cutout, measured=measured, flags=cutout.flags | bits("NO_DATA", "MEASURE_FAILED"))
    row, flags = None, 0
    if np.isfinite(sigma) and sigma > 0:
        row, flags = _central(cutout, plane, good, sigma, block, options)
    measured.update(measure_morphology(cutout))
    if row is None:
        return replace(cutout, measured=measured, flags=cutout.flags | flags | bits("MEASURE_FAILED"))
    add_magnitude(row, cutout.zero_point)
    measured.update(row)
    return replace(cutout, measured=measured, flags=cutout.flags | flags)


def _central(
    cutout: Cutout, plane: np.ndarray, good: np.ndarray, sigma: float, block: int, options: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, int]:
    flux, mask = native(np.where(good, plane, 0)), ~good
    error = np.where(good, np.float32(sigma), HUGE).astype(np.float32)
    fwhm = (cutout.psf_fwhm or SEEING * block) / block
    found = detect(flux, error, mask, fwhm=fwhm, threshold=float(options.get("threshold", 4.5)))
    middle = (np.array(plane.shape) - 1) / 2
    if not len(found.objects):
        return None, 0
    distance = np.hypot(found.objects["y"] - middle[0], found.objects["x"] - middle[1])
    index = int(np.argmin(distance))
    if distance[index] > CENTRAL * min(plane.shape):
        return None, 0
    one = found.objects[index : index + 1]
    planes = Planes(flux, error, mask, found.segments, None, block)
    values = photometry(planes, one)
    x, y = windowed(planes, one, values["r50"])
    offset = [(n - m * block) // 2 for n, m in zip(cutout.flux.shape[1:], plane.shape, strict=True)]
    values["x"], values["y"] = (x + 0.5) * block - 0.5 + offset[1], (y + 0.5) * block - 0.5 + offset[0]
    row = plane_rows(values, one, block)[0]
    row["snr_peak"] = float(one["peak"][0] / sigma)
    row["background_rms"] = float(sigma * block)
    return row, int(photometry_flags(values, one)[0])
