"""What a spectrum is asked for that was not observed, and what is known of it, on the models' bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune import spectral_grid as grid
from finetune.spectral_input import rest_velocity
from finetune.spectral_tokens import N_PATCH, PATCH
from finetune.task import Prepared
from transforms.attempt import Unusable
from transforms.constants import C_KMS
from transforms.records import Spectrum

FEWEST = 6  #: Visible patches that an answer needs.


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


def ask(record: Spectrum, prepared: Prepared, low: float, high: float) -> tuple[View, np.ndarray]:
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
    check(view)
    return view, wave


def check(view: View) -> None:
    """Refuse a spectrum of which too little is visible.

    Parameters
    ----------
    view : View
        With what is asked.

    Raises
    ------
    Unusable
        For fewer than ``FEWEST`` visible patches.
    """
    count = int((view.visible.reshape(N_PATCH, PATCH).mean(1) > 0.1).sum())
    if count < FEWEST:
        raise Unusable(f"{count} of {N_PATCH} patches are observed; {FEWEST} are needed to say the others")
