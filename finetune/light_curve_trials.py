"""Parts of light curves that are held back, so that what is generated in their place can be judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune.light_curve_question import LEAST_SN, Curve, Question, ask, look, missing_band, without
from transforms import bands as filters
from transforms.attempt import Unusable
from transforms.light_curve import AB_NANOJANSKY, Points
from transforms.records import LightCurve

HIDDEN = 0.7  #: Share of the visits that are held back to judge a denser cadence.
TRIED = 2  #: Bands that are held back of each object, one at a time.


@dataclass(frozen=True, slots=True)
class Trial:
    """A part of a light curve that was held back, and what is left.

    Parameters
    ----------
    kind : str
        ``"band"`` or ``"cadence"``.
    curve : Curve
        Without it.
    question : Question
        For it.
    truth, noise : ndarray, shape (n,)
        Magnitudes that were held back, and one sigma of them.
    """

    kind: str
    curve: Curve
    question: Question
    truth: np.ndarray
    noise: np.ndarray


def trials(record: LightCurve, rng: np.random.Generator, tried: int = TRIED, hidden: float = HIDDEN) -> Iterator[Trial]:
    """Hold parts of a light curve back.

    Parameters
    ----------
    record : LightCurve
        Measured.
    rng : Generator
        Draws them.
    tried : int
        Bands, one at a time.
    hidden : float
        Share of the visits that is held back for a denser cadence.

    Yields
    ------
    Trial
        Where enough is left.
    """
    whole = look(record)
    points = whole.points
    bright = (points.flux > LEAST_SN * points.flux_err) & np.isin(
        np.array(points.bands)[points.band], sorted(whole.levels)
    )
    names = [n for n in sorted(whole.levels) if filters.sdss_like(n) in filters.SLOTS]
    drawn = [names[i] for i in rng.permutation(len(names))[:tried]] if len(names) > 1 else []
    for name in drawn:
        inside = points.band == points.bands.index(name)
        yield from _trial("band", record, points, inside & bright, record.band.astype(str) != name, name)
    visit = points.visit
    lost = rng.permutation(visit.max() + 1)[: int(hidden * (visit.max() + 1))]
    gone = np.isin(visit, lost)
    keep = np.ones(record.time.size, bool)
    keep[points.index[gone]] = False
    yield from _trial("cadence", record, points, gone & bright, keep)


def _trial(
    kind: str, record: LightCurve, points: Points, held: np.ndarray, keep: np.ndarray, name: str = ""
) -> Iterator[Trial]:
    """One trial, unless what is left cannot be asked."""
    try:
        curve = look(without(record, keep))
        mjd, band = points.time[held], np.array(points.bands)[points.band[held]]
        if name:
            question = missing_band(curve, name, mjd)
        else:
            known = np.isin(band, sorted(set(curve.levels) & set(curve.slots)))
            held[np.flatnonzero(held)[~known]] = False
            mjd, band = mjd[known], band[known]
            question = ask(curve, mjd, band, np.array([curve.slots[n] for n in band.tolist()], int))
    except Unusable:
        return
    if len(mjd) >= 4:
        flux, error = points.flux[held], points.flux_err[held]
        truth, noise = AB_NANOJANSKY - 2.5 * np.log10(flux), 2.5 / np.log(10) * error / flux
        yield Trial(kind, curve, question, truth, noise)
