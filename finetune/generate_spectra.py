"""The missing range of spectra: the masked model, a library of spectra, and both judged on ranges that were held back.

Both answer on the models' bins (138 km/s, 3727 to 7233 Angstrom in vacuum and at rest): nothing beyond can be asked,
and nothing finer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from finetune import generated_table as table
from finetune import spectral_grid as grid
from finetune.generation import Generation, Generator, Judged
from finetune.generation_options import METHODS, Wanted
from finetune.masked_spectra import LINE, visible_part
from finetune.spectral_input import estimated_ivar, unit_flux
from finetune.spectral_library import FEWEST, Library
from finetune.spectral_question import View, ask, binned, centres
from finetune.spectral_tokens import N_PATCH, PATCH, features
from finetune.spectral_trials import trials
from finetune.task import Prepared
from finetune.training_options import OptionsError
from transforms.records import Spectrum

WHOLE = 0.8  #: Share of the bins that a spectrum of the library has.


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


def generate(generator: Generator, record: Spectrum, prepared: Prepared, wanted: Wanted) -> table.Part:
    """Generate what is wanted of one object.

    Parameters
    ----------
    generator : Generator
        Of spectra.
    record : Spectrum
        Measured.
    prepared : Prepared
        Of it.
    wanted : Wanted
        A range.

    Returns
    -------
    Part
        Its rows.

    Raises
    ------
    Unusable
        Where that cannot be said.
    """
    view, wave = ask(record, prepared, wanted.low, wanted.high)
    method = generator.method(view.kind, wanted.method)
    flux, told = answer(method, generator.model, generator.knowledge, view)
    scale = unit_flux(record)
    error = generator.errors[view.kind][method].error(told[view.asked])
    new = {"wavelength": wave[view.asked], "flux": scale * flux[view.asked], "flux_err": scale * error}
    rows = table.marked(new, method, generator.digest)
    if wanted.observed:
        rows = table.beside(rows, _pixels(record, new["wavelength"]), ("wavelength",))
    unit = _unit(record.unit)
    units = {"wavelength": "Angstrom", "flux": unit, "flux_err": unit}
    meta = {"air": False, "frame": record.frame, "flux_unit": record.unit}
    return table.Part(record, view.kind, method, table.named(record, rows), units, meta)


def _pixels(record: Spectrum, new: np.ndarray) -> dict[str, np.ndarray]:
    """Good pixels, those beside a generated bin left out; where the file has no errors, one is estimated for all."""
    flux = record.flux.astype(float)
    ivar = record.ivar
    if ivar is None:
        ivar = np.full(len(flux), estimated_ivar(flux, ~record.mask & np.isfinite(flux)))
    step = np.median(np.diff(new)) if len(new) > 1 else 0.0
    place = np.searchsorted(new, record.wavelength)
    near = np.minimum(
        np.abs(record.wavelength - new[np.clip(place, 0, len(new) - 1)]),
        np.abs(record.wavelength - new[np.clip(place - 1, 0, len(new) - 1)]),
    )
    keep = ~record.mask & (ivar > 0) & (near > 0.5 * step)
    return {"wavelength": record.wavelength[keep], "flux": flux[keep], "flux_err": 1 / np.sqrt(ivar[keep])}


def _unit(text: str) -> str:
    from astropy import units as u

    try:
        return str(u.Unit(text)) if text else ""
    except ValueError:
        return ""  # the metadata keep what the file said


def _learn(pairs: Sequence[tuple[Spectrum, Prepared]]) -> Library:
    flux, variance = binned(*(np.stack([one[name] for _, one in pairs]) for name in ("flux", "ivar")))
    good = np.isfinite(variance)
    whole = good.mean(1) > WHOLE
    if whole.sum() < FEWEST:
        raise OptionsError([
            f"{whole.sum()} of {len(pairs)} training spectra hold data in {WHOLE:.0%} of the bins from "
            f"{centres()[0]:.0f} to {centres()[-1]:.0f} Angstrom at rest; {FEWEST} are needed for a library"
        ])  # fmt: skip
    return Library.fit(flux[whole], good[whole])


GENERATION = Generation(
    unit="of the mean flux",
    learn=_learn,
    arrays=lambda library: {"flux": library.flux},
    restore=lambda arrays: Library(**arrays),
    judge=judge,
    generate=generate,
)
