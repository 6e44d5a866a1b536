"""Calibrate the spectra of a new survey by themselves: no label is used, only what all stars have in common.

Every star is compared with its best templates; what remains in the median of all *other* stars is the instrument, and
is divided out. On a single spectrum this cannot be done, and the row says so (NOT_CALIBRATED_TO_SURVEY).
"""

from __future__ import annotations

from collections.abc import Sequence

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
    pixel, centre = np.arange(grid.N_PIXEL), (np.arange(grid.N_BIN) + 0.5) * grid.BINNING - 0.5
    out: list[Prepared] = []
    for i, item in enumerate(prepared):
        others = np.delete(ratios, i, axis=0)
        enough = np.isfinite(others).sum(0) >= MIN_SHARE * len(others)
        median = np.ones(grid.N_BIN)
        median[enough] = np.clip(np.nanmedian(others[:, enough], axis=0), *LIMITS)
        factor = np.interp(pixel, centre, median)
        flux, ivar = item["flux"] / factor, item["ivar"] * factor**2
        changed = {"flux": flux.astype(np.float32), "ivar": ivar.astype(np.float32)}
        out.append({**item, **changed, "calibrated": np.ones((), np.float32)})
    return out
