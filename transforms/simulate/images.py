"""A field of stars and galaxies with known truth: noise, seeing, sky, and the defects of a real detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft, special

KINDS = ("smooth", "disk", "edge_on", "odd", "star")
ZERO_POINT = 30.0  #: AB magnitude of one count in the whole exposure.
OVERSAMPLING = 3
LARGEST_STAMP = 129  #: Pixels of a side within which a galaxy is drawn.
GOOD, BAD, SATURATED, BLEED, COSMIC_RAY = 0, 1, 3, 4, 5  #: Codes of the NOAO community pipeline.


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """How a field is observed.

    Parameters
    ----------
    fwhm : float
        Seeing, pixels.
    sky : float
        Sky level, counts.
    gain : float
        Electrons per count.
    read_noise : float
        Electrons.
    exptime : float
        Seconds.
    pixel_scale : float
        arcsec.
    ra, dec : float
        Middle of the field, degrees.
    saturation : float
        Counts at which a pixel is full.
    band : str
        Filter.
    mjd : float
        Start of the exposure.
    """

    fwhm: float = 4.0
    sky: float = 400.0
    gain: float = 4.0
    read_noise: float = 7.0
    exptime: float = 90.0
    pixel_scale: float = 0.262
    ra: float = 150.0
    dec: float = 2.2
    saturation: float = 45000.0
    band: str = "r"
    mjd: float = 61000.2

    @property
    def noise(self) -> float:
        """Standard deviation of an empty pixel, counts."""
        return float(np.sqrt(self.sky / self.gain + (self.read_noise / self.gain) ** 2))


def simulate_field(
    rng: np.random.Generator,
    shape: tuple[int, int] = (512, 512),
    *,
    n: int = 60,
    star_share: float = 0.4,
    snr: tuple[float, float] = (5.0, 300.0),
    camera: Camera | None = None,
    defects: bool = True,
    background: bool = True,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Simulate one exposure.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all that is random.
    shape : tuple of int
        ``(ny, nx)``.
    n : int
        Number of sources.
    star_share : float
        Share of stars; the rest is spread evenly over the four kinds of galaxies.
    snr : tuple of float
        Range of signal to noise within an aperture of the object's size, drawn evenly in the logarithm.
    camera : Camera, optional
        How it is observed.
    defects : bool
        Bad columns, cosmic rays, saturation and bleeding.
    background : bool
        A sky that varies by five percent over the field instead of a flat one.

    Returns
    -------
    field : dict
        ``flux`` (counts, float32), ``weight`` (inverse variance of the sky noise), ``mask`` (codes), ``clean``
        (counts without sky, noise and defects), ``header`` (dict of FITS cards) and ``camera``.
    truth : dict of str to ndarray, shape (n,)
        ``object_id``, ``ra``, ``dec``, ``x``, ``y``, ``flux_njy``, ``kind``, ``r50`` (pixels, before the seeing).
    """
    camera = camera or Camera()
    truth = _sources(rng, shape, n, star_share, snr, camera)
    clean = render(rng, shape, truth, camera)
    y, x = np.mgrid[: shape[0], : shape[1]]
    level = camera.sky * (1 + (0.05 * (x / shape[1] - 0.5) + 0.03 * (y / shape[0] - 0.5)) * background)
    electrons = rng.poisson(np.clip((clean + level) * camera.gain, 0, None)) + rng.normal(0, camera.read_noise, shape)
    flux = electrons / camera.gain
    mask = np.zeros(shape, np.int16)
    if defects:
        _detector(rng, flux, mask, camera)
    weight = np.where(mask == GOOD, 1 / (level / camera.gain + (camera.read_noise / camera.gain) ** 2), 0)
    field = {
        "flux": flux.astype(np.float32),
        "weight": weight.astype(np.float32),
        "mask": mask,
        "clean": clean,
        "header": header(shape, camera),
        "camera": camera,
    }
    return field, truth


def header(shape: tuple[int, int], camera: Camera) -> dict[str, Any]:
    """Cards of an exposure: TAN projection, time, filter, gain, zero point.

    Parameters
    ----------
    shape : tuple of int
        ``(ny, nx)``.
    camera : Camera
        How it was observed.

    Returns
    -------
    dict
        Keyword to value.
    """
    step = camera.pixel_scale / 3600
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": camera.ra,
        "CRVAL2": camera.dec,
        "CRPIX1": (shape[1] + 1) / 2,
        "CRPIX2": (shape[0] + 1) / 2,
        "CD1_1": -step,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": step,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "RADESYS": "ICRS",
        "MJD-OBS": camera.mjd,
        "TIMESYS": "UTC",
        "EXPTIME": camera.exptime,
        "FILTER": camera.band,
        "GAIN": camera.gain,
        "SATURATE": camera.saturation,
        "FWHM": camera.fwhm,
        "MAGZERO": ZERO_POINT,
        "BUNIT": "adu",
        "INSTRUME": "DECam",
        "PLVER": "V5.0",
    }


