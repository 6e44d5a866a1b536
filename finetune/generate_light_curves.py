"""The missing band and the denser cadence of light curves: the masked model, the classical answer, and both judged.

Both give the shape of a band (deviations from its median, over the object's scatter). The level of a band that was
not observed is read from the population: a ridge regression on the levels of the bands that were, the period and the
amplitude. The tokens know no level, so the masked model cannot say it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune.error_model import ErrorModel
from finetune.generation import METHODS, Generation, Judged
from finetune.light_curve_process import band_covariance, condition
from finetune.light_curve_question import LEAST_SN, Curve, Question, ask, dense, look, moments, to_flux, without
from finetune.light_curve_tokens import N_SLOT
from finetune.task import Prepared
from transforms import bands as filters
from transforms.attempt import Unusable
from transforms.records import LightCurve

ASKED = 24  #: Moments that the masked model is asked for at a time: about as many as were hidden in its training.
HIDDEN = 0.7  #: Share of the visits that are held back to judge a denser cadence.
FEWEST = 10  #: Objects with the wanted band and those observed that a level needs.
RIDGE = 1.0
TRIED = 2  #: Bands that are held back of each object, one at a time.
KINDS = ("band", "cadence")


@dataclass(frozen=True, slots=True)
class Population:
    """What the classical answers know of the objects that the backbone was trained on.

    Parameters
    ----------
    levels : ndarray, shape (n, N_SLOT)
        AB magnitudes; NaN where not observed.
    traits : ndarray, shape (n, 2)
        log10 of period and of amplitude; NaN where not known.
    covariance : ndarray, shape (N_SLOT, N_SLOT)
        From ``band_covariance``.
    """

    levels: np.ndarray
    traits: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Population:
        """Collect.

        Parameters
        ----------
        curves : sequence of Curve
            Of training objects.

        Returns
        -------
        Population
            In their order.
        """
        visits = [(c.prepared["magnitude"], c.prepared["seen"]) for c in curves]
        magnitude, seen = (np.concatenate(part).astype(float) for part in zip(*visits, strict=True))
        levels, traits = np.stack([known_levels(c) for c in curves]), np.stack([_traits(c) for c in curves])
        return cls(levels, traits, band_covariance(magnitude, seen))

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept of it.

        Returns
        -------
        dict of str to ndarray
            By name.
        """
        return {name: np.asarray(getattr(self, name), np.float64) for name in ("levels", "traits", "covariance")}

    def level(self, curve: Curve, slot: int) -> tuple[float, float]:
        """Say the level of a band that was not observed.

        Parameters
        ----------
        curve : Curve
            Of the object.
        slot : int
            Of the band.

        Returns
        -------
        level, error : float
            AB magnitude.

        Raises
        ------
        Unusable
            Where no observed band has a level, or the population has too few objects to compare with.
        """
        mine = known_levels(curve)
        seen = [int(k) for k in np.flatnonzero(np.isfinite(mine)) if k != slot]
        if not seen:
            raise Unusable("no band of the ugriz family has a calibrated flux: the level of another cannot be told")
        rows = np.flatnonzero(np.isfinite(self.levels[:, [*seen, slot]]).all(1))
        if rows.size < FEWEST:
            names = "".join(filters.SLOTS[k] for k in [*seen, slot])
            raise Unusable(f"{rows.size} training objects have all of {names}; {FEWEST} are needed for a colour")
        middle = self.levels[rows][:, seen].mean(1)
        x = np.column_stack([self.levels[rows][:, seen] - middle[:, None], self.traits[rows]])
        own = np.concatenate([mine[seen] - mine[seen].mean(), _traits(curve)])
        centre = np.nan_to_num(np.nanmean(x, 0))
        x, own = np.nan_to_num(x - centre), np.nan_to_num(own - centre)
        y = self.levels[rows, slot] - middle
        gram = x.T @ x + RIDGE * np.diag(np.maximum(x.var(0), 1e-6))
        hat = np.einsum("ij,ji->i", x, np.linalg.solve(gram, x.T)) + 1 / len(x)
        weights = np.linalg.solve(gram, x.T @ (y - y.mean()))
        left = (y - y.mean() - x @ weights) / np.maximum(1 - hat, 0.1)
        error = float(np.sqrt(np.mean(np.clip(left, *np.percentile(left, [1, 99])) ** 2)))
        return float(mine[seen].mean() + y.mean() + own @ weights), max(error, 1e-3)


