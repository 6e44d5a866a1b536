"""An image becomes its sources: sky, cosmic rays, detection, photometry, and a stamp of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transforms.astrometry import local_scale, pixel_positions, position_angles, sky_positions
from transforms.crop import crop
from transforms.denoise import can_tell_cosmic_rays, find_sky, mask_cosmic_rays, subtract_background
from transforms.flags import bits
from transforms.morphology import measure_morphology
from transforms.numerics.background import BOX, Sky, native
from transforms.numerics.detection import HUGE, MINIMUM_AREA, SEEING, THRESHOLD, Detections, detect
from transforms.numerics.photometry import Planes, holds_source_noise, photometry, windowed
from transforms.numerics.stamps import is_cut_by_edge, stamp_side
from transforms.records import Cutout, Image
from transforms.source_columns import COLUMNS
from transforms.source_rows import add_magnitude, photometry_flags, plane_rows

__all__ = ["COLUMNS", "measure_image"]
STAMP_SMALLEST, STAMP_LARGEST = 64, 256
STAMP_RADII = 3.0 / 2.5  #: Half a stamp in units of ``kron_radius``, that is three Kron radii.
ROWS_PER_PLANE = 1_000_000  #: ``row`` is the number of the tile or band times this plus that of the source in it.


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Sources of one image, detections first and then targets."""

    objects: np.ndarray
    names: list[str]
    n_detected: int
    values: dict[str, np.ndarray]
    flags: np.ndarray


def measure_image(image: Image, options: Mapping[str, Any]) -> Iterator[Cutout]:
    """Find and measure the sources of an image or of a tile.

    Parameters
    ----------
    image : Image
        With its sky.
    options : mapping
        ``threshold`` (signal to noise), ``minimum_area`` (pixels), ``background_box`` (pixels), ``cosmic_rays``
        (True, False, or ``"auto"``: where they can be told), ``stamp`` (smallest and largest side), ``targets``
        (sequence of object_id, ra, dec: measured beside what is detected, with the flag ``FORCED``).

    Yields
    ------
    Cutout
        One for each source whose centroid lies in the core of the tile, masked ones included, with ``measured``.

    Raises
    ------
    Unusable
        For a plane without noise.

    Notes
    -----
    The photon noise of a source is added to its flux error where the gain is known, and where the image's own noise
    plane does not hold it already.
    """
    sky = find_sky(image, int(options.get("background_box", BOX)))
    before = image.mask
    rays = options.get("cosmic_rays", "auto")
    if rays is True or (rays == "auto" and can_tell_cosmic_rays(image)):
        image = mask_cosmic_rays(image, sky)
    subtracted = subtract_background(image, sky)
    subtracted = replace(subtracted, whole_noise=image.ivar is not None and _has_whole_noise(subtracted))
    found = _find(subtracted, sky, options)
    if found is None:
        return
    found.flags[:] |= _pixel_flags(subtracted, found.objects, image.mask & ~before)
    yield from _cutouts(subtracted, sky, found, options)


def _has_whole_noise(image: Image) -> bool:
    """What the pixels tell of the noise plane, else what its kind tells."""
    if image.gain is None or image.ivar is None:
        return image.whole_noise
    usable = ~image.mask & (image.ivar > 0)
    variance = 1 / np.where(usable, image.ivar, 1)
    told = holds_source_noise(image.flux, variance, usable, image.gain)
    return image.whole_noise if told is None else told


def _find(image: Image, sky: Sky, options: Mapping[str, Any]) -> _Found | None:
    """Detect and measure all sources of a plane at once; positions stay in pixels of the tile."""
    weight = image.ivar if image.ivar is not None else np.zeros_like(image.flux)
    usable = ~image.mask & (weight > 0)
    noise = np.where(usable, 1 / np.sqrt(np.where(usable, weight, 1)), sky.noise).astype(np.float32)
    flux = native(np.where(np.isfinite(image.flux), image.flux, 0))
    # A saturated star is a source: its pixels are looked at by detection, and left out of the photometry.
    saturated = np.zeros(image.mask.shape, bool) if image.saturated is None else image.saturated
    hidden = image.mask & ~(saturated & np.isfinite(image.flux))
    fwhm = image.psf_fwhm or SEEING
    detected = detect(
        flux,
        np.where(hidden, HUGE, noise).astype(np.float32),
        hidden,
        fwhm=fwhm,
        threshold=float(options.get("threshold", THRESHOLD)),
        minimum_area=int(options.get("minimum_area", MINIMUM_AREA)),
    )
    forced, names = _forced(image, detected, fwhm, options.get("targets", ()))
    objects = np.concatenate([detected.objects, forced])
    if not len(objects):
        return None
    error = np.where(usable, noise, HUGE).astype(np.float32)
    gain = None if image.whole_noise else image.gain
    planes = Planes(flux, error, np.ascontiguousarray(image.mask), detected.segments, gain)
    values = photometry(planes, objects)
    n = len(detected.objects)
    values["x"], values["y"] = objects["x"].astype(float), objects["y"].astype(float)
    values["x"][:n], values["y"][:n] = windowed(planes, detected.objects, values["r50"][:n])
    flags = photometry_flags(values, objects)
    flags[:n] |= bits("CROWDED") if detected.undeblended else 0
    flags[n:] |= bits("FORCED")
    return _Found(objects, names, n, values, flags)