def _sources(
    rng: np.random.Generator,
    shape: tuple[int, int],
    n: int,
    star_share: float,
    snr: tuple[float, float],
    camera: Camera,
) -> dict[str, np.ndarray]:
    from astropy.wcs import WCS

    kind = np.where(rng.random(n) < star_share, "star", rng.choice(KINDS[:4], n))
    r50 = np.where(kind == "star", 0.0, np.exp(rng.uniform(np.log(2.0), np.log(9.0), n)))
    y, x = rng.uniform(-0.5, shape[0] - 0.5, n), rng.uniform(-0.5, shape[1] - 0.5, n)
    sigma = np.hypot(camera.fwhm / 2.3548, r50 / 1.18)
    counts = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), n)) * camera.noise * np.sqrt(4 * np.pi) * sigma
    wcs = WCS(header(shape, camera))
    ra, dec = wcs.all_pix2world(x, y, 0) if n else (x, y)
    return {
        "object_id": np.array([f"sim{i:05d}" for i in range(n)]),
        "ra": np.asarray(ra),
        "dec": np.asarray(dec),
        "x": x,
        "y": y,
        "flux_njy": counts * 10 ** (0.4 * (31.4 - ZERO_POINT)),
        "kind": kind.astype(str),
        "r50": r50,
    }


