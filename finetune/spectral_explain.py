"""How answers about spectra are explained: by wavelength, against the spectrum's own continuum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from finetune import spectral_grid as grid
from finetune.explanation import ExplainedArray, Explanation, Places
from finetune.explanation_plots import draw_spectrum
from finetune.stellar_labels import QUANTITIES
from finetune.task import Prepared
from transforms.spectral_lines import name_features


def continuum(prepared: Prepared) -> np.ndarray:
    """The spectrum without its lines, as the network's own line signal has it.

    Parameters
    ----------
    prepared : Prepared
        With ``flux`` and ``ivar``.

    Returns
    -------
    ndarray of float32, shape (N_PIXEL,)
        Flux smoothed over 5,500 km/s; 0 where bad.
    """
    from scipy.ndimage import gaussian_filter1d

    from finetune.spectral_tokens import CONTINUUM_BINS

    good = (prepared["ivar"] > 0).astype(float)
    sigma = CONTINUUM_BINS * grid.BINNING
    level, share = (
        gaussian_filter1d(x, sigma, mode="constant", truncate=3) for x in (prepared["flux"] * good, good)
    )  # fmt: skip
    return np.asarray(np.where(good > 0, level / np.maximum(share, 1e-6), 0.0), np.float32)


def places(prepared: Prepared) -> Places:
    """Bins of the network's own input, with the line that each belongs to.

    Parameters
    ----------
    prepared : Prepared
        With ``flux`` and ``ivar``.

    Returns
    -------
    Places
        At rest-frame vacuum wavelengths.
    """
    shape = (grid.N_BIN, grid.BINNING)
    good = prepared["ivar"] > 0
    seen = good.reshape(shape).any(1)
    number = np.where(seen, np.cumsum(seen) - 1, -1)
    wave = grid.wavelengths().reshape(shape).mean(1)[seen]
    count = np.maximum(good.reshape(shape).sum(1), 1)
    value = (prepared["flux"] * good).reshape(shape).sum(1) / count
    return Places(
        group=np.where(good, np.repeat(number, grid.BINNING), -1),
        part=name_features(wave),
        position=wave,
        position_y=np.full(wave.size, np.nan),
        value=value[seen].astype(float),
    )


def token(prepared: Prepared) -> np.ndarray:
    """Patch of each pixel, behind the token of the whole.

    Parameters
    ----------
    prepared : Prepared
        Not used.

    Returns
    -------
    ndarray of int, shape (N_PIXEL,)
        From 1.
    """
    from finetune.spectral_tokens import PATCH

    return 1 + np.arange(grid.N_PIXEL) // (PATCH * grid.BINNING)


def read(outputs: Mapping[str, Any]) -> Any:
    """Mean of the ensemble.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        With ``value``.

    Returns
    -------
    Tensor, shape (batch, 3)
        log10 of Teff in K, log g, [Fe/H].
    """
    return outputs["value"].mean(1)


EXPLANATION = Explanation(
    arrays=(
        ExplainedArray(
            name="flux", axis="wavelength", unit="Angstrom", neutral=continuum, places=places, token=token
        ),
    ),
    targets=QUANTITIES,
    units=("dex(K)", "dex(cm / s2)", "dex"),
    read=read,
    nothing="the spectrum's own continuum, smoothed over 5,500 km/s",
    draw=draw_spectrum,
)  # fmt: skip