def known_levels(curve: Curve) -> np.ndarray:
    """Levels of the bands of the ugriz family.

    Parameters
    ----------
    curve : Curve
        Of the object.

    Returns
    -------
    ndarray, shape (N_SLOT,)
        AB magnitudes; NaN where not observed, or not calibrated.
    """
    out = np.full(N_SLOT, np.nan)
    for name, level in curve.levels.items():
        letter = filters.sdss_like(name)
        if curve.record.unit == "nJy" and letter in filters.SLOTS:
            out[filters.SLOTS.index(letter)] = level
    return out


def _traits(curve: Curve) -> np.ndarray:
    period = curve.record.measured.get("period")
    return np.array([np.log10(period) if period else np.nan, np.log10(curve.scale)])


@torch.no_grad()
def learned(model: Any, prepared: Prepared, question: Question) -> tuple[np.ndarray, np.ndarray]:
    """Ask the masked model.

    Parameters
    ----------
    model : MaskedLightCurves
        In evaluation mode.
    prepared : Prepared
        Of the object, without what is asked for.
    question : Question
        Any moments.

    Returns
    -------
    mean, sigma : ndarray, shape (n,)
        Over the object's scatter.
    """
    count = int((prepared["valid"] > 0).sum())
    base = {n: torch.as_tensor(prepared[n][None, :count]) for n in _VISIT}
    number = len(question.time)
    mean, sigma = np.zeros(number), np.zeros(number)
    parts = max(1, -(-number // ASKED))
    for part in range(parts):
        rows = np.arange(part, number, parts)  # interleaved: each part is asked for all of the time
        size = len(rows)
        batch = {n: torch.cat([x, x.new_zeros(1, size, *x.shape[2:])], 1) for n, x in base.items()}
        batch["time"][0, count:] = torch.as_tensor(question.time[rows], dtype=torch.float32)
        batch["phase"][0, count:] = torch.as_tensor(question.phase[rows], dtype=torch.float32)
        hidden = torch.zeros(1, count + size, N_SLOT, dtype=torch.bool)
        hidden[:, count:] = True
        found, log_variance = model.answer(**batch, hidden=hidden)
        slot = torch.as_tensor(question.slot[rows])
        place = torch.arange(size)
        mean[rows] = found[0, count:][place, slot].numpy()
        sigma[rows] = (0.5 * log_variance[0, count:][place, slot]).exp().numpy()
    return mean, sigma


_VISIT = ("magnitude", "log_error", "seen", "time", "phase", "valid")


def classical(covariance: np.ndarray, prepared: Prepared, question: Question) -> tuple[np.ndarray, np.ndarray]:
    """Ask the Gaussian process.

    Parameters
    ----------
    covariance : ndarray, shape (N_SLOT, N_SLOT)
        Of the population.
    prepared : Prepared
        Of the object, without what is asked for.
    question : Question
        Any moments.

    Returns
    -------
    mean, sigma : ndarray, shape (n,)
        Over the object's scatter.
    """
    visit, slot = np.nonzero(prepared["seen"] > 0)
    seen = (
        prepared["time"][visit].astype(float), (2.0 * prepared["phase"][visit]) % 1, slot,
        prepared["magnitude"][visit, slot].astype(float), 10.0 ** prepared["log_error"][visit, slot],
    )  # fmt: skip
    return condition(covariance, seen, (question.time, (2 * question.phase) % 1, question.slot))


@dataclass(frozen=True, slots=True)
class Answer:
    """What was generated, in magnitudes.

    Parameters
    ----------
    level, deviation, error : ndarray, shape (n,)
        Level of the band, deviation from it, and one sigma of their sum before calibration.
    """

    level: np.ndarray
    deviation: np.ndarray
    error: np.ndarray

    def features(self, question: Question) -> np.ndarray:
        """What the calibrated error depends on.

        Parameters
        ----------
        question : Question
            That was answered.

        Returns
        -------
        ndarray, shape (n, N_SLOT + 1)
            The band, and twice the log of the error.
        """
        return np.column_stack([np.eye(N_SLOT)[question.slot], 2 * np.log(self.error)])


def answer(method: str, model: Any, population: Population, curve: Curve, question: Question) -> Answer:
    """Answer by one method.

    Parameters
    ----------
    method : str
        ``"learned"`` or ``"classical"``.
    model : MaskedLightCurves
        For the first.
    population : Population
        For the second, and for levels of bands that were not observed.
    curve, question : Curve, Question
        The object, and what is asked.

    Returns
    -------
    Answer
        Before calibration.

    Raises
    ------
    Unusable
        Where a level cannot be told.
    """
    shape = (
        learned(model, curve.prepared, question)
        if method == "learned"
        else classical(population.covariance, curve.prepared, question)
    )
    level, error = np.zeros(len(question.mjd)), np.zeros(len(question.mjd))
    for name in sorted(set(question.band.tolist())):
        inside = question.band == name
        if name in curve.levels:
            level[inside] = curve.levels[name]
        elif name in curve.slots:
            raise Unusable(f"band {name!r} is too faint, or has negative flux: it has no level in magnitudes")
        else:
            level[inside], error[inside] = population.level(curve, int(question.slot[inside][0]))
    return Answer(level, curve.scale * shape[0], np.hypot(curve.scale * shape[1], error))


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
    kind: str, record: LightCurve, points: Any, held: np.ndarray, keep: np.ndarray, name: str = ""
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
        truth, noise = 31.4 - 2.5 * np.log10(flux), 2.5 / np.log(10) * error / flux
        yield Trial(kind, curve, question, truth, noise)


def generate(
    curve: Curve, question: Question, method: str, model: Any, population: Population, errors: Mapping[str, ErrorModel]
) -> dict[str, np.ndarray]:
    """Answer with a calibrated error.

    Parameters
    ----------
    curve, question : Curve, Question
        The object, and what is asked.
    method : str
        ``"learned"`` or ``"classical"``.
    model, population : MaskedLightCurves, Population
        As for ``answer``.
    errors : mapping of str to ErrorModel
        By method.

    Returns
    -------
    dict of str to ndarray
        ``mjd``, ``band``, ``flux``, ``flux_err``.
    """
    found = answer(method, model, population, curve, question)
    error = errors[method].error(found.features(question))
    flux, flux_err = to_flux(found.level, found.deviation, error)
    return {"mjd": question.mjd, "band": question.band, "flux": flux, "flux_err": flux_err}


def judge(
    record: LightCurve, prepared: Prepared, model: Any, population: Population, rng: np.random.Generator, group: int
) -> Iterator[Judged]:
    """Hold parts of a light curve back, and have both methods say them.

    Parameters
    ----------
    record : LightCurve
        Measured.
    prepared : Prepared
        Not used: what is held back changes it.
    model, population : MaskedLightCurves, Population
        That answer.
    rng : Generator
        Draws what is held back.
    group : int
        Number of the object.

    Yields
    ------
    Judged
        For each trial and method, in magnitudes.
    """
    for trial in trials(record, rng):
        try:
            both = {m: answer(m, model, population, trial.curve, trial.question) for m in METHODS}
        except Unusable:
            continue
        for method, found in both.items():
            residual = trial.truth - found.level - found.deviation
            yield Judged(trial.kind, method, residual, trial.noise, found.features(trial.question), group)


def _learn(pairs: Sequence[tuple[LightCurve, Prepared]]) -> Population:
    curves = []
    for record, _ in pairs:
        try:
            curves.append(look(record))
        except Unusable:
            continue
    if not curves:
        raise ValueError("no training object has a light curve that can be compared with")
    return Population.of(curves)


GENERATION = Generation(
    unit="mag", learn=_learn, arrays=Population.arrays, restore=lambda arrays: Population(**arrays), judge=judge
)
