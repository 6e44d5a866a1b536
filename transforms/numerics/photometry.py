"""Fluxes, sizes and positions of sources on native pixels, with errors and masks (sep; Barbary 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep

from transforms.numerics.background import native

RADII = (3.0, 5.0, 8.0, 12.0)  #: Fixed circular apertures in pixels.
KRON_FACTOR = 2.5  #: SExtractor's FLUX_AUTO: 2.5 Kron radii ...
KRON_MINIMUM = 3.5  #: ... and at least 3.5 pixels.
KRON_WITHIN = 6.0  #: Ellipse scale within which the Kron radius is measured.
FRACTIONS = (0.2, 0.5, 0.8)
NEIGHBOUR_SHARE = 0.1
WIDEST_WINDOW = 12.0  #: Half-light radius beyond which a window gains nothing over the isophotal centroid, and is slow.
SURE, BRIGHT, FEWEST = 5.0, 0.1, 10  #: Pixels that tell it: their S/N, the share of a source's photons, how many.


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """What photometry needs of a plane, in the form that sep takes.

    Parameters
    ----------
    flux : ndarray of float32, shape (ny, nx)
        Sky-subtracted, finite.
    error : ndarray of float32, shape (ny, nx)
        Sky noise, finite, ``HUGE`` where worthless.
    mask : ndarray of bool, shape (ny, nx)
        Left out of sums, which are scaled up for the area lost.
    segments : ndarray of int32, shape (ny, nx)
        Number of the source plus one; 0 for sky.
    gain : float or None
        Electrons per unit, for the noise of the source itself; None adds none.
    block : int
        Native pixels on a side of a pixel of these planes; fixed radii are in native pixels.
    """

    flux: np.ndarray
    error: np.ndarray
    mask: np.ndarray
    segments: np.ndarray
    gain: float | None = None
    block: int = 1


def holds_source_noise(flux: np.ndarray, variance: np.ndarray, usable: np.ndarray, gain: float) -> bool | None:
    """Tell whether a noise plane holds the photon noise of the sources, which then must not be added once more.

    Pipelines differ, and few say what they do: weights of DECam's community pipeline hold it, those of Mosaic-3 do not.

    Parameters
    ----------
    flux : ndarray, shape (ny, nx)
        Sky-subtracted.
    variance : ndarray, shape (ny, nx)
        Square of the noise, in units of flux squared.
    usable : ndarray of bool, shape (ny, nx)
        Pixels to be used.
    gain : float
        Electrons per unit of flux.

    Returns
    -------
    bool or None
        True where the variance of bright pixels exceeds that of the sky by more than half of ``flux / gain``; None
        where hardly any pixel is bright enough to tell.
    """
    if not usable.any():
        return None
    sky = float(np.median(variance[usable]))
    bright = usable & (flux > SURE * np.sqrt(np.maximum(variance, sky))) & (flux > BRIGHT * sky * gain)
    if bright.sum() < FEWEST:
        return None
    return float(np.median((variance[bright] - sky) * gain / flux[bright])) > 0.5


def photometry(planes: Planes, objects: np.ndarray) -> dict[str, np.ndarray]:
    """Measure all sources of a plane at once.

    Parameters
    ----------
    planes : Planes
        The plane.
    objects : structured ndarray, shape (n,)
        With ``x``, ``y``, ``a``, ``b``, ``theta``, ``flux`` as ``sep.extract`` gives them.

    Returns
    -------
    dict of str to ndarray
        Arrays of shape (n,); NaN where a number can't be measured. ``kron_minimum``, ``crowded`` and ``truncated``
        are bool.
    """
    out: dict[str, np.ndarray] = {}
    x, y = objects["x"], objects["y"]
    a, b = np.maximum(objects["a"], 0.3), np.maximum(objects["b"], 0.3)
    theta = np.clip(objects["theta"], -np.pi / 2, np.pi / 2)
    common = {"err": planes.error, "mask": planes.mask, "gain": planes.gain}
    for radius in RADII:
        flux, error, flag = sep.sum_circle(planes.flux, x, y, radius / planes.block, **common)
        out[f"flux_aper_{radius:.0f}"], out[f"flux_aper_{radius:.0f}_err"] = _measured(flux, error, flag)
    scale, kron_flag = sep.kron_radius(planes.flux, x, y, a, b, theta, KRON_WITHIN, mask=planes.mask)
    scale = np.where(np.isfinite(scale) & (scale > 0), np.minimum(scale, KRON_WITHIN), 0.0) * KRON_FACTOR
    least = KRON_MINIMUM / planes.block
    small = ~(scale * np.sqrt(a * b) >= least) | (kron_flag & sep.APER_NONPOSITIVE != 0)
    major = np.where(small, least, scale * a)
    minor = np.where(small, least, scale * b)
    ellipse = (x, y, major, minor, theta, 1.0)
    flux, error, flag = sep.sum_ellipse(planes.flux, *ellipse, **common)
    out["flux_kron"], out["flux_kron_err"] = _measured(flux, error, flag)
    out["kron_radius"] = np.sqrt(major * minor)
    out["kron_minimum"], out["truncated"] = small, flag & sep.APER_TRUNC != 0
    out.update(_surroundings(planes, objects, ellipse, out["flux_kron"]))
    out.update(_sizes(planes, x, y, np.maximum(major, 6.0), out["flux_kron"]))
    return out


def _measured(flux: np.ndarray, error: np.ndarray, flag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lost = flag & sep.APER_ALLMASKED != 0
    return np.where(lost, np.nan, flux), np.where(lost, np.nan, error)


def _surroundings(planes: Planes, objects: np.ndarray, ellipse: tuple, flux: np.ndarray) -> dict[str, np.ndarray]:
    area, _, _ = sep.sum_ellipse(np.ones_like(planes.flux), *ellipse, subpix=1)
    masked, _, _ = sep.sum_ellipse(native(planes.mask), *ellipse, subpix=1)
    light = native(np.where((planes.segments > 0) & ~planes.mask, planes.flux, 0))
    all_light, _, _ = sep.sum_ellipse(light, *ellipse)
    others = all_light - objects["flux"]
    return {
        "masked_fraction": np.where(area > 0, masked / np.maximum(area, 1), np.nan),
        "crowded": others > NEIGHBOUR_SHARE * np.abs(flux),
    }


def _sizes(planes: Planes, x: np.ndarray, y: np.ndarray, reach: np.ndarray, flux: np.ndarray) -> dict[str, np.ndarray]:
    out = {f"r{100 * f:.0f}": np.full(x.shape, np.nan) for f in FRACTIONS}
    good = np.isfinite(flux) & (flux > 0)
    if good.any():
        radii, flag = sep.flux_radius(
            planes.flux, x[good], y[good], reach[good], list(FRACTIONS), normflux=flux[good], mask=planes.mask
        )
        radii = np.where((flag & sep.APER_ALLMASKED != 0)[:, None] | ~(radii > 0), np.nan, radii)
        for index, fraction in enumerate(FRACTIONS):
            out[f"r{100 * fraction:.0f}"][good] = radii[:, index]
    return out


def windowed(planes: Planes, objects: np.ndarray, r50: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroids under a Gaussian window (SExtractor's XWIN), nearly as good as a fit of the PSF.

    Parameters
    ----------
    planes : Planes
        The plane.
    objects : structured ndarray, shape (n,)
        First positions.
    r50 : ndarray, shape (n,)
        Half-light radii in pixels; NaN leaves the first position.

    Returns
    -------
    x, y : ndarray of float64, shape (n,)
        Pixels; the first position where the window does not settle within a pixel and a half.
    """
    x, y = objects["x"].astype(float), objects["y"].astype(float)
    good = np.isfinite(r50) & (r50 < WIDEST_WINDOW)
    if good.any():
        sigma = 2 / 2.3548 * r50[good]
        new_x, new_y, flag = sep.winpos(planes.flux, x[good], y[good], sigma, mask=planes.mask, subpix=5)
        settled = (flag & ~sep.APER_HASMASKED == 0) & (np.hypot(new_x - x[good], new_y - y[good]) < 1.5)
        where = np.flatnonzero(good)[settled]
        x[where], y[where] = new_x[settled], new_y[settled]
    return x, y
