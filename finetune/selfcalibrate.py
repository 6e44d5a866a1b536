"""Calibrate the spectra of a new survey by themselves: no label is used, only what all stars have in common.

Every star is compared with its best templates; what remains in the median of all stars is the instrument, and is
divided out. On a single spectrum this cannot be done, and the row says so (NOT_CALIBRATED_TO_SURVEY). A survey does it
once, with ``nightcat adapt``, so that a row never depends on what else was observed that night.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune import spectral_grid as grid
from finetune.spectral_match import TemplateMatch
from finetune.task import Prepared

MIN_SPECTRA = 20  #: Fewer stars have too few lines in common.
MIN_SN = 5.0
MIN_SHARE = 0.5  #: Share of the stars that must cover a bin.
LIMITS = (0.7, 1.4)  #: An instrument that is further off is not calibrated but broken.


def instrument_ratios(prepared: Sequence[Prepared], match: TemplateMatch) -> np.ndarray:
    """Ratio of each spectrum to its best templates, continuum removed.

    Parameters
    ----------
    prepared : sequence of Prepared
        Spectra at rest.
    match : TemplateMatch
        Templates of known stars.

    Returns
    -------
    ndarray of float64, shape (n, N_BIN)
        NaN where a spectrum has no good bin, or its S/N is below ``MIN_SN``.
    """
    ratios = np.full((len(prepared), grid.N_BIN), np.nan)
    for ratio, item in zip(ratios, prepared, strict=True):
        if grid.signal_to_noise(item["flux"], item["ivar"]) < MIN_SN:
            continue
        template, signal, weight = match.nearest_signal(item["flux"], item["ivar"])
        good = weight > 0
        ratio[good] = (1 + signal[good]) / np.maximum(1 + template[good], 0.1)
    return ratios


def self_calibrate(prepared: Sequence[Prepared], match: TemplateMatch) -> list[Prepared]:
    """Divide the common residual of a survey out of its spectra, each by the median of the others.

    Parameters
    ----------
    prepared : sequence of Prepared
        Spectra of one instrument, at rest; some tens.
    match : TemplateMatch
        Templates of known stars.

    Returns
    -------
    list of Prepared
        New arrays with ``calibrated`` one; the inputs themselves where there are fewer than ``MIN_SPECTRA``.
    """
    ratios = instrument_ratios(prepared, match)
    if np.isfinite(ratios).any(1).sum() < MIN_SPECTRA:
        return list(prepared)
    out: list[Prepared] = []
    for i, item in enumerate(prepared):
        out.append(_divided(item, _common(np.delete(ratios, i, axis=0))))
    return out


def learn_response(prepared: Sequence[Prepared], baseline: Any) -> dict[str, Any]:
    """What all stars of a survey have in common.

    Parameters
    ----------
    prepared : sequence of Prepared
        Spectra of one instrument, at rest.
    baseline : StellarBaseline
        Whose templates are the known stars.

    Returns
    -------
    dict
        ``instrument`` (its key), ``stars`` (how many were used) and ``factor`` (N_BIN numbers to divide by).

    Raises
    ------
    ValueError
        Where there are fewer than ``MIN_SPECTRA``, or they are of several instruments.
    """
    keys = Counter(int(item["instrument"]) for item in prepared)
    if len(keys) > 1:
        counts = ", ".join(str(n) for _, n in keys.most_common())
        raise ValueError(f"the spectra are of {len(keys)} instruments ({counts} spectra); give those of one")
    ratios = instrument_ratios(prepared, baseline.match)
    stars = int(np.isfinite(ratios).any(1).sum())
    if stars < MIN_SPECTRA:
        raise ValueError(f"{stars} of {len(prepared)} spectra have a S/N of {MIN_SN:g}; {MIN_SPECTRA} are needed")
    return {"instrument": next(iter(keys)), "stars": stars, "factor": _common(ratios).round(5).tolist()}


def apply_response(item: Prepared, survey: Mapping[str, Any]) -> Prepared:
    """Divide the response of its survey out of one spectrum.

    Parameters
    ----------
    item : Prepared
        Spectrum at rest.
    survey : mapping
        From ``learn_response``.

    Returns
    -------
    Prepared
        With ``calibrated`` one; the input itself where the spectrum is of another instrument.
    """
    if int(item["instrument"]) != survey["instrument"]:
        return item
    return _divided(item, np.asarray(survey["factor"]))


def _common(ratios: np.ndarray) -> np.ndarray:
    """Median ratio of some stars; one where too few of them cover a bin."""
    enough = np.isfinite(ratios).sum(0) >= MIN_SHARE * len(ratios)
    median = np.ones(grid.N_BIN)
    median[enough] = np.clip(np.nanmedian(ratios[:, enough], axis=0), *LIMITS)
    return median


def _divided(item: Prepared, median: np.ndarray) -> Prepared:
    pixel, centre = np.arange(grid.N_PIXEL), (np.arange(grid.N_BIN) + 0.5) * grid.BINNING - 0.5
    factor = np.interp(pixel, centre, median)
    changed = {
        "flux": (item["flux"] / factor).astype(np.float32),
        "ivar": (item["ivar"] * factor**2).astype(np.float32),
    }
    return {**item, **changed, "calibrated": np.ones((), np.float32)}
