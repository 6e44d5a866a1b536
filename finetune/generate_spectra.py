"""The missing range of spectra: the masked model, a library of spectra, and both judged on ranges that were held back.

Both answer on the models' bins (138 km/s, 3727 to 7233 Angstrom in vacuum and at rest): nothing beyond can be asked,
and nothing finer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune import spectral_grid as grid
from finetune.generation import METHODS, Generation, Judged
from finetune.masked_spectra import LINE, visible_part
from finetune.spectral_input import rest_velocity
from finetune.spectral_library import FEWEST as LEAST
from finetune.spectral_library import Library
from finetune.spectral_tokens import N_PATCH, PATCH, features
from finetune.task import Prepared
from finetune.training_options import OptionsError
from transforms.attempt import Unusable
from transforms.constants import C_KMS
from transforms.records import Spectrum

FEWEST = 6  #: Visible patches that an answer needs.
NOISY = 0.5  #: Share of the trials whose visible part is made noisier.
SPLITS = {"blue": (4200.0, 5300.0), "red": (4700.0, 6400.0)}  #: Angstrom at rest, between which a trial's range ends.
WHOLE = 0.8  #: Share of the bins that a spectrum of the library has.
EVERY = 4  #: Of the bins that judge: neighbours say the same.


@dataclass(frozen=True, slots=True)
class View:
    """A spectrum on the models' bins.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (N_PIXEL,)
        From the task's ``prepare``, or a part of it.
    asked : ndarray of bool, shape (N_BIN,)
        Bins that are to be generated.
    """

    flux: np.ndarray
    ivar: np.ndarray
    asked: np.ndarray

    @property
    def hidden(self) -> np.ndarray:
        """Patches that the masked model is asked for, shape (N_PATCH,); it does not see what they hold."""
        return np.asarray(self.asked.reshape(N_PATCH, PATCH).any(1))

    @property
    def visible(self) -> np.ndarray:
        """Bins with data that every method sees, shape (N_BIN,)."""
        return np.asarray((self.ivar.reshape(grid.N_BIN, -1) > 0).any(1) & ~np.repeat(self.hidden, PATCH))

    @property
    def kind(self) -> str:
        """``"blue"`` or ``"red"``: on which side of what is visible the asked bins lie."""
        place = np.arange(grid.N_BIN)
        return "blue" if place[self.asked].mean() < place[self.visible].mean() else "red"


def binned(flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels to bins.

    Parameters
    ----------
    flux, ivar : ndarray, shape (..., N_PIXEL)
        Spectra.

    Returns
    -------
    flux, variance : ndarray of float64, shape (..., N_BIN)
        Infinite variance where there is no data.
    """
    shape = (*flux.shape[:-1], grid.N_BIN, grid.BINNING)
    weight = ivar.reshape(shape).astype(float)
    total = weight.sum(-1)
    mean = (flux.reshape(shape) * weight).sum(-1) / np.where(total > 0, total, 1)
    return mean, np.where(total > 0, 1 / np.where(total > 0, total, 1), np.inf)


def centres() -> np.ndarray:
    """Wavelengths of the bins.

    Returns
    -------
    ndarray, shape (N_BIN,)
        Angstrom, vacuum, at rest.
    """
    log = np.log(grid.wavelengths()).reshape(grid.N_BIN, grid.BINNING).mean(1)
    return np.exp(log)


def wanted(record: Spectrum, prepared: Prepared, low: float, high: float) -> tuple[View, np.ndarray]:
    """Ask for the bins of a range in which a spectrum has no data.

    Parameters
    ----------
    record : Spectrum
        Measured.
    prepared : Prepared
        Of it.
    low, high : float
        Angstrom, vacuum, in the frame of the file.

    Returns
    -------
    view : View
        With what is asked.
    wavelength : ndarray, shape (N_BIN,)
        Of the bins, in the frame of the file.

    Raises
    ------
    Unusable
        Where nothing is missing there, or too little is left to say it from.
    """
    wave = centres() * (1 + rest_velocity(record) / C_KMS)
    inside = (wave >= low) & (wave <= high)
    if not inside.any():
        raise Unusable(f"{low:g} to {high:g} Angstrom lies outside of {wave[0]:.0f} to {wave[-1]:.0f} of the models")
    empty = ~(prepared["ivar"].reshape(grid.N_BIN, -1) > 0).any(1)
    if not (inside & empty).any():
        raise Unusable(f"{low:g} to {high:g} Angstrom is observed: nothing is missing there")
    view = View(prepared["flux"], prepared["ivar"], inside & empty)
    _check(view)
    return view, wave


