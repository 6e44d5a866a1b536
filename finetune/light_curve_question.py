"""What a light curve is asked for that was not observed, and what is known of it: a band, or other moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune import light_curve_tokens as tokens
from finetune.task import Prepared
from transforms import bands as filters
from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.light_curve import AB_NANOJANSKY, Points, good_points
from transforms.period import measure_light_curve
from transforms.records import LightCurve

LEAST_SN = 3.0  #: Median flux over its error below which a band has no level in magnitudes.


@dataclass(frozen=True, slots=True)
class Curve:
    """A light curve as the models see it, and how to come back from there.

    Parameters
    ----------
    record : LightCurve
        Measured.
    prepared : Prepared
        Arrays of ``light_curve_tokens.prepare``.
    points : Points
        Its good points.
    scale : float
        Magnitudes of one unit of the models' deviations.
    slots : dict of str to int
        Of its bands.
    levels : dict of str to float
        AB magnitude of the median flux of each band that has one; of a flux in another unit the same formula, so that
        it means nothing but that band's own level.
    """

    record: LightCurve
    prepared: Prepared
    points: Points
    scale: float
    slots: dict[str, int]
    levels: dict[str, float]


@dataclass(frozen=True, slots=True)
class Question:
    """Moments and bands.

    Parameters
    ----------
    mjd : ndarray, shape (n,)
        As in the record.
    band : ndarray of str, shape (n,)
        Names.
    time : ndarray, shape (n,)
        Days from the middle, as in the tokens.
    phase : ndarray, shape (n, 3)
        Cycles of twice each candidate period, as in the tokens.
    slot : ndarray of int, shape (n,)
        Place of each band.
    """

    mjd: np.ndarray
    band: np.ndarray
    time: np.ndarray
    phase: np.ndarray
    slot: np.ndarray


def look(record: LightCurve) -> Curve:
    """Prepare a measured light curve.

    Parameters
    ----------
    record : LightCurve
        Measured by ``transforms.period``.

    Returns
    -------
    Curve
        Ready to be asked.

    Raises
    ------
    Unusable
        For a light curve without times, or with too little in it.
    """
    if record.flags & bits("PHASE_FOLDED"):
        raise Unusable("phases instead of times: there is no moment to ask for")
    points = good_points(record)
    if points.time.size < 4:
        raise Unusable(f"{points.time.size} good points; 4 are needed")
    levels = {}
    for number, name in enumerate(points.bands):
        inside = points.band == number
        middle = float(np.median(points.flux[inside])) if inside.any() else 0.0
        if middle > LEAST_SN * float(np.median(points.flux_err[inside])) if inside.any() else False:
            levels[name] = AB_NANOJANSKY - 2.5 * float(np.log10(middle))
    scale = tokens.scatter(points)
    return Curve(record, tokens.prepare(record), points, scale, filters.slots(points.bands), levels)


def ask(curve: Curve, mjd: np.ndarray, band: np.ndarray, slot: np.ndarray) -> Question:
    """Ask for bands at moments.

    Parameters
    ----------
    curve : Curve
        Of the object.
    mjd, band, slot : ndarray, shape (n,)
        When, what, and the place of each band.

    Returns
    -------
    Question
        With the phases of the object's candidate periods.
    """
    middle = 0.5 * (curve.points.time[0] + curve.points.time[-1])
    phase = tokens.phases(curve.record.measured, curve.points, mjd)
    return Question(mjd, band, mjd - middle, phase, slot)


def without(record: LightCurve, keep: np.ndarray) -> LightCurve:
    """Hold back a part of a light curve, and measure what is left as if the rest had never been observed.

    Parameters
    ----------
    record : LightCurve
        Measured or not.
    keep : ndarray of bool, shape (n,)
        Points that are left.

    Returns
    -------
    LightCurve
        Measured.
    """
    cut: dict[str, Any] = {n: getattr(record, n)[keep] for n in ("time", "flux", "flux_err", "band", "quality")}
    return measure_light_curve(replace(record, measured={}, **cut), {})


def moments(curve: Curve) -> np.ndarray:
    """Moments of the visits.

    Parameters
    ----------
    curve : Curve
        Of the object.

    Returns
    -------
    ndarray, shape (n_visit,)
        MJD, increasing.
    """
    visit = curve.points.visit
    mean: np.ndarray = np.bincount(visit, curve.points.time) / np.bincount(visit)
    return mean


def dense(curve: Curve, step: float, count: int) -> np.ndarray:
    """Moments of a denser cadence.

    Parameters
    ----------
    curve : Curve
        Of the object.
    step : float
        Days between moments, from the first to the last observation; 0 for ``count``.
    count : int
        Moments over one period, evenly in phase, in the middle of the observations; over all of the time where the
        object has no period.

    Returns
    -------
    ndarray, shape (n,)
        MJD.

    Raises
    ------
    Unusable
        Where they would be more than 100,000.
    """
    first, last = float(curve.points.time[0]), float(curve.points.time[-1])
    if step:
        number = int((last - first) / step) + 1
        if number > 100_000:
            raise Unusable(f"{number} moments of {step:g} d over {last - first:g} d; 100,000 are the most")
        return first + step * np.arange(number)
    period = curve.record.measured.get("period")
    if not period:
        return np.linspace(first, last, count)
    middle = 0.5 * (first + last)
    return middle + period * (np.arange(count) / count - 0.5)


def missing_band(curve: Curve, band: str, times: np.ndarray | None = None) -> Question:
    """Ask for a band that was not observed.

    Parameters
    ----------
    curve : Curve
        Of the object.
    band : str
        One of ``ugriz``, under any survey's name for it.
    times : ndarray, optional
        MJD; those of the visits where None.

    Returns
    -------
    Question
        At each of them.

    Raises
    ------
    Unusable
        Where the band was observed, or its place in the model is taken by another filter.
    """
    letter = filters.sdss_like(band) or ""
    if any(filters.sdss_like(name) == letter for name in curve.slots):
        raise Unusable(f"band {band!r} was observed: ask for a cadence, or leave the object out")
    slot = filters.SLOTS.index(letter)
    taken = next((name for name, place in curve.slots.items() if place == slot), None)
    if taken is not None:
        raise Unusable(f"the place of band {band!r} in the model is taken by {taken!r}")
    mjd = moments(curve) if times is None else times
    return ask(curve, mjd, np.full(len(mjd), band), np.full(len(mjd), slot))


def denser(curve: Curve, step: float, count: int, bands: Sequence[str] = ()) -> Question:
    """Ask for the observed bands at other moments.

    Parameters
    ----------
    curve : Curve
        Of the object.
    step, count : float, int
        As for ``light_curve_question.dense``.
    bands : sequence of str
        Which of its bands; all where empty.

    Returns
    -------
    Question
        Each band at each moment.

    Raises
    ------
    Unusable
        Where no such band was observed.
    """
    names = [n for n in sorted(curve.slots) if n in curve.levels and (not bands or n in bands)]
    if not names:
        raise Unusable(f"none of the bands {', '.join(sorted(curve.slots))} has a level, or is asked for")
    mjd = dense(curve, step, count)
    band = np.repeat(names, len(mjd))
    return ask(curve, np.tile(mjd, len(names)), band, np.array([curve.slots[n] for n in band.tolist()]))


def to_flux(level: np.ndarray, deviation: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes to flux.

    Parameters
    ----------
    level : ndarray, shape (n,)
        From ``Curve.levels``.
    deviation, error : ndarray, shape (n,)
        Magnitudes.

    Returns
    -------
    flux, flux_err : ndarray, shape (n,)
        In the record's unit.
    """
    flux = 10 ** (-0.4 * (level + deviation - AB_NANOJANSKY))
    return flux, flux * error * np.log(10) / 2.5
