"""Tokens of a stellar spectrum: patches of line signal, continuum and S/N, and a continuous code of wavelength."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from finetune import spectral_grid as grid

PATCH, N_PATCH = grid.PATCH, grid.N_PATCH  #: Bins of a token, and how many tokens there are.
CHANNELS = 3
CONTINUUM_BINS = 40.0  #: Gaussian sigma of the continuum, 5,500 km/s.


def smoothing_kernel(sigma: float) -> torch.Tensor:
    """Gaussian of unit sum, cut at three sigma.

    Parameters
    ----------
    sigma : float
        In bins.

    Returns
    -------
    Tensor, shape (1, 1, n)
        For ``conv1d``.
    """
    half = int(3 * sigma)
    x = torch.arange(-half, half + 1, dtype=torch.float32) / sigma
    kernel = torch.exp(-0.5 * x**2)
    return (kernel / kernel.sum())[None, None]


def features(flux: torch.Tensor, ivar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of a batch of spectra: line signal, continuum, S/N.

    Parameters
    ----------
    flux, ivar : Tensor, shape (batch, N_PIXEL)
        Flux of mean one and its inverse variance; 0 = bad.

    Returns
    -------
    tokens : Tensor, shape (batch, N_PATCH, CHANNELS, PATCH)
        ``6 (flux / continuum - 1)`` clipped at 6, log continuum less its mean, ``log10(S/N) - 1.2``; 0 where bad.
    valid : Tensor of bool, shape (batch, N_PATCH)
        Patches with at least a tenth of their bins good.
    """
    shape = (len(flux), grid.N_BIN, grid.BINNING)
    weight = ivar.view(shape)
    total = weight.sum(-1)
    good = total > 0
    binned = (flux.view(shape) * weight).sum(-1) / total.clamp_min(1e-20)
    mask = good.float()
    pair = torch.stack([binned * mask, mask]).reshape(-1, 1, grid.N_BIN)
    kernel = smoothing_kernel(CONTINUUM_BINS).to(flux)
    smooth = functional.conv1d(pair, kernel, padding=kernel.shape[-1] // 2).view(2, len(flux), grid.N_BIN)
    continuum = (smooth[0] / smooth[1].clamp_min(1e-6)).clamp_min(0.01)
    line = (6 * (binned / continuum - 1)).clamp(-6, 6)
    log_continuum = torch.log(continuum)
    log_continuum = log_continuum - (log_continuum * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)
    noise = torch.rsqrt(total.clamp_min(1e-20))
    sn = torch.log10((continuum / noise).clamp(0.1, 1.4 * grid.MAX_SN)) - 1.2
    stacked = torch.stack([line, log_continuum.clamp(-4, 4), sn], 1) * mask[:, None]
    tokens = stacked.view(len(flux), CHANNELS, N_PATCH, PATCH).transpose(1, 2)
    return tokens, mask.view(len(flux), N_PATCH, PATCH).mean(-1) > 0.1


def wavelength_code() -> torch.Tensor:
    """Sines and cosines of the log wavelength of the patches' centres.

    Returns
    -------
    Tensor, shape (N_PATCH, 32)
        Wavelengths of the waves from the whole range down to two patches.
    """
    log_wave = np.log(grid.wavelengths()).reshape(N_PATCH, -1).mean(1)
    x = (log_wave - np.log(5000.0)) / 0.35
    frequency = np.geomspace(0.5, 15.0, 16)
    angle = np.pi * x[:, None] * frequency
    return torch.tensor(np.concatenate([np.sin(angle), np.cos(angle)], 1), dtype=torch.float32)