def _check(view: View) -> None:
    count = int((view.visible.reshape(N_PATCH, PATCH).mean(1) > 0.1).sum())
    if count < FEWEST:
        raise Unusable(f"{count} of {N_PATCH} patches are observed; {FEWEST} are needed to say the others")


@torch.no_grad()
def learned(model: Any, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Ask the masked model.

    Parameters
    ----------
    model : MaskedSpectra
        In evaluation mode.
    view : View
        With what is asked.

    Returns
    -------
    flux, sigma : ndarray, shape (N_BIN,)
        In the unit of the view; the model states no error: ones.
    """
    flux, ivar = (torch.as_tensor(x[None]) for x in (view.flux, view.ivar))
    hidden = torch.as_tensor(view.hidden[None])
    found, _ = model.answer(flux, ivar, hidden)
    line, level = found[0].unbind(1)
    seen, shown_ivar = visible_part(flux, ivar, hidden)
    signal = features(seen, shown_ivar)[0][0, :, 0].flatten().numpy()
    value, _ = binned(seen[0].numpy(), shown_ivar[0].numpy())
    good = view.visible & (value > 0) & (np.abs(signal) < 0.99 * LINE)
    middle = float(np.mean(np.log(value[good] / (1 + signal[good] / LINE)))) if good.any() else 0.0
    continuum = np.exp(np.clip(level.flatten().numpy() / LINE, -4, 4) + middle)
    return continuum * (1 + line.flatten().numpy() / LINE), np.ones(grid.N_BIN)


def classical(library: Library, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Ask the library.

    Parameters
    ----------
    library : Library
        Of the training spectra.
    view : View
        With what is asked.

    Returns
    -------
    flux, sigma : ndarray, shape (N_BIN,)
        In the unit of the view.
    """
    flux, variance = binned(view.flux, view.ivar)
    return library.impute(flux, np.where(view.visible, variance, np.inf))


def answer(method: str, model: Any, library: Library, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Answer by one method.

    Parameters
    ----------
    method : str
        ``"learned"`` or ``"classical"``.
    model, library : MaskedSpectra, Library
        For the one and the other.
    view : View
        With what is asked.

    Returns
    -------
    flux : ndarray, shape (N_BIN,)
        In the unit of the view.
    features : ndarray, shape (N_BIN, N_PATCH + 4)
        What the calibrated error depends on: the patch, how far it is from what is visible, the noise of that, its
        level, and the method's own error.
    """
    flux, sigma = learned(model, view) if method == "learned" else classical(library, view)
    patch = np.repeat(np.arange(N_PATCH), PATCH)
    seen = np.flatnonzero(view.visible)
    apart = np.abs(np.arange(grid.N_BIN)[:, None] - seen[None]).min(1) / PATCH
    value, variance = binned(view.flux, view.ivar)
    level = float(np.median(np.abs(value[seen])))
    noise = float(np.sqrt(np.median(variance[seen]))) / max(level, 1e-6)
    more = np.column_stack([
        np.log(0.2 + apart), np.full(grid.N_BIN, np.log(np.hypot(noise, 0.005))),
        np.full(grid.N_BIN, np.log(max(level, 1e-6))), 2 * np.log(np.maximum(sigma, 1e-4)),
    ])  # fmt: skip
    return flux, np.hstack([np.eye(N_PATCH)[patch], more])


@dataclass(frozen=True, slots=True)
class Trial:
    """A range that was held back.

    Parameters
    ----------
    kind : str
        ``"blue"`` or ``"red"``.
    view : View
        Without it.
    bins : ndarray of int, shape (n,)
        Bins that judge.
    truth, noise : ndarray, shape (n,)
        What was held back, and one sigma of it, in the unit of the view.
    """

    kind: str
    view: View
    bins: np.ndarray
    truth: np.ndarray
    noise: np.ndarray


def trials(prepared: Prepared, rng: np.random.Generator, tried: int = 2, noisy: float = NOISY) -> Iterator[Trial]:
    """Hold ranges of a spectrum back.

    Parameters
    ----------
    prepared : Prepared
        Of a spectrum.
    rng : Generator
        Draws them.
    tried : int
        Of each kind.
    noisy : float
        Share of which the visible part gets noise of an S/N per pixel of 5 to 100.

    Yields
    ------
    Trial
        Where enough is left and enough is held back.
    """
    wave = centres()
    truth, variance = binned(prepared["flux"], prepared["ivar"])
    for kind, (first, last) in sorted(SPLITS.items()):
        for _ in range(tried):
            split = rng.uniform(first, last)
            asked = np.repeat(
                ((wave < split) if kind == "blue" else (wave > split)).reshape(N_PATCH, PATCH).all(1), PATCH
            )
            flux, ivar = (noisier if rng.random() < noisy else _as_it_is)(prepared, rng)
            view = View(flux, np.where(np.repeat(asked, grid.BINNING), 0, ivar).astype(np.float32), asked)
            bins = np.flatnonzero(asked & np.isfinite(variance))[::EVERY]
            try:
                _check(view)
            except Unusable:
                continue
            if len(bins) >= 10:
                yield Trial(kind, view, bins, truth[bins], np.sqrt(variance[bins]))


def _as_it_is(prepared: Prepared, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return prepared["flux"], prepared["ivar"]


def noisier(prepared: Prepared, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add noise to a spectrum.

    Parameters
    ----------
    prepared : Prepared
        Of mean one.
    rng : Generator
        Draws the S/N, 5 to 100 a pixel, and the noise.

    Returns
    -------
    flux, ivar : ndarray of float32, shape (N_PIXEL,)
        0 where bad.
    """
    flux, ivar = prepared["flux"], prepared["ivar"]
    sigma = np.exp(rng.uniform(np.log(0.01), np.log(0.2)))
    good = ivar > 0
    noised = np.where(good, flux + sigma * rng.standard_normal(len(flux)), 0)
    return noised.astype(np.float32), np.where(good, 1 / (1 / np.where(good, ivar, 1) + sigma**2), 0).astype(np.float32)


def judge(
    record: Spectrum, prepared: Prepared, model: Any, library: Library, rng: np.random.Generator, group: int
) -> Iterator[Judged]:
    """Hold ranges of a spectrum back, and have both methods say them.

    Parameters
    ----------
    record : Spectrum
        Not used: ``prepared`` is all of it.
    prepared : Prepared
        Of the spectrum.
    model, library : MaskedSpectra, Library
        That answer.
    rng : Generator
        Draws what is held back.
    group : int
        Number of the object.

    Yields
    ------
    Judged
        For each trial and method, in units of the spectrum's mean flux.
    """
    for trial in trials(prepared, rng):
        for method in METHODS:
            flux, told = answer(method, model, library, trial.view)
            yield Judged(trial.kind, method, trial.truth - flux[trial.bins], trial.noise, told[trial.bins], group)


def _learn(pairs: Sequence[tuple[Spectrum, Prepared]]) -> Library:
    flux, variance = binned(*(np.stack([one[name] for _, one in pairs]) for name in ("flux", "ivar")))
    good = np.isfinite(variance)
    whole = good.mean(1) > WHOLE
    if whole.sum() < LEAST:
        raise OptionsError([
            f"{whole.sum()} of {len(pairs)} training spectra hold data in {WHOLE:.0%} of the bins from "
            f"{centres()[0]:.0f} to {centres()[-1]:.0f} Angstrom at rest; {LEAST} are needed for a library"
        ])  # fmt: skip
    return Library.fit(flux[whole], good[whole])


GENERATION = Generation(
    unit="of the mean flux",
    learn=_learn,
    arrays=lambda library: {"flux": library.flux},
    restore=lambda arrays: Library(**arrays),
    judge=judge,
)