def _forced(image: Image, detected: Detections, fwhm: float, targets: Any) -> tuple[np.ndarray, list[str]]:
    """Objects of the size of the seeing at the targets that lie in the core of this tile."""
    names: list[str] = []
    objects = np.zeros(0, detected.objects.dtype)
    if image.wcs is None or targets is None or len(targets) == 0:
        return objects, names
    identifiers, ra, dec = zip(*targets, strict=True)
    x, y = pixel_positions(image.wcs, np.asarray(ra, float), np.asarray(dec, float))
    inside = np.flatnonzero(_in_core(image, x, y))
    objects = np.zeros(len(inside), detected.objects.dtype)
    objects["x"], objects["y"] = x[inside] - image.origin[1], y[inside] - image.origin[0]
    objects["a"] = objects["b"] = fwhm / 2.3548
    objects["errx2"] = objects["erry2"] = np.nan
    rows, columns = _pixel(image, objects["y"], objects["x"])
    objects["peak"] = np.where(np.isfinite(image.flux[rows, columns]), image.flux[rows, columns], 0)
    return objects, [str(identifiers[i]) for i in inside]


def _in_core(image: Image, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """True for positions in the core; its borders lie between pixels, so that neighbouring cores share nothing."""
    y0, y1, x0, x1 = image.core
    with np.errstate(invalid="ignore"):
        return (x >= x0 - 0.5) & (x < x1 - 0.5) & (y >= y0 - 0.5) & (y < y1 - 0.5)


def _pixel(image: Image, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ny, nx = image.flux.shape
    return np.clip(np.rint(y).astype(int), 0, ny - 1), np.clip(np.rint(x).astype(int), 0, nx - 1)


def _pixel_flags(image: Image, objects: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Flags that pixels about the centroid decide: 3 x 3 for the core, three standard deviations for the source."""
    flags = np.zeros(len(objects), np.int64)
    rows, columns = _pixel(image, objects["y"], objects["x"])
    ivar = image.ivar if image.ivar is not None else np.ones_like(image.flux)
    good = ivar[ivar > 0]
    low = 0.1 * float(np.median(good)) if good.size else 0.0
    reach = np.clip(np.ceil(3 * objects["a"]), 1, STAMP_LARGEST).astype(int)
    saturated = image.saturated
    for i, (row, column, half) in enumerate(zip(rows.tolist(), columns.tolist(), reach.tolist(), strict=True)):
        core = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        near = slice(max(row - half, 0), row + half + 1), slice(max(column - half, 0), column + half + 1)
        if image.mask[core].any():
            flags[i] |= bits("CORE_MASKED", "MASKED")
        if saturated is not None and saturated[near].any():
            flags[i] |= bits("SATURATED")
        if rays[near].any():
            flags[i] |= bits("COSMIC_RAY")
        if 0 < _sky_weight(image, ivar, row, column) < low:
            flags[i] |= bits("LOW_WEIGHT")
    return flags


def _sky_weight(image: Image, ivar: np.ndarray, row: int, column: int) -> float:
    """Weight of a pixel without the photons of the source, which make each bright star noisy."""
    weight = float(ivar[row, column])
    if not image.whole_noise or image.gain is None or weight <= 0:
        return weight
    photons = max(float(image.flux[row, column]), 0.0) / image.gain
    return 1 / max(1 / weight - photons, 0.1 / weight)


def _cutouts(image: Image, sky: Sky, found: _Found, options: Mapping[str, Any]) -> Iterator[Cutout]:
    values = found.values
    local_y, local_x = values["y"].copy(), values["x"].copy()
    values["y"], values["x"] = local_y + image.origin[0], local_x + image.origin[1]
    rows = plane_rows(values, found.objects)
    ra, dec, angle, scale = _on_the_sky(image, values, found.objects)
    smallest, largest = options.get("stamp", (STAMP_SMALLEST, STAMP_LARGEST))
    at_y, at_x = _pixel(image, local_y, local_x)
    common = {
        "band": image.band or None,
        "exptime": image.exptime,
        "pixel_scale": scale,
        "psf_fwhm": image.psf_fwhm,
        "flux_unit": image.unit,
    }
    for i in np.flatnonzero(_in_core(image, values["x"], values["y"])).tolist():
        row, forced = rows[i], i >= found.n_detected
        noise = float(sky.noise[at_y[i], at_x[i]])
        row.update(common)
        row["theta"] = angle[i]
        row["is_forced"] = forced
        row["background"], row["background_rms"] = float(sky.level[at_y[i], at_x[i]]), noise
        row["snr_peak"] = float(found.objects["peak"][i]) / noise if noise > 0 else None
        row["pos_err"] = _position_error(row, scale)
        add_magnitude(row, image.zero_point)
        side = stamp_side(STAMP_RADII * float(values["kron_radius"][i]), smallest, largest)
        flags = image.flags | int(found.flags[i])
        flags |= bits("EDGE") if is_cut_by_edge(image.flux.shape, local_y[i], local_x[i], side) else 0
        cutout = Cutout(
            source=image.source,
            hdu=image.hdu,
            row=image.row * ROWS_PER_PLANE + i,
            object_id=_name(found, i, ra[i], dec[i], image),
            ra=ra[i],
            dec=dec[i],
            mjd=image.mjd,
            time_scale=image.time_scale,
            flags=flags | (bits("NO_POSITION") if ra[i] is None else 0),
            measured=row,
            bands=(image.band,),
            pixel_scale=scale,
            unit=image.unit,
            zero_point=image.zero_point,
            psf_fwhm=image.psf_fwhm,
            **crop(image, values["y"][i], values["x"][i], side),
        )
        yield replace(cutout, measured={**row, **measure_morphology(cutout)})


def _on_the_sky(
    image: Image, values: Mapping[str, np.ndarray], objects: np.ndarray
) -> tuple[list[float | None], list[float | None], list[float | None], float | None]:
    if image.wcs is None:
        nothing: list[float | None] = [None] * len(objects)
        return nothing, nothing, nothing, None
    ra, dec = sky_positions(image.wcs, values["x"], values["y"])
    angle = position_angles(image.wcs, values["x"], values["y"], objects["theta"].astype(float))
    lost = ~(np.isfinite(ra) & np.isfinite(dec))
    columns = [
        [None if gone or not np.isfinite(v) else v for v, gone in zip(column.tolist(), lost.tolist(), strict=True)]
        for column in (ra, dec, angle)
    ]
    y0, y1, x0, x1 = image.core
    return columns[0], columns[1], columns[2], local_scale(image.wcs, (x0 + x1) / 2, (y0 + y1) / 2)


def _position_error(row: Mapping[str, Any], scale: float | None) -> float | None:
    if scale is None or row["x_err"] is None or row["y_err"] is None:
        return None
    return scale * float(np.sqrt((row["x_err"] ** 2 + row["y_err"] ** 2) / 2))


def _name(found: _Found, i: int, ra: float | None, dec: float | None, image: Image) -> str:
    """The target's own name, else the position to a hundredth of an arcsec, else file, extension and number."""
    if i >= found.n_detected:
        return found.names[i - found.n_detected]
    if ra is None or dec is None:
        return f"{image.source}:{image.hdu}:{image.row * ROWS_PER_PLANE + i}"
    seconds = round(ra * 3600 / 15 * 1000) % 86_400_000
    hours, rest = divmod(seconds, 3_600_000)
    minutes, milli = divmod(rest, 60_000)
    hundredths = round(abs(dec) * 360_000)
    degrees, left = divmod(hundredths, 360_000)
    arcmin, arcsec = divmod(left, 6_000)
    sign = "-" if dec < 0 else "+"
    return f"J{hours:02d}{minutes:02d}{milli / 1000:06.3f}{sign}{degrees:02d}{arcmin:02d}{arcsec / 100:05.2f}"