def render(
    rng: np.random.Generator, shape: tuple[int, int], truth: dict[str, np.ndarray], camera: Camera
) -> np.ndarray:
    """Draw sources without sky and noise, after the seeing (a Gaussian, integrated over pixels).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of orientations and structure.
    shape : tuple of int
        ``(ny, nx)``.
    truth : dict of str to ndarray
        ``x``, ``y``, ``flux_njy``, ``kind``, ``r50``.
    camera : Camera
        How it is observed.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        Counts. A galaxy carries its whole flux within ``LARGEST_STAMP`` pixels, a star within seven of its sigmas.
    """
    plane = np.zeros(shape)
    sigma = camera.fwhm / 2.3548
    for x, y, flux, kind, r50 in zip(*(truth[k] for k in ("x", "y", "flux_njy", "kind", "r50")), strict=True):
        counts = flux / 10 ** (0.4 * (31.4 - ZERO_POINT))
        row, column = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        if kind == "star":
            half = int(np.ceil(7 * sigma))
            stamp = np.outer(_profile(half, y - row, sigma), _profile(half, x - column, sigma))
        else:
            half = int(min(LARGEST_STAMP // 2, np.ceil(6 * r50 + 3 * camera.fwhm)))
            stamp = galaxy(rng, str(kind), half, float(r50), sigma, (y - row, x - column))
        _add(plane, counts * stamp, row - half, column - half)
    return plane


def _profile(half: int, offset: float, sigma: float) -> np.ndarray:
    edges = (np.arange(-half, half + 2) - 0.5 - offset) / (np.sqrt(2) * sigma)
    return np.diff(special.erf(edges)) / 2


def _add(plane: np.ndarray, stamp: np.ndarray, y0: int, x0: int) -> None:
    y1, x1 = min(plane.shape[0], y0 + stamp.shape[0]), min(plane.shape[1], x0 + stamp.shape[1])
    top, left = max(0, y0), max(0, x0)
    if top < y1 and left < x1:
        plane[top:y1, left:x1] += stamp[top - y0 : y1 - y0, left - x0 : x1 - x0]


def galaxy(
    rng: np.random.Generator, kind: str, half: int, r50: float, sigma: float, offset: tuple[float, float]
) -> np.ndarray:
    """Draw one galaxy of unit flux.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of orientation and structure.
    kind : str
        One of ``KINDS`` but for the star.
    half : int
        The stamp has ``2 half + 1`` pixels a side.
    r50 : float
        Half-light radius, pixels (Graham & Driver 2005 for the profiles).
    sigma : float
        Of the seeing, pixels.
    offset : tuple of float
        ``(y, x)`` of the centre from the middle pixel.

    Returns
    -------
    ndarray of float64, shape (2 half + 1, 2 half + 1)
        Sum 1.
    """
    side = (2 * half + 1) * OVERSAMPLING
    grid = (np.arange(side) - (side - 1) / 2) / OVERSAMPLING
    angle = rng.uniform(0, np.pi)
    y, x = grid[:, None] - offset[0], grid[None, :] - offset[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == "smooth":
        light = _sersic(np.hypot(u, v / rng.uniform(0.6, 1.0)), r50, rng.uniform(1.5, 4.0))
    elif kind == "disk":
        light = _disk(rng, u, v / rng.uniform(0.5, 1.0), r50)
    elif kind == "edge_on":
        light = np.exp(-np.abs(u) / (0.7 * r50)) / np.cosh(v / (0.12 * r50 + 0.2)) ** 2
    else:
        away = rng.uniform(1.0, 1.8) * r50
        light = _disk(rng, u, v, 0.7 * r50) + rng.uniform(0.3, 0.9) * _sersic(np.hypot(u - away, v), 0.5 * r50, 2.0)
        light += 0.05 * np.exp(-(((np.hypot(u, v) - 1.5 * away) / (0.4 * r50)) ** 2)) * (v > 0)
    ky, kx = fft.fftfreq(side)[:, None], fft.rfftfreq(side)[None, :]
    seeing = np.exp(-2 * (np.pi * sigma * OVERSAMPLING) ** 2 * (ky**2 + kx**2))
    seen = np.clip(fft.irfft2(fft.rfft2(light) * seeing, (side, side)), 0, None)
    pixels = seen.reshape(2 * half + 1, OVERSAMPLING, 2 * half + 1, OVERSAMPLING).sum(axis=(1, 3))
    return pixels / pixels.sum()


def _sersic(radius: np.ndarray, r50: float, index: float) -> np.ndarray:
    b = 2 * index - 1 / 3 + 4 / (405 * index)  # Ciotti & Bertin (1999)
    light = np.exp(-b * (np.maximum(radius, 0.2) / r50) ** (1 / index))
    return light / light.sum()


def _disk(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, r50: float) -> np.ndarray:
    """Exponential disk with logarithmic arms, half of them with a bar, and a bulge of 10 to 35 percent of it."""
    radius, azimuth = np.hypot(u, v), np.arctan2(v, u)
    light = np.exp(-1.678 * radius / r50)
    winding = np.log(np.maximum(radius, 0.3)) / np.tan(np.radians(rng.uniform(12, 30)))
    light *= 1 + rng.uniform(0.3, 0.9) * np.cos(rng.integers(2, 4) * (azimuth - winding)) * (radius > 0.4 * r50)
    light /= light.sum()
    if rng.random() < 0.5:
        bar = np.exp(-((u / (0.7 * r50)) ** 4) - (v / (0.2 * r50)) ** 2)
        light += 0.2 * bar / bar.sum()
    return light + rng.uniform(0.1, 0.35) * _sersic(radius, 0.3 * r50, 2.5)


def _detector(rng: np.random.Generator, flux: np.ndarray, mask: np.ndarray, camera: Camera) -> None:
    """Bad columns, cosmic rays, full pixels with bleeding; changed in place with their codes."""
    ny, nx = flux.shape
    full = flux >= camera.saturation
    flux[full] = camera.saturation * 1.15  # real ones read above the level that their header states
    mask[full] = SATURATED
    for column in np.flatnonzero(full.sum(axis=0) > 3):
        rows = np.flatnonzero(full[:, column])
        trail = np.arange(max(0, rows.min() - 12), min(ny, rows.max() + 13))
        trail = trail[mask[trail, column] == GOOD]
        flux[trail, column] = camera.saturation * 1.05
        mask[trail, column] = BLEED
    for column in rng.choice(nx, max(1, nx // 300), replace=False):
        flux[:, column] += rng.normal(0, 20 * camera.noise, ny)
        mask[:, column] = np.where(mask[:, column] == GOOD, BAD, mask[:, column])
    for _ in range(rng.poisson(8 * flux.size / 512**2)):
        y, x = int(rng.integers(ny)), int(rng.integers(nx))
        dy, dx = rng.uniform(-1, 1, 2)
        for step in range(int(rng.integers(1, 12))):
            row, column = round(y + dy * step), round(x + dx * step)
            if 0 <= row < ny and 0 <= column < nx and mask[row, column] == GOOD:
                flux[row, column] += rng.uniform(20, 200) * camera.noise
                mask[row, column] = COSMIC_RAY
