"""Light curves with known class and period: a shape, the stamps of a survey or of a real star, noise and outliers.

All classes share one prior of brightness, number of points and cadence, so that none of these is the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from transforms.bands import wavelength
from transforms.light_curve import AB_NANOJANSKY
from transforms.records import LightCurve
from transforms.simulate.light_curve_cadence import KINDS, Cadence, synthetic_cadence, thinned
from transforms.simulate.light_curve_shapes import CLASSES, Shape, draw

#: Five-sigma depth of a filter relative to r, typical of ground-based surveys (Ivezic et al. 2019).
_DEPTH = np.array([[356, -0.9], [475, 0.2], [622, 0.0], [763, -0.5], [905, -1.3], [965, -2.0]])
_SHARES = (0.3, 0.25, 0.13, 0.13, 0.12, 0.07)  # of KINDS


@dataclass(frozen=True, slots=True)
class Truth:
    """What was put in.

    Parameters
    ----------
    kind : str
        Class, one of ``CLASSES``.
    period : float or None
        Days; None where there is none.
    donor : str
        Whose stamps were used.
    cadence : str
        Kind of cadence, or ``"donor"``.
    """

    kind: str
    period: float | None
    donor: str
    cadence: str


def simulate_light_curve(
    shape: Shape, cadence: Cadence, rng: np.random.Generator, fainter: float = 0.0, margin: float = 1.0
) -> LightCurve:
    """Observe one object.

    Parameters
    ----------
    shape : Shape
        The object.
    cadence : Cadence
        Stamps.
    rng : Generator
        Source of randomness.
    fainter : float
        Magnitudes added to the brightness.
    margin : float
        Magnitudes above the survey's limit that every object has at least, before ``fainter``.

    Returns
    -------
    LightCurve
        In nJy, raw: not measured. Errors are quoted too small by a random factor, noise is Student-t with five
        degrees of freedom, under one point in a hundred is a gross outlier.
    """
    wave = np.array([wavelength(b) or 600.0 for b in cadence.band])
    brightness = cadence.depth - np.clip(0.8 + rng.gamma(4.0, 1.2), margin, 9.5) + fainter
    magnitude = brightness + np.interp(wave, [356, 475, 622, 763, 905], shape.colours)
    depth = cadence.depth + np.interp(wave, _DEPTH[:, 0], _DEPTH[:, 1])
    flux, difference = _signal(shape, cadence.time, wave, magnitude, rng)
    error = _quoted(flux, depth, cadence.floor, rng)
    flux = flux + _noise(flux, error, rng)
    keep = _detections(flux, error, difference, rng)
    time, band = cadence.time[keep], cadence.band[keep]
    return LightCurve(
        source="simulated",
        mjd=float(np.median(time)) if time.size else None,
        time_scale="utc",
        time=time,
        flux=flux[keep],
        flux_err=error[keep],
        band=band,
        quality=np.zeros(time.size, bool),
    )


def _signal(
    shape: Shape, time: np.ndarray, wave: np.ndarray, magnitude: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """True flux in nJy; a supernova lies on a constant host, or stands alone as in difference photometry."""
    level = 10 ** (-0.4 * (magnitude - AB_NANOJANSKY))
    if not shape.transient:
        return level * 10 ** (-0.4 * shape.evaluate(time - time[0] + rng.uniform(0, 50), wave)), False
    inside = time[rng.integers(time.size)]  # a peak that the survey was looking at
    burst = level * 10 ** (-0.4 * np.minimum(shape.evaluate(time - inside + rng.uniform(-15, 25), wave), 60))
    if rng.random() < 0.4:
        return burst + level * 10 ** rng.uniform(-1.0, 0.5), False
    return burst, True


def _quoted(flux: np.ndarray, depth: np.ndarray, floor: float, rng: np.random.Generator) -> np.ndarray:
    """Errors as a survey quotes them: sky, photons and a floor, with the scatter of the weather."""
    sky = 0.2 * 10 ** (-0.4 * (depth - AB_NANOJANSKY))
    photon = np.abs(flux) * sky * 0.08
    weather = rng.lognormal(0, 0.2, flux.size)
    return np.sqrt(sky**2 * weather**2 + photon + (floor * flux) ** 2 * rng.uniform(0.3, 1.0) ** 2)


def _noise(flux: np.ndarray, error: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is really there: inflated, heavy-tailed, with a calibration error and gross outliers."""
    inflate = np.clip(rng.lognormal(0.2, 0.25), 0.9, 2.5)
    out = rng.standard_t(5, flux.size) / np.sqrt(5 / 3) * error * inflate
    out = out + rng.normal(0, rng.uniform(0.003, 0.02), flux.size) * flux
    gross = rng.random(flux.size) < rng.uniform(0, 0.012)
    return np.where(gross, flux * (10 ** (0.4 * rng.normal(0, 0.8, flux.size)) - 1), out)


