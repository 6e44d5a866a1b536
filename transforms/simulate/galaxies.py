"""Stamps of galaxies, stars and artifacts with known truth, as FITS-like cutouts and as survey display images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from transforms.numerics.stretch import lupton_rgb
from transforms.records import Cutout
from transforms.simulate.canvas import Canvas, frame
from transforms.simulate.galaxy_shapes import disk, disturbed, edge_on, merger, smooth
from transforms.simulate.star_shapes import artifact, star

CLASSES = ("smooth", "disk", "edge_on", "odd", "star_or_artifact")
SHARES = (0.22, 0.26, 0.16, 0.22, 0.14)
DISPLAY_SIDE = 144  #: Pixels of a simulated display image; real ones are enlarged further, which adds nothing.
DISPLAY_SHARE = 0.5
BANDS = ("i", "r", "g")
NEIGHBOURS = 24.0  #: Mean number in a stamp, most of them faint.


def moffat_transfer(size: int, fwhm: float, beta: float, stretch: tuple[float, float]) -> np.ndarray:
    """Fourier transform of a Moffat (1969) profile on a periodic grid.

    Parameters
    ----------
    size : int
        Pixels on a side.
    fwhm : float
        Full width at half maximum, pixels.
    beta : float
        Slope of the wings.
    stretch : tuple of float
        Ellipticity components (difference of the axes over their sum), small.

    Returns
    -------
    ndarray of complex, shape (size, size // 2 + 1)
        1 at zero frequency.
    """
    grid = fft.fftfreq(size, 1 / size)
    y, x = grid[:, None], grid[None, :]
    square = x**2 * (1 + stretch[0]) + y**2 * (1 - stretch[0]) + 2 * stretch[1] * x * y
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    psf = (1 + square / alpha**2) ** -beta
    return fft.rfft2(psf / psf.sum())


def scene(rng: np.random.Generator, name: str, size: int, r50: float, fwhm: float) -> tuple[np.ndarray, float]:
    """Noise-free planes of one class with neighbours, after the seeing.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all that is random.
    name : str
        One of ``CLASSES``.
    size : int
        Pixels on a side.
    r50 : float
        Half-light radius of the object, pixels.
    fwhm : float
        Seeing, pixels.

    Returns
    -------
    planes : ndarray, shape (3, size, size)
        Red, green, blue; the object's brightest green pixel is 1.
    peak : float
        Brightest green pixel with its neighbours.
    """
    margin = max(2, round(0.04 * size))
    pad = fft.next_fast_len(size + 2 * margin, real=True)
    transfer = moffat_transfer(pad, fwhm, float(rng.uniform(2.5, 4.5)), tuple(rng.normal(0, 0.03, 2)))

    def seen(canvas: Canvas) -> np.ndarray:
        return fft.irfft2(fft.rfft2(canvas.planes) * transfer, (pad, pad))

    canvas = Canvas(pad, rng)
    if name == "star_or_artifact":
        late = (star if rng.random() < 0.45 else artifact)(canvas, r50)
    else:
        late = None
        makers: dict[str, tuple[Callable[..., None], ...]] = {
            "smooth": (smooth,),
            "disk": (disk,),
            "edge_on": (edge_on,),
            "odd": (merger, disturbed),
        }
        choice = makers[name]
        choice[int(rng.integers(len(choice)))](canvas, r50, 1.0)
    canvas.mottle({"smooth": 0.12, "star_or_artifact": 0.0}.get(name, 0.45))
    target = seen(canvas)
    target /= max(float(target[1].max()), 1e-12)
    if late is not None:
        target += late
    around = Canvas(pad, rng)
    neighbours(around, r50)
    planes = target + seen(around)
    # Catalogs are not always centred: the stamp is cut a little off the middle.
    middle, most = (pad - size) // 2, min(margin, (pad - size) // 2)
    y0, x0 = (middle + int(np.clip(np.round(v), -most, most)) for v in rng.normal(0, 0.012 * size, 2))
    planes = planes[:, y0 : y0 + size, x0 : x0 + size]
    return planes, float(planes[1].max())


def neighbours(canvas: Canvas, r50: float) -> None:
    """Field stars and small galaxies, about as many as about SDSS galaxies, rarely on the target.

    Parameters
    ----------
    canvas : Canvas
        Changed in place; fluxes are relative to a target whose peak is 1.
    r50 : float
        Half-light radius of the target, pixels.
    """
    rng, half = canvas.rng, canvas.size / 2
    points = np.zeros((3, canvas.size, canvas.size))
    for _ in range(rng.poisson(NEIGHBOURS)):
        at = canvas.uniform(-half, half), canvas.uniform(-half, half)
        if np.hypot(*at) < 2.2 * r50 and rng.random() < 0.8:
            continue
        bright = float(np.exp(rng.normal(-4.0, 1.5)))
        if rng.random() < 0.5:
            y, x = (int(np.clip(v + half, 0, canvas.size - 1)) for v in at)
            points[:, y, x] += 12 * bright * canvas.tint(np.array([1.1, 1.0, 0.8]), 0.25)
        else:
            size = r50 * canvas.uniform(0.1, 0.4)
            f = frame(canvas, canvas.uniform(0.4, 1.0), at=at)
            light = np.exp(-f.radius / max(size, 0.5))
            canvas.add(light, bright * float(light.sum()), canvas.tint(np.array([1.15, 1.0, 0.7]), 0.15))
    canvas.planes += points


def fits_stamp(rng: np.random.Generator, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A calibrated cutout: one band or three, white noise, sometimes a bad column or no ivar.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all that is random.
    name : str
        One of ``CLASSES``.

    Returns
    -------
    fields, truth : dict
        Fields of a ``Cutout``, and what is known of the object.
    """
    size = int(rng.integers(24, 65)) * 2
    r50 = size / float(rng.uniform(7, 20))
    fwhm = float(rng.uniform(2.2, 4.8))
    peak = float(np.exp(rng.uniform(np.log(12), np.log(300))))
    planes = scene(rng, name, size, r50, fwhm)[0] * peak
    planes = planes[1:2] if rng.random() < 0.6 else planes
    sky = float(rng.uniform(30, 300))  # sky in units where its own noise is 1: sets the source's Poisson noise
    flux = planes + rng.normal(0, 1, planes.shape) * np.sqrt(1 + np.clip(planes, 0, None) / sky)
    sigma = float(10 ** rng.uniform(-2, 2))
    mask = np.zeros(flux.shape, bool)
    if rng.random() < 0.1:
        mask[:, :, int(rng.integers(size))] = True
    flux = np.where(mask, np.nan, flux * sigma).astype(np.float32)
    ivar = None if rng.random() < 0.15 else np.where(mask, 0, sigma**-2).astype(np.float32)
    bands = BANDS if len(flux) == 3 else ("r",)
    fields = {"flux": flux, "ivar": ivar, "mask": mask, "bands": bands, "psf_fwhm": fwhm, "unit": "adu"}
    return fields, {"r50": r50, "sn_peak": peak}


def display_stamp(rng: np.random.Generator, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A JPEG as survey servers draw it: scaled to the galaxy, colour-preserving stretch, enlarged, compressed.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all that is random.
    name : str
        One of ``CLASSES``.

    Returns
    -------
    fields, truth : dict
        Fields of a ``Cutout``, and what is known of the object.
    """
    size = int(np.clip(np.exp(rng.normal(np.log(90), 0.3)), 64, 160)) // 2 * 2
    r50 = size / float(np.exp(rng.normal(np.log(16.0), 0.25)))
    peak = float(np.exp(rng.normal(np.log(110), 0.7)))
    planes = scene(rng, name, size, r50, float(rng.uniform(2.6, 4.2)))[0] * peak
    noise = rng.normal(0, 1, planes.shape)
    coarse = ndimage.gaussian_filter(rng.normal(0, 1, planes.shape), (0, 0.9, 0.9))  # resampling and compression
    noise = (noise + rng.uniform(0.0, 0.9) * coarse / coarse.std()) * np.array([1.05, 1.0, 0.8])[:, None, None]
    planes = planes + noise * np.sqrt(1 + np.clip(planes, 0, None) / rng.uniform(8, 40))
    planes = planes + rng.uniform(-0.3, 0.8)  # sky is taken off before the stretch: half of its noise is clipped
    shown = lupton_rgb(planes, float(rng.uniform(5.0, 8.0)), float(rng.uniform(28, 50)))
    picture = Image.fromarray(np.clip(shown + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))
    picture = picture.resize((DISPLAY_SIDE, DISPLAY_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(82, 96)))
    flux = np.asarray(Image.open(buffer), np.float32).transpose(2, 0, 1).copy()
    fields = {"flux": flux, "ivar": None, "mask": np.zeros(flux.shape, bool), "bands": ("", "", ""), "unit": "display"}
    return fields, {"r50": r50 * DISPLAY_SIDE / size, "sn_peak": peak}


def simulate_galaxies(
    n: int, seed: int, *, display: float = DISPLAY_SHARE, classes: tuple[str, ...] = CLASSES
) -> Iterator[tuple[Cutout, dict[str, Any]]]:
    """Make labelled stamps.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Stamp ``i`` depends on ``seed`` and ``i`` only, so that more stamps only add to fewer.
    display : float
        Share of display images among them.
    classes : tuple of str
        Which classes, drawn by ``SHARES``.

    Yields
    ------
    cutout : Cutout
        Without position; ``object_id`` is ``sim-<seed>-<i>``.
    truth : dict
        ``morphology_class``, ``r50`` (pixels of the stamp), ``sn_peak``.
    """
    shares = np.array([SHARES[CLASSES.index(name)] for name in classes])
    for index in range(n):
        rng = np.random.default_rng([seed, index])
        name = classes[int(rng.choice(len(classes), p=shares / shares.sum()))]
        maker = display_stamp if rng.random() < display else fits_stamp
        fields, truth = maker(rng, name)
        ident = f"sim-{seed}-{index}"
        yield Cutout(source=ident, object_id=ident, row=index, **fields), {"morphology_class": name, **truth}
