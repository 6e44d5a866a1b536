"""Ranges of spectra that are held back, so that what is generated in their place can be judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finetune import spectral_grid as grid
from finetune.spectral_question import View, binned, centres, check
from finetune.spectral_tokens import N_PATCH, PATCH
from finetune.task import Prepared
from transforms.attempt import Unusable

NOISY = 0.5  #: Share of the trials whose visible part is made noisier.
SPLITS = {"blue": (4200.0, 5300.0), "red": (4700.0, 6400.0)}  #: Angstrom at rest, between which a trial's range ends.
EVERY = 4  #: Of the bins that judge: neighbours say the same.


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
                check(view)
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