def _detections(flux: np.ndarray, error: np.ndarray, difference: bool, rng: np.random.Generator) -> np.ndarray:
    """Catalogs of magnitudes hold detections only; three of four do so here, forced photometry keeps all."""
    lost = rng.random(flux.size) < rng.uniform(0, 0.05)  # cloud, edge, cosmic ray
    if rng.random() < (0.5 if difference else 0.25):
        return ~lost
    keep = (flux > 5 * error) & ~lost
    return keep if keep.sum() >= 10 else ~lost


def simulate_light_curves(
    n: int,
    seed: int,
    donors: Sequence[Cadence] = (),
    hard: bool = False,
    classes: Sequence[str] = CLASSES,
    margin: float = 1.0,
) -> list[tuple[LightCurve, Truth]]:
    """Simulate objects, the classes in turn.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        The same seed and donors give the same objects.
    donors : sequence of Cadence
        Real stamps; where there are none, or in two of five cases beside them, stamps are synthetic.
    hard : bool
        g and r only, 12 to 30 visits, 1 to 3 magnitudes fainter, donors only where there are any.
    classes : sequence of str
        Classes to draw.
    margin : float
        Of ``simulate_light_curve``.

    Returns
    -------
    list of (LightCurve, Truth)
        ``row`` and ``object_id`` number the objects.
    """
    out = []
    for index in range(n):
        rng = np.random.default_rng([seed, index])
        kind = classes[index % len(classes)]
        if donors and (hard or rng.random() < 0.6):
            cadence, name = donors[int(rng.integers(len(donors)))], "donor"
        else:
            name = str(rng.choice(KINDS, p=_SHARES)) if not hard else "sdss"
            cadence = synthetic_cadence(name, rng, donor=f"synthetic-{seed}-{index}")
        cadence, fainter = _selected(cadence, kind, hard, rng)
        shape = draw(kind, rng)
        record = simulate_light_curve(shape, cadence, rng, fainter, margin)
        record = replace(record, row=index, object_id=f"sim-{seed}-{index}")
        out.append((record, Truth(kind, shape.period, cadence.donor, name)))
    return out


def _selected(cadence: Cadence, kind: str, hard: bool, rng: np.random.Generator) -> tuple[Cadence, float]:
    """Fewer visits, fewer filters, a shorter window, a fainter object: what a class must be known from at times."""
    together = kind == "snia" or rng.random() < (
        0.15 if hard else 0.4
    )  # a supernova enters a catalog because it was followed
    if hard:
        return thinned(cadence, int(rng.integers(12, 31)), ("g", "r", "R"), rng, together), rng.uniform(1, 3)
    if rng.random() < 0.45:
        names = sorted(set(cadence.band.tolist()))
        some = tuple(rng.permutation(names)[: int(rng.integers(1, min(len(names), 3) + 1))])
        bands = some if rng.random() < 0.6 else None
        return thinned(cadence, int(rng.integers(12, 60)), bands, rng, together), rng.uniform(0, 2)
    if rng.random() < 0.12:
        middle, width = cadence.time[rng.integers(cadence.time.size)], rng.uniform(40, 150)
        inside = np.abs(cadence.time - middle) < width
        if inside.sum() >= 20:
            return replace(cadence, time=cadence.time[inside], band=cadence.band[inside]), 0.0
    return cadence, 0.0
