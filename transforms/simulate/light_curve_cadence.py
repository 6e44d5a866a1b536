"""When surveys look: synthetic cadences of several kinds, and the stamps of real stars as donors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("sdss", "ztf", "single", "two_band", "lsst", "mission")


@dataclass(frozen=True, slots=True)
class Cadence:
    """Stamps of one star.

    Parameters
    ----------
    time : ndarray, shape (n,)
        MJD, increasing.
    band : ndarray of str, shape (n,)
        Filter of each point.
    depth : float
        Five-sigma limit in r, magnitudes; other filters follow their own offset.
    floor : float
        Calibration error that the survey quotes, magnitudes.
    donor : str
        Name of the star whose stamps these are; objects with one donor belong to one side of a split.
    """

    time: np.ndarray
    band: np.ndarray
    depth: float
    floor: float
    donor: str


def _nights(rng: np.random.Generator, years: float, count: int, season: float) -> np.ndarray:
    """Nights of a field that is visible ``season`` days of a year, moon and weather included."""
    start = 51000 + rng.uniform(0, 8000)
    days = np.arange(0, years * 365.25)
    opposition = rng.uniform(0, 365.25)
    seen = np.abs((days - opposition + 182.6) % 365.25 - 182.6) < season / 2
    moon = np.abs((days / 29.53 + rng.random()) % 1 - 0.5) * 2  # 1 at full moon
    weight = seen * (0.25 + 0.75 * (moon < 0.75)) * (rng.random(days.size) < 0.75)
    if weight.sum() == 0:
        weight = np.ones(days.size)
    count = min(count, int((weight > 0).sum()))
    picked = np.sort(rng.choice(days, size=count, replace=False, p=weight / weight.sum()))
    hour = rng.normal(0, 0.09, picked.size)
    return start + picked + rng.uniform(0.1, 0.9) + np.clip(hour, -0.22, 0.22)


def synthetic_cadence(kind: str, rng: np.random.Generator, donor: str = "") -> Cadence:
    """Draw the stamps of a star of a survey.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    rng : Generator
        Source of randomness.
    donor : str
        Name that the cadence will bear.

    Returns
    -------
    Cadence
        ``"sdss"``: ugriz in five minutes, some 20 to 90 visits in up to ten years. ``"ztf"``: g and r every few
        nights. ``"single"``: V alone. ``"two_band"``: B and R every few nights. ``"lsst"``: one of ugrizy a visit.
        ``"mission"``: half-hourly, one month, one band.

    Raises
    ------
    ValueError
        For a kind that is not there.
    """
    if kind == "mission":
        start, days = rng.uniform(54953, 60000), rng.uniform(20, 90)
        time = np.arange(start, start + days, 0.0204336 * rng.choice([1, 2, 4]))
        gap = start + rng.uniform(0.3, 0.7) * days
        time = time[np.abs(time - gap) > 0.6]
        return Cadence(time, np.full(time.size, "kepler"), rng.uniform(19, 21), 0.0005, donor)
    recipe = {
        "sdss": (rng.uniform(5, 10), int(rng.integers(18, 95)), 90.0, 22.3, 0.01),
        "ztf": (rng.uniform(0.8, 5), int(rng.integers(20, 260)), 220.0, 20.6, 0.015),
        "single": (rng.uniform(1, 9), int(rng.integers(20, 400)), 240.0, rng.uniform(17, 21), 0.01),
        "two_band": (rng.uniform(1, 7), int(rng.integers(30, 300)), 260.0, 20.5, 0.015),
        "lsst": (rng.uniform(1, 8), int(rng.integers(40, 300)), 200.0, 24.2, 0.006),
    }
    if kind not in recipe:
        raise ValueError(f"no cadence named {kind!r}; there are {', '.join(KINDS)}")
    years, count, season, depth, floor = recipe[kind]
    nights = _nights(rng, years, count, season)
    if kind == "sdss":
        offsets, names = np.array([0, 71.7, 143.3, 215.0, 286.7]) / 86400, "riuzg"
        time = (nights[:, None] + offsets).ravel()
        band = np.tile(list(names), nights.size)
    elif kind == "ztf":
        band = rng.choice(["g", "r"], nights.size, p=[0.45, 0.55])
        both = rng.random(nights.size) < 0.3
        time = np.concatenate([nights, nights[both] + rng.uniform(0.02, 0.1, both.sum())])
        band = np.concatenate([band, np.where(band[both] == "g", "r", "g")])
    elif kind == "single":
        time, band = nights, np.full(nights.size, "V")
    elif kind == "two_band":
        time, band = np.concatenate([nights, nights + 0.004]), np.repeat(["B", "R"], nights.size)
        keep = rng.random(time.size) < rng.uniform(0.6, 1.0)
        time, band = time[keep], band[keep]
    else:
        time, band = nights, rng.choice(list("ugrizy"), nights.size, p=[0.07, 0.1, 0.22, 0.22, 0.2, 0.19])
    order = np.argsort(time, kind="stable")
    return Cadence(time[order], band[order].astype(str), depth, floor, donor)


def thinned(
    cadence: Cadence, visits: int, bands: tuple[str, ...] | None, rng: np.random.Generator, together: bool = False
) -> Cadence:
    """Keep some visits and some filters.

    Parameters
    ----------
    cadence : Cadence
        Stamps.
    visits : int
        How many nights to keep at most.
    bands : tuple of str or None
        Filters to keep; None keeps all.
    rng : Generator
        Source of randomness.
    together : bool
        Keep visits that follow one another instead of visits at random.

    Returns
    -------
    Cadence
        Fewer stamps of the same donor.
    """
    keep = np.ones(cadence.time.size, bool) if bands is None else np.isin(cadence.band, bands)
    group = np.floor(cadence.time * 48).astype(int)  # half hours
    there = np.unique(group[keep])
    if there.size > visits:
        first = int(rng.integers(there.size - visits + 1))
        chosen = there[first : first + visits] if together else rng.choice(there, visits, replace=False)
        keep &= np.isin(group, chosen)
    return Cadence(cadence.time[keep], cadence.band[keep], cadence.depth, cadence.floor, cadence.donor)
