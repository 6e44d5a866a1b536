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

from finetune import generated_table as table
from finetune.error_model import ErrorModel
from finetune.generation import Generation, Generator, Judged
from finetune.generation_options import METHODS, Wanted
from finetune.light_curve_population import Population
from finetune.light_curve_process import condition
from finetune.light_curve_question import Curve, Question, dense, denser, look, missing_band, to_flux
from finetune.light_curve_tokens import N_SLOT
from finetune.light_curve_trials import trials
from finetune.task import Prepared
from finetune.training_options import OptionsError
from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.records import LightCurve

ASKED = 24  #: Moments that the masked model is asked for at a time: about as many as were hidden in its training.


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


def calibrated(
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


def generate(generator: Generator, record: LightCurve, prepared: Prepared, wanted: Wanted) -> table.Part:
    """Generate what is wanted of one object.

    Parameters
    ----------
    generator : Generator
        Of light curves.
    record : LightCurve
        Measured.
    prepared : Prepared
        Not used: ``look`` makes it, too.
    wanted : Wanted
        Band, cadence, or both.

    Returns
    -------
    Part
        Its rows.

    Raises
    ------
    Unusable
        Where that cannot be said.
    """
    curve = look(record)
    kind = "band" if wanted.band else "cadence"
    if wanted.band:
        times = dense(curve, wanted.step, wanted.count) if wanted.step or wanted.count else None
        question = missing_band(curve, wanted.band, times)
    else:
        question = denser(curve, wanted.step, wanted.count)
    method = generator.method(kind, wanted.method)
    found = calibrated(curve, question, method, generator.model, generator.knowledge, generator.errors[kind])
    rows = table.marked(found, method, generator.digest)
    if wanted.observed:
        points = curve.points
        own = {
            "mjd": points.time, "band": np.array(points.bands)[points.band], "flux": points.flux,
            "flux_err": points.flux_err,
        }  # fmt: skip
        rows = table.beside(rows, own, ("mjd", "band"))
    name, zero = _moment(record)
    time = {name: rows.pop("mjd") + zero}
    units = {name: "d", "flux": record.unit, "flux_err": record.unit}
    return table.Part(record, kind, method, table.named(record, {**time, **rows}), units, {})


def _moment(record: LightCurve) -> tuple[str, float]:
    """Column for the moments, by the place that they are seen from, and its zero."""
    if record.flags & bits("NO_TIME"):
        return "time", 0.0
    system = str(record.measured.get("time_system") or "").removeprefix("r")  # reduced ones are of the same place
    if system.startswith("b") or system == "gaia":
        return "bjd", 2400000.5
    return ("hmjd" if system.startswith("h") else "mjd"), 0.0


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
        raise OptionsError(["no training object has a light curve that can be compared with"])
    return Population.of(curves)


GENERATION = Generation(
    unit="mag",
    learn=_learn,
    arrays=Population.arrays,
    restore=lambda arrays: Population(**arrays),
    judge=judge,
    generate=generate,
)
